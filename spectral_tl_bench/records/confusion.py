"""Pixel counts per tile: sparse confusion matrices, collected and added up as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from spectral_tl_bench.records.metrics import Matrix

Selection = Literal["best", "last"]
Part = Literal["held_out_source", "target"]
PARTS: tuple[Part, ...] = ("held_out_source", "target")
"""The parts in the order in which they are scored; the loaders of a test have the same order."""


class TileKey(NamedTuple):
    """Which tile was scored, as a member of which part."""

    part: Part
    tile: str


Scored = tuple[TileKey, Matrix]
"""A tile and its K x K counts, rows are truth."""

KEYS = ("selection", "part", "tile", "subdomain")
"""Columns that say whose counts a row holds."""
COUNTS = {"truth": np.int16, "prediction": np.int16, "count": np.int64}
"""Columns of the counts."""
PIXELS = "pixels"
"""Column of each tile's height times width; models without a backbone do not record it."""


@dataclass
class ConfusionTable:
    """Collects confusion matrices per tile; windows of one tile add up."""

    _matrices: dict[tuple[Selection, TileKey, str], Matrix] = field(default_factory=dict)
    _pixels: dict[str, int] = field(default_factory=dict)

    def add(
        self, selection: Selection, part: Part, tile: str, subdomain: str, confusion: Matrix, pixels: int | None = None
    ) -> None:
        """Add counts of a tile.

        Args:
            selection: Which step's model predicted.
            part: Target tiles, or held-out source tiles.
            tile: The tile's name.
            subdomain: Its sub-domain.
            confusion: K x K, rows are truth.
            pixels: The tile's height times width as scored, by which a reader checks the counts.
        """
        key = (selection, TileKey(part, tile), subdomain)
        self._matrices[key] = self._matrices[key] + confusion if key in self._matrices else np.array(confusion)
        if pixels is not None:
            self._pixels[tile] = pixels

    def frame(self) -> pd.DataFrame:
        """Return one row per tile and pair of classes that occurs.

        Columns: selection, part, tile, subdomain, truth, prediction, count and, where all tiles came with it, pixels. A
        tile without a counted pixel keeps one row with count 0, so that it is still known to have been scored.
        """
        keys: list[tuple[str, str, str, str]] = []
        counts: list[tuple[int, int, int]] = []
        for (selection, key, subdomain), confusion in sorted(self._matrices.items(), key=lambda item: item[0]):
            rows = [(int(t), int(p), int(confusion[t, p])) for t, p in zip(*np.nonzero(confusion), strict=True)]
            rows = rows or [(0, 0, 0)]
            keys += [(selection, *key, subdomain)] * len(rows)
            counts += rows
        frame = pd.DataFrame(keys, columns=list(KEYS))
        frame = frame.join(pd.DataFrame(counts, columns=list(COUNTS)).astype(COUNTS))
        if self._pixels and {tile for _, (_, tile), _ in self._matrices} <= set(self._pixels):
            frame[PIXELS] = frame["tile"].map(self._pixels).astype(np.int64)
        return frame


def matrices(frame: pd.DataFrame, num_classes: int, by: str) -> dict[str, Matrix]:
    """Add the counts up by the values of a column.

    Args:
        frame: Rows of a confusion table.
        num_classes: K.
        by: "tile", "subdomain" or another column.

    Returns:
        A K x K matrix per value, sorted by value.
    """
    codes, values = pd.factorize(frame[by], sort=True)
    stack = np.zeros((len(values), num_classes, num_classes), dtype=np.int64)
    np.add.at(stack, (codes, frame["truth"].to_numpy(), frame["prediction"].to_numpy()), frame["count"].to_numpy())
    return {str(value): stack[i] for i, value in enumerate(values)}


def total(frame: pd.DataFrame, num_classes: int) -> Matrix:
    """Add all counts up into one K x K matrix."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (frame["truth"].to_numpy(), frame["prediction"].to_numpy()), frame["count"].to_numpy())
    return matrix
