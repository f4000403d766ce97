"""Pretraining from what a user asks for to a file of weights, with everything opened before anything is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from spectral_tl_bench import records
from spectral_tl_bench.backbones import Backbone, BackboneEntry, backbone_entry, backbone_names
from spectral_tl_bench.backbones.loading import StateDict, existing, read_state
from spectral_tl_bench.errors import CheckpointError, RecordError, SpectralBenchError
from spectral_tl_bench.plotting import png
from spectral_tl_bench.presets import override, preset
from spectral_tl_bench.pretraining.archives import OpenArchive, PretrainingData, open_archives
from spectral_tl_bench.pretraining.record import PretrainingRecord, PretrainingSpec, read_pretraining
from spectral_tl_bench.pretraining.tasks import Pretraining, pretraining_task
from spectral_tl_bench.protocols import Protocol, load_protocols
from spectral_tl_bench.runs.checkpoints import Checkpoints, StageCheckpoints
from spectral_tl_bench.runs.interruption import CHECKPOINT_MINUTES, Interruption
from spectral_tl_bench.runs.reconstructions import Reconstructions
from spectral_tl_bench.runs.runner import alone
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.tasks.fit import Stopwatch, fit, seed_all
from spectral_tl_bench.tasks.processes import Hardware
from spectral_tl_bench.tasks.progress import History, StageProgress
from spectral_tl_bench.weights import fingerprint, save_weights

USUAL: dict[str, Any] = {
    "tokenizer_learning_rate_factor": 1.0,
    "patch_embedding_step": None,
    "weight_decay": 0.05,
    "warmup_fraction": 0.1,
}
"""What pretraining changes of a preset: nothing in the model was trained before."""
BAND_DROPPING = 0.5
"""Share of bands that the spectral masked autoencoder drops of what is left, where nobody says."""


@dataclass(frozen=True)
class Asked:
    """What a user asks for.

    Attributes:
        backbone: Registered name, or ``file.py:NAME``.
        archives: Names of datasets, or protocol files of own tiles, and folders.
        protocols: Names of protocols whose source alone may be seen.
        preset: Name of the preset to start from; None for "quick" with the small backbones and else "standard".
        training: Settings to change, by name.
        init: What the blocks start from: "none", a file, or the name of a backbone whose usual weights are taken.
        seed: Seed of every random choice.
    """

    backbone: str
    archives: tuple[tuple[str, Path], ...]
    protocols: tuple[str, ...] = ()
    preset: str | None = None
    training: Mapping[str, Any] | None = None
    init: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """A pretraining whose inputs are open."""

    spec: PretrainingSpec
    entry: BackboneEntry
    archives: tuple[OpenArchive, ...]
    sensors: tuple[Sensor, ...]
    init: StateDict | None


def plan(asked: Asked) -> Plan:
    """Open every input.

    Raises:
        SpectralBenchError: If anything is wrong; nothing has been written then.
    """
    entry = backbone_entry(asked.backbone)
    name = asked.preset or ("quick" if asked.backbone.endswith("_micro") else "standard")
    usual = USUAL | ({"band_dropping": BAND_DROPPING} if entry.band_tokens else {})
    training = override(override(preset(name), usual), asked.training or {})
    protocols: list[Protocol] = [protocol for named in asked.protocols for protocol in load_protocols(named)]
    archives = open_archives(asked.archives, protocols, training)
    sensors = [archive.dataset.sensor for archive in archives]
    if not entry.from_wavelengths:
        first, *others = sensors
        for other in others:
            if other.wavelengths != first.wavelengths:
                raise SpectralBenchError(
                    f"{entry.name} knows bands by their place, so its archives must have the same: {first.name} and "
                    f"{other.name} have not; pretrain on one, or take a backbone that knows wavelengths"
                )
        sensors = [first] * len(sensors)
    state, origin = _initial(asked.init, entry, sensors[0])
    spec = PretrainingSpec(
        backbone=asked.backbone,
        archives=tuple(archive.said for archive in archives),
        init=origin,
        preset=name,
        training=training,
        seed=asked.seed,
    )
    # An enlarged window becomes a multiple by itself.
    if training.upsample == 1 and training.image_size % (patch := _patch_size(entry, sensors[0])):
        raise SpectralBenchError(f"image_size {training.image_size} is no multiple of the {patch} px of a patch")
    return Plan(spec, entry, tuple(archives), tuple(sensors), state)


def _patch_size(entry: BackboneEntry, sensor: Sensor) -> int:
    with torch.device("meta"):
        return entry.build(sensor).patch_size


def _initial(init: str, entry: BackboneEntry, sensor: Sensor) -> tuple[StateDict | None, str]:
    """Read what the blocks start from, fitted to the bare model, and say what it is."""
    if init == "none":
        return None, "none"
    if init in backbone_names():
        other = backbone_entry(init)
        state = other.fetch(other.default_weights)
        origin = f"{init} {other.fingerprint(other.default_weights)}"
    else:
        state = read_state(existing(Path(init)))
        origin = fingerprint(Path(init))
    state = entry.convert(state, sensor)
    with torch.device("meta"):
        model: nn.Module = entry.make(len(sensor.bands))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fitting = {name: tensor for name, tensor in state.items() if shapes.get(name) == tensor.shape}
    blocks = [name for name in shapes if name.startswith("blocks.") and name not in fitting]
    if blocks or not any(name.startswith("blocks.") for name in shapes):
        raise CheckpointError(
            f"--init {init} has no {blocks[0] if blocks else 'blocks'} of the size of {entry.name}'s; name a masked "
            "autoencoder as wide and deep"
        )
    return fitting, origin


def build(ready: Plan) -> tuple[nn.Module, Backbone]:
    """Build the bare model, whose names the file will have, and the backbone around it."""
    spec = ready.spec
    seed_all(spec.seed)
    model: nn.Module = ready.entry.make(len(ready.sensors[0].bands))
    if ready.init is not None:
        model.load_state_dict(ready.init, strict=False)
    backbone = ready.entry.wrap(model, ready.sensors[0])
    # Training drops bands by itself, image by image.
    backbone.limit_band_tokens(spec.training.band_tokens, 0.0)
    return model, backbone


def check_name(out: Path) -> None:
    """Refuse a name that no weights can have.

    Raises:
        RecordError: If it does not end in .safetensors.
    """
    if out.suffix != ".safetensors":
        raise RecordError(f"--out {out}: name a file that ends in .safetensors")


def pretrain(
    ready: Plan,
    out: Path,
    console: Console,
    *,
    device: str = "auto",
    workers: int = 0,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    interruption: Interruption | None = None,
    force: bool = False,
) -> Path:
    """Pretrain, or go on where an earlier process has ended, and write weights, record and pictures.

    Args:
        ready: From :func:`plan`.
        out: The .safetensors file; the record (.json) and a picture for each archive (.png) go beside it, checkpoints
            into a folder beside it that is gone when all is written.
        console: Where progress goes.
        device: "auto", "cpu" or "cuda".
        workers: Reading processes; changes the speed only.
        checkpoint_minutes: From one checkpoint to the next.
        interruption: Hears signals already; None hears them while this goes on.
        force: Replace weights that are there.

    Returns:
        The file.

    Raises:
        SpectralBenchError: If a file cannot be written, or other weights are there.
        InterruptedRunError: If a signal asked the process to end; the same command goes on.
    """
    out = out.expanduser()
    check_name(out)
    if out.exists() and not force:
        there = read_pretraining(out)
        if there is None or there.spec != ready.spec:
            raise RecordError(f"--out {out} is there already and holds other weights; name another, or add --force")
        console.print(f"already there: {out} (--force makes it again)", highlight=False, markup=False, soft_wrap=True)
        return out
    folder = out.with_name(f".{out.stem}.pretraining")
    records.prepare_folder(out.parent)
    folder.mkdir(exist_ok=True)
    own = Interruption()
    with alone(folder), own.listening() if interruption is None else contextlib.nullcontext():
        _pretrain(ready, out, folder, console, Hardware(device), workers, checkpoint_minutes, interruption or own)
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return out


def _pretrain(
    ready: Plan,
    out: Path,
    folder: Path,
    console: Console,
    hardware: Hardware,
    workers: int,
    checkpoint_minutes: float,
    interruption: Interruption,
) -> None:
    provenance = records.provenance(torch.get_num_threads())
    done = train(ready, folder, console, hardware, workers, checkpoint_minutes, interruption)
    errors, pictures = _look(done.task, done.data, ready.spec, done.device)
    record = PretrainingRecord(
        spec=ready.spec,
        steps=done.task.steps,
        seconds=done.seconds,
        errors=tuple(errors),
        provenance=provenance.model_copy(
            update={"gpu": torch.cuda.get_device_name(done.device) if done.device.type == "cuda" else None}
        ),
        history=tuple(done.history),
    )
    _write(ready, done.model, record, pictures, out)
    Checkpoints(folder, ready.spec.digest).remove()


@dataclass(frozen=True)
class Trained:
    """A model that has been pretrained, and what it was trained by."""

    model: nn.Module
    task: Pretraining
    data: PretrainingData
    history: list[dict[str, Any]]
    seconds: float
    device: torch.device


def train(
    ready: Plan,
    folder: Path,
    console: Console,
    hardware: Hardware,
    workers: int = 0,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    interruption: Interruption | None = None,
) -> Trained:
    """Pretrain, or go on from the latest checkpoint in a folder; the arguments are those of :func:`pretrain`."""
    spec, training = ready.spec, ready.spec.training
    data = PretrainingData(ready.archives, training, seed=spec.seed, workers=workers)
    model, backbone = build(ready)
    task = pretraining_task(backbone, ready.sensors, training)
    history: list[dict[str, Any]] = []
    watch = Stopwatch()
    nothing_frozen: frozenset[int] = frozenset()
    keeper = StageCheckpoints(
        Checkpoints(folder, spec.digest),
        task,
        nothing_frozen,
        history,
        watch,
        interruption or Interruption(),
        minutes=checkpoint_minutes,
    )
    keeper.resume(console, "pretraining")
    # Whatever building has drawn, and however far an earlier process came.
    seed_all(spec.seed)
    trainer = fit(
        task,
        data,
        training,
        hardware=hardware,
        callbacks=[StageProgress(console, "pretraining", "extra loss"), History(task.stage, history), keeper],
        validations=0,
        after_part=keeper.after_part,
    )
    return Trained(model, task, data, history, watch.seconds, trainer.strategy.root_device)


def _look(
    task: Pretraining, data: PretrainingData, spec: PretrainingSpec, device: torch.device
) -> tuple[list[records.ReconstructionErrors], list[bytes]]:
    """Measure and draw what is made of the tiles that were left out, archive by archive."""
    errors, pictures = [], []
    for number, (archive, said) in enumerate(zip(data.archives, spec.archives, strict=True)):
        task.archive = number
        seed_all(spec.seed)
        with task.seeing():
            shown = Reconstructions.of(task, archive, device)
        errors.append(shown.errors)
        simulated = "SIMULATED: " if said.simulated else ""
        pictures.append(png(shown.figure(task, archive, f"{simulated}{spec.backbone} on {said.name}")))
    return errors, pictures


def _write(ready: Plan, model: nn.Module, record: PretrainingRecord, pictures: Sequence[bytes], out: Path) -> None:
    for number, (said, picture) in enumerate(zip(ready.spec.archives, pictures, strict=True), start=1):
        records.write_bytes(out.with_name(f"{out.stem}-{number}-{said.name}.png"), picture)
    records.write_bytes(out.with_suffix(".json"), (record.model_dump_json(indent=2) + "\n").encode())
    state = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(ready.entry.ignorable)
    }
    # Last: where the weights are, all is.
    save_weights(out, state, record.model_dump(mode="json", exclude={"history"}))


def announce(ready: Plan, console: Console) -> None:
    """Say what will be seen."""
    for said in ready.spec.archives:
        of = f"source of {', '.join(said.protocols)}" if said.protocols else "all tiles but a few"
        kind = "SIMULATED " if said.simulated else ""
        console.print(
            f"  {kind}{said.name}: {len(said.tiles)} tiles ({of}), {said.sensor}, {said.bands} bands",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
