"""The spectral masked autoencoder: one token for each band of a patch, bands known by wavelength and width."""

from __future__ import annotations

import math

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spectral_tl_bench.backbones.base import BANDS, Tokenizer
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.generated import fill_positions
from spectral_tl_bench.backbones.positions import sincos
from spectral_tl_bench.backbones.vit import AbsolutePositionBackbone
from spectral_tl_bench.sensors import DEFAULT_BANDWIDTH, Sensor

MOST_TOKENS = 8
"""Tokens that the bands of a patch become at most, unless another bound is set: cost grows with them."""
WIDTH_CODE = 64
PROJECTION = "patch_embed.proj.weight"


class SpectralMAE(VisionTransformer):
    """The bare model: a ViT whose patch projection has one channel, and an MLP of a band's width.

    The last layer of the MLP starts at 0, so that widths count for nothing before anything has been learned of them.
    """

    pos_embed: nn.Parameter

    def __init__(self, *, image_size: int, patch_size: int, width: int, depth: int, num_heads: int) -> None:
        """Build the model; ``image_size`` is that of its table of positions, fixed sines and cosines."""
        super().__init__(
            img_size=image_size,
            patch_size=patch_size,
            in_chans=1,
            num_classes=0,
            global_pool="",
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            class_token=True,
        )
        last = nn.Linear(WIDTH_CODE, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.band_width = nn.Sequential(nn.Linear(1, WIDTH_CODE), nn.GELU(), last)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.patch_embed.num_patches, width))
        fill_positions(self.pos_embed, image_size // patch_size)


class BandTokenizer(Tokenizer):
    """A token for each band: a shared projection of its patch, a code of its wavelength and one of its width.

    What is handed on is the mean over the bands, and beside it how each band's token differs from that. Of more bands
    than ``most`` neighbours are averaged beforehand: to one broader band with their mean wavelength and the width from
    the first to the last of them. Bands of several dates are neighbours within their date.

    Attributes:
        most: Tokens that the bands of a patch become at most.
    """

    wavelengths: Tensor
    widths: Tensor
    shares: Tensor

    def __init__(self, projection: nn.Conv2d, band_width: nn.Module, sensor: Sensor) -> None:
        """Take a model's projection, 1 -> D, and the MLP of widths, 1 -> D."""
        super().__init__()
        self.projection = projection
        self.band_width = band_width
        self.most = MOST_TOKENS
        self._sensor = sensor
        for name in ("wavelengths", "widths", "shares"):
            self.register_buffer(name, torch.empty(0, device=projection.weight.device), persistent=False)
        self.see(sensor)

    def see(self, sensor: Sensor) -> None:
        """Make tokens of another sensor's bands from now on."""
        self._sensor = sensor
        device = self.wavelengths.device
        groups = neighbours(sensor, self.most)
        merged = [merge(sensor, group) for group in groups]
        # In full precision: the sine of a wavelength of hundreds of nm means nothing in half precision.
        centres = torch.tensor([centre for centre, _ in merged], device="cpu")
        self.wavelengths = sincos(centres, self.projection.out_channels).float().to(device)
        relative = [math.log(width / DEFAULT_BANDWIDTH) for _, width in merged]
        self.widths = torch.tensor(relative, device="cpu").unsqueeze(1).to(device)
        shares = torch.zeros(len(groups), len(sensor.bands), device="cpu")
        for row, group in zip(shares, groups, strict=True):
            row[group] = 1 / len(group)
        self.shares = shares.to(device)

    def limit_tokens(self, most: int) -> None:
        """Make at most so many tokens of the bands of a patch."""
        self.most = most
        self.see(self._sensor)

    def codes(self) -> Tensor:
        """The code of each band, G x D."""
        code: Tensor = self.wavelengths + self.band_width(self.widths)
        return code

    def kernels(self) -> tuple[Tensor, Tensor | None]:
        """The convolution that gives the mean over the bands: D x C x p x p, and bias, D."""
        bands = self.shares.mean(dim=0)
        bias = self.codes().mean(dim=0)
        if self.projection.bias is not None:
            bias = bias + self.projection.bias
        return self.projection.weight * bands.view(1, -1, 1, 1), bias

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens and each band's difference from them, B x T x G x D."""
        if self.shares.shape[0] < self.shares.shape[1]:
            images = torch.einsum("gc,bchw->bghw", self.shares.to(images.dtype), images)
        batch = len(images)
        patches = self.projection(images.flatten(0, 1).unsqueeze(1)).flatten(2).transpose(1, 2)
        bands = patches.unflatten(0, (batch, -1)).transpose(1, 2) + self.codes()
        mean = bands.mean(dim=2)
        return mean, {BANDS: bands - mean.unsqueeze(2)}


def neighbours(sensor: Sensor, most: int) -> list[list[int]]:
    """Part a sensor's bands into at most ``most`` groups of neighbours, by date and wavelength.

    Returns:
        Positions of each group's bands; with as many groups as bands, every band by itself in the sensor's order.
    """
    many = len(sensor.bands)
    if many <= most:
        return [[position] for position in range(many)]
    order = sorted(range(many), key=lambda i: (sensor.bands[i].date or "", sensor.bands[i].wavelength))
    return [part.tolist() for part in np.array_split(order, most)]


def merge(sensor: Sensor, group: list[int]) -> tuple[float, float]:
    """Mean wavelength of some bands and the width from the first to the last of them, in nm."""
    bands = [sensor.bands[position] for position in group]
    halves = [(band.bandwidth or DEFAULT_BANDWIDTH) / 2 for band in bands]
    lowest = min(band.wavelength - half for band, half in zip(bands, halves, strict=True))
    highest = max(band.wavelength + half for band, half in zip(bands, halves, strict=True))
    return sum(band.wavelength for band in bands) / len(bands), highest - lowest


class SpectralMAEBackbone(AbsolutePositionBackbone):
    """General-purpose spectral masked autoencoder (Laprade et al., arXiv 2503.01628), a declared approximation.

    Only the abstract and an overview of that model are public, and no code. From there are a ViT encoder, a code of
    every channel's wavelength and width, masking in space and then in spectrum, and the start from ImageNet. How these
    are made is this package's choice: sines and cosines of the wavelength in nm, an MLP of the width's logarithm, one
    projection of one channel shared by all bands, fixed 2-D sines and cosines as positions, and a decoder that gets the
    mean of a patch's tokens over its bands. A method's layers see all tokens of all bands.

    The blocks see T x G tokens for G bands, and what the bands of a patch become is bounded (``most``).
    """

    def __init__(self, model: SpectralMAE, sensor: Sensor) -> None:
        """Take the model apart.

        Args:
            model: The model, for any number of bands.
            sensor: Sensor of the images; gives wavelengths, widths and dates.
        """
        rows, columns = model.patch_embed.grid_size
        super().__init__(
            BandTokenizer(model.patch_embed.proj, model.band_width, sensor),
            model.blocks,
            sensor=sensor,
            patch_size=model.patch_embed.patch_size[0],
            pos_embed=model.pos_embed,
            pretrained_grid=(rows, columns),
            cls_token=model.cls_token,
        )


def make_micro(bands: int) -> SpectralMAE:
    """The small one, 192 wide, 8 deep, patch 8; it takes any number of ``bands``."""
    return SpectralMAE(image_size=64, patch_size=8, width=192, depth=8, num_heads=3)


def make_base(bands: int) -> SpectralMAE:
    """ViT-B/16, the size of ImageNet's masked autoencoder; it takes any number of ``bands``."""
    return SpectralMAE(image_size=224, patch_size=16, width=768, depth=12, num_heads=12)


def convert(state: dict[str, Tensor], sensor: Sensor) -> dict[str, Tensor]:
    """Begin with what an RGB model makes of grey pictures; a state of this model's own stays as it is.

    The projection is the sum of the RGB model's three, so that a band is as loud as a grey picture was: with their
    mean, codes drown it. Positions stay this model's own, which are as loud; those of an RGB model, learned beside
    stronger patches, may be too faint to tell where a patch lies.
    """
    projection = state.get(PROJECTION)
    if projection is None or projection.ndim != 4 or projection.shape[1] != 3:
        return state
    others = {name: tensor for name, tensor in state.items() if name != "pos_embed"}
    return others | {PROJECTION: projection.sum(dim=1, keepdim=True)}


SPECTRAL_MAE_MICRO = BackboneEntry(
    "spectral_mae_micro",
    "Spectral masked autoencoder, 192 wide, 8 deep, patch 8, a token for each band of a patch (declared approximation)",
    make_micro,
    SpectralMAEBackbone,
    convert=convert,
    embedded="spectral_mae_micro.safetensors",
    from_wavelengths=True,
    band_tokens=True,
    small=True,
    order=90,
)
SPECTRAL_MAE_B = BackboneEntry(
    "spectral_mae_b",
    "Spectral masked autoencoder, ViT-B/16, a token for each band of a patch (declared approximation)",
    make_base,
    SpectralMAEBackbone,
    convert=convert,
    from_wavelengths=True,
    band_tokens=True,
    order=90,
)
