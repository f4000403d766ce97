"""Which experts the mixtures of adapters send the tokens of images to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from spectral_tl_bench.backbones import Backbone
from spectral_tl_bench.methods.spectralx.aomoa import AoMoALinear

_ATTRIBUTES = ("spatial", "spectral")
_LAYERS = ("fc1", "fc2")
_IMAGES_AT_ONCE = 8


def mixtures(backbone: Backbone) -> Iterator[tuple[int, str, AoMoALinear]]:
    """Every mixture with its tap, from 1, and the name of the layer that it stands beside."""
    for number, tap in enumerate(dict.fromkeys(backbone.taps), start=1):
        mlp = backbone.blocks[tap].get_submodule("mlp")
        for name in _LAYERS:
            layer = getattr(mlp, name, None)
            if isinstance(layer, AoMoALinear):
                yield number, name, layer


@torch.no_grad()
def expert_usage(backbone: Backbone, images: Mapping[str, Tensor]) -> pd.DataFrame:
    """Count how often each expert is among those kept for a token.

    Args:
        backbone: A backbone with mixtures, in evaluation mode: without noise in the gates.
        images: By domain, N x C x H x W normalised.

    Returns:
        A row for each domain, tap, layer, attribute and expert (from 1), with its ``choices``; empty where the backbone
        has no mixtures.
    """
    rows: list[tuple[str, int, str, str, int, int]] = []
    totals: dict[tuple[int, str], Tensor] = {}

    def note(
        key: tuple[int, str], router: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor | None]
    ) -> None:
        chosen, experts = output[1], router.get_parameter("gate").shape[-1]
        counts = torch.stack([torch.bincount(c.flatten(), minlength=experts) for c in chosen.unbind(dim=1)])
        totals[key] = totals.get(key, torch.zeros_like(counts)) + counts

    found = list(mixtures(backbone))
    hooks = [m.mixture.router.register_forward_hook(partial(note, (tap, name))) for tap, name, m in found]
    try:
        for domain, batch in images.items():
            totals.clear()
            for part in batch.split(_IMAGES_AT_ONCE):
                backbone(part)
            for (tap, layer), counts in totals.items():
                for attribute, by_expert in zip(_ATTRIBUTES, counts.tolist(), strict=True):
                    rows += [(domain, tap, layer, attribute, e, n) for e, n in enumerate(by_expert, start=1)]
    finally:
        for hook in hooks:
            hook.remove()
    return pd.DataFrame(rows, columns=["domain", "tap", "layer", "attribute", "expert", "choices"])
