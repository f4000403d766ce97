"""Full fine-tuning."""

from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS


@METHODS.register("full")
@dataclass
class Full(Method):
    """Everything trains, from the pretrained weights on."""

    def adapt(self, backbone: Backbone) -> None:
        """Let every parameter train, 306 M for a ViT-L."""
        backbone.requires_grad_(True)
