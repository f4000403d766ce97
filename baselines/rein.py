"""Rein: learnable tokens that refine the features after each block."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import AfterBlock


class SharedLayers(nn.Module):
    """What all blocks have in common: W1 on the tokens, W2 on the features, and the scale s."""

    def __init__(self, width: int, scale: float) -> None:
        """Make the layers, D -> D, and s = ``scale``."""
        super().__init__()
        self.tokens = nn.Linear(width, width)
        self.features = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor(scale))


class Refinement(nn.Module):
    """f + s W2(A[1:] W1 T[1:] + f), A = softmax(f T' / sqrt(D)), for the low-rank tokens T of one block.

    The first token takes attention without giving anything, so that a feature can be left alone.
    """

    def __init__(self, width: int, tokens: int, rank: int, bound: float, shared: SharedLayers) -> None:
        """Draw T = A B, ``tokens`` x ``rank`` by ``rank`` x ``width``, from U(-bound, bound)."""
        super().__init__()
        self.a = nn.Parameter(torch.empty(tokens, rank).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(rank, width).uniform_(-bound, bound))
        self.shared = shared

    def forward(self, patches: Tensor) -> Tensor:
        """Refine B x T x D patch tokens."""
        tokens = self.a @ self.b
        attention = (patches @ tokens.T / math.sqrt(patches.shape[-1])).softmax(dim=-1)
        update = attention[..., 1:] @ self.shared.tokens(tokens[1:])
        out: Tensor = patches + self.shared.scale * self.shared.features(update + patches)
        return out


@METHODS.register("rein")
@dataclass
class Rein(Method):
    """Learnable low-rank tokens refine the patch tokens after each block (Rein; Wei et al., CVPR 2024, section 3).

    Without the links to Mask2Former's queries, which UPerNet does not have. Initialised as in the authors' code, whose
    small scale lets training start near the pretrained function and not at it. 2.53 M parameters on a ViT-L with 100
    tokens of rank 16.
    """

    changes_start = "starts with a small scale, not with 0"
    learning_rate_factor = 4.0

    tokens: Annotated[int, Field(ge=2)] = 100
    rank: Annotated[int, Field(ge=1)] = 16
    scale: float = 1e-3

    def adapt(self, backbone: Backbone) -> None:
        """Put a refinement after each block."""
        shared = SharedLayers(backbone.width, self.scale)
        bound = math.sqrt(6 / (3 * backbone.patch_size**2 + math.sqrt(backbone.width * self.rank)))
        backbone.blocks = nn.ModuleList(
            AfterBlock(block, Refinement(backbone.width, self.tokens, self.rank, bound, shared), backbone.layout)
            for block in backbone.blocks
        )
