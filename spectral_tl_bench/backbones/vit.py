"""The timm VisionTransformer family: absolute positions, optional class and register tokens."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding, Tokens
from spectral_tl_bench.sensors import Sensor


class VisionTransformerBackbone(Backbone):
    """A timm ViT with learned or fixed absolute positions, interpolated to any grid."""

    def __init__(self, vit: VisionTransformer, sensor: Sensor) -> None:
        """Take a timm ViT apart.

        Args:
            vit: The model; its patch projection already fits the sensor's bands.
            sensor: Sensor of the images.
        """
        super().__init__(
            PatchEmbedding(vit.patch_embed.proj),
            vit.blocks,
            sensor=sensor,
            width=vit.embed_dim,
            patch_size=vit.patch_embed.patch_size[0],
        )
        self.cls_token = vit.cls_token
        self.reg_token = vit.reg_token
        self.pos_embed = vit.pos_embed
        self.norm_pre = vit.norm_pre
        self.pretrained_grid: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.prefix_positions: int = 0 if vit.no_embed_class else vit.num_prefix_tokens

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
            old_size=list(self.pretrained_grid),
            num_prefix_tokens=self.prefix_positions,
        )


def from_timm(name: str, in_chans: int, **options: Any) -> VisionTransformer:
    """Create a timm ViT without weights, for ``in_chans`` bands."""
    import timm

    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_chans, **options)


def micro(in_chans: int, image_size: int = 64) -> VisionTransformer:
    """The small ViT of the quick preset: width 192, depth 8, 3 heads, patch 8."""
    return VisionTransformer(
        img_size=image_size,
        patch_size=8,
        in_chans=in_chans,
        num_classes=0,
        global_pool="",
        embed_dim=192,
        depth=8,
        num_heads=3,
        class_token=True,
    )
