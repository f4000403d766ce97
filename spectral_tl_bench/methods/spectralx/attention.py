"""The attention layers that SpectralX shares between its tokenizer and its adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TransformerBlock(nn.Module):
    """A pre-norm transformer block: self-attention, then an MLP four times as wide with GELU.

    Eight heads, or as many of them as divide the width.
    """

    def __init__(self, width: int) -> None:
        """Make a block for tokens of ``width``."""
        super().__init__()
        self.heads = math.gcd(8, width)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform B x ... x width tokens; every dimension between first and last is attended over at once."""
        tokens = tokens + self.projection(self.attend(self.qkv(self.norm1(tokens))))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out

    def attend(self, qkv: Tensor) -> Tensor:
        """Multi-head attention from B x ... x (3 * width) queries, keys and values to B x ... x width."""
        flat = qkv.flatten(1, -2).unflatten(-1, (3, self.heads, -1))
        query, key, value = flat.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return attended.transpose(1, 2).flatten(2).unflatten(1, qkv.shape[1:-1])


class WindowBlock(TransformerBlock):
    """A transformer block on B x h x w x width that attends within the quarters of the grid.

    The windows are half as high and half as wide as the grid; of an odd side the first half is the longer one.
    """

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention within each of the (up to) 2 x 2 windows of B x h x w x (3 * width)."""
        _, height, width, _ = qkv.shape
        rows = [
            torch.cat([super(WindowBlock, self).attend(window) for window in row.split(_halves(width), dim=2)], dim=2)
            for row in qkv.split(_halves(height), dim=1)
        ]
        return torch.cat(rows, dim=1)


def _halves(side: int) -> Sequence[int]:
    return [part for part in (side - side // 2, side // 2) if part]


class CrossAttention(nn.Module):
    """One-head cross-attention with a LayerNorm on both sides and without biases."""

    def __init__(self, query_width: int, source_width: int, head_width: int) -> None:
        """Make the layer.

        Args:
            query_width: Width of what asks, and of the output.
            source_width: Width of what is attended to.
            head_width: Width of queries, keys and values.
        """
        super().__init__()
        self.norm_query = nn.LayerNorm(query_width)
        self.norm_source = nn.LayerNorm(source_width)
        self.query = nn.Linear(query_width, head_width, bias=False)
        self.key = nn.Linear(source_width, head_width, bias=False)
        self.value = nn.Linear(source_width, head_width, bias=False)
        self.output = nn.Linear(head_width, query_width, bias=False)

    def forward(self, queries: Tensor, source: Tensor) -> Tensor:
        """Attend from B x N x query_width (or 1 x N x query_width) to B x M x source_width.

        Returns:
            B x N x query_width.
        """
        source = self.norm_source(source)
        query = self.query(self.norm_query(queries)).expand(len(source), -1, -1)
        # Fused kernels want a dimension of heads, even of one.
        attended = F.scaled_dot_product_attention(
            query.unsqueeze(1), self.key(source).unsqueeze(1), self.value(source).unsqueeze(1)
        )
        out: Tensor = self.output(attended.squeeze(1))
        return out


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample B x C x h x w maps bilinearly to ``size``; maps of that size pass as they are."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
