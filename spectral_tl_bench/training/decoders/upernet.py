"""UPerNet on the four taps of a vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from spectral_tl_bench.training.decoders.neck import SCALES, MultiLevelNeck
from spectral_tl_bench.utils.registry import DECODERS

if TYPE_CHECKING:
    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import TrainingSpec


@DECODERS.register("upernet", order=1)
class UPerNet(nn.Module):
    """Neck, UPerNet (Xiao et al., 2018) with pyramid pools of 1, 2, 3 and 6, and the classification layer."""

    def __init__(self, backbone: Backbone, num_classes: int, training: TrainingSpec) -> None:
        """Build the decoder.

        Args:
            backbone: Its width and patch size fix the shapes.
            num_classes: K.
            training: Widths of neck and decoder, dropout before the classifier, the batch norms' epsilon, and how maps
                finer than the tokens are made, in the neck and from UPerNet's output to pixels: "learned" unfolds every
                position by a transposed convolution, "bilinear" interpolates.
        """
        super().__init__()
        upsampling = training.neck_upsampling
        self.neck = MultiLevelNeck(backbone.width, training.neck_channels, upsampling)
        # The library's decoder expects an encoder's maps from full resolution on and skips the first two.
        self.pyramid = UPerNetDecoder(
            encoder_channels=[0, 0, *[training.neck_channels] * 4],
            encoder_depth=5,
            decoder_channels=training.decoder_channels,
        )
        # The library normalises every position of its input maps, which takes away how bright a pixel is: what tells
        # water from shade. UPerNet as published has no such layer, and its convolutions bring their own normalisation.
        self.pyramid.feature_norms = nn.ModuleList(nn.Identity() for _ in SCALES)
        for module in self.pyramid.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = training.decoder_norm_eps
        self.dropout = nn.Dropout2d(training.decoder_dropout)
        # As many positions as the image has pixels, not the enlarged one that the backbone sees.
        unfold = max(1, round(backbone.patch_size / SCALES[0] / training.upsample)) if upsampling == "learned" else 1
        self.classifier = nn.ConvTranspose2d(training.decoder_channels, num_classes, unfold, stride=unfold)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Turn four maps, B x D x h x w, into logits, B x K x H' x W' with H' at least h."""
        maps = self.neck(features)
        # The first two, which the library would take from full resolution, are never looked at.
        logits: Tensor = self.classifier(self.dropout(self.pyramid([maps[0], maps[0], *maps])))
        return logits
