"""Attribute-refined Adapter: patch tokens weighted by how well space and spectrum find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.base import TapModule, Tokens
from spectral_tl_bench.methods.spectralx.attention import resample
from spectral_tl_bench.methods.spectralx.hyper_tokenizer import STEM_STRIDE, map_size

Assignment = Literal["soft", "hard"]

_KEYS = ("are_adapter.spatial_keys", "are_adapter.spectral_keys")


class AttributeMatch(nn.Module):
    """For each position of a feature map the patch token that attends to it most.

    High-level tokens query low-level features: attention goes from the tokens, which ask, to the map's positions, and
    its weights A (T x P, each token's sum to 1) say how much a token is about a position. Only they are used. "hard"
    takes for each position the token with the highest weight, as published; no gradient reaches query and key then.
    "soft" averages the tokens, each position's weights made to sum to 1, so that gradients flow.
    """

    def __init__(self, token_width: int, map_width: int, assignment: Assignment) -> None:
        """Make the match.

        Args:
            token_width: Width of the tokens.
            map_width: Width of a position of the feature map.
            assignment: "soft" or "hard".
        """
        super().__init__()
        self.assignment = assignment
        head_width = max(1, map_width // 2)
        self.norm_tokens = nn.LayerNorm(token_width)
        self.norm_map = nn.LayerNorm(map_width)
        self.query = nn.Linear(token_width, head_width, bias=False)
        self.key = nn.Linear(map_width, head_width, bias=False)

    def forward(self, tokens: Tensor, keys: Tensor) -> Tensor:
        """Match tokens to the positions of a map.

        Args:
            tokens: B x T x token_width.
            keys: B x P x head_width, what :meth:`keys` makes of the map.

        Returns:
            B x P x token_width.
        """
        if self.assignment == "soft":
            return self.log_weights(tokens, keys).softmax(dim=1).transpose(1, 2) @ tokens
        with torch.no_grad():
            best = self.log_weights(tokens, keys).argmax(dim=1)
        return tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def keys(self, positions: Tensor) -> Tensor:
        """What tokens compare themselves with, B x P x head_width, from a map of B x P x map_width."""
        with torch.set_grad_enabled(self.assignment == "soft" and torch.is_grad_enabled()):
            out: Tensor = self.key(self.norm_map(positions))
            return out

    def log_weights(self, tokens: Tensor, keys: Tensor) -> Tensor:
        """Logarithms of the attention weights A, B x T x P."""
        query = self.query(self.norm_tokens(tokens)) * keys.shape[-1] ** -0.5
        return (query @ keys.transpose(1, 2)).log_softmax(dim=-1)


class PublishedMatch(AttributeMatch):
    """The hard match with the layers that the released module allocates and never uses; they only count."""

    def __init__(self, token_width: int, map_width: int, positions: int, tokens: int) -> None:
        """Make the match for a map of P ``positions`` and T ``tokens``, both of the reference image."""
        super().__init__(token_width, map_width, "hard")
        head_width = self.key.out_features
        self.unused = nn.ModuleDict(
            {
                "value": nn.Linear(map_width, head_width, bias=False),
                "output": nn.Linear(head_width, token_width, bias=False),
                "positions_to_tokens": nn.Linear(positions, tokens),
            }
        )


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that falls back on running statistics where a channel has a single value."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class AreAdapter(TapModule):
    """out = tokens + a * [g_spa * t_spa, g_spe * t_spe], with one g a token and attribute and a learnable scalar a.

    It reads ``spatial`` and ``spectral`` from the context of
    :class:`~spectral_tl_bench.methods.spectralx.hyper_tokenizer.HyperTokenizer`. Where the image has another grid than
    the reference, the gates are resampled to it.
    """

    def __init__(self, width: int, patch_size: int, grid: tuple[int, int], assignment: Assignment) -> None:
        """Make the adapter.

        Args:
            width: Width D of the tokens.
            patch_size: Side of a patch in pixels.
            grid: Rows and columns of patches of the reference image.
            assignment: How positions and tokens are matched; with "hard", the released module's unused layers are kept.
        """
        super().__init__()
        half, quarter = width // 2, width // 4
        tokens = grid[0] * grid[1]
        height, width_of_map = map_size(patch_size, grid)
        positions = height * width_of_map
        # Strides that take the stem's map to the patch grid, or as near as whole numbers get.
        stride = max(1, round(patch_size / STEM_STRIDE))
        self.grid = grid
        if assignment == "hard":
            self.spatial_match: AttributeMatch = PublishedMatch(half, half, positions, tokens)
            self.spectral_match: AttributeMatch = PublishedMatch(half, positions, half, tokens)
        else:
            self.spatial_match = AttributeMatch(half, half, assignment)
            self.spectral_match = AttributeMatch(half, positions, assignment)
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
        # At the rate of adapters its strength, a single number, grows fortyfold in a hundred steps.
        self.relative_learning_rate = 1.0 if assignment == "hard" else 0.1

    def forward(self, patches: Tensor, tokens: Tokens) -> Tensor:
        """Refine B x T x D patch tokens; ``tokens`` has the grid and the tokenizer's two feature maps."""
        halves = patches.unflatten(-1, (2, -1))
        spatial, spectral = self.keys_of(tokens)
        gates = torch.stack(
            [
                self.spatial_gates(halves[..., 0, :], spatial, tokens.context["spatial"].shape[1:3], tokens.grid),
                self.spectral_gates(halves[..., 1, :], spectral, tokens.grid),
            ],
            dim=-1,
        )
        return (halves * (1 + self.strength * gates.unsqueeze(-1))).flatten(-2)

    def keys_of(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Keys of both maps, which the taps share: they are made at the first one and left in the context."""
        context = tokens.context
        if _KEYS[0] not in context:
            context[_KEYS[0]] = self.spatial_match.keys(context["spatial"].flatten(1, 2))
            context[_KEYS[1]] = self.spectral_match.keys(context["spectral"])
        return context[_KEYS[0]], context[_KEYS[1]]

    def spatial_gates(self, tokens: Tensor, keys: Tensor, size: Sequence[int], grid: tuple[int, int]) -> Tensor:
        """One value a patch, B x T, from B x T x D/2 tokens and the keys of a map of a height and width."""
        matched = self.norm(self.spatial_match(tokens, keys))
        maps = matched.unflatten(1, size).permute(0, 3, 1, 2)
        gates = self.spatial_refine(maps).mean(dim=1, keepdim=True)
        return resample(gates, grid).flatten(1)

    def spectral_gates(self, tokens: Tensor, keys: Tensor, grid: tuple[int, int]) -> Tensor:
        """One value a patch, B x T, from B x T x D/2 tokens and the keys of the D/2 channels of a map."""
        matched = self.norm(self.spectral_match(tokens, keys))
        gates = self.spectral_refine(matched).mean(dim=-1)
        return resample(gates.unflatten(1, self.grid).unsqueeze(1), grid).flatten(1)
