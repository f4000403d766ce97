"""The three archives as plans: which tile of which region is written where, in the real layouts and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from spectral_tl_bench.sensors import MTS12 as MTS12_SENSOR
from spectral_tl_bench.sensors import OHS, OHS_SENTINEL2, SENTINEL2, Sensor
from spectral_tl_bench.simulation.covers import DFC2020, MTS12, WHUOHS, Cover
from spectral_tl_bench.simulation.domains import (
    Region,
    dfc2020_regions,
    mts12_regions,
    ohs_sentinel2_regions,
    whuohs_regions,
)
from spectral_tl_bench.utils.errors import UnknownNameError

Counts = float | Literal["real"]


@dataclass(frozen=True)
class Tile:
    """One tile to be written.

    Attributes:
        region: Where it lies.
        row: Row of the tile in the region's grid of tiles, from the north.
        column: Column in the grid.
        image: Path of the image within the archive.
        label: Path of the label.
    """

    region: Region
    row: int
    column: int
    image: PurePosixPath
    label: PurePosixPath


@dataclass(frozen=True)
class Archive:
    """What the writer needs to know of an archive.

    Attributes:
        name: Registered name of the dataset.
        covers: Its classes.
        sensor: Its bands; several dates where the bands name them.
        tile_size: Side of a real tile in px.
        top_of_atmosphere: Whether the reflectance holds the bands of atmospheric water vapour.
        step: Radiometric resolution, as stored.
        unlabelled: Share of pixels with code 0.
        inclusions: Share of the land that the label map generalises away.
        regions: Seed to regions.
        tiles: Regions and numbers of their tiles to tiles.
        lists: Numbers of tiles in the mixed train and test lists that the archive's users share, if there are any.
        list_name: What the names of these lists begin with.
    """

    name: str
    covers: tuple[Cover, ...]
    sensor: Sensor
    tile_size: int
    top_of_atmosphere: bool
    step: int
    unlabelled: float
    inclusions: float
    regions: Callable[[int], list[Region]]
    tiles: Callable[[Sequence[Region], Sequence[int]], Iterator[Tile]]
    lists: tuple[int, int] | None = None
    list_name: str = ""


def tile_counts(regions: Sequence[Region], tiles: Counts) -> list[int]:
    """Return how many tiles each region gets.

    Args:
        regions: Regions of an archive.
        tiles: Multiple of the default numbers (each region keeps at least one tile), or "real" for the published ones.
    """
    if tiles == "real":
        return [region.published for region in regions]
    return [max(1, round(float(tiles) * region.usual)) for region in regions]


def grid_columns(count: int, most_rows: int | None = None) -> int:
    """Return how many columns a grid of tiles has: as square as the rows that there may be allow."""
    columns = int(np.ceil(np.sqrt(count)))
    return columns if most_rows is None else max(columns, -(-count // most_rows))


def place_in_grid(position: int, columns: int) -> tuple[int, int]:
    """Row and column of a region's tile, counted from 0, in a grid that is walked back and forth."""
    row, column = divmod(position, columns)
    return row, columns - 1 - column if row % 2 else column


def _serpentine(count: int, columns: int) -> Iterator[tuple[int, int]]:
    """Walk a grid row by row, back and forth: tiles with consecutive numbers are neighbours."""
    return (place_in_grid(position, columns) for position in range(count))


_WHU_SPLITS = {"tr": 4822, "val": 513, "ts": 2460}


def _whuohs_tiles(regions: Sequence[Region], counts: Sequence[int]) -> Iterator[Tile]:
    total = sum(_WHU_SPLITS.values())
    limits = np.cumsum(list(_WHU_SPLITS.values()))[:-1]
    before = 0
    for region, count in zip(regions, counts, strict=True):
        # Splits are runs of neighbouring tiles; rounding the running totals keeps the published sums.
        after = before + count
        first, second = (round(limit * after / total) - round(limit * before / total) for limit in limits)
        for number, (row, column) in enumerate(_serpentine(count, grid_columns(count))):
            split = "tr" if number < first else "val" if number < second else "ts"
            name = f"{region.name}_{number + 1:04d}.tif"
            yield Tile(region, row, column, PurePosixPath(split, "image", name), PurePosixPath(split, "label", name))
        before = after


def _dfc2020_tiles(regions: Sequence[Region], counts: Sequence[int]) -> Iterator[Tile]:
    for region, count in zip(regions, counts, strict=True):
        for number, (row, column) in enumerate(_serpentine(count, grid_columns(count))):
            stem = f"ROIs0000_{region.season}_{{}}_{region.name}_p{number}.tif"
            yield Tile(
                region,
                row,
                column,
                PurePosixPath(region.season, "image", f"s2_{region.name}", stem.format("s2")),
                PurePosixPath(region.season, "label", f"dfc_{region.name}", stem.format("dfc")),
            )


def _ohs_sentinel2_tiles(regions: Sequence[Region], counts: Sequence[int]) -> Iterator[Tile]:
    for region, count in zip(regions, counts, strict=True):
        for number, (row, column) in enumerate(_serpentine(count, grid_columns(count))):
            name = f"{region.name}_{number + 1:04d}.tif"
            paths = (PurePosixPath(region.season, role, name) for role in ("image", "label"))
            yield Tile(region, row, column, *paths)


_MTS_ROWS = {"north": (33, 22), "south": (11, 12)}
_MTS_FIRST_COLUMN = 5
_MTS_TRAIN, _MTS_NORTH = 509, 639


def _mts12_tiles(regions: Sequence[Region], counts: Sequence[int]) -> Iterator[Tile]:
    patch = 0
    for region, count in zip(regions, counts, strict=True):
        northmost, rows = _MTS_ROWS[region.name]
        train = round(count * _MTS_TRAIN / _MTS_NORTH)
        for number, (row, column) in enumerate(_serpentine(count, grid_columns(count, rows))):
            split = "test" if region.name == "south" else "train" if number < train else "val"
            stem = f"eopatch_id_{patch}_col_{_MTS_FIRST_COLUMN + column}_row_{northmost - row}"
            yield Tile(
                region,
                row,
                column,
                PurePosixPath("image", split, f"{stem}.tif"),
                PurePosixPath("label", split, f"{stem}_label.mat"),
            )
            patch += 1


def mixed_lists(tiles: Sequence[Tile], lists: tuple[int, int]) -> dict[str, list[str]]:
    """Divide an archive into the mixed train and test lists of its published in-domain reference.

    Args:
        tiles: Every tile of the archive.
        lists: Numbers of train and test tiles, which add up to the number of tiles.

    Returns:
        List name to image file names; in every region the test tiles are neighbours.
    """
    share = lists[0] / sum(lists)
    names: dict[str, list[str]] = {"train": [], "test": []}
    regions = list(dict.fromkeys(tile.region.name for tile in tiles))
    before = 0
    for region in regions:
        members = [tile.image.name for tile in tiles if tile.region.name == region]
        first = round(share * (before + len(members))) - round(share * before)
        names["train"] += islice(members, first)
        names["test"] += members[first:]
        before += len(members)
    return names


_ARCHIVES = (
    Archive("whuohs", WHUOHS, OHS, 512, False, 10, 0.015, 0.12, whuohs_regions, _whuohs_tiles),
    Archive(
        "dfc2020", DFC2020, SENTINEL2, 256, True, 4, 0.0, 0.18, dfc2020_regions, _dfc2020_tiles, (4279, 1835), "DFC"
    ),
    Archive("mts12", MTS12, MTS12_SENSOR, 500, False, 4, 0.01, 0.2, mts12_regions, _mts12_tiles, (655, 281), "MTS12"),
    Archive(
        "ohs_sentinel2",
        DFC2020,
        OHS_SENTINEL2,
        256,
        False,
        4,
        0.0,
        0.18,
        ohs_sentinel2_regions,
        _ohs_sentinel2_tiles,
    ),
)
ARCHIVES = {archive.name: archive for archive in _ARCHIVES}
"""Archives that can be simulated, by name."""


def find_archive(name: str) -> Archive:
    """Return the plan of an archive.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in ARCHIVES:
        raise UnknownNameError("archive", name, ARCHIVES, f"these can be simulated: {', '.join(ARCHIVES)}")
    return ARCHIVES[name]
