"""BitFit."""

from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS


@METHODS.register("bitfit")
@dataclass
class BitFit(Method):
    """Only biases train (BitFit; Ben Zaken et al., 2022, section 3)."""

    learning_rate_factor = 4.0

    def adapt(self, backbone: Backbone) -> None:
        """Let every bias of norms, linear layers and patch embedding train, 0.27 M for a ViT-L."""
        for name, parameter in backbone.named_parameters():
            if name.endswith("bias"):
                parameter.requires_grad = True
