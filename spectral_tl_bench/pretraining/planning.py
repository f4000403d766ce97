"""From what a user asks pretraining for to a complete specification, with every input opened and nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from spectral_tl_bench.backbones import Backbone, BackboneEntry, backbone_entry, backbone_names
from spectral_tl_bench.backbones.loading import StateDict, existing, read_state
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.config.protocols import Protocol, load_protocols
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.pretraining.archives import OpenArchive, open_archives
from spectral_tl_bench.pretraining.tasks import pretraining_kind
from spectral_tl_bench.records.pretraining import PretrainingArchive, PretrainingSpec, read_pretraining
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.training.fit import seed_all
from spectral_tl_bench.utils.errors import CheckpointError, SpectralBenchError, UnknownNameError
from spectral_tl_bench.utils.text import say
from spectral_tl_bench.utils.weight_metadata import fingerprint

PRESETS = ("quick", "standard")
"""Presets that pretraining starts from; "reference" is that of the published runs, which pretrain nothing."""

SETTINGS = (
    "resolution",
    "image_size",
    "upsample",
    "radiometry",
    "augmentation",
    "rotation_degrees",
    "held_out_fraction",
    "held_out_rule",
    "mask_ratio",
    "reconstruction_batch_size",
    "reconstruction_steps",
    "reconstruction_learning_rate",
    "reconstruction_decoder_width",
    "reconstruction_decoder_depth",
    "reconstruction_decoder_heads",
    "tokenizer_learning_rate_factor",
    "patch_embedding_step",
    "weight_decay",
    "schedule",
    "warmup_fraction",
    "band_tokens",
    "band_dropping",
    "precision",
    "accumulation",
    "activation_checkpointing",
)
"""Training settings that pretraining uses."""

USUAL: dict[str, Any] = {
    "tokenizer_learning_rate_factor": 1.0,
    "patch_embedding_step": None,
    "weight_decay": 0.05,
    "warmup_fraction": 0.1,
}
"""What pretraining changes of a preset: nothing in the model was trained before."""
BAND_DROPPING = 0.5
"""Share of bands that the spectral masked autoencoder drops of what is left, unless stated."""


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
    name = asked.preset or ("quick" if entry.small else "standard")
    if name not in PRESETS:
        raise UnknownNameError("preset of pretraining", name, PRESETS, f"there are: {', '.join(PRESETS)}")
    _require_different(asked.archives)
    usual = USUAL | ({"band_dropping": BAND_DROPPING} if entry.band_tokens else {})
    training = override(override(preset(name), usual), asked.training or {})
    for setting in asked.training or {}:
        if setting not in SETTINGS:
            raise SpectralBenchError(
                f"pretraining does not use the training setting {setting}, only {', '.join(SETTINGS)}; leave it out"
            )
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
    state, origin, inherited = _initial(asked.init, entry, sensors[0])
    spec = PretrainingSpec(
        backbone=asked.backbone,
        archives=tuple(archive.said for archive in archives),
        init=origin,
        inherited=inherited,
        preset=name,
        training=training,
        seed=asked.seed,
    )
    _check(entry, sensors[0], training)
    return Plan(spec, entry, tuple(archives), tuple(sensors), state)


def _require_different(archives: Sequence[tuple[str, Path]]) -> None:
    """Refuse an archive that is named twice: it would count twice.

    Raises:
        SpectralBenchError: If there is one.
    """
    seen: set[tuple[str, Path]] = set()
    for name, folder in archives:
        key = name, folder.expanduser().resolve()
        if key in seen:
            raise SpectralBenchError(f"--archive {name}={folder} is given twice; leave one out")
        seen.add(key)


def _check(entry: BackboneEntry, sensor: Sensor, training: TrainingSpec) -> None:
    """Refuse settings that the backbone can do nothing with.

    Raises:
        SpectralBenchError: If there is one.
    """
    with torch.device("meta"):
        backbone = entry.build(sensor)
    # An enlarged window becomes a multiple by itself.
    if training.upsample == 1 and training.image_size % backbone.patch_size:
        raise SpectralBenchError(
            f"image_size {training.image_size} is no multiple of the {backbone.patch_size} px of a patch"
        )
    if training.radiometry == "backbone":
        raise SpectralBenchError(
            "pretrain normalises each archive by its own statistics: leave radiometry=backbone out"
        )
    if training.band_dropping and not pretraining_kind(backbone).drops_bands:
        raise SpectralBenchError(
            f"{entry.name} is pretrained on all bands at once: leave band_dropping out; spectral_mae_* and specaware_* "
            "can restore bands that they are not given"
        )


def _initial(
    init: str, entry: BackboneEntry, sensor: Sensor
) -> tuple[StateDict | None, str, tuple[PretrainingArchive, ...]]:
    """Read what the blocks start from, fitted to the bare model, and say what it is and what it had seen."""
    if init == "none":
        return None, "none", ()
    before = None
    if init in backbone_names():
        other = backbone_entry(init)
        state = other.fetch(other.default_weights)
        origin = f"{init} {other.fingerprint(other.default_weights)}"
    else:
        state = read_state(existing(Path(init)))
        before = read_pretraining(Path(init))
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
    seen = () if before is None else (*before.spec.archives, *before.spec.inherited)
    return fitting, origin, seen


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


def announce(ready: Plan, console: Console) -> None:
    """Say what will be seen."""
    for said in ready.spec.archives:
        of = f"source of {', '.join(said.protocols)}" if said.protocols else "all tiles but a few"
        kind = "SIMULATED " if said.simulated else ""
        say(console, f"  {kind}{said.name}: {len(said.tiles)} tiles ({of}), {said.sensor}, {said.bands} bands")
