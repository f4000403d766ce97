"""Multi-level neck: four maps of one resolution become a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

SCALES = (4.0, 2.0, 1.0, 0.5)

Upsampling = Literal["learned", "bilinear"]


class MultiLevelNeck(nn.Module):
    """Project each tap's map, bring it to its scale, and smooth it.

    A plain ViT keeps one resolution throughout; UPerNet wants a pyramid. The maps of the four taps, B x D x h x w each,
    become B x N x (s h) x (s w) with s = 4, 2, 1 and 1/2.

    "bilinear" interpolates, as published. It blurs what a token knows about the inside of its patch. "learned" lets
    every token unfold into 4 x 4 or 2 x 2 positions by a transposed convolution, as usual for masked autoencoders.
    """

    def __init__(self, in_channels: int, out_channels: int, upsampling: Upsampling) -> None:
        """Build a neck from D = ``in_channels`` to N = ``out_channels``."""
        super().__init__()

        def lateral(scale: float) -> nn.Module:
            if upsampling == "learned" and scale > 1:
                return nn.ConvTranspose2d(in_channels, out_channels, int(scale), stride=int(scale))
            return nn.Conv2d(in_channels, out_channels, 1)

        self.lateral = nn.ModuleList(lateral(scale) for scale in SCALES)
        self.smooth = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in SCALES)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the pyramid, finest level first."""
        pyramid = []
        for feature, scale, lateral, smooth in zip(features, SCALES, self.lateral, self.smooth, strict=True):
            # At least one position, so that an image of a single patch still works.
            size = [max(1, round(side * scale)) for side in feature.shape[-2:]]
            level = lateral(feature)
            if list(level.shape[-2:]) != size:
                level = F.interpolate(level, size=size, mode="bilinear", align_corners=False)
            pyramid.append(smooth(level))
        return pyramid
