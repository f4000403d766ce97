"""A backbone with its neck, UPerNet decoder and classification layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.decoders.neck import SCALES, MultiLevelNeck, Upsampling

if TYPE_CHECKING:
    from spectral_tl_bench.spec import TrainingSpec


class Segmenter(nn.Module):
    """Images to logits at the images' own resolution.

    UPerNet (Xiao et al., 2018) with pyramid pools of 1, 2, 3 and 6, on the four taps of a ViT.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        neck_channels: int,
        decoder_channels: int,
        upsampling: Upsampling = "learned",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        """Put a decoder on a backbone.

        Args:
            backbone: Gives four maps, B x D x h x w.
            num_classes: K.
            neck_channels: Width of the neck's maps.
            decoder_channels: Width of UPerNet.
            upsampling: How maps finer than the tokens are made, in the neck and from UPerNet's output to pixels:
                "learned" unfolds every position by a transposed convolution, "bilinear" interpolates.
            dropout: Share of UPerNet's output channels dropped in training.
            norm_eps: What UPerNet's batch norms add to the variance.
        """
        super().__init__()
        self.backbone = backbone
        self.neck = MultiLevelNeck(backbone.width, neck_channels, upsampling)
        # The library's decoder expects an encoder's maps from full resolution on and skips the first two.
        self.decoder = UPerNetDecoder(
            encoder_channels=[0, 0, *[neck_channels] * 4], encoder_depth=5, decoder_channels=decoder_channels
        )
        # The library normalises every position of its input maps, which takes away how bright a pixel is: what tells
        # water from shade. UPerNet as published has no such layer, and its convolutions bring their own normalisation.
        self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in SCALES)
        for module in self.decoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = norm_eps
        self.dropout = nn.Dropout2d(dropout)
        unfold = max(1, round(backbone.patch_size / SCALES[0])) if upsampling == "learned" else 1
        self.classifier = nn.ConvTranspose2d(decoder_channels, num_classes, unfold, stride=unfold)

    @classmethod
    def of(cls, backbone: Backbone, num_classes: int, training: TrainingSpec) -> Self:
        """Put the decoder on a backbone that a run's settings ask for, for K classes."""
        return cls(
            backbone,
            num_classes,
            neck_channels=training.neck_channels,
            decoder_channels=training.decoder_channels,
            upsampling=training.neck_upsampling,
            dropout=training.decoder_dropout,
            norm_eps=training.decoder_norm_eps,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, B x K x H x W, for B x C x H x W normalised images."""
        pyramid = self.neck(self.backbone(images))
        logits: Tensor = self.classifier(self.dropout(self.decoder([images, images, *pyramid])))
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The parts that are always trained, whatever the method."""
        return self.neck, self.decoder, self.classifier
