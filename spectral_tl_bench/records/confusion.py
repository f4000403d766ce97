"""Pixel counts per tile: sparse confusion matrices as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.metrics import Matrix

Selection = Literal["best", "last"]
Part = Literal["target", "held_out_source"]

_KEYS = ["selection", "part", "tile", "subdomain"]
_COUNTS = {"truth": np.int16, "prediction": np.int16, "count": np.int64}


@dataclass
class ConfusionTable:
    """Collects confusion matrices per tile; windows of one tile add up."""

    _matrices: dict[tuple[str, str, str, str], Matrix] = field(default_factory=dict)

    def add(self, selection: Selection, part: Part, tile: str, subdomain: str, confusion: Matrix) -> None:
        """Add counts of a tile.

        Args:
            selection: Which step's model predicted.
            part: Target tiles, or held-out source tiles.
            tile: The tile's name.
            subdomain: Its sub-domain.
            confusion: K x K, rows are truth.
        """
        key = (selection, part, tile, subdomain)
        self._matrices[key] = self._matrices[key] + confusion if key in self._matrices else np.array(confusion)

    def frame(self) -> pd.DataFrame:
        """Return one row per tile and pair of classes that occurs.

        Columns: selection, part, tile, subdomain, truth, prediction, count. A tile without a counted pixel keeps one
        row with count 0, so that it is still known to have been scored.
        """
        keys: list[tuple[str, str, str, str]] = []
        counts: list[tuple[int, int, int]] = []
        for key in sorted(self._matrices):
            confusion = self._matrices[key]
            rows = [(int(t), int(p), int(confusion[t, p])) for t, p in zip(*np.nonzero(confusion), strict=True)]
            rows = rows or [(0, 0, 0)]
            keys += [key] * len(rows)
            counts += rows
        named = pd.DataFrame(keys, columns=_KEYS)
        return named.join(pd.DataFrame(counts, columns=list(_COUNTS)).astype(_COUNTS))


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


def check_counts(frame: pd.DataFrame, num_classes: int, path: Path) -> None:
    """Check that a table has the columns and values of pixel counts.

    Args:
        frame: The table.
        num_classes: K.
        path: Its file, for the message.

    Raises:
        RecordError: If it has not.
    """
    missing = [name for name in (*_KEYS, *_COUNTS) if name not in frame.columns]
    if missing:
        raise RecordError(f"{path} is not a table of pixel counts: it lacks the columns {', '.join(missing)}")
    if not all(pd.api.types.is_integer_dtype(frame[name]) for name in _COUNTS):
        raise RecordError(f"{path} is damaged: its counts are not whole numbers")
    ids = frame[["truth", "prediction"]]
    if ((ids < 0) | (ids >= num_classes)).to_numpy().any() or (frame["count"] < 0).any():
        raise RecordError(f"{path} does not fit the record: ids outside 0 ... {num_classes - 1} or negative counts")
    if not (frame["part"] == "target").any():
        raise RecordError(f"{path} has no counts of target tiles; run it again")
