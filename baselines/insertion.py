"""Putting modules around those of a transformer block: shared by the adapter baselines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone


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


def wrap_in_blocks(backbone: Backbone, names: tuple[str, ...], wrap: Callable[[nn.Module], nn.Module]) -> None:
    """Replace named children of every block by a module around them.

    Args:
        backbone: Changed in place.
        names: Children of a block, "attn" or "mlp".
        wrap: Makes the replacement from the child.
    """
    for block in backbone.blocks:
        for name in names:
            setattr(block, name, wrap(getattr(block, name)))
