"""Sine-cosine code of which wavelengths a token comes from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.backbones.positions import sincos


def wavelength_code(wavelengths: Sequence[float], channels: int, width: int) -> Tensor:
    """Code of the bands' centre wavelengths, spread evenly over the channels of a feature map.

    The bands keep their order, whatever it is: neighbours in the image, not in the spectrum, are interpolated, and a
    wavelength may occur on several dates.

    Args:
        wavelengths: Centre wavelengths of C bands in nm.
        channels: Number of feature channels d.
        width: Width of the code.

    Returns:
        d x width, float32; the first channel has the code of the first band, the last that of the last.
    """
    code = sincos(torch.tensor(wavelengths, dtype=torch.float64), width)
    spread = F.interpolate(code.T.unsqueeze(0), size=channels, mode="linear", align_corners=True)
    return spread.squeeze(0).T.float().contiguous()
