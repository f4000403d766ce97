"""Convpass: convolutional bypasses of attention and MLP."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Layout
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import replace_in_blocks


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return x * (1.702 * x).sigmoid()


class Bypass(nn.Module):
    """A module plus s Up(Dropout(QuickGELU(Conv(QuickGELU(Down(x)))))) of its input.

    The 3 x 3 convolution runs over the grid of patches; each prefix token is an image of one pixel. It starts as the
    identity, and Up as 0.
    """

    def __init__(
        self, inner: nn.Module, width: int, hidden: int, layout: Layout, scale: float = 1.0, dropout: float = 0.0
    ) -> None:
        """Add a bypass of ``hidden`` channels to ``inner``, scaled by s = ``scale``."""
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.inner = inner
        self.layout = layout
        self.down = nn.Linear(width, hidden)
        self.convolution = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.up = nn.Linear(hidden, width)
        self.activation = QuickGELU()
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.dirac_(self.convolution.weight)
        nn.init.zeros_(self.up.weight)
        for module in (self.down, self.convolution, self.up):
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply module and bypass to B x (P + T) x D normed tokens."""
        prefix, patches = self.layout.split(self.activation(self.down(x)))
        pixels = self.convolution(prefix.reshape(-1, prefix.shape[-1], 1, 1)).view_as(prefix)
        maps = self.layout.from_map(self.convolution(self.layout.to_map(patches)))
        hidden = self.dropout(self.activation(self.layout.join(pixels, maps)))
        out: Tensor = self.inner(x, *args, **kwargs) + self.scale * self.up(hidden)
        return out


@METHODS.register("convpass")
@dataclass
class Convpass(Method):
    """Convolutional bypasses of attention and MLP in every block (Jie and Deng, 2022, section 3).

    0.86 M parameters on a ViT-L at 8 channels. Declared difference from the authors' code: no dropout unless
    ``dropout`` asks for it (0.1 there, on the bypass's channels). The authors choose ``scale`` for each dataset.
    """

    learning_rate_factor = 4.0

    hidden: Annotated[int, Field(ge=1)] = 8
    scale: float = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def adapt(self, backbone: Backbone) -> None:
        """Insert the bypasses."""
        replace_in_blocks(
            backbone,
            ("attn", "mlp"),
            lambda module: Bypass(module, backbone.width, self.hidden, backbone.layout, self.scale, self.dropout),
        )
