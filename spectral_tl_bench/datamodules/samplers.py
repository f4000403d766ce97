"""Which tiles and windows train, in which order: drawn ahead of the workers, so that their number changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import Sampler

from spectral_tl_bench.datamodules.windows import WindowKey
from spectral_tl_bench.utils.random_state import derived_seed
from spectral_tl_bench.utils.registry import SAMPLERS

if TYPE_CHECKING:
    import pandas as pd

Key = TypeVar("Key")


class ResumableData:
    """A data module whose training batches can begin in the middle of a stage.

    Attributes:
        steps_done: Optimiser steps of the stage that were trained before; the training loop sets it.
    """

    steps_done: int = 0


@dataclass(frozen=True)
class SourceTiles:
    """What a sampler knows of the tiles that train.

    Attributes:
        subdomains: Sub-domain of each tile.
        histograms: Counts the labelled pixels of each tile by class, tiles x K; reads every label. None in stages
            without labels.
    """

    subdomains: pd.Series
    histograms: Callable[[], np.ndarray] | None


@SAMPLERS.register("uniform")
def uniform(tiles: SourceTiles) -> None:
    """Every tile once before any comes again: no weights."""


@SAMPLERS.register("domain")
def by_domain(tiles: SourceTiles) -> np.ndarray:
    """Every sub-domain alike."""
    return domain_weights(tiles.subdomains)


@SAMPLERS.register("class")
def by_class(tiles: SourceTiles) -> np.ndarray | None:
    """Tiles with rare classes more often; no weights in stages without labels."""
    return None if tiles.histograms is None else class_weights(tiles.histograms())


class WindowSampler(Sampler[WindowKey]):
    """Draw a fixed number of training windows.

    Without weights every tile is visited once before any comes again. With weights tiles are drawn with replacement.
    The window's place in its tile is uniform. Each pass over the tiles has a seed of its own, so that a draw may begin
    anywhere.
    """

    def __init__(
        self,
        positions: Sequence[int],
        heights: np.ndarray,
        widths: np.ndarray,
        *,
        size: int,
        count: int,
        seed: int,
        weights: np.ndarray | None = None,
        start: int = 0,
    ) -> None:
        """Prepare the draw.

        Args:
            positions: Rows of the dataset's index that train.
            heights: Height of every tile of the index in pixels.
            widths: Width of every tile of the index in pixels.
            size: Side of a window in pixels.
            count: Windows to draw in all.
            seed: Fixes the draw.
            weights: Probability of each position, up to a factor.
            start: How many windows of the draw are passed over: an earlier process has trained on them.
        """
        self.positions = np.asarray(positions)
        self.slack = np.stack([np.maximum(0, sides[self.positions] - size) for sides in (heights, widths)], axis=1)
        self.count = count
        self.seed = seed
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        self.start = start

    def __len__(self) -> int:
        return self.count - self.start

    def __iter__(self) -> Iterator[WindowKey]:
        first, passed = divmod(self.start, len(self.positions))
        windows = itertools.chain.from_iterable(map(self._pass, itertools.count(first)))
        return itertools.islice(windows, passed, passed + self.count - self.start)

    def _pass(self, number: int) -> Iterator[WindowKey]:
        """As many windows as there are tiles."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, number))
        many = len(self.positions)
        if self.weights is None:
            chosen = torch.randperm(many, generator=generator).numpy()
        else:
            chosen = torch.multinomial(self.weights, many, replacement=True, generator=generator).numpy()
        places = torch.rand(many, 2, generator=generator, dtype=torch.float64).numpy()
        corners = (places * (self.slack[chosen] + 1)).astype(int)
        for position, (top, left) in zip(self.positions[chosen].tolist(), corners.tolist(), strict=True):
            yield position, top, left


class BatchShares(Sampler[list[Key]], Generic[Key]):
    """Batches of a run's processes together, of which each process takes its own share, in their order.

    Every process gets as many shares as the others and every key goes to one of them; a last share may be empty.
    """

    def __init__(self, keys: Sampler[Key] | Sequence[Key], each: int, *, rank: int = 0, processes: int = 1) -> None:
        """Prepare the shares.

        Args:
            keys: What batches are made of.
            each: Keys of a share.
            rank: This process, from 0.
            processes: How many there are.
        """
        self.keys = keys
        self.each, self.rank, self.processes = each, rank, processes

    def __len__(self) -> int:
        return -(-len(self.keys) // (self.each * self.processes))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Key]]:
        keys = iter(self.keys)
        while batch := list(itertools.islice(keys, self.each * self.processes)):
            yield batch[self.rank * self.each : (self.rank + 1) * self.each]


def domain_weights(domains: pd.Series) -> np.ndarray:
    """Weights that give every sub-domain the same share of the draws.

    Args:
        domains: Sub-domain of each training tile.
    """
    return 1.0 / domains.map(domains.value_counts()).to_numpy(dtype=float)


def class_weights(histograms: np.ndarray) -> np.ndarray:
    """Weights that favour tiles with rare classes.

    Each class counts by the inverse square root of its share of all pixels, a compromise between the natural
    frequencies and complete balance (Mahajan et al., 2018); a tile's weight is the mean over its labelled pixels.

    Args:
        histograms: Tiles x K pixel counts.

    Returns:
        One weight a tile; tiles without labels get the smallest weight of the others.

    Raises:
        ValueError: If no tile has a label.
    """
    if not histograms.any():
        raise ValueError("no tile has a labelled pixel")
    totals = histograms.sum(axis=0)
    rarity = np.zeros(len(totals))
    rarity[totals > 0] = 1.0 / np.sqrt(totals[totals > 0] / totals.sum())
    labelled = histograms.sum(axis=1)
    weights = (histograms @ rarity) / np.maximum(labelled, 1)
    floor = weights[labelled > 0].min()
    return np.where(labelled > 0, weights, floor)
