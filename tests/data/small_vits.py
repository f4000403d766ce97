"""Backbones small enough for every test, with any number of prefix tokens."""

from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.backbones.dinov3 import DINOv3Backbone
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone
from spectral_tl_bench.sensors import SENTINEL2

WIDTH = 32


def small_vit(prefix: int = 1) -> Backbone:
    """A ViT for Sentinel-2, 32 wide, 4 deep, patch 8, with a class token and registers, ``prefix`` in all."""
    vit = VisionTransformer(
        img_size=32,
        patch_size=8,
        in_chans=len(SENTINEL2.bands),
        num_classes=0,
        global_pool="",
        embed_dim=WIDTH,
        depth=4,
        num_heads=2,
        class_token=prefix > 0,
        reg_tokens=max(0, prefix - 1),
    )
    return VisionTransformerBackbone(vit, SENTINEL2)


def small_rotary_vit(**options: Any) -> Backbone:
    """A DINOv3 for Sentinel-2 of the same size: rotary positions, layer scale, five prefix tokens."""
    vit = Eva(
        img_size=32,
        patch_size=8,
        in_chans=len(SENTINEL2.bands),
        num_classes=0,
        embed_dim=WIDTH,
        depth=4,
        num_heads=2,
        init_values=0.5,
        rope_type="dinov3",
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        rope_rotate_half=True,
        num_reg_tokens=4,
        dynamic_img_size=True,
        **{"qkv_bias": False} | options,
    )
    return DINOv3Backbone(vit, SENTINEL2)


def disturb(module: torch.nn.Module) -> None:
    """Move every trainable parameter a little, so that nothing starts at 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
