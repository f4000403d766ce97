"""How the tokens of a forward pass lie: what a module inside a block cannot see from its input."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass
class Layout:
    """The tokens that the blocks are working on; a backbone keeps its own up to date.

    A module inside a block gets B x (P + T) x D tokens and nothing else. One that treats prefix and patch tokens
    differently, or needs to know how the patches lie, is given the backbone's layout when it is made.

    Attributes:
        prefix: P, the number of class and register tokens.
        grid: Rows and columns of patches.
        positions: B x T places of the patches in the grid, row by row, after some were dropped; None
            while all are there.
    """

    prefix: int = 0
    grid: tuple[int, int] = (0, 0)
    positions: Tensor | None = None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Part B x (P + T) x D tokens into B x P x D prefix and B x T x D patch tokens."""
        return x[:, : self.prefix], x[:, self.prefix :]

    def join(self, prefix: Tensor, patches: Tensor) -> Tensor:
        """Put B x P x D prefix and B x T x D patch tokens together again."""
        return torch.cat([prefix, patches], dim=1)

    def to_map(self, patches: Tensor) -> Tensor:
        """Lay B x T x D patch tokens out as B x D x h x w maps; dropped patches are 0."""
        rows, columns = self.grid
        if self.positions is not None:
            everything = patches.new_zeros(len(patches), rows * columns, patches.shape[-1])
            patches = everything.scatter(1, _index(self.positions, patches), patches)
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def from_map(self, maps: Tensor) -> Tensor:
        """Take the B x T x D patch tokens back from B x D x h x w maps."""
        tokens = maps.flatten(2).transpose(1, 2)
        return tokens if self.positions is None else tokens.gather(1, _index(self.positions, tokens))


def _index(positions: Tensor, tokens: Tensor) -> Tensor:
    return positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
