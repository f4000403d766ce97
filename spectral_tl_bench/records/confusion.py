"""Pixel counts per tile: sparse confusion matrices as a table, and what contradicts itself in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import numpy as np
import pandas as pd

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.metrics import Matrix

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Selection = Literal["best", "last"]
Part = Literal["target", "held_out_source"]
Refuse = Callable[[str], NoReturn]

KEYS = ("selection", "part", "tile", "subdomain")
_COUNTS = {"truth": np.int16, "prediction": np.int16, "count": np.int64}
PIXELS = "pixels"
"""Column of each tile's height times width; records of earlier versions lack it."""

MOST_CLASSES = 255
"""Label maps hold one byte a pixel, and 255 is no class."""
MOST_ROWS = 50_000_000
_MOST_PIXELS = 2**40
_MOST_LABELS = 2**28


@dataclass
class ConfusionTable:
    """Collects confusion matrices per tile; windows of one tile add up."""

    _matrices: dict[tuple[str, str, str, str], Matrix] = field(default_factory=dict)
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
        key = (selection, part, tile, subdomain)
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
        for key in sorted(self._matrices):
            confusion = self._matrices[key]
            rows = [(int(t), int(p), int(confusion[t, p])) for t, p in zip(*np.nonzero(confusion), strict=True)]
            rows = rows or [(0, 0, 0)]
            keys += [key] * len(rows)
            counts += rows
        frame = pd.DataFrame(keys, columns=list(KEYS))
        frame = frame.join(pd.DataFrame(counts, columns=list(_COUNTS)).astype(_COUNTS))
        if self._pixels and {tile for _, _, tile, _ in self._matrices} <= set(self._pixels):
            frame[PIXELS] = frame["tile"].map(self._pixels).astype(np.int64)
        return frame


@dataclass(frozen=True)
class Counts:
    """The rows of a confusion table with their names as numbers, which makes thousands of records quick to read.

    Attributes:
        names: Values of each of ``KEYS``, sorted.
        codes: For each of ``KEYS``, the place of every row's value in ``names``.
        truth: True class of every row.
        prediction: Predicted class of every row.
        count: Pixels of every row.
        pixels: Height times width of every row's tile; None where that was not recorded.
    """

    names: dict[str, tuple[str, ...]]
    codes: dict[str, NDArray[np.int64]]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    count: NDArray[np.int64]
    pixels: NDArray[np.int64] | None

    @classmethod
    def of(cls, table: pa.Table, path: Path) -> Counts:
        """Number the names of a table.

        Args:
            table: What :meth:`ConfusionTable.frame` returns, in Arrow.
            path: Its file, for the message.

        Raises:
            RecordError: If it has not the columns of pixel counts.
        """
        import pyarrow as pa

        missing = [name for name in (*KEYS, *_COUNTS) if name not in table.column_names]
        if missing:
            raise RecordError(f"{path} is not a table of pixel counts: it lacks the columns {', '.join(missing)}")
        numbers = {}
        for name in (*_COUNTS, PIXELS):
            if name in table.column_names:
                if not pa.types.is_integer(table[name].type) or table[name].null_count:
                    raise RecordError(f"{path} is damaged: its counts are not whole numbers")
                numbers[name] = table[name].to_numpy().astype(np.int64)
        names, codes = {}, {}
        for key in KEYS:
            column = table[key].unify_dictionaries() if pa.types.is_dictionary(table[key].type) else table[key]
            try:
                column = column.combine_chunks().dictionary_encode()
            except pa.ArrowException as error:
                raise RecordError(f"{path} is damaged: its column {key} holds no text") from error
            values = column.dictionary.to_pylist()
            if column.null_count or not all(isinstance(value, str) for value in values):
                raise RecordError(f"{path} is damaged: rows without a {key}")
            order = sorted(range(len(values)), key=values.__getitem__)
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            names[key] = tuple(values[n] for n in order)
            codes[key] = place[column.indices.to_numpy(zero_copy_only=False)]
        truth, prediction, count = (numbers[name] for name in _COUNTS)
        return cls(names, codes, truth, prediction, count, numbers.get(PIXELS))

    def frame(self) -> pd.DataFrame:
        """Return the table with its names as text."""
        columns = {key: np.asarray(self.names[key], dtype=object)[self.codes[key]] for key in KEYS}
        frame = pd.DataFrame(columns).astype(dict.fromkeys(KEYS, "str"))
        for name, values in zip(_COUNTS, (self.truth, self.prediction, self.count), strict=True):
            frame[name] = values.astype(_COUNTS[name])
        return frame if self.pixels is None else frame.assign(**{PIXELS: self.pixels})

    def rows(self, part: Part, selection: Selection) -> NDArray[np.bool_]:
        """Return which rows belong to a part, as predicted by one selection."""
        chosen = np.ones(len(self.count), dtype=bool)
        for key, value in (("part", part), ("selection", selection)):
            chosen &= self.codes[key] == (self.names[key].index(value) if value in self.names[key] else -1)
        return chosen

    def tiles(self, part: Part, selection: Selection) -> int:
        """How many tiles a part has."""
        return int(_occur(self.codes["tile"][self.rows(part, selection)], len(self.names["tile"])).sum())

    def stack(
        self, num_classes: int, by: str, part: Part, selection: Selection
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Add counts up by tile or sub-domain.

        Args:
            num_classes: K.
            by: "tile" or "subdomain".
            part: Target tiles, or held-out source tiles.
            selection: Which step's model predicted.

        Returns:
            N names, sorted, and their matrices, N x K x K.
        """
        rows = self.rows(part, selection)
        there = _occur(self.codes[by][rows], len(self.names[by]))
        members = np.flatnonzero(there)
        codes = (np.cumsum(there) - 1)[self.codes[by][rows]]
        flat = (codes * num_classes + self.truth[rows]) * num_classes + self.prediction[rows]
        # Sums of floats are exact here: counts stay far below 2**53.
        stacked = np.bincount(flat, weights=self.count[rows], minlength=len(members) * num_classes**2).astype(np.int64)
        return tuple(self.names[by][i] for i in members), stacked.reshape(len(members), num_classes, num_classes)


def _occur(codes: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
    """Which of the codes 0 ... number-1 occur."""
    return np.bincount(codes, minlength=number) > 0


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


def check_counts(counts: Counts, num_classes: int, tiles: dict[Part, int], selection: Selection, path: Path) -> None:
    """Check that counts fit the record and do not contradict themselves.

    Args:
        counts: The table.
        num_classes: K.
        tiles: How many tiles the record says were scored.
        selection: Which step's model the run selects.
        path: Its file, for the message.

    Raises:
        RecordError: If they do not; the message names the first contradiction.
    """

    def refuse(what: str) -> NoReturn:
        raise RecordError(f"{path} contradicts its record: {what}; run it again")

    for key, known in (("selection", get_args(Selection)), ("part", get_args(Part))):
        unknown = [name for name in counts.names[key] if name not in known]
        if unknown:
            refuse(f"{key} {unknown[0]!r} is not one of {', '.join(known)}")
    for what, ids in (("truth", counts.truth), ("prediction", counts.prediction)):
        if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
            refuse(f"{what} has class ids {ids.min()} ... {ids.max()} where there are {num_classes} classes")
    if counts.count.size and not (0 <= counts.count.min() <= counts.count.max() < _MOST_PIXELS):
        refuse(f"counts of {counts.count.min()} ... {counts.count.max()} pixels")
    _check_tiles(counts, tiles, selection, refuse)
    _check_pixels(counts, num_classes, refuse)


def _check_tiles(counts: Counts, tiles: dict[Part, int], selection: Selection, refuse: Refuse) -> None:
    tile = counts.codes["tile"]
    number = len(counts.names["tile"])
    for key in ("part", "subdomain"):
        first = np.zeros(number, dtype=np.int64)
        first[tile] = counts.codes[key]
        if (first[tile] != counts.codes[key]).any():
            refuse(f"a tile has more than one {key}")
    if not counts.rows("target", selection).any():
        refuse(f"it has no counts of target tiles by the {selection} weights, which the run selects")
    for name in (name for name in get_args(Selection) if name in counts.names["selection"]):
        for which, expected in tiles.items():
            found = counts.tiles(which, name)
            if found != expected:
                refuse(
                    f"{found} {which.replace('_', ' ')} tiles by the {name} weights where the record says {expected}"
                )


def _check_pixels(counts: Counts, num_classes: int, refuse: Refuse) -> None:
    tile, chosen = counts.codes["tile"], counts.codes["selection"]
    group = chosen * len(counts.names["tile"]) + tile
    of_truth = group * num_classes + counts.truth
    cells = np.sort(of_truth * num_classes + counts.prediction)
    if (cells[1:] == cells[:-1]).any():
        refuse("rows are there twice")
    size = len(counts.names["selection"]) * len(counts.names["tile"])
    if size * num_classes > _MOST_LABELS:
        refuse(f"{len(counts.names['tile'])} tiles of {num_classes} classes")
    labels = np.bincount(of_truth, weights=counts.count, minlength=size * num_classes)
    by_selection = labels.reshape(len(counts.names["selection"]), -1)
    if len(by_selection) > 1 and (by_selection[0] != by_selection[1]).any():
        refuse("the best and the last weights were scored on different labels")
    if counts.pixels is not None:
        counted = labels.reshape(size, num_classes).sum(axis=1)
        room = np.zeros(size)
        room[group] = counts.pixels
        if (counted > room).any() or (counts.pixels != room[group]).any():
            worst = int(np.argmax(counted - room)) % len(counts.names["tile"])
            refuse(f"tile {counts.names['tile'][worst]} has more pixels counted than it has")
