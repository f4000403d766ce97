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
        tokens_a_patch: G, in backbones with a token for each band of a patch; their patch tokens are B x (T * G) x D,
            patch by patch, and each token of a patch is on a map of its own.
    """

    prefix: int = 0
    grid: tuple[int, int] = (0, 0)
    positions: Tensor | None = None
    tokens_a_patch: int = 1

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Part B x (P + T) x D tokens into B x P x D prefix and B x T x D patch tokens."""
        return x[:, : self.prefix], x[:, self.prefix :]

    def join(self, prefix: Tensor, patches: Tensor) -> Tensor:
        """Put B x P x D prefix and B x T x D patch tokens together again."""
        return torch.cat([prefix, patches], dim=1)

    def to_map(self, patches: Tensor) -> Tensor:
        """Lay B x (T * G) x D patch tokens out as (B * G) x D x h x w maps; dropped patches are 0."""
        rows, columns = self.grid
        if self.tokens_a_patch > 1:
            patches = patches.unflatten(1, (-1, self.tokens_a_patch)).transpose(1, 2).flatten(0, 1)
        if self.positions is not None:
            everything = patches.new_zeros(len(patches), rows * columns, patches.shape[-1])
            patches = everything.scatter(1, self._index(self.positions, patches), patches)
        return patches.transpose(1, 2).unflatten(2, (rows, columns))

    def from_map(self, maps: Tensor) -> Tensor:
        """Take the B x (T * G) x D patch tokens back from (B * G) x D x h x w maps."""
        tokens = maps.flatten(2).transpose(1, 2)
        if self.positions is not None:
            tokens = tokens.gather(1, self._index(self.positions, tokens))
        if self.tokens_a_patch > 1:
            tokens = tokens.unflatten(0, (-1, self.tokens_a_patch)).transpose(1, 2).flatten(1, 2)
        return tokens

    def _index(self, positions: Tensor, tokens: Tensor) -> Tensor:
        """Where (B * G) x T x D tokens lie in the grid, as ``gather`` wants it."""
        of_each_map = positions.repeat_interleave(self.tokens_a_patch, dim=0)
        return of_each_map.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
