"""SLR: scaled low-rank adapters, also of the patch embedding."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Tokenizer
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import LINEAR_LAYERS, replace_in_blocks
from .norm import train_norms


def start_low_rank(down: nn.Linear | nn.Conv2d, up: nn.Linear | nn.Conv2d) -> None:
    """Draw Down from N(0, 1) and set Up to 0."""
    nn.init.normal_(down.weight)
    for module in (down, up):
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.zeros_(up.weight)


class ScaledLowRank(nn.Module):
    """A frozen linear layer: x' = s_in x, y = s_out (W x' + Up(Down(x')))."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        """Put a low-rank path of ``rank`` beside ``linear`` and scales around both."""
        super().__init__()
        self.linear = linear
        self.scale_in = nn.Parameter(torch.ones(linear.in_features))
        self.scale_out = nn.Parameter(torch.ones(linear.out_features))
        self.down = nn.Linear(linear.in_features, rank)
        self.up = nn.Linear(rank, linear.out_features)
        start_low_rank(self.down, self.up)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x N x in tokens to B x N x out."""
        x = x * self.scale_in
        out: Tensor = (self.linear(x) + self.up(self.down(x))) * self.scale_out
        return out


class ScaledLowRankTokenizer(Tokenizer):
    """The same around a frozen patch embedding, with two strided convolutions as the low-rank path.

    Together they cover the patch: 4 and 4 pixels of a patch of 16, in general the divisors nearest to its square root.
    """

    def __init__(self, tokenizer: Tokenizer, bands: int, width: int, patch_size: int, rank: int) -> None:
        """Put the path C -> rank -> D beside ``tokenizer`` and scales of bands and channels around both."""
        super().__init__()
        second = max(side for side in range(1, math.isqrt(patch_size) + 1) if patch_size % side == 0)
        first = patch_size // second
        self.tokenizer = tokenizer
        self.scale_in = nn.Parameter(torch.ones(bands, 1, 1))
        self.scale_out = nn.Parameter(torch.ones(width))
        self.down = nn.Conv2d(bands, rank, first, stride=first)
        self.up = nn.Conv2d(rank, width, second, stride=second)
        start_low_rank(self.down, self.up)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        images = images * self.scale_in
        patches, context = self.tokenizer(images)
        update = self.up(self.down(images)).flatten(2).transpose(1, 2)
        return (patches + update) * self.scale_out, context


@METHODS.register("slr")
@dataclass
class SLR(Method):
    """Scaled low-rank adapters of patch embedding and linear layers; norms train (Scheibenreif et al., CVPRW 2024).

    Inputs and outputs of qkv, proj, fc1 and fc2 of all blocks and of the patch embedding are scaled, and a biased
    low-rank path lies beside each of these layers. Starts from the pretrained function: scales 1, Up = 0. On a ViT-L at
    rank 16 7.28 M parameters with 32 bands, 7.27 M with 13.
    """

    rank: Annotated[int, Field(ge=1)] = 16

    @property
    def keeps_tokenizer(self) -> bool:
        """A tokenizer of its own takes the place of the backbone's."""
        return False

    def adapt(self, backbone: Backbone) -> None:
        """Wrap the layers and let the norms train."""
        replace_in_blocks(backbone, LINEAR_LAYERS, lambda linear: ScaledLowRank(linear, self.rank))
        backbone.tokenizer = ScaledLowRankTokenizer(
            backbone.tokenizer, len(backbone.sensor.bands), backbone.width, backbone.patch_size, self.rank
        )
        train_norms(backbone)
