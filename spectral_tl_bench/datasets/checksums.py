"""What the files of tiles hold: a digest of each, and the codes in each label map, read once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from spectral_tl_bench.datasets.cache import cache_folders, keep
from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.datasets.io.label_codes import code_counts
from spectral_tl_bench.datasets.io.listing import Problem, Role, Stored
from spectral_tl_bench.utils.errors import DataError, RecordError
from spectral_tl_bench.utils.files import replacing

_FORMAT = 1
"""Raised when the columns or meaning of what is kept change."""
_COLUMNS = ["role", "path", "stamp", "digest", "codes"]
_DIGEST_BYTES = 16
_FILES_AT_A_TIME = 250
"""How many files are read before what is known is written: an interrupted start need not begin again."""
_SHOWN_FROM = 500
"""So many files take long enough to be shown how far it is."""
_ROLES: tuple[Role, Role] = ("image", "label")


class Readable(Protocol):
    """What is asked of an archive; every :class:`~spectral_tl_bench.datasets.base.TileDataset` is one."""

    @property
    def name(self) -> str:
        """Name of the archive."""

    @property
    def root(self) -> Path:
        """Folder of the archive."""

    def pixels_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read the pixels of an image."""

    def label_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read a label map as integer codes."""

    def label_is_moved(self, row: Mapping[Any, Any]) -> bool:
        """Whether a label map is read in another place or direction than its file stores it."""

    def stored_at(self, row: Mapping[Any, Any], role: Role) -> Stored:
        """Say which files hold an image or a label map."""


@dataclass(frozen=True)
class TileContent:
    """What the two files of a tile hold.

    Attributes:
        image: Digest of the image.
        label: Digest of the label map.
        codes: Codes that occur in the label map.
    """

    image: str
    label: str
    codes: tuple[int, ...]


class _Half(NamedTuple):
    """The image or the label map of a tile."""

    role: Role
    stored: Stored
    row: Mapping[Any, Any]


class _Known(NamedTuple):
    stamp: str
    digest: str
    codes: tuple[int, ...]


class Contents:
    """Digests and codes of an archive's files.

    A file is read again only when its path, size, time of change or inode is another. What is known is kept beside the
    archive, as the index is.
    """

    def __init__(self, archive: Readable, by: Literal["bytes", "pixels"] = "bytes") -> None:
        """Read nothing yet.

        Args:
            archive: The archive.
            by: What the digests are of. By pixels, an archive that is written again has the same digests although the
                library that compresses is another, or the file has a date in it.
        """
        self._archive = archive
        self._by = by
        self._root = os.path.abspath(archive.root)
        self._name = f"contents-{archive.name}-{by}{_FORMAT}{_reader(type(archive))}.parquet"
        self._known: dict[tuple[str, str], _Known] | None = None

    def of(self, rows: Iterable[Mapping[Any, Any]]) -> list[TileContent]:
        """Tell what tiles hold.

        Args:
            rows: Tiles with ``image`` and ``label``, absolute paths.

        Returns:
            One entry a tile.

        Raises:
            DataError: If a file cannot be read, or a label map is none.
        """
        known = self._load()
        tiles = [[_Half(role, self._archive.stored_at(row, role), row) for role in _ROLES] for row in rows]
        self._read([half for tile in tiles for half in tile if not self._is_known(half)])
        pairs = ([known[self._key(half)] for half in tile] for tile in tiles)
        return [TileContent(image.digest, label.digest, label.codes) for image, label in pairs]

    def verify(self, rows: Iterable[Mapping[Any, Any]]) -> list[Problem]:
        """Read every file again that seems unchanged and compare; what is known is right afterwards.

        Args:
            rows: Tiles with ``image`` and ``label``.

        Returns:
            A problem for each file with another content than its size, time and inode promise.
        """
        known = self._load()
        halves = [_Half(role, self._archive.stored_at(row, role), row) for row in rows for role in _ROLES]
        before = [(half, known[self._key(half)].digest) for half in halves if self._is_known(half)]
        self._read([half for half, _ in before])
        return [
            Problem(
                "changed",
                half.stored.files[0],
                f"{half.stored.files[0]} was changed without its date or size showing it; runs until now took it for "
                "what it was. That is put right: the next run is another run. `touch` what you change in such a way",
            )
            for half, digest in before
            if known[self._key(half)].digest != digest
        ]

    def _key(self, half: _Half) -> tuple[str, str]:
        name = half.stored.name.removeprefix(self._root)
        return half.role, f"{name} {half.stored.read_as}" if half.stored.read_as else name

    def _is_known(self, half: _Half) -> bool:
        known = self._load().get(self._key(half))
        return known is not None and known.stamp == _stamp(half.stored.files)

    def _read(self, halves: Sequence[_Half]) -> None:
        """Read files and remember what they hold.

        Raises:
            DataError: If one cannot be read; what the others hold is remembered.
        """
        known, todo = self._load(), iter(halves)
        # Hashing and GDAL work without holding Python's lock.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, self._shown(len(halves)) as advance:
            while some := list(islice(todo, _FILES_AT_A_TIME)):
                found = [advance(content) for content in pool.map(self._content, some)]
                known |= {self._key(f): c for f, c in zip(some, found, strict=True) if isinstance(c, _Known)}
                keep(self._archive.root, self._store)
                for content in found:
                    if isinstance(content, DataError):
                        raise content

    @contextlib.contextmanager
    def _shown(self, files: int) -> Iterator[Callable[[_Known | DataError], _Known | DataError]]:
        """Yield what is told of each file that is read, on a terminal where they are many."""
        if files < _SHOWN_FROM:
            yield lambda content: content
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"reading the {files} files of {self._archive.name} once", total=files)

            def advance(content: _Known | DataError) -> _Known | DataError:
                bar.advance(task)
                return content

            yield advance

    def _content(self, half: _Half) -> _Known | DataError:
        path = half.stored.files[0]
        try:
            # Before the content: a file that changes meanwhile has another stamp afterwards.
            stamp = _stamp(half.stored.files)
            labels = self._archive.label_at(half.row) if half.role == "label" else None
            codes = () if labels is None else tuple(code_counts(labels))
            moved = labels is not None and self._archive.label_is_moved(half.row)
            if self._by == "pixels" or not half.stored.whole or moved:
                return _Known(stamp, _of_pixels(self._archive.pixels_at(half.row) if labels is None else labels), codes)
            digests = []
            for path in half.stored.files:
                with open(path, "rb") as opened:
                    digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES))
                digests.append(digest.hexdigest())
            together = hashlib.blake2b("".join(digests).encode(), digest_size=_DIGEST_BYTES).hexdigest()
            return _Known(stamp, digests[0] if len(digests) == 1 else together, codes)
        except OSError as error:
            return unreadable(path, error)
        except DataError as error:
            return error

    def _load(self) -> dict[tuple[str, str], _Known]:
        if self._known is None:
            self._known = {}
            for folder in reversed(cache_folders(self._archive.root)):
                self._known |= _read_table(folder / self._name)
        return self._known

    def _store(self, folder: Path) -> bool:
        rows = [(*key, k.stamp, k.digest, " ".join(map(str, k.codes))) for key, k in self._load().items()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / self._name) as temporary:
                pd.DataFrame(rows, columns=_COLUMNS).to_parquet(temporary, index=False)
        except (OSError, RecordError):
            return False
        return True


def data_fingerprint(contents: Mapping[str, TileContent]) -> str:
    """Identify data by what they hold: the same for a copy elsewhere, another once a pixel or a label changes.

    Args:
        contents: Tiles by their names.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=8)
    for tile in sorted(contents):
        digest.update(f"{tile}\0{contents[tile].image}\0{contents[tile].label}\n".encode())
    return digest.hexdigest()


def _of_pixels(pixels: np.ndarray) -> str:
    """Digest of an array, the same whatever the machine's byte order."""
    digest = hashlib.blake2b(f"{pixels.dtype.kind} {pixels.shape}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _stamp(paths: Sequence[str]) -> str:
    """What changes whenever one of some files does, unless someone takes care that it does not."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise unreadable(path, error) from error
        stamps.append(f"{status.st_size} {status.st_mtime_ns} {status.st_ino}")
    return " ".join(stamps)


def _reader(cls: type) -> str:
    """What tells readings of another package's, or a user's, dataset apart once its code changes."""
    if cls.__module__.startswith("spectral_tl_bench."):
        return ""
    return f"-{hashlib.blake2b(Path(inspect.getfile(cls)).read_bytes(), digest_size=4).hexdigest()}"


def _read_table(path: Path) -> dict[tuple[str, str], _Known]:
    """What a file keeps; nothing where it is missing or damaged."""
    try:
        columns = [pd.read_parquet(path)[name].tolist() for name in _COLUMNS]
        rows = list(zip(*columns, strict=True))
        return {
            (role, file): _Known(stamp, digest, tuple(map(int, codes.split())))
            for role, file, stamp, digest, codes in rows
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArrowException):
        return {}
