"""The tile index: what an archive holds, checked once, as a GeoDataFrame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import geopandas as gpd
import pandas as pd

from spectral_tl_bench.datasets.file_facts import Archive as ArchiveOfFiles
from spectral_tl_bench.datasets.file_facts import FileFacts
from spectral_tl_bench.datasets.io.headers import Header
from spectral_tl_bench.datasets.io.listing import Listing, Problem
from spectral_tl_bench.sensors import Sensor

FACTS = ("height", "width", "bands", "dtype", "label_height", "label_width", "geometry")
"""Columns of the index that come from the files' headers."""


class Archive(ArchiveOfFiles, Protocol):
    """What a survey needs of an archive; every :class:`~spectral_tl_bench.datasets.base.TileDataset` is one."""

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands that every image must have, used or not."""

    @property
    def band_hint(self) -> str:
        """What to do about an image with other bands."""

    @property
    def facts(self) -> FileFacts:
        """What is known of the files."""

    def find(self) -> Listing:
        """List the tiles, and the files that are no part of one."""

    def settle(self, index: pd.DataFrame, contents: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """Decide what only the pixels tell: which of the tiles listed are one and the same."""


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

    Headers are read once and kept in a cache, so that a second start only lists the folders.
    """
    listing = archive.find()
    rows, left_out = listing.rows, listing.left_out
    headers = archive.facts.headers(rows)
    problems = [*listing.problems, *(read for read in headers if isinstance(read, Problem))]
    facts = {
        row["tile"]: _facts_of(*read) for row, read in zip(rows, headers, strict=True) if not isinstance(read, Problem)
    }
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


def _facts_of(image: Header, label: Header) -> dict[str, Any]:
    """Facts of a tile by their columns in the index, and those that it does not show."""
    facts = {name: getattr(image, name) for name in ("height", "width", "bands", "dtype", "content", "empty", "bad")}
    labels = {"label_height": label.height, "label_width": label.width}
    return {**facts, **labels, "geometry": image.footprint, "calibration": image.calibration}


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
