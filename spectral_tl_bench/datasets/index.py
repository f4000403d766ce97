"""The tile index: what an archive holds, checked once, as a GeoDataFrame."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import pandas as pd
from pyarrow import ArrowException
from shapely.errors import GEOSException

from spectral_tl_bench.datasets.cache import cache_folders, keep
from spectral_tl_bench.datasets.io.headers import Header
from spectral_tl_bench.datasets.io.listing import Listing, Problem, Role, Stored
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import DataError, RecordError
from spectral_tl_bench.utils.files import replacing

_FORMAT = 5
"""Raised when the columns or meaning of a cached index change."""

FACTS = ("height", "width", "bands", "dtype", "label_height", "label_width", "geometry")
"""Columns of the index that come from the files' headers."""

_CACHED = (*FACTS, "content", "empty", "bad", "calibration")


class Archive(Protocol):
    """What a survey asks of an archive; every :class:`~spectral_tl_bench.datasets.base.TileDataset` is one."""

    @property
    def name(self) -> str:
        """Name of the archive."""

    @property
    def root(self) -> Path:
        """Folder of the archive."""

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands that every image must have, used or not."""

    @property
    def read_as(self) -> str:
        """What headers are read with: another text reads them again."""

    @property
    def band_hint(self) -> str:
        """What to do about an image with other bands."""

    def find(self) -> Listing:
        """List the tiles, and the files that are no part of one."""

    def settle(self, index: pd.DataFrame, contents: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """Decide what only the pixels tell: which of the tiles listed are one and the same."""

    def headers_at(self, row: Mapping[Any, Any]) -> tuple[Header, Header]:
        """Read what the headers of an image and of its label map say."""

    def stored_at(self, row: Mapping[Any, Any], role: Role) -> Stored:
        """Say which files hold an image or a label map."""


@dataclass(frozen=True)
class Survey:
    """What an archive holds: the tiles that can be used, what else :class:`Listing` says, and bands not to use.

    ``empty`` are those without data in any tile, ``bad`` those that the header of some tile marks as bad. ``samples``
    holds the digest of a sample of each image's pixels, by the name of what stores it; see ``Header``.
    """

    index: gpd.GeoDataFrame
    problems: list[Problem]
    left_out: list[Problem]
    notes: list[str]
    unknown: dict[str, str]
    empty: frozenset[int]
    bad: frozenset[int]
    samples: dict[str, str]


def survey(archive: Archive) -> Survey:
    """Index the tiles that fit the archive and list what is wrong with the others.

    Headers are read once and kept beside the archive, so that a second start only lists the folders.
    """
    listing = archive.find()
    rows, left_out = listing.rows, listing.left_out
    facts, unreadable = _read_facts(archive, rows)
    problems = [*listing.problems, *unreadable]
    if not rows:
        # Images without any label are no archive with a few files too many.
        problems, left_out = [*problems, *left_out], []
    usable, blank = [], 0
    for row in rows:
        fact = facts.get(row["tile"])
        if fact is None:
            continue
        if row.get("part") is not None and len(fact["empty"]) == fact["bands"]:
            blank += 1
            continue
        problem = _mismatch(archive, row, fact)
        if problem is None:
            usable.append({**row, **{name: fact[name] for name in FACTS}})
        else:
            problems.append(problem)
    columns = list(rows[0]) if rows else ["tile", "image", "label", "split", "block"]
    frame, notes = pd.DataFrame(usable, columns=[*columns, *FACTS]), listing.notes
    if usable:
        frame, said = archive.settle(frame, [facts[tile]["content"] for tile in frame["tile"]])
        notes = [*notes, *said]
    if blank:
        notes = [*notes, f"{blank} tiles that hold no data at all are left out of the scenes' cut"]
    if left_out:
        example = os.path.relpath(left_out[0].path, archive.root)
        notes = [*notes, f"{len(left_out)} files without their partner are left out, for example {example}"]
    index = gpd.GeoDataFrame(frame, geometry="geometry", crs="EPSG:4326")
    without_data = [frozenset(facts[row["tile"]]["empty"]) for row in usable]
    empty = without_data[0].intersection(*without_data) if without_data else frozenset()
    bad = frozenset(band for row in usable for band in facts[row["tile"]]["bad"])
    notes = [*notes, *_about_calibration(archive, usable, facts)]
    samples = {archive.stored_at(row, "image").name: facts[row["tile"]]["content"] for row in usable}
    return Survey(index, problems, left_out, notes, listing.unknown, empty, bad, samples)


def _about_calibration(archive: Archive, rows: Sequence[dict[str, Any]], facts: dict[str, dict[str, Any]]) -> list[str]:
    """One line about the files that state a scale and an offset, which are applied."""
    stated = {row["image"]: facts[row["tile"]]["calibration"] for row in rows if facts[row["tile"]]["calibration"]}
    if not stated:
        return []
    path, what = next(iter(stated.items()))
    images = len({row["image"] for row in rows})
    example = os.path.relpath(path, archive.root)
    share = f"{len(stated)} of {images} images"
    return [f"{share} state how their values become reflectance, which is applied: {what} ({example})"]


def _read_facts(archive: Archive, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Header facts by tile, from the cache where the files have not changed."""
    if not rows:
        return {}, []
    name = f"index-{archive.name}-{_state(archive, rows)}.parquet"
    for folder in cache_folders(archive.root):
        cached = _load(folder / name)
        if cached is not None and len(cached) == len(rows):
            return cached, []
    facts, problems = _read_headers(archive, rows)
    # Only a sound archive is remembered: the other is read again once it is mended.
    if not problems:
        keep(archive.root, lambda folder: _store(facts, folder, name))
    return facts, problems


def _read_headers(archive: Archive, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    def read(row: dict[str, Any]) -> dict[str, Any] | Problem:
        try:
            image, label = archive.headers_at(row)
        except DataError as error:
            message = str(error)
            return Problem("unreadable", row["label"] if row["label"] in message else row["image"], message)
        size = (image.height, image.width, image.bands, image.dtype, label.height, label.width)
        return dict(
            zip(
                _CACHED, (*size, image.footprint, image.content, image.empty, image.bad, image.calibration), strict=True
            )
        )

    facts: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    # GDAL waits for the disk without holding Python's lock.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for row, result in zip(rows, pool.map(read, rows), strict=True):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                facts[row["tile"]] = result
    return facts, problems


def _state(archive: Archive, rows: Sequence[dict[str, Any]]) -> str:
    """Digest of the files' relative paths, sizes and times: another one once any file changes."""
    root = os.path.abspath(archive.root)
    digest = hashlib.sha256(f"{_FORMAT}\0{archive.name}\0{archive.read_as}\n".encode())
    for row in rows:
        for stored in (archive.stored_at(row, "image"), archive.stored_at(row, "label")):
            stamps = "\0".join(map(_stamp, stored.files))
            digest.update(f"{row['tile']}\0{stored.name.removeprefix(root)}\0{stamps}\n".encode())
    return digest.hexdigest()[:20]


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        # A link to nowhere; reading its header says so by name.
        return "missing"
    return f"{status.st_size}\0{status.st_mtime_ns}"


def _load(path: Path) -> dict[str, dict[str, Any]] | None:
    """Facts of a cache file, or None where there is none that can be used."""
    try:
        frame = gpd.read_parquet(path)
        names = frame.pop("tile").tolist()
        columns = [frame[fact].tolist() for fact in _CACHED]
    except (OSError, ValueError, KeyError, TypeError, ArrowException, GEOSException):
        return None
    return {name: dict(zip(_CACHED, values, strict=True)) for name, *values in zip(names, *columns, strict=True)}


def _store(facts: dict[str, dict[str, Any]], folder: Path, name: str) -> bool:
    """Write a cache file and remove the archive's older ones; False where the folder cannot be written."""
    frame = pd.DataFrame.from_dict(facts, orient="index", columns=list(_CACHED)).rename_axis("tile").reset_index()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two runs may start at once: a reader sees a whole file or none.
        with replacing(folder / name) as temporary:
            gpd.GeoDataFrame(frame, geometry="geometry", crs="EPSG:4326").to_parquet(temporary, index=False)
        for stale in folder.glob(f"{name.rsplit('-', 1)[0]}-*.parquet"):
            if stale.name != name:
                stale.unlink(missing_ok=True)
    except (OSError, RecordError):
        return False
    return True


def _mismatch(archive: Archive, row: dict[str, Any], fact: dict[str, Any]) -> Problem | None:
    sensor = archive.stored
    if fact["bands"] != len(sensor.bands):
        message = (
            f"{row['image']} has {fact['bands']} bands where {sensor.name} has {len(sensor.bands)}; {archive.band_hint}"
        )
        return Problem("bands", row["image"], message)
    size, label_size = (fact["height"], fact["width"]), (fact["label_height"], fact["label_width"])
    if size != label_size:
        message = (
            f"{row['label']} is {label_size[0]} x {label_size[1]} px but its image is {size[0]} x {size[1]}; "
            "restore the pair from the archive"
        )
        return Problem("size", row["label"], message)
    return None
