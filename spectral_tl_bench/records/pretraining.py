"""What pretrained weights say of themselves, and which runs may therefore not use them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.records import Provenance, ReconstructionErrors
from spectral_tl_bench.utils.errors import CheckpointError, first_problem
from spectral_tl_bench.utils.hashing import json_digest
from spectral_tl_bench.utils.registry import short_name
from spectral_tl_bench.utils.validation import LARGEST_SEED, Value
from spectral_tl_bench.utils.weight_metadata import METADATA_KEY, read_metadata


class PretrainingArchive(Value):
    """An archive that took part.

    Attributes:
        name: Of the dataset; two archives may have the same.
        sensor: Name of its sensor.
        bands: How many bands it has.
        simulated: Whether it is simulated.
        protocols: Whose source tiles took part; all tiles where there is none.
        tiles: Digests of the images that trained, by the tiles' names.
        left_out: Names of the tiles that reconstruction was measured on.
    """

    name: str
    sensor: str
    bands: int = Field(gt=0)
    simulated: bool
    protocols: tuple[str, ...] = ()
    tiles: dict[str, str] = Field(min_length=1)
    left_out: tuple[str, ...] = ()


class PretrainingSpec(Value):
    """Everything that determines the weights.

    Attributes:
        backbone: Registered name, or ``path/to/file.py:NAME``.
        archives: What it saw, in the order of the batches.
        init: What its blocks started from: "none", the digest of a file, or a backbone's name with that of its weights.
        inherited: What that had seen before, where it came from a pretraining.
        preset: Name of the preset that ``training`` started from.
        training: How it trained; settings of segmentation do not matter.
        seed: Seed of every random choice.
    """

    backbone: str
    archives: tuple[PretrainingArchive, ...] = Field(min_length=1)
    init: str = "none"
    inherited: tuple[PretrainingArchive, ...] = ()
    preset: str
    training: TrainingSpec
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)

    @property
    def simulated(self) -> bool:
        """Whether all it saw is simulated."""
        return all(archive.simulated for archive in self.archives)

    @property
    def digest(self) -> str:
        """First 10 hexadecimal digits of the SHA-256 of this as canonical JSON, defaults left out."""
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"preset"})
        content["training"].pop("activation_checkpointing", None)
        content["backbone"] = short_name(self.backbone)
        return json_digest(content)

    @property
    def title(self) -> str:
        """What was pretrained on what, in one line; begins with SIMULATED where the tiles were simulated."""
        names = ", ".join(archive.name for archive in self.archives)
        text = f"{short_name(self.backbone)} pretrained on {names} (seed {self.seed})"
        return f"SIMULATED: {text}" if any(archive.simulated for archive in self.archives) else text


class PretrainingRecord(Value):
    """What lies beside pretrained weights as JSON, and without the curve inside them.

    Attributes:
        kind: "pretraining".
        spec: What determines them.
        steps: Optimiser steps.
        seconds: How long they took, in all processes one after another.
        errors: Of reconstruction on tiles that did not train, by archive, beside two guesses.
        provenance: Which software and hardware made them.
        history: The training curve.
    """

    kind: str = Field(default="pretraining", pattern="^pretraining$")
    spec: PretrainingSpec
    steps: int = Field(gt=0)
    seconds: float = Field(ge=0)
    errors: tuple[ReconstructionErrors, ...] = ()
    provenance: Provenance
    history: tuple[dict[str, Any], ...] = ()


def read_pretraining(path: Path) -> PretrainingRecord | None:
    """Read what a file of weights says of its pretraining; None where it was not written by ``pretrain``.

    Raises:
        CheckpointError: If it was, and cannot be read.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            ours = METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return None  # whoever loads the weights says what is wrong with them
    metadata = read_metadata(path) if ours else {}
    if metadata.get("kind") != "pretraining":
        return None
    try:
        return PretrainingRecord.model_validate(metadata)
    except ValidationError as error:
        raise CheckpointError(
            f"{path} was written by another version of this package ({first_problem(error)}); pretrain again"
        ) from error


def already_seen(trained: Collection[str], unseen: Mapping[str, str]) -> list[str]:
    """Find what must not have trained among what has: an image is what it shows, whatever its file is called.

    Args:
        trained: Digests of the images that trained.
        unseen: Digests of the images that are to select or test, by the tiles' names.

    Returns:
        Names of those that trained, sorted.
    """
    known = set(trained)
    return sorted(name for name, image in unseen.items() if image in known)


def check_unseen(path: Path, protocol: str, unseen: Mapping[str, str]) -> None:
    """Refuse pretrained weights that have seen an image which selects or tests a run's model.

    Args:
        path: The file.
        protocol: Name of the run's protocol.
        unseen: Digests of the images of its held-out and target tiles, by the tiles' names.

    Raises:
        CheckpointError: If they have; the message names a tile.
    """
    record = read_pretraining(path)
    if record is None:
        return
    for archive in (*record.spec.archives, *record.spec.inherited):
        seen = already_seen(archive.tiles.values(), unseen)
        if seen:
            raise CheckpointError(
                f"{path} was pretrained on {archive.name}, {len(seen)} tiles of which ({seen[0]} ...) select or test "
                f"the model of {protocol}; pretrain on its source alone: pretrain ... --protocol {protocol}"
            )
