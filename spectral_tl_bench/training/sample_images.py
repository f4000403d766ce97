"""The tiles that a run shows of its model, and looking at the model without disturbing it.

Nothing here draws from the generators that training uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spectral_tl_bench.datamodules.windows import TrainingWindows, blank_outside, inside
from spectral_tl_bench.records.titles import HELD_OUT

if TYPE_CHECKING:
    from spectral_tl_bench.config.spec import TrainingSpec
    from spectral_tl_bench.datamodules.protocol import ProtocolDataModule

TILES = 16
"""Tiles of the held-out source, and of all targets, that a method's diagnostics see."""


@contextlib.contextmanager
def eval_mode(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate a module on a device, without gradients; afterwards it is as it was."""
    home = next(module.parameters()).device
    modes = {part: part.training for part in module.modules()}
    module.eval().to(device)
    try:
        with torch.no_grad():
            yield
    finally:
        module.to(home)
        for part, mode in modes.items():
            part.training = mode


def spread(positions: np.ndarray, subdomains: list[str], count: int) -> list[int]:
    """Choose tiles from all sub-domains alike, evenly spaced in each.

    Args:
        positions: Rows of the index.
        subdomains: The sub-domain of each.
        count: How many; fewer where there are not as many.
    """
    groups = [positions[np.array(subdomains) == name] for name in sorted(set(subdomains))]
    each = -(-count // len(groups))
    picks = [group[np.linspace(0, len(group) - 1, min(each, len(group))).round().astype(int)] for group in groups]
    # Round by round, so that a small count still sees as many sub-domains as it can.
    rounds = [[int(pick[i]) for pick in picks if i < len(pick)] for i in range(each)]
    first = np.linspace(0, len(rounds[0]) - 1, min(count, len(rounds[0]))).round().astype(int)
    return [*(rounds[0][i] for i in first), *(p for later in rounds[1:] for p in later)][:count]


def window(data: ProtocolDataModule, position: int, training: TrainingSpec) -> Tensor:
    """Reflectance of a tile as the model sees it, C x size x size: resampled, or the middle of it."""
    size = training.image_size
    windows = TrainingWindows(data.tiles, size, resize=training.resolution == "resize")
    top, left = (max(0, int(sides[position]) - size) // 2 for sides in (windows.heights, windows.widths))
    return data.tiles.to_reflectance(windows[position, top, left]["image"])


def inside_of(data: ProtocolDataModule, positions: list[int], training: TrainingSpec) -> Tensor:
    """Where the windows of tiles hold these tiles; B x size x size, all True where no tile is smaller."""
    sides = data.tiles.index[["height", "width"]].iloc[positions].to_numpy()
    if training.resolution == "resize":
        sides = np.full_like(sides, training.image_size)
    return torch.stack([inside(int(height), int(width), training.image_size) for height, width in sides])


def subdomains_of(data: ProtocolDataModule, positions: np.ndarray) -> list[str]:
    """Sub-domain of each of some rows of the index."""
    return [data.split.subdomains[str(name)] for name in data.tiles.index["tile"].iloc[positions]]


def images_by_domain(data: ProtocolDataModule, training: TrainingSpec, device: torch.device) -> dict[str, Tensor]:
    """A few windows of the held-out source and of each target sub-domain, normalised; N x C x size x size each."""
    radiometry = data.radiometry.to(device)
    held_out, target = data.split.held_out, data.split.target
    names = subdomains_of(data, target)
    parts = {HELD_OUT: spread(held_out, subdomains_of(data, held_out), TILES)}
    # Other bands than the source's are no images that a method's parts were made for.
    same = data.tiles.crossing is None or data.tiles.crossing.seen is None
    of_targets = spread(target, names, max(TILES, len(set(names)))) if same else []
    for position, name in zip(of_targets, subdomains_of(data, np.array(of_targets)), strict=True):
        parts.setdefault(name, []).append(position)
    return {
        name: blank_outside(
            radiometry(torch.stack([window(data, p, training) for p in chosen]).to(device)),
            inside_of(data, chosen, training).to(device),
        )
        for name, chosen in parts.items()
    }
