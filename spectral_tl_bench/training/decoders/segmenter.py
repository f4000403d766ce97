"""A backbone with the decoder that turns its features into logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.utils.registry import DECODERS

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec


class Segmenter(nn.Module):
    """Images to logits at the images' own resolution.

    A decoder is a module made by a registered callable from the backbone, the number of classes K and the training
    settings; it takes the list of four feature maps, B x D x h x w each, and returns logits, B x K at any resolution.
    """

    def __init__(self, backbone: Backbone, decoder: nn.Module, upsample: int = 1) -> None:
        """Put a decoder on a backbone.

        Args:
            backbone: Gives four maps.
            decoder: Makes logits of them.
            upsample: How many times images are enlarged before the backbone.
        """
        super().__init__()
        self.upsample = upsample
        self.backbone = backbone
        self.decoder = decoder

    @classmethod
    def of(cls, backbone: Backbone, num_classes: int, training: TrainingSpec) -> Self:
        """Put the decoder on a backbone that a run's settings name, for K classes."""
        return cls(backbone, DECODERS.load(training.decoder)(backbone, num_classes, training), training.upsample)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, B x K x H x W, for B x C x H x W normalised images."""
        logits: Tensor = self.decoder(self.backbone(self.backbone.enlarge(images, self.upsample)))
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits
