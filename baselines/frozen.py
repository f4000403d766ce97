"""The lower bracket of every comparison: the backbone as it came."""

from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS


@METHODS.register("frozen")
@dataclass
class Frozen(Method):
    """Backbone frozen; only the patch embedding for the sensor's bands trains."""

    def adapt(self, backbone: Backbone) -> None:
        """Let the patch embedding train: D (p² C + 1) parameters, 3.41 M for a ViT-L with 13 bands."""
        backbone.tokenizer.requires_grad_(True)
