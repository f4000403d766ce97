"""Bottleneck adapters after attention and after the MLP."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import After, Bottleneck, replace_in_blocks


class SerialBottleneck(Bottleneck):
    """x + Up(GELU(Down(x))) on B x N x D tokens."""

    def __init__(self, width: int, hidden: int) -> None:
        """Build a bottleneck of ``hidden`` channels."""
        super().__init__(width, hidden, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Refine tokens."""
        return x + super().forward(x)


@METHODS.register("adapter")
@dataclass
class Adapter(Method):
    """Bottlenecks after attention and after the MLP of every block (Houlsby et al., 2019, section 2.1).

    6.34 M parameters on a ViT-L at 64 channels.
    """

    learning_rate_factor = 4.0

    hidden: Annotated[int, Field(ge=1)] = 64

    def adapt(self, backbone: Backbone) -> None:
        """Insert the bottlenecks."""
        replace_in_blocks(
            backbone, ("attn", "mlp"), lambda module: After(module, SerialBottleneck(backbone.width, self.hidden))
        )
