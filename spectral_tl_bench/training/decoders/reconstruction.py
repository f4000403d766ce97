"""The decoder of masked reconstruction: visible tokens in, pixels of every patch out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec


class MaskedDecoder(nn.Module):
    """A small ViT that fills in hidden patches (He et al., 2022, section 3), up to what turns tokens into pixels."""

    def __init__(self, encoder_width: int, *, width: int, depth: int, num_heads: int) -> None:
        """Build the decoder.

        Args:
            encoder_width: D of the backbone.
            width: Width of the decoder's tokens; divisible by 4.
            depth: Its blocks.
            num_heads: Its attention heads.
        """
        super().__init__()
        self.width = width
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, num_heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def fill(self, encoded: Tensor, visible: Tensor, code: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Fill in hidden tokens.

        Args:
            encoded: B x K x D tokens that are visible.
            visible: B x K places of these tokens among all T.
            code: Position code of all places, T x width.
            prefix: B x P x D class and register tokens that the decoder sees too; they have no position.

        Returns:
            B x (P + T) x width, normed.
        """
        tokens = self.mask_token.expand(len(encoded), len(code), -1)
        # Under mixed precision the layer's output is coarser than the parameter.
        embedded = self.embed(encoded).to(tokens.dtype)
        tokens = tokens.scatter(1, visible.unsqueeze(-1).expand(-1, -1, self.width), embedded)
        tokens = tokens + code
        if prefix is not None:
            tokens = torch.cat([self.embed(prefix).to(tokens.dtype), tokens], dim=1)
        filled: Tensor = self.norm(self.blocks(tokens))
        return filled

    def positions(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Fixed 2-D code of a grid of patches, T x width, in the type and place of a tensor."""
        code: Tensor = build_sincos2d_pos_embed(list(grid), dim=self.width, device=like.device, dtype=like.dtype)
        return code


class ReconstructionDecoder(MaskedDecoder):
    """The decoder with one linear layer to the pixels of all bands of one sensor."""

    def __init__(
        self, encoder_width: int, patch_size: int, bands: int, *, width: int, depth: int, num_heads: int
    ) -> None:
        """Build the decoder for C ``bands`` and patches of ``patch_size``; the other sizes are the base's."""
        super().__init__(encoder_width, width=width, depth=depth, num_heads=num_heads)
        self.pixels = nn.Linear(width, patch_size * patch_size * bands)

    @classmethod
    def of(cls, backbone: Backbone, training: TrainingSpec) -> Self:
        """Build the decoder of a backbone in the size that a run's settings ask for."""
        return cls(
            backbone.width,
            backbone.patch_size,
            len(backbone.sensor.bands),
            width=training.reconstruction_decoder_width,
            depth=training.reconstruction_decoder_depth,
            num_heads=training.reconstruction_decoder_heads,
        )

    def forward(self, encoded: Tensor, visible: Tensor, grid: tuple[int, int]) -> Tensor:
        """Restore patches.

        Args:
            encoded: B x K x D tokens of the visible patches.
            visible: B x K positions of these patches in the grid, row by row.
            grid: Rows and columns of patches.

        Returns:
            B x T x (patch * patch * C) with T = rows * columns.
        """
        pixels: Tensor = self.pixels(self.fill(encoded, visible, self.positions(grid, encoded)))
        return pixels
