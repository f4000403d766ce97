"""Vision transformers with a table of absolute positions, interpolated to any grid; timm's are the usual case."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding, Tokenizer, Tokens
from spectral_tl_bench.backbones.entry import DECODER, HEADS, BackboneEntry
from spectral_tl_bench.backbones.loading import flip_projection, timm_weights
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError


class AbsolutePositionBackbone(Backbone):
    """A vision transformer whose positions are a learned or fixed table, interpolated to any grid.

    Attributes:
        pretrained_grid: Rows and columns of patches of the table.
        prefix_positions: How many entries at the table's start belong to prefix tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        blocks: Iterable[nn.Module],
        *,
        sensor: Sensor,
        patch_size: int,
        pos_embed: nn.Parameter,
        pretrained_grid: tuple[int, int],
        cls_token: nn.Parameter | None = None,
        reg_token: nn.Parameter | None = None,
        norm_pre: nn.Module | None = None,
    ) -> None:
        """Assemble the backbone.

        Args:
            tokenizer: Images to tokens of width D.
            blocks: The transformer blocks.
            sensor: Sensor of the images.
            patch_size: Side of a patch in pixels.
            pos_embed: 1 x (P + rows * columns) x D, P being 0 where prefix tokens have no position.
            pretrained_grid: Rows and columns of ``pos_embed``.
            cls_token: 1 x 1 x D.
            reg_token: 1 x R x D, after the class token.
            norm_pre: Norm before the first block.
        """
        super().__init__(tokenizer, blocks, sensor=sensor, width=pos_embed.shape[-1], patch_size=patch_size)
        self.cls_token = cls_token
        self.reg_token = reg_token
        self.pos_embed = pos_embed
        self.norm_pre = norm_pre if norm_pre is not None else nn.Identity()
        self.pretrained_grid = pretrained_grid
        self._table_grid = list(pretrained_grid)
        self.prefix_positions: int = pos_embed.shape[1] - pretrained_grid[0] * pretrained_grid[1]

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Add positions, interpolated where the grid is not the pretrained one."""
        batch, _, width = patches.shape
        code = self.position_code(grid)
        prefix = torch.cat(
            [patches.new_zeros(batch, 0, width)]
            + [t.expand(batch, -1, -1) for t in (self.cls_token, self.reg_token) if t is not None],
            dim=1,
        )
        if self.prefix_positions:
            prefix = prefix + code[:, : self.prefix_positions]
        patches = patches + code[:, self.prefix_positions :]
        return Tokens(self.norm_pre(patches), self.norm_pre(prefix), grid, context=context)

    def position_code(self, grid: tuple[int, int]) -> Tensor:
        """The position code of prefix tokens (where they have one) and patches, 1 x (P + T) x D."""
        return resample_abs_pos_embed(
            self.pos_embed,
            new_size=list(grid),
            old_size=self._table_grid,
            num_prefix_tokens=self.prefix_positions,
        )


class VisionTransformerBackbone(AbsolutePositionBackbone):
    """A timm VisionTransformer."""

    def __init__(self, vit: VisionTransformer, sensor: Sensor, tokenizer: Tokenizer | None = None) -> None:
        """Take a timm ViT apart.

        Args:
            vit: The model.
            sensor: Sensor of the images.
            tokenizer: In place of the model's patch projection, which otherwise must fit the sensor's bands.

        Raises:
            SpectralBenchError: If the model has no table of positions.
        """
        if vit.pos_embed is None:
            raise SpectralBenchError("this ViT has no table of positions; docs/add-a-backbone.md shows how to wrap it")
        super().__init__(
            tokenizer if tokenizer is not None else PatchEmbedding(vit.patch_embed.proj),
            vit.blocks,
            sensor=sensor,
            patch_size=vit.patch_embed.patch_size[0],
            pos_embed=vit.pos_embed,
            pretrained_grid=tuple(vit.patch_embed.grid_size),
            cls_token=vit.cls_token,
            reg_token=vit.reg_token,
            norm_pre=vit.norm_pre,
        )


def from_timm(name: str, bands: int, **options: Any) -> Any:
    """Create a timm model without weights and without a classifier, for C ``bands``."""
    import timm

    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=bands, **options)


def micro(bands: int, image_size: int = 64) -> VisionTransformer:
    """The small ViT of the quick preset: width 192, depth 8, 3 heads, patch 8."""
    return VisionTransformer(
        img_size=image_size,
        patch_size=8,
        in_chans=bands,
        num_classes=0,
        global_pool="",
        embed_dim=192,
        depth=8,
        num_heads=3,
        class_token=True,
    )


VIT_MICRO = BackboneEntry(
    "vit_micro",
    "ViT, 192 wide, 8 deep, patch 8, masked autoencoder on simulated RGB pictures: the small one of preset quick",
    micro,
    VisionTransformerBackbone,
    embedded="vit_micro.safetensors",
    small=True,
    order=10,
)
VIT_S_MAE = BackboneEntry(
    "vit_s_mae",
    "ViT-S/16, 384 wide, 12 deep, supervised on ImageNet-21k (no masked autoencoder of this size was released)",
    partial(from_timm, "vit_small_patch16_224"),
    VisionTransformerBackbone,
    timm_weights("vit_small_patch16_224.augreg_in21k_ft_in1k"),
    order=10,
)
VIT_B_MAE = BackboneEntry(
    "vit_b_mae",
    "ViT-B/16, 768 wide, 12 deep, masked autoencoder on ImageNet (CC BY-NC)",
    partial(from_timm, "vit_base_patch16_224"),
    VisionTransformerBackbone,
    timm_weights("vit_base_patch16_224.mae"),
    order=10,
)
VIT_L_MAE = BackboneEntry(
    "vit_l_mae",
    "ViT-L/16, 1024 wide, 24 deep, masked autoencoder on ImageNet (CC BY-NC)",
    partial(from_timm, "vit_large_patch16_224"),
    VisionTransformerBackbone,
    timm_weights("vit_large_patch16_224.mae"),
    order=10,
)
SATMAEPP_L = BackboneEntry(
    "satmaepp_l",
    "SatMAE++ ViT-L/16 on fMoW RGB, multi-scale masked autoencoder (Apache-2.0)",
    partial(from_timm, "vit_large_patch16_224"),
    VisionTransformerBackbone,
    release="the ViT-L checkpoint of https://huggingface.co/mubashir04/checkpoint_ViT-L_pretrain_fmow_rgb",
    convert=flip_projection,
    ignorable=(*HEADS, *DECODER, "proj_up_", "up_block"),
    order=30,
)
DINOV2_S = BackboneEntry(
    "dinov2_s",
    "DINOv2 ViT-S/14, 384 wide, 12 deep, self-distilled on photographs (Apache-2.0)",
    partial(from_timm, "vit_small_patch14_dinov2"),
    VisionTransformerBackbone,
    timm_weights("vit_small_patch14_dinov2.lvd142m"),
    order=40,
)
DINOV2_B = BackboneEntry(
    "dinov2_b",
    "DINOv2 ViT-B/14, 768 wide, 12 deep, self-distilled on photographs (Apache-2.0)",
    partial(from_timm, "vit_base_patch14_dinov2"),
    VisionTransformerBackbone,
    timm_weights("vit_base_patch14_dinov2.lvd142m"),
    order=40,
)
DINOV2_L = BackboneEntry(
    "dinov2_l",
    "DINOv2 ViT-L/14, 1024 wide, 24 deep, self-distilled on photographs (Apache-2.0)",
    partial(from_timm, "vit_large_patch14_dinov2"),
    VisionTransformerBackbone,
    timm_weights("vit_large_patch14_dinov2.lvd142m"),
    order=40,
)
