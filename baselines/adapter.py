"""Bottleneck adapters after attention and after the MLP."""

from dataclasses import dataclass

from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.baselines.insertion import After, wrap_in_blocks
from spectral_tl_bench.methods import Method


class Bottleneck(nn.Module):
    """x + Up(GELU(Down(x))) with Up = 0 at the start, on B x T x D tokens."""

    def __init__(self, width: int, hidden: int) -> None:
        """Build a bottleneck of ``hidden`` channels."""
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine tokens."""
        refined: Tensor = x + self.up(nn.functional.gelu(self.down(x)))
        return refined


@dataclass
class Adapter(Method):
    """Bottlenecks after attention and after the MLP of every block (Houlsby et al., 2019, section 2.1).

    6.34 M parameters on a ViT-L at 64 channels.
    """

    hidden: int = 64

    def adapt(self, backbone: Backbone) -> None:
        """Insert the bottlenecks."""
        wrap_in_blocks(backbone, ("attn", "mlp"), lambda m: After(m, Bottleneck(backbone.width, self.hidden)))
