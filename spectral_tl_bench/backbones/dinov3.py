"""DINOv3: a ViT that turns queries and keys by the patches' positions instead of adding a code to the tokens."""

from __future__ import annotations

import re
from functools import partial
from typing import cast

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva
from torch import Tensor, nn

from spectral_tl_bench.backbones.base import Backbone, PatchEmbedding, Tokens
from spectral_tl_bench.backbones.entry import BackboneEntry
from spectral_tl_bench.backbones.loading import adapt_projection, timm_weights
from spectral_tl_bench.backbones.vit import from_timm
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import CheckpointError


class DINOv3Backbone(Backbone):
    """DINOv3 (Siméoni et al., 2025) as timm's Eva class builds it: a class token, four registers, rotary positions.

    Coordinates are normalised to the image, so that a grid of any size is covered. Prefix tokens are not turned.
    """

    def __init__(self, vit: Eva, sensor: Sensor) -> None:
        """Take a timm DINOv3 apart.

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
        self.rope = cast(RotaryEmbeddingDinoV3, vit.rope)

    def position(self, patches: Tensor, grid: tuple[int, int], context: dict[str, Tensor]) -> Tokens:
        """Make the prefix tokens and the rotary code of the grid, T x R."""
        tokens: list[Tensor] = [token for token in (self.cls_token, self.reg_token) if token is not None]
        prefix = torch.cat(tokens, dim=1).expand(len(patches), -1, -1)
        return Tokens(patches, prefix, grid, rotary=self.rope.get_embed(shape=list(grid)), context=context)

    def run_block(self, block: nn.Module, x: Tensor, tokens: Tokens) -> Tensor:
        """Run one block on B x (P + T) x D tokens, turning queries and keys of the last T."""
        rotary = tokens.rotary
        if rotary is not None and rotary.ndim == 3:
            rotary = rotary.unsqueeze(1)  # between images and tokens, attention has its heads
        out: Tensor = block(x, rope=rotary)
        return out


_RELEASED_NAMES = (
    # Hugging Face's layout; transformers 5 puts "model." before "layer.".
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.", ""),
    (r"^(model\.)?layer\.", "blocks."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    # The authors' own layout.
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
)
"""Parameter names of released files and those of timm's model, replaced one after another."""
_UNUSED = re.compile(r"^rope_embed\.|^local_cls_norm\.|\.bias_mask$|\.rope\.")


def convert(state: dict[str, Tensor], sensor: Sensor) -> dict[str, Tensor]:
    """Rename the parameters of the authors' .pth or of Hugging Face's layout to timm's, then fit the projection.

    Queries, keys and values of the released ViT-L have biases of 0, which timm's model does not have.

    Raises:
        CheckpointError: If these biases are not 0.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _UNUSED.search(name):
            continue
        if re.search(r"\.(qkv|q_proj|k_proj|v_proj)\.bias$", name):
            # The authors multiply the biases by a mask that is 0 for the keys.
            mask = state.get(f"{name}_mask")
            if torch.where(mask != 0, tensor, 0).any() if mask is not None else tensor.any():
                raise CheckpointError(f"{name} is not 0, so this is not the released DINOv3 ViT-L; pass its own file")
            continue
        if ".attention.k_proj." in name or ".attention.v_proj." in name:
            continue
        if name.endswith(".attention.q_proj.weight"):
            parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            name, tensor = name.replace("attention.q_proj", "attn.qkv"), torch.cat(parts)
        for released, ours in _RELEASED_NAMES:
            name = re.sub(released, ours, name)
        renamed[name] = tensor
    return adapt_projection(renamed, sensor)


DINOV3_L_SAT = BackboneEntry(
    "dinov3_l_sat",
    "DINOv3 ViT-L/16 on 493 M satellite images, rotary positions (DINOv3 licence)",
    partial(from_timm, "vit_large_patch16_dinov3"),
    DINOv3Backbone,
    timm_weights("vit_large_patch16_dinov3.sat493m"),
    convert=convert,
    order=50,
)
