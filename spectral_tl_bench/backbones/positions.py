"""Sine-cosine codes of numbers, and of where a patch lies on the ground."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_LONGEST_PERIOD = 10_000.0


def sincos(positions: Tensor, width: int) -> Tensor:
    """Code positions by sines and cosines of geometrically falling frequencies (Vaswani et al., 2017).

    Args:
        positions: N numbers.
        width: Width of the code; an odd one has one sine more than cosines.

    Returns:
        N x width, sines first.
    """
    half = (width + 1) // 2
    frequencies = _LONGEST_PERIOD ** (-torch.arange(half, dtype=torch.float64, device=positions.device) / half)
    angles = positions.double().unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


def fourier(values: Tensor, width: int, shortest: float, longest: float) -> Tensor:
    """Code numbers by sines and cosines of periods that grow geometrically between two (Bodnar et al., 2024, Aurora).

    Args:
        values: N numbers in the unit of the periods.
        width: Width of the code, a multiple of 2.
        shortest: The shortest period.
        longest: The longest period.

    Returns:
        N x width, sines first.
    """
    steps = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=values.device)
    angles = 2 * math.pi * values.double().unsqueeze(1) / (shortest * (longest / shortest) ** steps)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@lru_cache(maxsize=32)
def ground_code(
    rows: int, columns: int, width: int, ground_sampling_distance: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """2-D position code in which a step on the grid counts as long as it is on the ground (Reed et al., 2023).

    Args:
        rows: Rows of the grid.
        columns: Columns of the grid.
        width: Width of the code, a multiple of 2; one half codes the column, the other the row.
        ground_sampling_distance: Metres a pixel; the reference distance is 1 m.
        device: Where the code is used.
        dtype: Type of what it is added to.

    Returns:
        (rows * columns) x width, row by row.
    """
    # A tensor made in inference mode could not be used in a later training step.
    with torch.inference_mode(False):
        along_rows = sincos(torch.arange(rows) * ground_sampling_distance, width // 2)
        along_columns = sincos(torch.arange(columns) * ground_sampling_distance, width // 2)
        code = torch.cat([along_columns.repeat(rows, 1), along_rows.repeat_interleave(columns, dim=0)], dim=1)
        return code.to(device=device, dtype=dtype)
