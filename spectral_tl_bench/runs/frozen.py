"""Pretrained weights that stay frozen stay what they were: a record that says otherwise of them would be wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from spectral_tl_bench.errors import SpectralBenchError

if TYPE_CHECKING:
    from torch import nn

    from spectral_tl_bench.backbones import Backbone


class FrozenWeights:
    """Digests of a backbone's parameters before a method sees them."""

    def __init__(self, backbone: Backbone) -> None:
        """Remember the parameters of a backbone as it was built."""
        self._before = {id(p): (name, _digest(p)) for name, p in backbone.named_parameters()}
        # What is replaced must outlive it, or a new parameter may get its identity and pass for it.
        self._alive = tuple(backbone.parameters())

    def require_unchanged(self, backbone: Backbone) -> None:
        """Look at what holds pretrained weights and is frozen, and stop looking at what trains.

        Raises:
            SpectralBenchError: If one is not what it was.
        """
        for parameter in backbone.parameters():
            if parameter.requires_grad or id(parameter) not in backbone.pretrained_parameters:
                self._before.pop(id(parameter), None)
            elif id(parameter) in self._before:
                name, digest = self._before[id(parameter)]
                if _digest(parameter) != digest:
                    raise SpectralBenchError(
                        f"the method changes the pretrained weights {name}, which are frozen; let them train "
                        "(requires_grad_) or put what changes into a module of your own"
                    )


def _digest(parameter: nn.Parameter) -> bytes:
    return hashlib.blake2b(parameter.detach().cpu().contiguous().numpy().data, digest_size=16).digest()
