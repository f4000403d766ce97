"""SpecAware: a ViT whose patch embedding is made anew for every image, from its bands' attributes and contents."""

from __future__ import annotations

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from spectral_tl_bench.backbones.base import Backbone, Tokens
from spectral_tl_bench.backbones.entry import DECODER, BackboneEntry
from spectral_tl_bench.backbones.hyper_embedding import INITIAL_SCALE, RANK, HyperEmbedding, HyperEmbeddingTokenizer
from spectral_tl_bench.backbones.loading import as_it_is
from spectral_tl_bench.backbones.positions import ground_code
from spectral_tl_bench.sensors import Sensor

PATCH_SIZE = 8


class SpecAware(nn.Module):
    """The bare model; blocks, class token and norm have the names of timm's ViT, which its blocks may come from."""

    def __init__(self, width: int, depth: int, num_heads: int, rank: int = RANK, scale: float = INITIAL_SCALE) -> None:
        """Build the model, ``width`` D wide, with patches of 8 px and kernels of ``rank`` that begin at ``scale``."""
        super().__init__()
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.cls_token, std=0.02)
        self.patch_embed = HyperEmbedding(width, PATCH_SIZE, rank, scale)
        self.blocks = nn.ModuleList(Block(width, num_heads, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth))
        self.norm = LayerNorm(width)


class SpecAwareBackbone(Backbone):
    """SpecAware (arXiv 2510.27219; ISPRS J. Photogramm. Remote Sens. 234, 2026), a declared approximation.

    Written from the paper's description: attributes and content of every band make a patch embedding of low rank, and
    positions are sines and cosines scaled by the ground sampling distance, as in Scale-MAE (1 m is the unit). What
    differs from the paper is said where it is: names in :class:`~spectral_tl_bench.backbones.band_attributes.
    BandAttributes`, other patch sizes in :class:`~spectral_tl_bench.backbones.hyper_embedding.HyperEmbeddingTokenizer`.

    The features after the last tap pass the model's final norm.

    Attributes:
        metres_a_pixel: The sensor's ground sampling distance; at another patch size than 8 scaled along with it, so
            that a patch counts as what it covers.
    """

    def __init__(self, model: SpecAware, sensor: Sensor, patch_size: int = PATCH_SIZE) -> None:
        """Take the model apart.

        Args:
            model: The model, for any number of bands.
            sensor: Sensor of the images; gives wavelengths, widths, ground sampling distance, name and level.
            patch_size: Side of a patch in pixels.
        """
        super().__init__(
            HyperEmbeddingTokenizer(model.patch_embed, sensor, patch_size),
            model.blocks,
            sensor=sensor,
            width=model.width,
            patch_size=patch_size,
        )
        self.cls_token = model.cls_token
        self.norm = model.norm
        self.metres_a_pixel: float = sensor.ground_sampling_distance * patch_size / PATCH_SIZE
        self._built_for = sensor.ground_sampling_distance

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add the position code of the grid at the ground sampling distance of the sensor that is being seen."""
        distance = self.metres_a_pixel * self.sensor.ground_sampling_distance / self._built_for
        # In the type of the parameters, which under mixed precision is finer than that of the patches.
        code = ground_code(*grid, self.width, distance, patches.device, self.cls_token.dtype)
        return Tokens(patches + code, self.cls_token.expand(len(patches), -1, -1), grid, context=context)

    def encode(self, tokens: Tokens) -> list[Tensor]:
        """Run the blocks and return the patch tokens after each tap, B x T x D each, the last ones normed."""
        *before, last = super().encode(tokens)
        return [*before, self.norm(last)]


def make_micro(bands: int) -> SpecAware:
    """The small one, 192 wide, 6 deep; it takes any number of ``bands``.

    Its kernels' rank is the same share of the width as the paper's, and two blocks fewer than in vit_micro leave room
    for the networks that make kernels: together it is as large. Tokens summed over a quarter of the rank and a tenth of
    the paper's bands would begin a tenth as strong, far below their positions: the scale makes up for it.
    """
    return SpecAware(192, 6, 3, rank=16, scale=10 * INITIAL_SCALE)


def make_base(bands: int) -> SpecAware:
    """The size of ViT-B; it takes any number of ``bands``."""
    return SpecAware(768, 12, 12)


def make_large(bands: int) -> SpecAware:
    """The size of ViT-L; it takes any number of ``bands``."""
    return SpecAware(1024, 24, 16)


SPECAWARE_MICRO = BackboneEntry(
    "specaware_micro",
    "SpecAware, 192 wide, 6 deep, patch 8, patch embedding made for every image from its bands (declared "
    "approximation)",
    make_micro,
    SpecAwareBackbone,
    embedded="specaware_micro.safetensors",
    convert=as_it_is,
    ignorable=DECODER,
    from_wavelengths=True,
    small=True,
    order=95,
)
SPECAWARE_B = BackboneEntry(
    "specaware_b",
    "SpecAware, ViT-B/8, patch embedding made for every image from its bands (declared approximation)",
    make_base,
    SpecAwareBackbone,
    convert=as_it_is,
    ignorable=DECODER,
    from_wavelengths=True,
    order=95,
)
SPECAWARE_L = BackboneEntry(
    "specaware_l",
    "SpecAware, ViT-L/8, patch embedding made for every image from its bands (declared approximation)",
    make_large,
    SpecAwareBackbone,
    convert=as_it_is,
    ignorable=DECODER,
    from_wavelengths=True,
    order=95,
)
