"""Few labels: which part of the training tiles' labels may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectral_tl_bench.splits.assignment import Split, domains_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelledTiles:
    """Training tiles with the part of each whose labels are used: a window from the upper left corner.

    Attributes:
        rows: Rows of the index, sorted.
        heights: Height of the window in each tile, in pixels.
        widths: Its width.
        share: Area of all windows, by that of all training tiles.
        whole: Whether every window is a whole tile.
    """

    rows: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    share: float
    whole: bool

    def window(self, row: int) -> tuple[int, int]:
        """Height and width of the labelled window of a tile."""
        position = int(np.searchsorted(self.rows, row))
        return int(self.heights[position]), int(self.widths[position])

    def sides(self, heights: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Replace heights and widths of the index's tiles by those of the labelled windows.

        Training windows drawn within these have labels.
        """
        heights, widths = heights.copy(), widths.copy()
        heights[self.rows], widths[self.rows] = self.heights, self.widths
        return heights, widths


def labelled_tiles(split: Split, index: pd.DataFrame, fraction: float, seed: int) -> LabelledTiles:
    """Choose the labels that train: the same share of every sub-domain, in whole tiles and a window of one more.

    Shares are nested: with one seed, the labels of 1 % are among those of 2 %.

    Args:
        split: Gives the training tiles and their sub-domains.
        index: Index of the dataset.
        fraction: Share of the labels to use, in (0, 1].
        seed: Fixes the choice.
    """
    rows = split.training
    sides = index[["height", "width"]].to_numpy(dtype=int)[rows]
    parts = np.ones(len(rows)) if fraction >= 1 else shares(domains_of(split, index, rows), fraction, seed)
    chosen = parts > 0
    windows = np.maximum(1, np.rint(sides * np.sqrt(parts)[:, None])).astype(int)[chosen]
    area = float(windows.prod(axis=1).sum() / sides.prod(axis=1).sum())
    whole = bool((parts[chosen] == 1).all())
    return LabelledTiles(rows[chosen], windows[:, 0], windows[:, 1], area, whole)


def shares(domains: pd.Series, fraction: float, seed: int) -> np.ndarray:
    """Share of each tile that is labelled: 1 for whole tiles, less for one tile of a sub-domain, 0 for the others.

    Args:
        domains: Sub-domain of each training tile.
        fraction: Share of the tiles of every sub-domain.
        seed: Fixes the order in which tiles are taken.
    """
    generator = np.random.default_rng(seed)
    parts = np.zeros(len(domains))
    for _, members in sorted(domains.reset_index(drop=True).groupby(domains.to_numpy())):
        order = generator.permutation(members.index.to_numpy())
        # Without rounding errors: 0.07 * 100 is a little more than 7.
        wanted = round(fraction * len(order), 9)
        tiles = math.floor(wanted)
        parts[order[:tiles]] = 1.0
        if wanted > tiles:
            parts[order[tiles]] = wanted - tiles
    return parts
