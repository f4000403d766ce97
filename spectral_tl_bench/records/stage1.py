"""Weights of the reconstruction stage, and which other runs may start from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records import ReconstructionErrors
from spectral_tl_bench.records.pretraining import already_seen
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import CheckpointError, first_problem
from spectral_tl_bench.utils.registry import short_name
from spectral_tl_bench.utils.validation import Value
from spectral_tl_bench.utils.weight_metadata import read_metadata

STAGE1 = "stage1.safetensors"


class Stage1(Value):
    """What a file of reconstruction-stage weights says about itself.

    Attributes:
        stage: "reconstruction".
        sensor: Name of the sensor.
        bands: How many bands it has.
        spec: The run that trained it.
        seconds: How long that took.
        trainable: Names of the backbone's parameters that trained.
        gradient_receiving: Names of those that received a gradient.
        images: Digests of the images that it was trained on, by the names of their tiles.
        errors: Of reconstruction on held-out source tiles.
        history: The training curve.
        software: Versions and commit that trained it.
    """

    stage: str
    sensor: str
    bands: int
    spec: RunSpec
    seconds: float = Field(ge=0)
    trainable: tuple[str, ...]
    gradient_receiving: tuple[str, ...]
    images: dict[str, str]
    errors: ReconstructionErrors
    history: tuple[dict[str, Any], ...]
    software: dict[str, str]


def read_stage1(path: Path) -> Stage1:
    """Read what a file of reconstruction-stage weights says about itself; its tensors are left alone.

    Raises:
        CheckpointError: If it is missing, damaged, no such file, or of another version of this package.
    """
    metadata = read_metadata(path)
    stage = metadata.get("stage")
    if stage != "reconstruction":
        raise CheckpointError(
            f"{path} holds weights of stage {stage}, not of reconstruction; --stage1 takes a run's stage1.safetensors"
        )
    try:
        return Stage1.model_validate(metadata)
    except ValidationError as error:
        raise CheckpointError(
            f"{path} was written by another version of this package ({first_problem(error)}); train it again"
        ) from error


def check_stage1(path: Path, spec: RunSpec, sensor: Sensor, unseen: Mapping[str, str]) -> None:
    """Refuse reconstruction-stage weights that are not this run's to use.

    They may come from another protocol, seed or training length. What they belong to must be the same: sensor,
    backbone, its pretrained weights, method. And no tile that selects or tests this run's model may have trained them.

    Args:
        path: The file.
        spec: The run that is to use them.
        sensor: Its sensor.
        unseen: Digests of the images of its held-out and target tiles, by the tiles' names.

    Raises:
        CheckpointError: If they do not belong together; the message names both sides.
    """
    given = read_stage1(path)
    theirs = given.spec
    sides = (
        ("sensor", f"{given.sensor} ({given.bands} bands)", f"{sensor.name} ({len(sensor.bands)} bands)"),
        ("backbone", theirs.backbone, spec.backbone),
        ("pretrained weights", theirs.weights, spec.weights),
        ("method", short_name(theirs.method), short_name(spec.method)),
    )
    for kind, theirs_is, ours_is in sides:
        if theirs_is != ours_is:
            raise CheckpointError(
                f"--stage1 {path} was trained with {kind} {theirs_is}, this run has {ours_is}; "
                f"give the stage1.safetensors of a run with {kind} {ours_is}"
            )
    if theirs.method_source != spec.method_source:
        raise CheckpointError(
            f"--stage1 {path} was trained with another version of the file of {short_name(spec.method)} "
            f"({theirs.method_source}), this run has {spec.method_source}; train stage 1 again"
        )
    seen = already_seen(given.images.values(), unseen)
    if seen:
        raise CheckpointError(
            f"--stage1 {path} was trained on the source of {theirs.protocol}, {len(seen)} tiles of which "
            f"({seen[0]} ...) select or test the model of {spec.protocol}; give one trained on the same source"
        )


def origin(given: Stage1, spec: RunSpec) -> str:
    """Say in one line where reconstruction-stage weights come from and in which options their run differed."""
    theirs = given.spec
    options = [
        f"{name}={value}"
        for name, value in theirs.method_options.items()
        if spec.method_options.get(name, value) != value
    ]
    words = [f"trained on the source of {theirs.protocol}", f"seed {theirs.seed}", *options]
    return ", ".join([*words, "SIMULATED data"] if theirs.simulated else words)
