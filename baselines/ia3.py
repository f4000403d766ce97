"""IA3 through peft."""

from dataclasses import dataclass

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import linear_layers

SCALED_OUTPUTS = ("attn.qkv", "mlp.fc1")
SCALED_INPUTS = ("mlp.fc2",)


@METHODS.register("ia3")
@dataclass
class IA3(Method):
    """Learned scales of activations (IA3; Liu et al., 2022, section 3.3).

    The paper scales keys, values and the hidden activations of the MLP. Here queries, keys and values are one layer, so
    its whole output is scaled, then the output of fc1 and, behind the activation function, the input of fc2. All scales
    start at 1. 3 D + 4 D + 4 D scales a block, 0.27 M parameters on a ViT-L.
    """

    learning_rate_factor = 4.0

    def adapt(self, backbone: Backbone) -> None:
        """Inject the scales."""
        from peft import IA3Config, inject_adapter_in_model

        config = IA3Config(
            target_modules=linear_layers(backbone, SCALED_OUTPUTS + SCALED_INPUTS),
            feedforward_modules=linear_layers(backbone, SCALED_INPUTS),
        )
        inject_adapter_in_model(config, backbone)
