"""A decoder without context: every position is judged by the features that the backbone has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones.base import NUM_TAPS
from spectral_tl_bench.utils.registry import DECODERS

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec

UNFOLD = 4
"""Positions along a token's side, as many as UPerNet's finest level has."""


@DECODERS.register("mlp", order=2)
class MLP(nn.Module):
    """A perceptron for every position over the sum of the taps' projections (Xie et al., SegFormer, 2021, section 3.2).

    A deep decoder learns the task by itself, from whatever the backbone gives it, a random one included. This one can
    only combine what is there, so that a run's score says what the backbone knows; and it learns in few steps.

    Each channel of each tap is standardised first, as in DINOv2's own segmentation head (Oquab et al., 2024). A plain
    ViT adds up what its blocks find, so early taps are small beside the last one (by a factor of 30 in a DINOv2 ViT-S),
    and linear layers that start from scratch would see nothing of them for most of their steps.

    The first tap is nearest to the pixels: each of its tokens unfolds into 4 x 4 positions by a transposed convolution,
    to tell the inside of a patch apart. The other taps, which know about surroundings, are interpolated.
    """

    def __init__(self, backbone: Backbone, num_classes: int, training: TrainingSpec) -> None:
        """Build the decoder.

        Args:
            backbone: Its width D fixes the shapes.
            num_classes: K.
            training: Channels and dropout of the hidden layer, and the batch norms' epsilon.
        """
        super().__init__()
        width, hidden = backbone.width, training.decoder_channels
        eps = training.decoder_norm_eps
        # Without scales and shifts: the projections behind them have their own.
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=eps, affine=False) for _ in range(NUM_TAPS))
        self.first = nn.ConvTranspose2d(width, hidden, UNFOLD, stride=UNFOLD)
        self.others = nn.ModuleList(nn.Conv2d(width, hidden, 1, bias=False) for _ in range(NUM_TAPS - 1))
        self.hidden = nn.Sequential(nn.BatchNorm2d(hidden, eps=eps), nn.GELU(), nn.Dropout2d(training.decoder_dropout))
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Turn four maps, B x D x h x w, into logits, B x K x 4h x 4w."""
        first, *others = (norm(feature) for norm, feature in zip(self.norms, features, strict=True))
        coarse = [project(feature) for project, feature in zip(self.others, others, strict=True)]
        # Interpolating is linear: the sum is interpolated once.
        summed = sum(coarse[1:], start=coarse[0])
        fine = F.interpolate(summed, scale_factor=UNFOLD, mode="bilinear", align_corners=False)
        logits: Tensor = self.classifier(self.hidden(self.first(first) + fine))
        return logits
