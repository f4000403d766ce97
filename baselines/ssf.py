"""SSF: scaling and shifting features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Tokenizer
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import LINEAR_LAYERS, After, replace_in_blocks


class ScaleShift(nn.Module):
    """s x + b over the last dimension, with s drawn from N(1, 0.02²) and b from N(0, 0.02²)."""

    def __init__(self, width: int) -> None:
        """Make scales and shifts of ``width`` channels."""
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width).normal_(1, 0.02))
        self.shift = nn.Parameter(torch.empty(width).normal_(0, 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift."""
        return torch.addcmul(self.shift, x, self.scale)


class ScaledTokenizer(Tokenizer):
    """A patch embedding whose tokens are scaled and shifted."""

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        """Scale and shift what ``tokenizer`` returns."""
        super().__init__()
        self.tokenizer = tokenizer
        self.scale_shift = ScaleShift(width)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn B x C x H x W images into B x T x D tokens."""
        patches, context = self.tokenizer(images)
        return self.scale_shift(patches), context


@METHODS.register("ssf")
@dataclass
class SSF(Method):
    """Scale and shift after patch embedding, norms and linear layers (SSF; Lian et al., 2022, section 3.2).

    As drawn, the scales are not quite 1, so that training starts near the pretrained function and not at it. Everything
    folds into the layers before it. 0.54 M parameters on a ViT-L.
    """

    changes_start = "scales and shifts are drawn around 1 and 0"
    learning_rate_factor = 4.0

    @property
    def keeps_tokenizer(self) -> bool:
        """A tokenizer of its own takes the place of the backbone's."""
        return False

    def adapt(self, backbone: Backbone) -> None:
        """Insert scales and shifts."""
        backbone.tokenizer = ScaledTokenizer(backbone.tokenizer, backbone.width)
        replace_in_blocks(backbone, ("norm1", "norm2"), lambda norm: After(norm, ScaleShift(backbone.width)))
        replace_in_blocks(backbone, LINEAR_LAYERS, lambda linear: After(linear, ScaleShift(linear.out_features)))
