"""Backbones small enough for a test, with any number of prefix tokens."""

from __future__ import annotations

from typing import Any

import torch

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.sensors import SENTINEL2

WIDTH = 32


def small_backbone(prefix: int = 1, *, rotary: bool = False, **options: Any) -> Backbone:
    """Build a ViT for Sentinel-2 with random weights: 32 wide, 4 deep, patch 8.

    Args:
        prefix: Class token and registers in all; with rotary positions there are five.
        rotary: Whether positions are rotary, as in DINOv3, instead of a table.
        options: Further arguments of timm's class.
    """
    size: dict[str, Any] = {"img_size": 32, "patch_size": 8, "in_chans": len(SENTINEL2.bands), "num_classes": 0}
    size |= {"embed_dim": WIDTH, "depth": 4, "num_heads": 2}
    if rotary:
        from timm.models.eva import Eva

        from spectral_tl_bench.backbones.dinov3 import DINOv3Backbone

        usual: dict[str, Any] = {"init_values": 0.5, "rope_type": "dinov3", "use_rot_pos_emb": True}
        usual["use_abs_pos_emb"] = False
        usual |= {"rope_rotate_half": True, "num_reg_tokens": 4, "dynamic_img_size": True, "qkv_bias": False}
        return DINOv3Backbone(Eva(**size, **usual | options), SENTINEL2)
    from timm.models.vision_transformer import VisionTransformer

    from spectral_tl_bench.backbones.vit import VisionTransformerBackbone

    tokens: dict[str, Any] = {"global_pool": "", "class_token": prefix > 0, "reg_tokens": max(0, prefix - 1)}
    return VisionTransformerBackbone(VisionTransformer(**size, **tokens | options), SENTINEL2)


def disturb(module: torch.nn.Module) -> None:
    """Move every trainable parameter a little, so that none of them is 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
