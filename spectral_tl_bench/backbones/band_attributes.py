"""SpecAware's meta-attributes: each band's code from wavelength, width, and the names of sensor and level."""

from __future__ import annotations

import zlib

import torch
from timm.layers.weight_init import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from spectral_tl_bench.backbones.positions import fourier
from spectral_tl_bench.sensors import DEFAULT_BANDWIDTH, Sensor

CODE = 128
"""Width of every code of a band."""
SHORTEST, LONGEST = 350.0, 2550.0
"""Periods in nm of the code of wavelengths, which are also the range of the wavelengths that it was made for."""
NARROW, WIDE = 5.0, 15.0
"""Widths in nm that are 0 and 1 to the MLP of widths."""
NAMES = 256
SENTENCE = 384
DROPOUT = 0.1


def init_as_published(module: nn.Module) -> None:
    """Draw the weights of linear layers from a truncated normal of deviation 0.02; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


class CrossModalFusion(nn.Module):
    """Fuse one code with another: a' + Dropout(GELU(LN(W [a', b']))), a' and b' being linear projections of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(CODE, CODE)
        self.second = nn.Linear(CODE, CODE)
        self.joint = nn.Sequential(nn.Linear(2 * CODE, CODE), nn.LayerNorm(CODE), nn.GELU(), nn.Dropout(DROPOUT))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse ... x 128 codes ``a`` and ``b``, which are broadcast."""
        first, second = torch.broadcast_tensors(self.first(a), self.second(b))
        out: Tensor = first + self.joint(torch.cat([first, second], dim=-1))
        return out


class ResidualMLP(nn.Module):
    """x + W2 GELU(W1 x), 128-256-128."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CODE, 2 * CODE), nn.GELU(), nn.Linear(2 * CODE, CODE))

    def forward(self, x: Tensor) -> Tensor:
        """Refine ... x 128 codes."""
        out: Tensor = x + self.layers(x)
        return out


class BandAttributes(nn.Module):
    """E_meta of SpecAware (arXiv 2510.27219): the attributes of every band in 128 numbers.

    Declared difference from the released code: names of sensors and levels are read from a table instead of a frozen
    sentence encoder. A name's row follows from its CRC-32. Rows start at 0 and are learned in pretraining; a released
    file fills them with sentence vectors (:func:`~spectral_tl_bench.backbones.specaware.convert`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.band_width = nn.Sequential(nn.Linear(1, 64), nn.GELU(), nn.Linear(64, CODE))
        self.mixture = nn.Parameter(torch.tensor([0.8, 0.2]))
        self.refine = ResidualMLP()
        self.names = nn.Embedding(NAMES, SENTENCE)
        nn.init.zeros_(self.names.weight)
        self.name_projection = nn.Linear(SENTENCE, CODE // 2)
        self.fuse = CrossModalFusion()
        # torch's LayerNorm: its epsilon of 1e-5 is that of the released layer.
        self.across_bands = Block(CODE, num_heads=4, mlp_ratio=1, qkv_bias=True, norm_layer=nn.LayerNorm)
        init_as_published(self)

    def forward(self, wavelengths: Tensor, widths: Tensor, names: Tensor) -> Tensor:
        """Code the bands.

        Args:
            wavelengths: C x 128, what :func:`wavelength_code` gives.
            widths: C x 1, what :func:`width_code` gives.
            names: Rows of the sensor's name and of its level, -1 where there is none.

        Returns:
            C x 128.
        """
        shares = self.mixture.softmax(dim=0)
        bands = self.refine(shares[0] * wavelengths + shares[1] * self.band_width(widths))
        known = (names >= 0).unsqueeze(-1)
        sentences = self.names(names.clamp_min(0)) * known
        fused = self.fuse(bands, self.name_projection(sentences).flatten()) + bands
        out: Tensor = self.across_bands(fused.unsqueeze(0)).squeeze(0) + fused
        return out


def wavelength_code(sensor: Sensor) -> Tensor:
    """Fourier code of each band's wavelength, C x 128."""
    return fourier(torch.tensor(sensor.wavelengths, device="cpu"), CODE, SHORTEST, LONGEST).float()


def width_code(sensor: Sensor) -> Tensor:
    """Each band's width, scaled linearly from 0 at 5 nm to 1 at 15 nm; C x 1."""
    widths = [band.bandwidth or DEFAULT_BANDWIDTH for band in sensor.bands]
    return ((torch.tensor(widths, device="cpu") - NARROW) / (WIDE - NARROW)).unsqueeze(1)


def name_row(name: str) -> int:
    """Row of a name in the table of names."""
    return zlib.crc32(name.strip().lower().encode()) % NAMES


def name_rows(sensor: Sensor) -> Tensor:
    """Rows in the table of names of the sensor and of its level; -1 where it has none."""
    rows = [-1 if name is None else name_row(name) for name in (sensor.name, sensor.level)]
    return torch.tensor(rows, device="cpu")
