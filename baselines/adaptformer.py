"""AdaptFormer: bottlenecks parallel to the MLPs."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods import Method
from spectral_tl_bench.utils.registry import METHODS

from .insertion import Bottleneck, check_blocks


class Recall(nn.Module):
    """A module that keeps its input for another module."""

    def __init__(self, inner: nn.Module, seen: list[Tensor]) -> None:
        """Put the inputs of ``inner`` into ``seen``."""
        super().__init__()
        self.inner = inner
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module and keep x, of the last call only."""
        self.seen[:] = [x]
        out: Tensor = self.inner(x)
        return out


class ParallelBottleneck(nn.Module):
    """A block with x + MLP(LN(x)) + s Up(ReLU(Down(x))) as its second half.

    The bottleneck sees x before the norm, and what it adds is not scaled by the layer scale that some backbones have.
    """

    def __init__(self, block: nn.Module, bottleneck: Bottleneck, scale: float) -> None:
        """Put ``bottleneck`` beside the MLP of ``block``."""
        super().__init__()
        self.seen: list[Tensor] = []
        block.norm2 = Recall(block.get_submodule("norm2"), self.seen)
        self.block = block
        self.bottleneck = bottleneck
        self.scale = scale

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block on B x N x D tokens."""
        out: Tensor = self.block(x, *args, **kwargs)
        return out + self.scale * self.bottleneck(self.seen.pop())


@METHODS.register("adaptformer")
@dataclass
class AdaptFormer(Method):
    """Bottlenecks beside the MLP of every block (Chen et al., 2022, section 3.2).

    x + MLP(LN(x)) + scale Up(ReLU(Down(x))), Up = 0 at the start. As in the authors' code, the bottleneck has no norm
    of its own. 3.17 M parameters on a ViT-L at 64 channels.

    Declared differences from the authors' code: no dropout unless ``dropout`` asks for it (0.1 there, on the
    bottleneck's channels), and Down's bias starts at PyTorch's default instead of 0.
    """

    learning_rate_factor = 16.0

    hidden: Annotated[int, Field(ge=1)] = 64
    scale: float = 0.1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def adapt(self, backbone: Backbone) -> None:
        """Insert the bottlenecks."""
        check_blocks(backbone, "norm2")
        backbone.blocks = nn.ModuleList(
            ParallelBottleneck(block, Bottleneck(backbone.width, self.hidden, nn.ReLU(), self.dropout), self.scale)
            for block in backbone.blocks
        )
