"""Presto: a small transformer over the bands and dates of one pixel."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from spectral_tl_bench.backbones.base import BANDS, Backbone, Tokenizer, Tokens
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.loading import url_weights
from spectral_tl_bench.backbones.sentinel2_groups import (
    GROUPS,
    BandGroup,
    band_groups,
    initialize_linear_layers,
    month_table,
    unread_bands,
    vegetation_index,
)
from spectral_tl_bench.sensors import Sensor

WIDTH, DEPTH, HEADS = 128, 2, 8
MOST_DATES = 24
CHANNEL_GROUPS = ("S1", *(name for name in GROUPS if name != "NDVI"), "ERA5", "SRTM", "NDVI", "dynamic_world")
"""Rows of the table of groups."""


class Presto(nn.Module):
    """The bare encoder for Sentinel-2; of a token's width a quarter codes the month, one the group, half the date."""

    pos_embed: Tensor
    month_embed: Tensor

    def __init__(self, width: int = WIDTH, depth: int = DEPTH, num_heads: int = HEADS) -> None:
        """Build the encoder, ``width`` D wide."""
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(
            Block(width, num_heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.eo_patch_embed = nn.ModuleDict(
            {name: nn.Linear(1 if name == "NDVI" else len(bands), width) for name, bands in GROUPS.items()}
        )
        self.latlon_embed = nn.Linear(3, width)
        self.channel_embed = nn.Embedding(len(CHANNEL_GROUPS), width // 4)
        self.register_buffer("pos_embed", date_code(width // 2))
        self.register_buffer("month_embed", month_table(width // 4))
        initialize_linear_layers(self)


def date_code(width: int) -> Tensor:
    """Sine and cosine in turns of each date's number times 1000^(-2i / width), 1 x 24 x width."""
    rates = 1000.0 ** (-2 * torch.arange(width // 2) / width)
    angles = torch.arange(MOST_DATES)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).unsqueeze(0)


class PixelTokenizer(Tokenizer):
    """Tokens of a pixel: one of its place on Earth, then one for each group of bands and each date.

    No place is known, so that of latitude and longitude 0 stands in. Presto reads reflectance as it is, from which NDVI
    is computed: use it with ``radiometry=backbone``.
    """

    def __init__(self, model: Presto, sensor: Sensor) -> None:
        """Take the embeddings of a model."""
        super().__init__()
        self.projections = model.eo_patch_embed
        self.place = model.latlon_embed
        self.channel_code = model.channel_embed
        self.register_buffer("date_code", model.pos_embed)
        self.register_buffer("month_code", model.month_embed)
        self.groups: list[BandGroup] = []
        self.months: list[int] = []
        self.see(sensor)

    def see(self, sensor: Sensor) -> None:
        """Make tokens of another sensor's bands from now on."""
        self.groups, self.months = band_groups(sensor, "presto")

    def code(self, group: BandGroup) -> Tensor:
        """Code of a group's month, name and date, D."""
        assert isinstance(self.date_code, Tensor)
        assert isinstance(self.month_code, Tensor)
        channel = self.channel_code.weight[CHANNEL_GROUPS.index(group.name)]
        return torch.cat([self.month_code[self.months[group.date]], channel, self.date_code[0, group.date]])

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens and each group's difference from them, B x T x G x D."""
        place = self.place(self.place.weight.new_tensor([1.0, 0.0, 0.0]))
        pixels = images.shape[-2] * images.shape[-1]
        tokens = [place.expand(len(images), pixels, -1)]
        for group in self.groups:
            bands = images[:, list(group.positions)]
            bands = vegetation_index(bands) if group.name == "NDVI" else bands
            projected = self.projections[group.name](bands.flatten(2).transpose(1, 2))
            tokens.append(projected + self.code(group))
        of_groups = torch.stack(tokens, dim=2)
        mean = of_groups.mean(dim=2)
        return mean, {BANDS: of_groups - mean.unsqueeze(2)}


class PrestoBackbone(Backbone):
    """Presto's encoder (Tseng et al., 2023) for Sentinel-2, pixel by pixel, with its released weights (MIT).

    A patch is one pixel, and attention stays within it: nothing of a pixel's neighbours reaches its features, which are
    the mean of its tokens, after the last block normed. With two blocks, three of the four taps are the first one. Left
    out are the tokens of radar, weather, terrain and land cover, which the authors mask where they are missing.

    Declared differences: a sensor's bands stand for the Sentinel-2 bands nearest to them, within 20 nm; images whose
    bands have no date count as of June, and every place as latitude and longitude 0.
    """

    knows_positions = False

    def __init__(self, model: Presto, sensor: Sensor) -> None:
        """Take the model apart; the ``sensor`` gives wavelengths and dates."""
        super().__init__(PixelTokenizer(model, sensor), model.blocks, sensor=sensor, width=model.width, patch_size=1)
        self.norm = model.norm

    @property
    def unread_bands(self) -> frozenset[str]:
        """Names of the sensor's bands that are in no complete group."""
        tokenizer = self.tokenizer
        return unread_bands(self.sensor, tokenizer.groups) if isinstance(tokenizer, PixelTokenizer) else frozenset()

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """A pixel's tokens know nothing of where it lies in the image."""
        return Tokens(patches, patches.new_zeros(len(patches), 0, self.width), grid, context=context)

    def run_block(self, block: nn.Module, x: Tensor, tokens: Tokens) -> Tensor:
        """Run one block on B x (T * G) x D tokens, each pixel by itself: to the block, a pixel is an image."""
        self.layout.grid, self.layout.positions = (1, 1), None
        pixels = x.unflatten(1, (-1, tokens.tokens_a_patch)).flatten(0, 1)
        out: Tensor = block(pixels)
        return out.unflatten(0, (len(x), -1)).flatten(1, 2)

    def pool(self, patches: Tensor, tokens_a_patch: int, index: int) -> Tensor:
        """The mean of each pixel's tokens, after the last block normed."""
        mean = super().pool(patches, tokens_a_patch, index)
        out: Tensor = self.norm(mean) if index == len(self.blocks) - 1 else mean
        return out


def normalisation(sensor: Sensor) -> tuple[list[float], list[float]]:
    """Reflectance stays as it is: Presto divides Sentinel-2's stored numbers by 10,000."""
    return [0.0] * len(sensor.bands), [1.0] * len(sensor.bands)


def convert(state: dict[str, Tensor], sensor: Sensor) -> dict[str, Tensor]:
    """Take the encoder out of a released file; a state of this model's own names stays as it is."""
    if not any(name.startswith("encoder.") for name in state):
        return state
    encoder = {name.removeprefix("encoder."): t for name, t in state.items() if name.startswith("encoder.")}
    return {name.replace("month_embed.weight", "month_embed"): tensor for name, tensor in encoder.items()}


def make(bands: int) -> Presto:
    """The released size; it takes any number of ``bands``."""
    return Presto()


PRESTO = BackboneEntry(
    "presto",
    "Presto, 128 wide, 2 deep, one pixel a patch, a token for each group of Sentinel-2 bands and each date (MIT)",
    make,
    PrestoBackbone,
    url_weights("https://github.com/nasaharvest/presto/raw/main/data/default_model.pt", "presto_default_model.pt"),
    convert=convert,
    ignorable=("dw_embed.", "eo_patch_embed.S1.", "eo_patch_embed.ERA5.", "eo_patch_embed.SRTM."),
    from_wavelengths=True,
    small=True,
    normalisation=normalisation,
    order=86,
)
