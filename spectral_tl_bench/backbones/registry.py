"""The backbones by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import BACKBONES, split_file

if TYPE_CHECKING:
    from spectral_tl_bench.backbones.base import Backbone


def backbone_names() -> list[str]:
    """Names of every backbone: those of this package, then those of installed plugins."""
    return BACKBONES.names()


def backbone_entry(name: str) -> BackboneEntry:
    """Return the backbone of a registered name, or of ``path/to/file.py:NAME``.

    Raises:
        UnknownNameError: If there is none.
        SpectralBenchError: If a plugin cannot be imported, or is no entry, or one of another name.
    """
    entry = BACKBONES.load(name)
    if not isinstance(entry, BackboneEntry) or (split_file(name)[0] is None and entry.name != name):
        raise SpectralBenchError(
            f"there is no BackboneEntry named {name!r} where it is registered; docs/add-a-backbone.md shows a complete "
            "example"
        )
    return entry


def build_backbone(name: str, sensor: Sensor, weights: str = "none") -> Backbone:
    """Build a backbone for a sensor.

    Args:
        name: Registered name.
        sensor: Sensor of the images; fixes the number of bands.
        weights: "none" (random initialisation from torch's generator), "hub", "embedded" (those that come with the
            package), or the path of a .pth or .safetensors file.

    Returns:
        The backbone, every parameter training.

    Raises:
        UnknownNameError: If the name is not registered.
        CheckpointError: If the weights cannot be had or do not fit.
    """
    return backbone_entry(name).build(sensor, weights)


def weights_fingerprint(name: str, weights: str) -> str:
    """What a run records of its weights: "none", "hub", or the digest of the file's content.

    Embedded weights are recorded as a file of the same content is: they are the same run.

    Args:
        name: Registered name of the backbone.
        weights: As for :func:`build_backbone`.

    Raises:
        UnknownNameError: If the name is not registered.
        CheckpointError: If a file is missing, or no weights of the backbone come with the package.
    """
    return backbone_entry(name).fingerprint(weights)
