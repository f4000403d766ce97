"""``adapter.safetensors``: everything about a trained model that its pretrained weights do not say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from torch import Tensor

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.utils.errors import CheckpointError, first_problem
from spectral_tl_bench.utils.tensors import load_weights, save_weights
from spectral_tl_bench.utils.validation import Value

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.datamodules.radiometry import Radiometry

ADAPTER = "adapter.safetensors"
RADIOMETRY = "radiometry."
"""Prefix of the radiometry's tensors; all others are the segmenter's."""


class Adapter(Value):
    """What a file of segmentation-stage weights says about itself.

    Attributes:
        format: Version of the file; the first did not hold what was drawn at random.
        stage: "segmentation".
        spec: The run that trained it.
        sensor: Bands with their wavelengths, the stored value of a reflectance of 1, and the pixel size.
        classes: Code on disk, name and colour of every class, in the order of their ids.
        step: Optimiser step that the weights are from.
        tile: Height and width in pixels of the median training tile.
        pretrained: Digest of the pretrained weights that the file leaves out; None where there are none.
        channels: Which bands of the tiles' files the run used, counted from 0; None where nothing is recorded.
        file_bands: How many bands these files have.
    """

    format: Literal[2] = 2
    stage: Literal["segmentation"] = "segmentation"
    spec: RunSpec
    sensor: Sensor
    classes: tuple[LandClass, ...] = Field(min_length=1)
    step: int = Field(ge=0)
    tile: tuple[PositiveInt, PositiveInt]
    pretrained: str | None
    channels: tuple[NonNegativeInt, ...] | None = None
    file_bands: PositiveInt | None = None


def write_adapter(path: Path, adapter: Adapter, segmenter: dict[str, Tensor], radiometry: Radiometry) -> None:
    """Write trained weights with the radiometry of their images.

    Args:
        path: The .safetensors file.
        adapter: What they belong to.
        segmenter: What :func:`spectral_tl_bench.utils.tensors.trained_state` returned.
        radiometry: How images were normalised.

    Raises:
        RecordError: If the file cannot be written.
    """
    scaling = {RADIOMETRY + name: tensor.cpu().contiguous() for name, tensor in radiometry.state_dict().items()}
    save_weights(path, segmenter | scaling, adapter.model_dump(mode="json"))


def read_adapter(path: Path) -> tuple[Adapter, dict[str, Tensor], dict[str, Tensor]]:
    """Read what :func:`write_adapter` wrote.

    Returns:
        What the weights belong to, the segmenter's tensors, and the radiometry's.

    Raises:
        CheckpointError: If the file is missing, damaged, or was written by a version that did not say enough.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}: the run is not complete, run it again")
    tensors, metadata = load_weights(path)
    if metadata.get("format") != Adapter.model_fields["format"].default:
        raise CheckpointError(
            f"{path} was written by another version of this package, whose files do not hold all that a model is "
            f"rebuilt from; run it again: spectral-bench run --config {path.with_name('run.yaml')} --force"
        )
    try:
        adapter = Adapter.model_validate(metadata)
    except ValidationError as error:
        raise CheckpointError(f"{path} is damaged ({first_problem(error)}); run it again") from error
    radiometry = {name.removeprefix(RADIOMETRY): t for name, t in tensors.items() if name.startswith(RADIOMETRY)}
    return adapter, {name: t for name, t in tensors.items() if not name.startswith(RADIOMETRY)}, radiometry


def pretrained_digest(backbone: Backbone) -> str | None:
    """Digest of the pretrained weights in a backbone that no method has changed yet; None where it has none."""
    digest, some = hashlib.sha256(), False
    for name, parameter in sorted(backbone.named_parameters()):
        if name not in backbone.drawn:
            some = True
            digest.update(f"{name} {tuple(parameter.shape)} ".encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().data)
    return "sha256:" + digest.hexdigest()[:16] if some else None
