"""Where tiles lie relative to one another: by their footprints, or by numbers that run through a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

ONE_TILE = 0.75
"""Gap, in sides of a tile, below which a tile lies within one tile of another.

A whole side would be the definition; tiles of a grid that is turned against north, whose outlines are compared by their
bounds, seem a little larger and nearer than they are.
"""
_SAME_SHEET = 10.0
"""Gap, in sides of a tile, across which footprints still belong to one stretch of land."""


@dataclass(frozen=True)
class TileLayout:
    """Positions of N tiles relative to one another.

    Attributes:
        sheets: Name of the plane of each tile; tiles of two planes are no neighbours.
        boxes: N x 4, left, lower, right and upper bound in the sheet's own unit.
        reach: Gap, in sides of a tile, below which two tiles are neighbours: one a tile.
        blocks: Block of each tile, where the tiles' author gave one.
    """

    sheets: np.ndarray
    boxes: np.ndarray
    reach: np.ndarray
    blocks: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> TileLayout:
        """Return the positions of some of the tiles."""
        blocks = None if self.blocks is None else self.blocks[rows]
        return TileLayout(self.sheets[rows], self.boxes[rows], self.reach[rows], blocks)

    def neighbours(self) -> list[np.ndarray]:
        """Which tiles lie within reach of each: their numbers, a tile's own left out."""
        first, second = _within(self.boxes, self.reach)
        related = (first != second) & (self.sheets[first] == self.sheets[second])
        first, second = first[related], second[related]
        order = np.argsort(first, kind="stable")
        return np.split(second[order], np.searchsorted(first[order], np.arange(1, len(self.boxes))))


def _within(boxes: np.ndarray, reach: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes whose gap is less than the mean of what their reaches are on the ground."""
    sides = boxes[:, 2:] - boxes[:, :2]
    grow = sides * (np.broadcast_to(reach, len(boxes))[:, None] / 2)
    grown = shapely.box(*(boxes[:, :2] - grow).T, *(boxes[:, 2:] + grow).T)
    first, second = shapely.STRtree(grown).query(grown, predicate="intersects")
    return first, second


def _joined_longitudes(boxes: np.ndarray) -> np.ndarray:
    """Boxes of longitudes and latitudes such that those on both sides of 180 degrees lie side by side.

    A footprint across 180 degrees seems to go the other way round the globe. Longitudes are counted from the widest
    stretch without tiles then; boxes that come nowhere near stay as they are.
    """
    west, east = boxes[:, 0].copy(), boxes[:, 2].copy()
    across = east - west > 180
    west[across], east[across] = boxes[across, 2], boxes[across, 0] + 360
    if not across.any() and not (west.min() < -170 and east.max() > 170):
        return boxes
    order = np.argsort(west % 360)
    starts, widths = (west % 360)[order], (east - west)[order]
    reached = np.maximum.accumulate(starts + widths)
    gaps = starts - np.concatenate([[reached[-1] - 360], reached[:-1]])
    first = starts[int(np.argmax(gaps))]
    joined = boxes.copy()
    joined[:, 0] = (west - first) % 360
    joined[:, 2] = joined[:, 0] + (east - west)
    return joined


def by_footprint(geometry: gpd.GeoSeries) -> TileLayout | None:
    """Positions of georeferenced tiles; None where a footprint is missing.

    A sheet is a stretch of land: footprints with less than ten tiles between them.

    Args:
        geometry: Footprints in WGS 84.
    """
    if not len(geometry) or geometry.isna().any():
        return None
    boxes = _joined_longitudes(geometry.bounds.to_numpy(dtype=float))
    first, second = _within(boxes, _SAME_SHEET)
    joined = coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(len(boxes), len(boxes)))
    _, stretches = connected_components(joined, directed=False)
    return TileLayout(stretches.astype(str), boxes, np.full(len(boxes), ONE_TILE))


def by_grid(sheets: Sequence[str], columns: Sequence[int], rows: Sequence[int], margin: int = 1) -> TileLayout:
    """Positions of tiles whose column and row in a grid are known.

    Args:
        sheets: Grid of each tile.
        columns: Its column.
        rows: Its row.
        margin: How many columns and rows away a tile still is a neighbour; more than one where tiles may overlap.
    """
    corners = np.stack([columns, rows], axis=1).astype(float)
    return TileLayout(np.array(sheets), np.hstack([corners, corners + 1]), np.full(len(corners), margin - 0.25))


def by_number(sheets: Sequence[str], numbers: Sequence[int]) -> TileLayout:
    """Positions of tiles that are numbered through a grid of unknown width.

    A neighbour's number differs by no more than a row's length, or two where every other row runs back. A row is taken
    to be no longer than twice the side of a square of as many tiles.

    Args:
        sheets: Grid of each tile.
        numbers: Number of each tile in its grid.
    """
    names, left = np.array(sheets), np.array(numbers, dtype=float)
    reach = np.zeros(len(left))
    for sheet in set(sheets):
        members = names == sheet
        reach[members] = math.ceil(2 * math.sqrt(np.ptp(left[members]) + 1)) - 0.25
    zeros = np.zeros(len(left))
    return TileLayout(names, np.stack([left, zeros, left + 1, zeros + 1], axis=1), reach)
