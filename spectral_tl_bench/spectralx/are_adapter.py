"""Attribute-refined Adapter: patch tokens weighted by how well space and spectrum find them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.base import TapModule, Tokens
from spectral_tl_bench.spectralx.attention import CrossAttention, resample
from spectral_tl_bench.spectralx.hyper_tokenizer import STEM_STRIDE, map_size

Assignment = Literal["soft", "hard"]


class AttributeMatch(nn.Module):
    """For each position of a feature map the patch token that matches it.

    Cross-attention from the map to the tokens, then a linear layer, give every position a score for each token of the
    reference grid. A soft assignment averages the tokens by the softmax of the scores. A hard one takes the token
    with the highest score; no gradient reaches the scores then.
    """

    def __init__(self, map_width: int, token_width: int, tokens: int, assignment: Assignment) -> None:
        """Make the match.

        Args:
            map_width: Width of a position of the feature map.
            token_width: Width of the tokens.
            tokens: Number of tokens T of the reference grid.
            assignment: "soft" or "hard".
        """
        super().__init__()
        self.assignment = assignment
        self.attention = CrossAttention(map_width, token_width, max(1, map_width // 2))
        self.score = nn.Linear(map_width, tokens)

    def forward(self, positions: Tensor, tokens: Tensor) -> Tensor:
        """Match B x P x map_width positions to B x T x token_width tokens; returns B x P x token_width."""
        if self.assignment == "soft":
            return self.scores(positions, tokens).softmax(dim=-1) @ tokens
        with torch.no_grad():
            best = self.scores(positions, tokens).argmax(dim=-1)
        return tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def scores(self, positions: Tensor, tokens: Tensor) -> Tensor:
        """B x P x T scores."""
        out: Tensor = self.score(self.attention(positions, tokens))
        return out


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that falls back on running statistics where a channel has a single value."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class AreAdapter(TapModule):
    """out = tokens + a * [g_spa * t_spa, g_spe * t_spe], with one g a token and attribute and a learnable scalar a.

    It reads ``spatial`` and ``spectral`` from the context of
    :class:`~spectral_tl_bench.spectralx.hyper_tokenizer.HyperTokenizer`. Tokens of another grid than the reference are
    resampled to it for matching, and the gates back.
    """

    def __init__(self, width: int, patch_size: int, grid: tuple[int, int], assignment: Assignment) -> None:
        """Make the adapter.

        Args:
            width: Width D of the tokens.
            patch_size: Side of a patch in pixels.
            grid: Rows and columns of patches of the reference image.
            assignment: How positions and tokens are matched.
        """
        super().__init__()
        half, quarter = width // 2, width // 4
        tokens = grid[0] * grid[1]
        positions = map_size(patch_size, grid)
        # Strides that take the stem's map to the patch grid, or as near as whole numbers get.
        stride = max(1, round(patch_size / STEM_STRIDE))
        self.grid = grid
        self.spatial_match = AttributeMatch(half, half, tokens, assignment)
        self.spectral_match = AttributeMatch(positions[0] * positions[1], half, tokens, assignment)
        self.norm = nn.LayerNorm(half)
        self.spatial_refine = nn.Sequential(
            nn.Conv2d(half, quarter, 3, stride=stride, padding=1, bias=False),
            _BatchNorm(quarter),
            nn.ReLU(),
            nn.Conv2d(quarter, quarter, 3, padding=1, bias=False),
            _BatchNorm(quarter),
            nn.ReLU(),
        )
        self.spectral_refine = nn.Sequential(
            nn.Conv1d(half, tokens, 1, bias=False),
            nn.BatchNorm1d(tokens),
            nn.ReLU(),
        )
        self.strength = nn.Parameter(torch.tensor(0.01))

    def forward(self, patches: Tensor, tokens: Tokens) -> Tensor:
        """Refine B x T x D patch tokens; ``tokens`` has the grid and the tokenizer's two feature maps."""
        reference = self.on_reference_grid(patches, tokens.grid)
        spatial_tokens, spectral_tokens = reference.chunk(2, dim=-1)
        gates = torch.stack(
            [
                self.spatial_gates(tokens.context["spatial"], spatial_tokens, tokens.grid),
                self.spectral_gates(tokens.context["spectral"], spectral_tokens, tokens.grid),
            ],
            dim=-1,
        )
        halves = patches.unflatten(-1, (2, -1))
        return (halves * (1 + self.strength * gates.unsqueeze(-1))).flatten(-2)

    def on_reference_grid(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """The tokens as B x (reference T) x D."""
        if grid == self.grid:
            return patches
        maps = patches.transpose(1, 2).unflatten(2, grid)
        return resample(maps, self.grid).flatten(2).transpose(1, 2)

    def spatial_gates(self, spatial: Tensor, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """One value a patch, B x T, from a B x h x w x D/2 map."""
        matched = self.norm(self.spatial_match(spatial.flatten(1, 2), tokens))
        maps = matched.unflatten(1, spatial.shape[1:3]).permute(0, 3, 1, 2)
        gates = self.spatial_refine(maps).mean(dim=1, keepdim=True)
        return resample(gates, grid).flatten(1)

    def spectral_gates(self, spectral: Tensor, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """One value a patch, B x T, from a B x D/2 x (reference h * w) map."""
        matched = self.norm(self.spectral_match(spectral, tokens))
        gates = self.spectral_refine(matched).mean(dim=-1)
        return resample(gates.unflatten(1, self.grid).unsqueeze(1), grid).flatten(1)
