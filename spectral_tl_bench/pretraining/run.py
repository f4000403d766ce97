"""Pretraining from a plan to a file of weights, with its record and pictures, whatever ends the process on the way."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectral_tl_bench import records
from spectral_tl_bench.pretraining.archives import PretrainingData
from spectral_tl_bench.pretraining.planning import Plan, build
from spectral_tl_bench.pretraining.tasks import Pretraining, pretraining_task
from spectral_tl_bench.records.pretraining import PretrainingRecord, PretrainingSpec, read_pretraining
from spectral_tl_bench.sensors.plotting import png
from spectral_tl_bench.training.checkpoints import Checkpoints, StageCheckpoints
from spectral_tl_bench.training.fit import Stopwatch, fit, seed_all
from spectral_tl_bench.training.progress import History, StageProgress
from spectral_tl_bench.training.reconstruction_report import Reconstructions
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import exclusive_folder
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import save_weights


def check_name(out: Path) -> None:
    """Refuse a name that no weights can have.

    Raises:
        RecordError: If it does not end in .safetensors.
    """
    if out.suffix != ".safetensors":
        raise RecordError(f"--out {out}: name a file that ends in .safetensors")


def pretrain(ready: Plan, out: Path, options: RuntimeOptions | None = None, *, half: bool = False) -> Path:
    """Pretrain, or resume what an interrupted process has left, and write weights, record and pictures.

    Args:
        ready: From :func:`plan`.
        out: The .safetensors file. The record (.json) and a picture for each archive (.png) go next to it; checkpoints
            go into a hidden folder that is deleted at the end.
        options: How to execute it.
        half: Write half precision; files are half as large and are read as single precision.

    Returns:
        The file.

    Raises:
        SpectralBenchError: If a file cannot be written, or other weights exist there.
        InterruptedRunError: If a signal asked the process to end; the same command resumes.
    """
    options = RuntimeOptions() if options is None else options
    out = out.expanduser()
    check_name(out)
    folder = out.with_name(f".{out.stem}.pretraining")
    if out.exists() and not options.force:
        existing = read_pretraining(out)
        if existing is None or existing.spec != ready.spec:
            raise RecordError(f"--out {out} is there already and holds other weights; name another, or add --force")
        if folder.is_dir():  # of a process that ended between the weights and the end
            with exclusive_folder(folder):
                shutil.rmtree(folder, ignore_errors=True)
        options.say(f"already there: {out} (--force makes it again)")
        return out
    records.prepare_folder(out.parent)
    records.prepare_folder(folder)
    with exclusive_folder(folder), options.interruption.listening():
        records.remove_temporary_files(folder)
        for name in (out.name, out.with_suffix(".json").name, *_pictures(ready, out)):
            records.remove_temporary_files(out.parent, name)
        provenance = records.provenance(torch.get_num_threads())
        checkpoints = Checkpoints(
            folder, ready.spec.digest, provenance.software, across_versions=options.resume_across_versions
        )
        done = train(ready, checkpoints, options)
        errors, pictures = _reconstruct(done.task, done.data, ready.spec, done.device)
        gpu = torch.cuda.get_device_name(done.device) if done.device.type == "cuda" else None
        record = PretrainingRecord(
            spec=ready.spec,
            steps=done.task.steps,
            seconds=done.seconds,
            errors=tuple(errors),
            provenance=provenance.model_copy(update={"gpu": gpu, "resumed_from": tuple(checkpoints.resumed_from)}),
            history=tuple(done.history),
        )
        _write(ready, done.model, record, pictures, out, folder, torch.float16 if half else None)
        checkpoints.remove()
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return out


@dataclass(frozen=True)
class Trained:
    """A model that has been pretrained, and what it was trained by."""

    model: nn.Module
    task: Pretraining
    data: PretrainingData
    history: list[dict[str, Any]]
    seconds: float
    device: torch.device


def train(ready: Plan, checkpoints: Checkpoints, options: RuntimeOptions) -> Trained:
    """Pretrain, or resume from the latest checkpoint."""
    spec, training = ready.spec, ready.spec.training
    data = PretrainingData(ready.archives, training, seed=spec.seed, workers=options.workers)
    model, backbone = build(ready)
    task = pretraining_task(backbone, ready.sensors, training)
    history: list[dict[str, Any]] = []
    watch = Stopwatch()
    keeper = StageCheckpoints(checkpoints, task, frozenset(), history, watch, options)
    keeper.resume("pretraining")
    # Whatever building has drawn, and however far an earlier process came.
    seed_all(spec.seed)
    trainer = fit(
        task,
        data,
        training,
        options=options,
        callbacks=[StageProgress(options.output, "pretraining", "extra loss"), History(task.stage, history), keeper],
        validations=0,
        after_part=keeper.after_part,
    )
    return Trained(model, task, data, history, watch.seconds, trainer.strategy.root_device)


def _reconstruct(
    task: Pretraining, data: PretrainingData, spec: PretrainingSpec, device: torch.device
) -> tuple[list[records.ReconstructionErrors], list[bytes]]:
    """Measure and draw the reconstruction of tiles that were left out, archive by archive."""
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


def _pictures(ready: Plan, out: Path) -> list[str]:
    """Names of the files with a picture of each archive."""
    return [f"{out.stem}-{number}-{archive.name}.png" for number, archive in enumerate(ready.spec.archives, start=1)]


def _write(
    ready: Plan,
    model: nn.Module,
    record: PretrainingRecord,
    pictures: Sequence[bytes],
    out: Path,
    folder: Path,
    dtype: torch.dtype | None,
) -> None:
    for name, picture in zip(_pictures(ready, out), pictures, strict=True):
        records.write_bytes(out.with_name(name), picture)
    records.write_bytes(out.with_suffix(".json"), (record.model_dump_json(indent=2) + "\n").encode())
    state = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None, copy=True).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(ready.entry.ignorable)
    }
    # Last: where the weights are, all is. From the hidden folder, where what a killed process left is deleted.
    save_weights(folder / out.name, state, record.model_dump(mode="json", exclude={"history"}))
    os.replace(folder / out.name, out)
