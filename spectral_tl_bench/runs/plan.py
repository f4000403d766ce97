"""The values between a command and a run: what is selected, requested and planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.config.protocols import Protocol
from spectral_tl_bench.config.spec import RunChoices, RunSpec, TrainingSpec
from spectral_tl_bench.records.run_yaml import Where

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.datasets.checksums import TileChecksums
    from spectral_tl_bench.methods import AnyMethod
    from spectral_tl_bench.splits.assignment import Split


@dataclass(frozen=True)
class Selection:
    """What a user selects for a run; None is the default.

    Attributes:
        method: Registered name or ``file.py:ClassName``.
        preset: Preset.
        backbone: Name.
        weights: "none", "hub", "embedded" or a file.
        stage1: Weights of an earlier reconstruction stage.
        training: Training settings that differ from the preset's.
    """

    method: str
    preset: str
    backbone: str | None = None
    weights: str | None = None
    stage1: Path | None = None
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Resolved:
    """A selection with every default filled in."""

    preset: str
    backbone: str
    weights: str
    training: TrainingSpec


@dataclass(frozen=True)
class Request:
    """A run before its inputs are opened.

    Attributes:
        protocol: What to train and test on.
        choices: Method, backbone, training, seed.
        where: Where the inputs are; without a root the embedded simulated archive is meant.
        recorded: What an earlier run recorded that this one repeats.
        assigned: Training settings that the user typed; all where it repeats a run. Others may follow the tiles.
    """

    protocol: Protocol
    choices: RunChoices
    where: Where
    recorded: RunSpec | None = None
    assigned: frozenset[str] = frozenset(TrainingSpec.model_fields)

    @property
    def label(self) -> str:
        """What distinguishes it among others, in one line."""
        choices = self.choices
        options = "".join(f" {name}={value}" for name, value in choices.method_options.items())
        return f"{choices.method}{options} on {self.protocol.name}, {choices.backbone}, seed {choices.seed}"


@dataclass(frozen=True)
class Plan:
    """A run whose inputs are open and whose specification is complete."""

    request: Request
    spec: RunSpec
    dataset: TileDataset
    split: Split
    contents: Mapping[str, TileChecksums]
    method: AnyMethod
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Pretrained weights as :func:`~spectral_tl_bench.backbones.build_backbone` takes them."""
        return self.request.where.weights or "none"
