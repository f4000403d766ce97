"""SpecAware: a ViT whose patch embedding is generated for every image from the attributes and content of its bands."""

from __future__ import annotations

import re

import torch
from timm.layers.norm import LayerNorm
from timm.layers.weight_init import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from spectral_tl_bench.backbones.band_attributes import NAMES, SENTENCE, name_row
from spectral_tl_bench.backbones.base import Backbone, Tokens
from spectral_tl_bench.backbones.entry import DECODER, BackboneEntry
from spectral_tl_bench.backbones.hyper_embedding import INITIAL_SCALE, RANK, HyperEmbedding, HyperEmbeddingTokenizer
from spectral_tl_bench.backbones.positions import ground_code
from spectral_tl_bench.sensors import Sensor

PATCH_SIZE = 8

SENTENCES = {
    "avc": "AVIRIS-Classic",
    "avng": "AVIRIS-NG",
    "av3": "AVIRIS-3",
    "L1": "L1 Calibrated Radiance",
    "L2": "L2 Surface Reflectance",
    "others": "other HSI sensors",
}
"""What the released code gives its sentence encoder for each name; "others" stands for every other sensor."""

_RELEASED_NAMES = (
    (r"patch_embed\.spectral_embedding\.fwhm_encoder\.mlp\.", "patch_embed.attributes.band_width."),
    (r"patch_embed\.spectral_embedding\.fusion_weights", "patch_embed.attributes.mixture"),
    (r"patch_embed\.spectral_embedding\.spectral_enhancement_mlp\.mlp\.", "patch_embed.attributes.refine.layers."),
    (r"patch_embed\.spectral_embedding\.attribute_encoder\.fc\.", "patch_embed.attributes.name_projection."),
    (r"patch_embed\.spectral_embedding\.cross_modal_fusion\.", "patch_embed.attributes.fuse."),
    (
        r"patch_embed\.spectral_aware_transformer\.transformer_encoder\.layers\.0\.",
        "patch_embed.attributes.across_bands.",
    ),
    (r"self_attn\.in_proj_", "attn.qkv."),
    (r"self_attn\.out_proj\.", "attn.proj."),
    (r"across_bands\.linear([12])\.", r"across_bands.mlp.fc\1."),
    (r"patch_embed\.content_feature_extractor\.avg_feature_encoder\.", "patch_embed.content.average."),
    (r"patch_embed\.content_feature_extractor\.max_feature_encoder\.", "patch_embed.content.maximum."),
    (r"patch_embed\.content_feature_extractor\.feature_fusion\.", "patch_embed.content.joint."),
    (r"patch_embed\.content_feature_extractor\.layer_norm\.", "patch_embed.content.joint.4."),
    (r"patch_embed\.feature_fusion\.", "patch_embed.fuse."),
    (r"fuse\.modal1_proj\.", "fuse.first."),
    (r"fuse\.modal2_proj\.", "fuse.second."),
    (r"fuse\.fusion\.", "fuse.joint."),
    (r"patch_embed\.matrix_generator\.u_generator\.", "patch_embed.left."),
    (r"patch_embed\.matrix_generator\.v_generator\.", "patch_embed.right."),
    (r"patch_embed\.matrix_generator\.bias_generator\.", "patch_embed.bias."),
    (r"patch_embed\.scaler$", "patch_embed.scale"),
)
"""Parameter names of the released files and those of :class:`SpecAware`, replaced one after another."""


class SpecAware(nn.Module):
    """The bare model; blocks, class token and norm have the names of timm's ViT, which its blocks may come from."""

    def __init__(self, width: int, depth: int, num_heads: int, rank: int = RANK, scale: float = INITIAL_SCALE) -> None:
        """Build the model, ``width`` D wide, with patches of 8 px and kernels of ``rank`` that begin at ``scale``."""
        super().__init__()
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        trunc_normal_(self.cls_token, std=0.02)
        self.patch_embed = HyperEmbedding(width, PATCH_SIZE, rank, scale)
        self.blocks = nn.ModuleList(Block(width, num_heads, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth))
        self.norm = LayerNorm(width)


class SpecAwareBackbone(Backbone):
    """SpecAware (Ji et al., arXiv 2510.27219; ISPRS J. Photogramm. Remote Sens. 234, 2026).

    Attributes and content of every band generate a patch embedding of low rank, and positions are sines and cosines
    scaled by the ground sampling distance, as in Scale-MAE (1 m is the unit). Tokens and features are those of the
    released code, and released files load (:func:`convert`). Declared differences: the table of names
    (:class:`~spectral_tl_bench.backbones.band_attributes.BandAttributes`), the initialisation of the hypernetwork
    (:class:`~spectral_tl_bench.backbones.hyper_embedding.HyperEmbedding`), and other patch sizes, which the released
    code does not have. The micro size is this package's.

    The class token and the features after the last tap pass the model's final norm.

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

    @property
    def metres_now(self) -> float:
        """Metres that a position counts per pixel, for the sensor that is seen now."""
        assert self.metres_a_pixel is not None
        return self.metres_a_pixel * self.sensor.ground_sampling_distance / self._built_for / self.enlargement

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add the position code of the grid at the ground sampling distance of the sensor that is seen now."""
        # In the type of the parameters, which under mixed precision is finer than that of the patches.
        code = ground_code(*grid, self.width, self.metres_now, patches.device, self.cls_token.dtype)
        return Tokens(patches + code, self.cls_token.expand(len(patches), -1, -1), grid, context=context)

    def run_blocks(self, tokens: Tokens) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks; the class token and the features after the last tap are normed."""
        prefix, (*before, last) = super().run_blocks(tokens)
        return self.norm(prefix), [*before, self.norm(last)]


def make_micro(bands: int) -> SpecAware:
    """The small one, 192 wide, 6 deep; it takes any number of ``bands``.

    The rank of its kernels is the same share of the width as the paper's. It has two blocks fewer than vit_micro and
    as many parameters, the hypernetwork among them. Tokens are summed over a quarter of the rank and a tenth of the
    paper's bands, so their scale starts ten times larger; otherwise they would be far weaker than their positions.
    """
    return SpecAware(192, 6, 3, rank=16, scale=10 * INITIAL_SCALE)


def make_base(bands: int) -> SpecAware:
    """The size of ViT-B; it takes any number of ``bands``."""
    return SpecAware(768, 12, 12)


def make_large(bands: int) -> SpecAware:
    """The size of ViT-L; it takes any number of ``bands``."""
    return SpecAware(1024, 24, 16)


def convert(state: dict[str, Tensor], sensor: Sensor) -> dict[str, Tensor]:
    """Rename the parameters of a released file; a state with this model's own names is returned as it is.

    A released file lacks the sentence vectors of names, since its code computes them with a sentence encoder. They may
    be added to it as ``sentences.KEY``, 384 numbers each, with the keys of :data:`SENTENCES`: a sensor is looked up by
    key or sentence and is "others" if it is neither. Without them every name counts as a vector of zeros.
    """
    if "patch_embed.scaler" not in state:
        return state
    renamed: dict[str, Tensor] = {}
    table = torch.zeros(NAMES, SENTENCE)
    if "sentences.others" in state:
        table[:] = state["sentences.others"]
    for name, tensor in state.items():
        if name.startswith("sentences."):
            key = name.removeprefix("sentences.")
            for spelling in (key, SENTENCES.get(key, key)):
                table[name_row(spelling)] = tensor
            continue
        for released, ours in _RELEASED_NAMES:
            name = re.sub(released, ours, name)
        renamed[name] = tensor
    return {"patch_embed.attributes.names.weight": table} | renamed


SPECAWARE_MICRO = BackboneEntry(
    "specaware_micro",
    "SpecAware, 192 wide, 6 deep, patch 8, patch embedding generated for every image from its bands",
    make_micro,
    SpecAwareBackbone,
    embedded="specaware_micro.safetensors",
    convert=convert,
    ignorable=DECODER,
    from_wavelengths=True,
    small=True,
    order=95,
)
SPECAWARE_B = BackboneEntry(
    "specaware_b",
    "SpecAware, ViT-B/8, patch embedding generated for every image from its bands",
    make_base,
    SpecAwareBackbone,
    release="https://r2.3sobs.top/share/SpecAware/ckpt/SpecAware_Base_model.pth",
    convert=convert,
    ignorable=DECODER,
    from_wavelengths=True,
    order=95,
)
SPECAWARE_L = BackboneEntry(
    "specaware_l",
    "SpecAware, ViT-L/8, patch embedding generated for every image from its bands",
    make_large,
    SpecAwareBackbone,
    convert=convert,
    ignorable=DECODER,
    from_wavelengths=True,
    order=95,
)
