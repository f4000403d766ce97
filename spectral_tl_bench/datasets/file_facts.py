"""The cache of what is known of an archive's files: header, digest and label codes of each, read once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
import shapely
from pyarrow import ArrowException

from spectral_tl_bench.datasets.checksums import TileChecksums, file_stamp, of_file, of_pixels, of_sidecar, together
from spectral_tl_bench.datasets.io.formats import SUFFIXES, sidecars, unreadable
from spectral_tl_bench.datasets.io.headers import Header
from spectral_tl_bench.datasets.io.label_codes import code_counts
from spectral_tl_bench.datasets.io.listing import Problem, Role, Stored
from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.errors import DataError, RecordError
from spectral_tl_bench.utils.files import replacing

FORMAT = 1
"""Raised when the columns or meaning of what is kept change."""
FILES_SHOWN = 500
"""So many files take long enough to read that the progress is shown."""
_COLUMNS = ["role", "path", "stamp", "digest", "codes", "headers_of", "header"]
_FILES_AT_A_TIME = 250
"""How many files are read before what is known is written: an interrupted start need not begin again."""
_ROLES: tuple[Role, Role] = ("image", "label")
Headers = tuple[Header, Header]
"""What the headers of a tile's image and label map say."""
_Result = TypeVar("_Result")


class Archive(Protocol):
    """What is needed of an archive; every :class:`~spectral_tl_bench.datasets.base.TileDataset` is one."""

    @property
    def name(self) -> str:
        """Name of the archive."""

    @property
    def root(self) -> Path:
        """Folder of the archive."""

    @property
    def read_as(self) -> str:
        """What headers are read with: another text reads them again."""

    def headers_at(self, row: Mapping[Any, Any]) -> Headers:
        """Read what the headers of an image and of its label map say."""

    def pixels_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read the pixels of an image."""

    def label_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read a label map as integer codes."""

    def stored_at(self, row: Mapping[Any, Any], role: Role) -> Stored:
        """Say which files hold an image or a label map."""


class _Half(NamedTuple):
    """The image or the label map of a tile, and every file that decides its pixels."""

    role: Role
    stored: Stored
    files: tuple[str, ...]
    beside: tuple[str, ...]
    row: Mapping[Any, Any]

    @property
    def stamp(self) -> str:
        return file_stamp((*self.files, *self.beside))


@dataclasses.dataclass(frozen=True)
class _Fact:
    """What is known of a half; empty texts are not known."""

    stamp: str
    digest: str = ""
    codes: tuple[int, ...] = ()
    headers_of: str = ""
    header: str = ""


class FileFacts:
    """Headers, digests and codes of an archive's files.

    A file is read again only when the path, size, time of change or inode of it, or of a file beside it that decides
    how it is read, is another. What is known is kept in the archive's folder where that may be written, so that
    whoever shares it shares the cache, else in the user's cache.
    """

    def __init__(self, archive: Archive, by: Literal["bytes", "pixels"] = "bytes") -> None:
        """Read nothing yet.

        Args:
            archive: The archive.
            by: What the digests are of. By pixels, an archive that is written again has the same digests although the
                library that compresses is another, or the file has a date in it.
        """
        self._archive = archive
        self._by = by
        self._root = os.path.abspath(archive.root)
        self._name = f"files-{archive.name}-{by}{FORMAT}{_reader(type(archive))}.parquet"
        self._known: dict[tuple[str, str], _Fact] | None = None

    def headers(self, rows: Sequence[Mapping[Any, Any]]) -> list[Headers | Problem]:
        """Headers of tiles, or what is wrong with a tile.

        Args:
            rows: Tiles with ``image`` and ``label``, absolute paths.
        """
        results: list[Headers | Problem | None] = []
        missing: list[int] = []
        read_as = hashlib.blake2b(self._archive.read_as.encode(), digest_size=8).hexdigest()
        halves: list[tuple[_Half, _Half, str]] = []
        for position, row in enumerate(rows):
            try:
                image, label = (self._half(row, role) for role in _ROLES)
            except DataError as error:
                results.append(_problem(row, error))
                halves.append(())  # type: ignore[arg-type]
                continue
            of = f"{read_as} {image.stored.read_as} {label.stored.name.removeprefix(self._root)}"
            of = f"{of} {label.stored.read_as} {image.stamp} {label.stamp}"
            halves.append((image, label, of))
            results.append(self._known_headers(image, label, of))
            if results[-1] is None:
                missing.append(position)

        def read(position: int) -> Headers | Problem:
            try:
                return self._archive.headers_at(rows[position])
            except DataError as error:
                return _problem(rows[position], error)

        for some in _batches(missing):
            # GDAL waits for the disk without holding Python's lock.
            for position, result in zip(some, _parallel(read, some), strict=True):
                results[position] = result
                if not isinstance(result, Problem):
                    image, label, of = halves[position]
                    for half, header in zip((image, label), result, strict=True):
                        self._remember(half, headers_of=of, header=_packed(header))
            self._keep()
        return [result for result in results if result is not None]

    def checksums(self, rows: Iterable[Mapping[Any, Any]]) -> list[TileChecksums]:
        """Digests and codes of tiles.

        Args:
            rows: Tiles with ``image`` and ``label``, absolute paths.

        Returns:
            One entry a tile.

        Raises:
            DataError: If a file cannot be read, or a label map is none.
        """
        known = self._load()
        tiles = [[self._half(row, role) for role in _ROLES] for row in rows]
        self._read([half for tile in tiles for half in tile if not self._has_digest(half)])
        pairs = ([known[self._key(half)] for half in tile] for tile in tiles)
        return [TileChecksums(image.digest, label.digest, label.codes) for image, label in pairs]

    def verify(self, rows: Iterable[Mapping[Any, Any]]) -> list[Problem]:
        """Read every file again that seems unchanged and compare; what is known is right afterwards.

        Args:
            rows: Tiles with ``image`` and ``label``.

        Returns:
            A problem for each file with another content than its size, time and inode promise.
        """
        known = self._load()
        halves = [self._half(row, role) for row in rows for role in _ROLES]
        before = [(half, known[self._key(half)].digest) for half in halves if self._has_digest(half)]
        self._read([half for half, _ in before])
        return [
            Problem(
                "changed",
                half.files[0],
                f"{half.files[0]} was changed without its date or size showing it; earlier runs took it for unchanged. "
                "The cache is now correct: the next run is another run. `touch` what you change in such a way",
            )
            for half, digest in before
            if known[self._key(half)].digest != digest
        ]

    def _half(self, row: Mapping[Any, Any], role: Role) -> _Half:
        stored = self._archive.stored_at(row, role)
        rasters = [path for path in stored.files if path.lower().endswith(SUFFIXES) or not os.path.splitext(path)[1]]
        beside = dict.fromkeys(file for path in rasters for file in sidecars(path).values())
        return _Half(role, stored, stored.files, tuple(beside), row)

    def _key(self, half: _Half) -> tuple[str, str]:
        name = half.stored.name.removeprefix(self._root)
        return half.role, f"{name} {half.stored.read_as}" if half.stored.read_as else name

    def _has_digest(self, half: _Half) -> bool:
        fact = self._load().get(self._key(half))
        return fact is not None and bool(fact.digest) and fact.stamp == half.stamp

    def _known_headers(self, image: _Half, label: _Half, of: str) -> Headers | None:
        facts = [self._load().get(self._key(half)) for half in (image, label)]
        headers = [_unpacked(fact.header) for fact in facts if fact is not None and fact.headers_of == of]
        if len(headers) < 2 or headers[0] is None or headers[1] is None:
            return None
        return headers[0], headers[1]

    def _remember(self, half: _Half, stamp: str = "", **facts: Any) -> None:
        known, key, stamp = self._load(), self._key(half), stamp or half.stamp
        before = known.get(key)
        known[key] = dataclasses.replace(before if before and before.stamp == stamp else _Fact(stamp), **facts)

    def _read(self, halves: Sequence[_Half]) -> None:
        """Read files and remember their digests and codes.

        Raises:
            DataError: If one cannot be read; what the others hold is remembered.
        """
        with self._shown(len(halves)) as advance:
            for some in _batches(halves):
                results = [advance(result) for result in _parallel(self._content, some)]
                for half, result in zip(some, results, strict=True):
                    if isinstance(result, _Fact):
                        self._remember(half, result.stamp, digest=result.digest, codes=result.codes)
                self._keep()
                for result in results:
                    if isinstance(result, DataError):
                        raise result

    @contextlib.contextmanager
    def _shown(self, files: int) -> Iterator[Callable[[_Fact | DataError], _Fact | DataError]]:
        """Yield what is told of each file that is read, on a terminal where they are many."""
        if files < FILES_SHOWN:
            yield lambda content: content
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"reading the {files} files of {self._archive.name} once", total=files)

            def advance(content: _Fact | DataError) -> _Fact | DataError:
                bar.advance(task)
                return content

            yield advance

    def _content(self, half: _Half) -> _Fact | DataError:
        path = half.files[0]
        try:
            # Before the content: a file that changes meanwhile has another stamp afterwards.
            stamp = half.stamp
            labels = self._archive.label_at(half.row) if half.role == "label" else None
            codes = () if labels is None else tuple(code_counts(labels))
            if self._by == "pixels" or not half.stored.whole:
                digests = [of_pixels(self._archive.pixels_at(half.row) if labels is None else labels)]
            else:
                digests = [of_file(path := file) for file in half.files]
            digests += [digest for file in half.beside if (digest := of_sidecar(path := file)) is not None]
            if half.role == "image" and half.stored.read_as:
                digests.append(half.stored.read_as)
            return _Fact(stamp, together(digests), codes)
        except OSError as error:
            return unreadable(path, error)
        except DataError as error:
            return error

    def _load(self) -> dict[tuple[str, str], _Fact]:
        if self._known is None:
            self._known = {}
            for folder in reversed(_folders(self._archive.root)):
                self._known |= _read_table(folder / self._name)
        return self._known

    def _keep(self) -> None:
        """Write what is known into the archive's folder where that is allowed, else into the user's cache."""
        shared, own = _folders(self._archive.root)
        if _is_read_only(shared.parent) or not self._store(shared):
            self._store(own)

    def _store(self, folder: Path) -> bool:
        """Whether the folder can be written. Two runs may start at once: a reader sees a whole file or none."""
        rows = [
            (*key, fact.stamp, fact.digest, " ".join(map(str, fact.codes)), fact.headers_of, fact.header)
            for key, fact in self._load().items()
        ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / self._name) as temporary:
                pd.DataFrame(rows, columns=_COLUMNS).to_parquet(temporary, index=False)
        except (OSError, RecordError):
            return False
        return True


def _parallel(work: Callable[[Any], _Result], items: Sequence[Any]) -> list[_Result]:
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _FILES_AT_A_TIME)):
        yield some


def _problem(row: Mapping[Any, Any], error: DataError) -> Problem:
    message = str(error)
    return Problem("unreadable", row["label"] if row["label"] in message else row["image"], message)


def _packed(header: Header) -> str:
    facts = {field.name: getattr(header, field.name) for field in dataclasses.fields(header)}
    footprint = header.footprint
    return json.dumps(facts | {"footprint": None if footprint is None else shapely.to_wkb(footprint, hex=True)})


def _unpacked(text: str) -> Header | None:
    """The header of a text; None where it is none."""
    try:
        facts = json.loads(text)
        footprint = facts["footprint"]
        facts |= {"footprint": None if footprint is None else shapely.from_wkb(footprint)}
        return Header(**facts | {name: tuple(facts[name]) for name in ("empty", "bad")})
    except (ValueError, TypeError, KeyError, shapely.errors.GEOSException):
        return None


def _folders(root: Path) -> tuple[Path, Path]:
    """The archive's own folder of the cache, and the user's for that root."""
    path = os.path.abspath(root)
    mine = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:16]
    return Path(path, ".spectral_tl_bench"), cache_dir() / "index" / mine


def _is_read_only(root: Path) -> bool:
    """Whether nobody has the right to write; the mode decides, since the superuser could and yet should not."""
    return not root.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def _reader(cls: type) -> str:
    """What tells readings of another package's, or a user's, dataset apart once its code changes."""
    if cls.__module__.startswith("spectral_tl_bench."):
        return ""
    return f"-{hashlib.blake2b(Path(inspect.getfile(cls)).read_bytes(), digest_size=4).hexdigest()}"


def _read_table(path: Path) -> dict[tuple[str, str], _Fact]:
    """What a file keeps; empty where it is missing or damaged."""
    try:
        columns = [pd.read_parquet(path)[name].tolist() for name in _COLUMNS]
        return {
            (role, file): _Fact(stamp, digest, tuple(map(int, codes.split())), of, header)
            for role, file, stamp, digest, codes, of, header in zip(*columns, strict=True)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArrowException):
        return {}
