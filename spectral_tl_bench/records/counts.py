"""Pixel counts of a record as arrays: what is quick to read and to add up, and what contradicts itself in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np
import pandas as pd

from spectral_tl_bench.records.confusion import COUNTS, KEYS, PIXELS, Part, Selection
from spectral_tl_bench.records.metrics import Floats
from spectral_tl_bench.utils.errors import RecordError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

Refuse = Callable[[str], NoReturn]

MOST_CLASSES = 255
"""Label maps hold one byte a pixel, and 255 is no class."""
_MOST_ROWS = 50_000_000
_MOST_COLUMNS = 64
_MOST_PIXELS = 2**40
_MOST_LABELS = 2**28


@dataclass(frozen=True)
class Counts:
    """The rows of a confusion table, a tile's names kept once, which makes thousands of records quick to read.

    Rows that follow one another and have their names and pixels in common are a stretch: as this package writes them, a
    tile's rows by one selection.

    Attributes:
        names: Values of each of ``KEYS``, sorted.
        codes: For each of ``KEYS``, the place of every stretch's value in ``names``.
        lengths: Rows of every stretch.
        truth: True class of every row.
        prediction: Predicted class of every row.
        count: Pixels of every row.
        pixels: Height times width of every stretch's tile; None where that was not recorded.
    """

    names: dict[str, tuple[str, ...]]
    codes: dict[str, NDArray[np.int64]]
    lengths: NDArray[np.int64]
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

        missing = [name for name in (*KEYS, *COUNTS) if name not in table.column_names]
        if missing:
            raise RecordError(f"{path} is not a table of pixel counts: it lacks the columns {', '.join(missing)}")
        numbers = {}
        for name in (*COUNTS, PIXELS):
            if name in table.column_names:
                if not pa.types.is_integer(table[name].type) or table[name].null_count:
                    raise RecordError(f"{path} is damaged: its counts are not whole numbers")
                numbers[name] = table[name].to_numpy().astype(np.int64, copy=False)
        encoded = {key: _encoded(table[key], key, path) for key in KEYS}
        pixels = numbers.get(PIXELS)
        starts = _starts([*(own for _, own in encoded.values()), *([] if pixels is None else [pixels])])
        names, codes = {}, {}
        for key, (values, own) in encoded.items():
            order = sorted(range(len(values)), key=values.__getitem__)
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            names[key] = tuple(values[n] for n in order)
            codes[key] = place[own[starts]]
        lengths = np.diff(starts, append=table.num_rows)
        truth, prediction, count = (numbers[name] for name in COUNTS)
        return cls(names, codes, lengths, truth, prediction, count, None if pixels is None else pixels[starts])

    def digest(self) -> str:
        """Checksum of the rows in their order, whatever file they are in; the class ids must have been checked."""
        content = hashlib.sha256()
        for key in KEYS:
            content.update("\0".join(self.names[key]).encode())
            content.update(self.codes[key].astype("<i4").data)
        content.update(self.lengths.astype("<i8").data)
        for ids in (self.truth, self.prediction):
            content.update(ids.astype("u1").data)
        content.update(self.count.astype("<i8").data)
        if self.pixels is not None:
            content.update(self.pixels.astype("<i8").data)
        return f"sha256:{content.hexdigest()[:32]}"

    def frame(self) -> pd.DataFrame:
        """Return the table with its names as text."""
        columns = {key: np.asarray(self.names[key], dtype=object)[self._by_row(self.codes[key])] for key in KEYS}
        frame = pd.DataFrame(columns).astype(dict.fromkeys(KEYS, "str"))
        for name, values in zip(COUNTS, (self.truth, self.prediction, self.count), strict=True):
            frame[name] = values.astype(COUNTS[name])
        return frame if self.pixels is None else frame.assign(**{PIXELS: self._by_row(self.pixels)})

    def _by_row(self, values: NDArray[Any]) -> NDArray[Any]:
        """What every stretch has as what every row has."""
        return np.repeat(values, self.lengths)

    def stretches(self, part: Part, selection: Selection) -> NDArray[np.bool_]:
        """Return which stretches belong to a part, as predicted by one selection."""
        chosen = np.ones(len(self.lengths), dtype=bool)
        for key, value in (("part", part), ("selection", selection)):
            chosen &= self.codes[key] == (self.names[key].index(value) if value in self.names[key] else -1)
        return chosen

    def rows(self, part: Part, selection: Selection) -> NDArray[np.bool_]:
        """Return which rows belong to a part, as predicted by one selection."""
        return self._by_row(self.stretches(part, selection))

    def tiles(self, part: Part, selection: Selection) -> int:
        """How many tiles a part has."""
        return int(_occur(self.codes["tile"][self.stretches(part, selection)], len(self.names["tile"])).sum())

    def cells(self, places: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
        """Number every row by the place of its stretch, its true and its predicted class."""
        return (self._by_row(places * num_classes) + self.truth) * num_classes + self.prediction

    def labels(self, places: NDArray[np.int64], number: int, num_classes: int) -> Floats:
        """Add counts up by true class.

        Args:
            places: Where every stretch goes, 0 ... number-1.
            number: N.
            num_classes: K.

        Returns:
            N x K. Sums of floats are exact here: counts stay far below 2**53.
        """
        flat = self._by_row(places * num_classes) + self.truth
        summed = np.bincount(flat, weights=self.count, minlength=number * num_classes)
        return summed.astype(np.float64, copy=False).reshape(number, num_classes)

    def sums(self, num_classes: int, *keys: str) -> NDArray[np.int64]:
        """Add all counts up by the values of some of ``KEYS``.

        Args:
            num_classes: K.
            keys: Which, such as "selection" and "subdomain".

        Returns:
            As many dimensions as keys, as long as their ``names``, then K x K; zeros where there is nothing.
        """
        shape = [len(self.names[key]) for key in keys]
        places = np.ravel_multi_index([self.codes[key] for key in keys], shape)
        return self._added(places, int(np.prod(shape)), num_classes).reshape(*shape, num_classes, num_classes)

    def _added(self, places: NDArray[np.int64], number: int, num_classes: int) -> NDArray[np.int64]:
        # Sums of floats are exact here: counts stay far below 2**53.
        size = number * num_classes**2
        summed = np.bincount(self.cells(places, num_classes), weights=self.count, minlength=size)
        return summed.astype(np.int64).reshape(number, num_classes, num_classes)

    def stack(
        self, num_classes: int, by: str, part: Part, selection: Selection
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Add counts up by one of ``KEYS``.

        Args:
            num_classes: K.
            by: "tile", "subdomain" or "part".
            part: Target tiles, or held-out source tiles.
            selection: Which step's model predicted.

        Returns:
            N names, sorted, and their matrices, N x K x K.
        """
        chosen = self.stretches(part, selection)
        there = _occur(self.codes[by][chosen], len(self.names[by]))
        number = int(there.sum())
        # All other rows go to a matrix of their own, which is quicker than to pick rows out.
        places = np.where(chosen, (np.cumsum(there) - 1)[self.codes[by]], number)
        names = tuple(self.names[by][i] for i in np.flatnonzero(there))
        return names, self._added(places, number + 1, num_classes)[:number]


def open_table(source: Path | bytes, place: Path) -> pq.ParquetFile:
    """Open a Parquet file of pixel counts.

    Args:
        source: The file, or what it holds.
        place: The file, for messages.

    Raises:
        RecordError: If it cannot be read, or has more rows or columns than any run writes.
    """
    try:
        file = _opened(source)
    except _unreadable() as error:
        raise RecordError(f"{place} is not readable as Parquet; run it again") from error
    for number, most, what in (
        (file.metadata.num_rows, _MOST_ROWS, "rows"),
        (file.metadata.num_columns, _MOST_COLUMNS, "columns"),
    ):
        if number > most:
            raise RecordError(f"{place} claims {number} {what}, which no run writes")
    return file


def _opened(source: Path | bytes) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.BufferReader(source) if isinstance(source, bytes) else source
    try:
        # Names as categories: there are thousands of rows of a few names each.
        return pq.ParquetFile(content, read_dictionary=list(KEYS))
    except KeyError:  # a column is missing, which Counts.of reports
        return pq.ParquetFile(content)


def _unreadable() -> tuple[type[Exception], ...]:
    """What pyarrow raises of a damaged file."""
    import pyarrow as pa

    return OSError, ValueError, OverflowError, MemoryError, pa.ArrowException


def read_table(file: pq.ParquetFile, place: Path, row_group: int | None = None) -> pa.Table:
    """Read a file of pixel counts, or a row group of it.

    Raises:
        RecordError: If it is damaged.
    """
    try:
        if row_group is None:
            return file.read(use_threads=False)
        return file.read_row_group(row_group, use_threads=False)
    except _unreadable() as error:
        raise RecordError(f"{place} is not readable as Parquet; run it again") from error


def _encoded(column: pa.ChunkedArray, key: str, path: Path) -> tuple[list[str], NDArray[np.int32]]:
    """The values of a column of text, and the place of every row's among them."""
    import pyarrow as pa

    column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
    try:
        encoded = (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()).dictionary_encode()
        values = encoded.dictionary.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise RecordError(f"{path} is damaged: its column {key} holds no text") from error
    if encoded.null_count or not all(isinstance(value, str) for value in values):
        raise RecordError(f"{path} is damaged: rows without a {key}")
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    if indices.size and not 0 <= indices.min() <= indices.max() < len(values):
        raise RecordError(f"{path} is damaged: rows without a {key}")
    return values, indices


def _starts(columns: Sequence[NDArray[np.int64] | NDArray[np.int32]]) -> NDArray[np.int64]:
    """Rows that differ from the row before in one of the columns; the first row does."""
    differs = np.ones(len(columns[0]), dtype=bool)
    differs[1:] = False
    for values in columns:
        differs[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(differs)


def _occur(codes: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
    """Which of the codes 0 ... number-1 occur."""
    return np.bincount(codes, minlength=number) > 0


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
    if not counts.stretches("target", selection).any():
        refuse(f"it has no counts of target tiles by the {selection} weights, which the run selects")
    for name in (name for name in get_args(Selection) if name in counts.names["selection"]):
        for which, expected in tiles.items():
            found = counts.tiles(which, name)
            if found != expected:
                refuse(
                    f"{found} {which.replace('_', ' ')} tiles by the {name} weights where the record says {expected}"
                )


def _check_pixels(counts: Counts, num_classes: int, refuse: Refuse) -> None:
    group = counts.codes["selection"] * len(counts.names["tile"]) + counts.codes["tile"]
    # Sorted within a tile as they are written, rows are quickly put in order by a sort that makes use of it.
    cells = np.sort(counts.cells(group, num_classes), kind="stable")
    if (cells[1:] == cells[:-1]).any():
        refuse("rows are there twice")
    size = len(counts.names["selection"]) * len(counts.names["tile"])
    if size * num_classes > _MOST_LABELS:
        refuse(f"{len(counts.names['tile'])} tiles of {num_classes} classes")
    labels = counts.labels(group, size, num_classes)
    by_selection = labels.reshape(len(counts.names["selection"]), -1)
    if len(by_selection) > 1 and (by_selection[0] != by_selection[1]).any():
        refuse("the best and the last weights were scored on different labels")
    if counts.pixels is not None:
        counted = labels.sum(axis=1)
        room = np.zeros(size)
        room[group] = counts.pixels
        if (counted > room).any() or (counts.pixels != room[group]).any():
            worst = int(np.argmax(counted - room)) % len(counts.names["tile"])
            refuse(f"tile {counts.names['tile'][worst]} has more pixels counted than it has")
