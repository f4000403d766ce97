"""Packs: the records and counts of many runs in two files, ``GROUP.runs.jsonl.gz`` and ``GROUP.parquet``.

A pack stands for a folder ``GROUP`` in the same place. The first file has a line for each run: its folder below
``GROUP`` and its record, as in ``run.json``. The second has a row group for each run: its counts, as in
``confusion.parquet``, and in its metadata the folders in the order of the row groups. Each record carries its own
checksum and that of its counts.
"""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.records.confusion import PIXELS
from spectral_tl_bench.records.counts import Counts, open_table, read_table
from spectral_tl_bench.records.record import RunRecord, parse_record, record_of
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import read_regular_file
from spectral_tl_bench.utils.paths import path_inside

if TYPE_CHECKING:
    import pyarrow.parquet as pq

COUNTS_SUFFIX, RECORDS_SUFFIX = ".parquet", ".runs.jsonl.gz"
FOLDERS = b"folders"
_MOST_BYTES = 2**30
"""Of the records of a pack, unpacked or not; 800 of them have 3 MiB."""
_LEVELS = 3
"""Folders of a run below that of all runs, at most: those of its protocol, and its own."""


@dataclass(frozen=True)
class Pack:
    """A pack that is open.

    Attributes:
        folder: The folder that it stands for, ``.../GROUP``.
        records: Content of the records, by the run's folder below that.
        counts: The file of counts.
        row_groups: Which row group holds the counts of each run.
    """

    folder: Path
    records: Mapping[str, Any]
    counts: pq.ParquetFile
    row_groups: Mapping[str, int]

    def covers(self, folder: Path) -> bool:
        """Whether it holds a run in this folder or below it."""
        name = folder.relative_to(self.folder).as_posix()
        return name in self.records or name == "." or any(each.startswith(f"{name}/") for each in self.records)

    def folders(self) -> list[Path]:
        """The folders of its runs."""
        return [self.folder / name for name in self.records]

    def read(self, folder: Path) -> tuple[RunRecord, Counts, Path]:
        """Read a run.

        Args:
            folder: One of :meth:`folders`.

        Returns:
            Its record, its counts, and the place of the counts for messages.

        Raises:
            RecordError: If it is not in the pack, or damaged.
        """
        if not folder.is_relative_to(self.folder):
            raise RecordError(f"{folder} is a pack of runs; name the folder of one of them")
        name = folder.relative_to(self.folder).as_posix()
        place = f"{self.folder}{RECORDS_SUFFIX}: {name}"
        if name not in self.records:
            raise RecordError(f"{place} is no run of this pack")
        record = record_of(self.records[name], place, folder.name)
        path = Path(f"{self.folder}{COUNTS_SUFFIX}: {name}")
        if name not in self.row_groups:
            raise RecordError(f"{path} has no counts in it; pack the run again")
        table = read_table(self.counts, path, self.row_groups[name])
        # Runs that do not record pixels share a file with those that do.
        if PIXELS in table.column_names and table[PIXELS].null_count == table.num_rows:
            table = table.drop_columns(PIXELS)
        return record, Counts.of(table, path), path


def pack_of(folder: Path) -> Pack | None:
    """Return the pack that holds a run's folder, or folders below it; None where there is none.

    Raises:
        RecordError: If the pack that covers the folder cannot be read.
    """
    if folder.name.endswith(RECORDS_SUFFIX):
        return open_pack(folder)
    for covered in [folder, *folder.parents][: _LEVELS + 1]:
        file = Path(f"{covered}{RECORDS_SUFFIX}")
        if covered.name and file.is_file():
            pack = open_pack(file)
            return pack if pack.covers(folder) else None
    return None


def open_pack(file: Path) -> Pack:
    """Open a pack by its file of records; kept open until one of its files changes.

    Raises:
        RecordError: If it is damaged or no pack.
    """
    stamps = []
    for path in (file, _counts_file(file)):
        try:
            state = path.stat()
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        if not stat.S_ISREG(state.st_mode):
            raise RecordError(f"cannot read {path}: it is no ordinary file")
        stamps.append((state.st_mtime_ns, state.st_size))
    return _open(file, tuple(stamps))


def _counts_file(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(RECORDS_SUFFIX) + COUNTS_SUFFIX)


@lru_cache(maxsize=16)
def _open(file: Path, stamps: tuple[tuple[int, int], ...]) -> Pack:
    records: dict[str, Any] = {}
    for line in _lines(file):
        content = parse_record(line, str(file))
        if not isinstance(content, dict) or not isinstance(name := content.get("folder"), str):
            raise RecordError(f"{file} is no pack of records")
        if path_inside(file.parent, name) is None or name in records:
            raise RecordError(f"{file} is no pack of records: {name!r} cannot be the folder of a run")
        records[name] = content.get("record")
    path = _counts_file(file)
    counts = open_table(path, path)
    try:
        folders = json.loads((counts.schema_arrow.metadata or {})[FOLDERS])
        row_groups = {str(name): number for number, name in enumerate(folders)}
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{path} is damaged: it does not name its runs; restore it") from error
    if len(row_groups) != counts.num_row_groups:
        raise RecordError(f"{path} is damaged: it has not as many parts as runs; restore it")
    return Pack(file.with_name(file.name.removesuffix(RECORDS_SUFFIX)), records, counts, row_groups)


def _lines(file: Path) -> list[bytes]:
    try:
        # Unpacked bit by bit: a small file may claim any size.
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unpacking.decompress(read_regular_file(file, _MOST_BYTES), _MOST_BYTES)
    except (OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordError(f"{file} is damaged: {reason}; restore it, or pack its runs again") from error
    if not unpacking.eof:
        raise RecordError(f"{file} is damaged: it is cut short or too large; restore it, or pack its runs again")
    return text.splitlines()
