"""Scenes cut into tiles, by a grid or by polygons, without writing any file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spectral_tl_bench.config.tile_folder import Cut
from spectral_tl_bench.datasets.io.listing import Listing
from spectral_tl_bench.datasets.io.raster import Window
from spectral_tl_bench.datasets.user_tiles.polygons import Grid, grid_of, read_polygons
from spectral_tl_bench.datasets.user_tiles.tile_table import index_columns
from spectral_tl_bench.utils.errors import DataError

_MOST_TILES = 1_000_000


def cut_scenes(scenes: Listing, cut: Cut, polygons: str | None) -> Listing:
    """Cut every scene into tiles.

    Args:
        scenes: One row a scene, with ``image``.
        cut: Size and distance of the tiles, or none where every polygon is one.
        polygons: File of the polygons, None where the whole scene is cut.

    Returns:
        One row a tile, with ``part`` (top, left, height and width in its scene), ``scene`` (its scene's name, unless
        there is such a column), what its scene's row says, and the columns of its polygon.

    Raises:
        DataError: If a scene or the polygons cannot be read, or no tile comes out.
    """
    rows: list[dict[str, Any]] = []
    left_over = 0.0
    for scene in scenes.rows:
        grid = grid_of(scene["image"])
        if cut.size is not None and grid.height * grid.width / (cut.stride or cut.size) ** 2 > _MOST_TILES:
            raise DataError(f"{scene['image']} would be cut into more than {_MOST_TILES} tiles; make 'size' larger")
        found = list(_tiles(grid, cut, None if polygons is None else _attributes(polygons, grid)))
        rows += [
            {"scene": scene["tile"], **scene, **attributes, "tile": f"{scene['tile']}_{name}", "part": part}
            for name, part, attributes in found
        ]
        if polygons is None and cut.size is not None and cut.stride is None:
            left_over = max(left_over, 1 - len(found) * cut.size**2 / (grid.height * grid.width))
    if not rows and scenes.rows:
        first = grid_of(scenes.rows[0]["image"])
        what = f"tiles of {cut.size} px" if cut.size else "tile"
        raise DataError(
            f"{scenes.rows[0]['image']} ({first.height} x {first.width} px) holds no {what}"
            f"{'' if polygons is None else ' in ' + polygons}; correct 'tiles' under 'folder' in the protocol file"
        )
    notes = [*scenes.notes]
    if left_over >= 0.01:
        notes.append(
            f"up to {100 * left_over:.0f} % of a scene is left out at its right and lower edge, where no tile of "
            f"{cut.size} px fits"
        )
    return Listing(rows, scenes.problems, scenes.left_out, notes, scenes.unknown)


_Attributes = tuple[np.ndarray, list[dict[str, str]]]


def _attributes(path: str, grid: Grid) -> _Attributes:
    polygons, table = read_polygons(path, grid)
    rows = ({name: str(value) for name, value in row.items()} for row in table.to_dict("records"))
    return polygons, [index_columns(row, "tile") for row in rows]


def _tiles(grid: Grid, cut: Cut, polygons: _Attributes | None) -> Iterator[tuple[str, Window, Mapping[str, str]]]:
    """Name, place and attributes of every tile of a scene."""
    if cut.size is None:
        assert polygons is not None, "a cut has a size or polygons"
        for number, (polygon, said) in enumerate(zip(*polygons, strict=True)):
            window = _around(polygon, grid)
            if window is not None:
                yield str(number), window, said
        return
    import shapely

    stride = cut.stride or cut.size
    tree = None if polygons is None else shapely.STRtree(polygons[0])
    for top in range(0, grid.height - cut.size + 1, stride):
        for left in range(0, grid.width - cut.size + 1, stride):
            attributes: Mapping[str, str] = {}
            if tree is not None and polygons is not None:
                middle = shapely.Point(grid.place(left + cut.size / 2, top + cut.size / 2))
                within = tree.query(middle, predicate="within")
                if not len(within):
                    continue
                attributes = polygons[1][int(within.min())]
            yield f"{top}_{left}", (top, left, cut.size, cut.size), attributes


def _around(polygon: Any, grid: Grid) -> Window | None:
    """The pixels around a polygon, as far as the scene goes; None where it lies beside the scene."""
    west, south, east, north = polygon.bounds
    corners = [grid.pixels(x, y) for x in (west, east) for y in (south, north)]
    columns, rows = np.array(corners).T
    # Edges drawn along pixels' edges are those, whatever the arithmetic makes of them.
    top, left = max(0, int(np.floor(rows.min() + 1e-6))), max(0, int(np.floor(columns.min() + 1e-6)))
    bottom = min(grid.height, int(np.ceil(rows.max() - 1e-6)))
    right = min(grid.width, int(np.ceil(columns.max() - 1e-6)))
    return (top, left, bottom - top, right - left) if bottom > top and right > left else None
