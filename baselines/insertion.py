"""Putting modules into transformer blocks and around them: what the baselines share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone, Layout
from spectral_tl_bench.utils.errors import SpectralBenchError

QKV = "attn.qkv"
LINEAR_LAYERS = (QKV, "attn.proj", "mlp.fc1", "mlp.fc2")
"""Every linear layer of a transformer block; queries, keys and values are one."""


class Bottleneck(nn.Module):
    """Up(Dropout(activation(Down(x)))) on B x T x D tokens, with Up = 0 at the start."""

    def __init__(self, width: int, hidden: int, activation: nn.Module, dropout: float = 0.0) -> None:
        """Build a bottleneck of ``hidden`` channels, of which training drops a share ``dropout``."""
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the tokens."""
        out: Tensor = self.up(self.dropout(self.activation(self.down(x))))
        return out


class After(nn.Module):
    """A module followed by another on its output."""

    def __init__(self, inner: nn.Module, outer: nn.Module) -> None:
        """Apply ``outer`` after ``inner``."""
        super().__init__()
        self.inner = inner
        self.outer = outer

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply both; whatever else the block passes goes to the inner module."""
        out: Tensor = self.outer(self.inner(x, *args, **kwargs))
        return out


class AfterBlock(nn.Module):
    """A transformer block whose patch tokens another module refines; prefix tokens pass by."""

    def __init__(self, block: nn.Module, refine: nn.Module, layout: Layout) -> None:
        """Apply ``refine``, B x T x D to B x T x D, after ``block``."""
        super().__init__()
        self.block = block
        self.refine = refine
        self.layout = layout

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block on B x (P + T) x D tokens, then refine the patch tokens."""
        prefix, patches = self.layout.split(self.block(x, *args, **kwargs))
        return self.layout.join(prefix, self.refine(patches))


def replace_in_blocks(
    backbone: Backbone, names: Iterable[str], make: Callable[[Any], nn.Module], first: int = 0
) -> None:
    """Replace modules of the blocks by others, usually by wrappers around them.

    Args:
        backbone: Changed in place.
        names: Modules of a block, such as "attn" or "mlp.fc1".
        make: Makes the replacement from the module.
        first: Index of the first block to change.

    Raises:
        SpectralBenchError: If a block has no such module.
    """
    for name in names:
        check_blocks(backbone, name)
        parent, _, child = name.rpartition(".")
        for block in backbone.blocks[first:]:
            owner = block.get_submodule(parent)
            setattr(owner, child, make(getattr(owner, child)))


def linear_layers(backbone: Backbone, names: Iterable[str] = LINEAR_LAYERS) -> str:
    """Name linear layers of every block as the regular expression that peft takes for its target modules.

    Raises:
        SpectralBenchError: If a block lacks one of them.
    """
    names = tuple(names)
    for name in names:
        check_blocks(backbone, name)
    return r"blocks\.\d+\.(" + "|".join(name.replace(".", r"\.") for name in names) + ")"


def check_blocks(backbone: Backbone, name: str) -> None:
    """Make sure that a module is in every block, and that the block calls it.

    Raises:
        SpectralBenchError: If it is not.
    """
    for index, block in enumerate(backbone.blocks):
        module = dict(block.named_modules()).get(name)
        if module is None or (name in LINEAR_LAYERS and not isinstance(module, nn.Linear)):
            found = "none" if module is None else f"a {type(module).__name__}"
            kind = "linear layer" if name in LINEAR_LAYERS else "module"
            raise SpectralBenchError(
                f"the method needs the {kind} {name}, but block {index} has {found}; take another backbone or method"
            )
        if name == QKV and getattr(block.get_submodule("attn"), "q_bias", None) is not None:
            # timm's attention then reads the layer's weight and never calls it: what is put around it has no effect.
            raise SpectralBenchError(
                f"the attention of block {index} keeps the biases of its {name} apart, so the method cannot change the "
                "layer; take a backbone without them or another method"
            )
