"""How a run trains where the user says nothing: what the preset, the method and the backbone ask for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from spectral_tl_bench.backbones import backbone_entry, build_backbone
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.methods import adapting_class
from spectral_tl_bench.sensors import OHS

FINEST_TOKEN = 8
"""Pixels of the tile's side that a token covers at most, as long as enlarging costs little."""
LARGEST_ENLARGED = 256
"""Side in pixels up to which a window is enlarged: a ViT's cost grows with its square."""


@lru_cache
def patch_size(backbone: str) -> int:
    """Side in pixels of a registered backbone's patches."""
    # The sensor changes nothing of that; on the meta device a ViT-L costs no memory.
    with torch.device("meta"):
        return build_backbone(backbone, OHS).patch_size


def default_upsample(patch: int, image_size: int) -> int:
    """How many times windows are enlarged for a backbone.

    On tiles of 10-30 m a field is a few pixels wide, and what one token covers is hardly told apart behind it. So a
    token covers at most 8 px, except where the enlarged window would be larger than 256 px.

    Args:
        patch: Side of the backbone's patches in pixels.
        image_size: Side of the windows in pixels of the tile.

    >>> default_upsample(14, 64), default_upsample(8, 64), default_upsample(16, 224)
    (2, 1, 1)
    """
    return max(1, min(math.ceil(patch / FINEST_TOKEN), LARGEST_ENLARGED // image_size))


def fitted_image_size(image_size: int, patch: int, sides: Sequence[int]) -> int:
    """Side of the windows that suits tiles which are smaller than a preset's.

    Args:
        image_size: Side that the preset asks for.
        patch: Side of the backbone's patches.
        sides: Shorter side of each training tile.

    Returns:
        The preset's where half of the tiles are as large. Else the largest number of whole patches that half of them
        hold, at least two: tiles that are smaller still are padded with pixels that do not count.

    >>> fitted_image_size(224, 16, [128, 128, 100]), fitted_image_size(64, 8, [128]), fitted_image_size(224, 16, [20])
    (128, 64, 32)
    """
    usual = int(np.median(sides))
    if usual >= image_size:
        return image_size
    return min(image_size, max(2 * patch, usual // patch * patch))


def fitted_to_tiles(
    training: TrainingSpec, backbone: str, assigned: Collection[str], sides: Sequence[int]
) -> TrainingSpec:
    """Let windows be no larger than the tiles, where the user did not say how large they are.

    Args:
        training: The settings of a run.
        backbone: Registered name.
        assigned: Settings that the user typed.
        sides: Shorter side of each training tile in pixels.
    """
    if training.resolution != "native" or "image_size" in assigned:
        return training
    patch = patch_size(backbone)
    size = fitted_image_size(training.image_size, patch, sides)
    if size == training.image_size:
        return training
    # Whole tokens of the sides that these windows have.
    enlarged = {} if "upsample" in assigned else {"upsample": default_upsample(patch, size)}
    return override(training, {"image_size": size, **enlarged})


def training_of(preset_name: str, method: str, backbone: str, assignments: Mapping[str, Any]) -> TrainingSpec:
    """The settings of a run: the preset's, with what suits method and backbone, then what the user assigned.

    The rates of "quick" are those of small backbones; what adapts a larger one learns at the rates of "standard", in
    both stages. The published set-up has one learning rate and enlarges nothing, so "reference" stays as it is.

    Args:
        preset_name: Name of the preset.
        method: Registered name, or ``file.py:ClassName``.
        backbone: Registered name.
        assignments: What ``--train name=value`` said.

    Raises:
        UnknownNameError: If a name or a field does not exist.
        SpectralBenchError: If a value does not suit its field.
    """
    base = preset(preset_name)
    typed = override(base, assignments)
    if preset_name == "reference":
        return typed
    rates = base if backbone_entry(backbone).small else preset("standard")
    usual: dict[str, Any] = {
        "learning_rate": adapting_class(method).learning_rate_factor * rates.learning_rate,
        "reconstruction_learning_rate": rates.reconstruction_learning_rate,
    }
    if typed.resolution == "native":
        usual["upsample"] = default_upsample(patch_size(backbone), typed.image_size)
    return override(base, {**usual, **assignments})
