"""Galileo: a ViT whose tokens are groups of Sentinel-2 bands, pretrained on many kinds of remote sensing data."""

from __future__ import annotations

import torch
from timm.layers.patch_embed import resample_patch_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.base import BANDS, Backbone, Tokenizer, Tokens
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.loading import url_weights
from spectral_tl_bench.backbones.sentinel2_groups import (
    GROUPS,
    BandGroup,
    band_groups,
    initialize_linear_layers,
    month_table,
    nearest_band,
    unread_bands,
    vegetation_index,
)
from spectral_tl_bench.sensors import Sensor

PATCH_SIZE = 8
MOST_DATES = 24
REFERENCE_DISTANCE = 10.0
"""Metres on the ground that one step of the position code stands for."""
CHANNEL_GROUPS = ("S1", *GROUPS)
"""Rows of the table of groups."""
MEAN = dict(
    zip(
        ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
        (0.13953, 0.13384, 0.13431, 0.15439, 0.21862, 0.25251, 0.24103, 0.27503, 0.22349, 0.14745),
        strict=True,
    )
)
DEVIATION = dict(
    zip(MEAN, (0.09177, 0.09133, 0.10927, 0.10472, 0.10480, 0.11437, 0.10990, 0.12045, 0.11460, 0.09802), strict=True)
)
"""Mean and standard deviation in reflectance of the released normalisation (config/normalization.json)."""


class Galileo(nn.Module):
    """The bare Sentinel-2 part of the encoder; queries, keys and values are one layer, as in timm."""

    pos_embed: Tensor
    month_embed: Tensor

    def __init__(self, width: int, depth: int, num_heads: int) -> None:
        """Build the model, ``width`` D wide; quarters of a token's width code group, date, month and place."""
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(
            Block(width, num_heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.space_time_embed = nn.ModuleDict(
            {
                name: nn.ModuleDict({"proj": nn.Conv2d(len(_read(name, bands)), width, PATCH_SIZE, PATCH_SIZE)})
                for name, bands in GROUPS.items()
            }
        )
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(CHANNEL_GROUPS), width // 4))
        self.register_buffer("pos_embed", line_code(torch.arange(MOST_DATES), width // 4))
        self.register_buffer("month_embed", month_table(width // 4))
        initialize_linear_layers(self)


def _read(name: str, bands: tuple[str, ...]) -> tuple[str, ...]:
    """Channels of a group's projection: its bands, or for NDVI the index alone."""
    return (name,) if name == "NDVI" else bands


def line_code(positions: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of N positions times 10000^(-i / (2 width)), i < width / 2, as released; N x width."""
    rates = 10_000.0 ** (-torch.arange(width // 2, device=positions.device) / width / 2)
    angles = positions.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class GroupTokenizer(Tokenizer):
    """A token for each group of bands and each date: a projection of the patch plus codes of group, date and month.

    NDVI is computed from reflectance, for which the model's own normalisation is undone: it is right with
    ``radiometry=backbone``. At another patch size than 8 kernels are resized by the pseudo-inverse of the interpolation
    (Beyer et al., FlexiViT, 2023), as released.
    """

    def __init__(self, model: Galileo, sensor: Sensor, patch_size: int) -> None:
        """Take the embeddings of a model; patches have ``patch_size`` pixels a side."""
        super().__init__()
        self.projections = model.space_time_embed
        self.channel_code = model.s_t_channel_embed
        self.register_buffer("date_code", model.pos_embed)
        self.register_buffer("month_code", model.month_embed)
        self.register_buffer("scaling", torch.empty(0), persistent=False)
        self.patch_size = patch_size
        self.groups: list[BandGroup] = []
        self.months: list[int] = []
        self.see(sensor)

    def see(self, sensor: Sensor) -> None:
        """Make tokens of another sensor's bands from now on."""
        self.groups, self.months = band_groups(sensor, "galileo")
        mean, deviation = normalisation(sensor)
        self.scaling = torch.tensor([mean, deviation], device="cpu").to(self.channel_code.device)

    def read(self, images: Tensor, group: BandGroup) -> Tensor:
        """The channels of a group's projection, of B x C x H x W normalised images."""
        places = list(group.positions)
        if group.name != "NDVI":
            return images[:, places]
        mean, deviation = self.scaling[:, places].to(images.dtype).unsqueeze(-1).unsqueeze(-1)
        return vegetation_index(images[:, places] * deviation + mean)

    def code(self, group: BandGroup) -> Tensor:
        """Code of a group, its date and its month, 3/4 D."""
        channel = self.channel_code[CHANNEL_GROUPS.index(group.name)]
        assert isinstance(self.date_code, Tensor)
        assert isinstance(self.month_code, Tensor)
        return torch.cat([channel, self.date_code[group.date], self.month_code[self.months[group.date]]])

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens and each group's difference from them, B x T x G x D."""
        tokens = []
        for group in self.groups:
            projection = self.projections.get_submodule(f"{group.name}.proj")
            weight, bias = projection.get_parameter("weight"), projection.get_parameter("bias")
            if self.patch_size != PATCH_SIZE:
                weight = resample_patch_embed(weight, [self.patch_size, self.patch_size])
            maps = F.conv2d(self.read(images, group), weight, bias, stride=self.patch_size)
            code = self.code(group)
            tokens.append(maps.flatten(2).transpose(1, 2) + F.pad(code, (0, maps.shape[1] - len(code))))
        of_groups = torch.stack(tokens, dim=2)
        mean = of_groups.mean(dim=2)
        return mean, {BANDS: of_groups - mean.unsqueeze(2)}


class GalileoBackbone(Backbone):
    """The Sentinel-2 part of Galileo's encoder (Tseng et al., ICML 2025), with its released weights (MIT).

    A patch is a token for each group of bands and each date that the sensor has; the blocks see them all, and the
    features are their mean. Features after the last tap are normed first. Left out of the released encoder are the
    tokens of radar, weather, terrain, maps and place, which the authors mask where a data set lacks them.

    Declared differences: a sensor's bands stand for the Sentinel-2 bands nearest to them, within 20 nm; images whose
    bands have no date count as of June; no stochastic depth in training (0.1 in pretraining).

    Attributes:
        metres_a_pixel: The sensor's ground sampling distance.
    """

    def __init__(self, model: Galileo, sensor: Sensor, patch_size: int = PATCH_SIZE) -> None:
        """Take the model apart.

        Args:
            model: The model.
            sensor: Sensor of the images; gives wavelengths, dates and ground sampling distance.
            patch_size: Side of a patch in pixels, 1 to 8 in pretraining.
        """
        super().__init__(
            GroupTokenizer(model, sensor, patch_size),
            model.blocks,
            sensor=sensor,
            width=model.width,
            patch_size=patch_size,
        )
        self.norm = model.norm
        self.metres_a_pixel: float = sensor.ground_sampling_distance

    @property
    def unread_bands(self) -> frozenset[str]:
        """Names of the sensor's bands that are in no complete group."""
        tokenizer = self.tokenizer
        return unread_bands(self.sensor, tokenizer.groups) if isinstance(tokenizer, GroupTokenizer) else frozenset()

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add the code of the patches' places on the ground, which is the last quarter of a token."""
        step = self.metres_a_pixel * self.patch_size / self.enlargement / REFERENCE_DISTANCE
        rows, columns = (line_code(torch.arange(n, device="cpu") * step, self.width // 8) for n in grid)
        code = torch.cat([columns.repeat(grid[0], 1), rows.repeat_interleave(grid[1], dim=0)], dim=1)
        code = F.pad(code, (self.width - code.shape[1], 0)).to(patches)
        return Tokens(patches + code, patches.new_zeros(len(patches), 0, self.width), grid, context=context)

    def pool(self, patches: Tensor, tokens_a_patch: int, index: int) -> Tensor:
        """The mean of each patch's tokens, after the last block of the normed ones."""
        return super().pool(self.norm(patches) if index == len(self.blocks) - 1 else patches, tokens_a_patch, index)


def normalisation(sensor: Sensor) -> tuple[list[float], list[float]]:
    """What is subtracted from and what divides the reflectance of each band: mean - 2 deviations, and 4 deviations.

    Bands that the model does not read are left as they are.
    """
    names = [nearest_band(band.wavelength) for band in sensor.bands]
    low = [0.0 if name is None else MEAN[name] - 2 * DEVIATION[name] for name in names]
    span = [1.0 if name is None else 4 * DEVIATION[name] for name in names]
    return low, span


def convert(state: dict[str, Tensor], sensor: Sensor) -> dict[str, Tensor]:
    """Join queries, keys and values of a released encoder; a state of this model's own names stays as it is."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.replace(".backbone", "").replace("month_embed.weight", "month_embed")
        if ".attn.k." in name or ".attn.v." in name:
            continue
        if ".attn.q." in name:
            tensor = torch.cat([state[name.replace(".attn.q.", f".attn.{part}.")] for part in "qkv"])
            name = name.replace(".attn.q.", ".attn.qkv.")
        out[name] = tensor
    return out


def make_nano(bands: int) -> Galileo:
    """The smallest released size, 128 wide, 4 deep; it takes any number of ``bands``."""
    return Galileo(128, 4, 8)


GALILEO_NANO = BackboneEntry(
    "galileo_nano",
    "Galileo nano, 128 wide, 4 deep, patch 8, a token for each group of Sentinel-2 bands (MIT)",
    make_nano,
    GalileoBackbone,
    url_weights(
        "https://github.com/nasaharvest/galileo/raw/main/data/models/nano/encoder.pt", "galileo_nano_encoder.pt"
    ),
    convert=convert,
    ignorable=(
        "space_embed.",
        "time_embed.",
        "static_embed.",
        "sp_channel_embed",
        "t_channel_embed",
        "st_channel_embed",
        "space_time_embed.S1.",
    ),
    from_wavelengths=True,
    small=True,
    normalisation=normalisation,
    order=85,
)
