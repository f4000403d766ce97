"""Labels drawn as polygons: GeoPackage and GeoJSON, burnt into the grid of a tile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import RasterioError

from spectral_tl_bench.datasets.io.arrays import file_of
from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.datasets.io.raster import Window, open_raster
from spectral_tl_bench.sensors.classes import HIGHEST_CODE, LOWEST_CODE, UNLABELLED
from spectral_tl_bench.utils.errors import DataError

SUFFIXES = (".gpkg", ".geojson", ".json")
"""Vector files that labels may be drawn in."""

_LARGEST = 2 * 2**30
_GEOPACKAGE = b"SQLite format 3\0"
_GEOPACKAGE_IDS = (b"GPKG", b"GP10", b"GP11")
_FILES_KEPT = 64


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie: its size, its system of coordinates and its transform."""

    height: int
    width: int
    crs: Any
    transform: Any

    def place(self, columns: Any, rows: Any) -> tuple[Any, Any]:
        """Coordinates of places given in pixels, numbers or arrays."""
        return _apply(self.transform, columns, rows)

    def pixels(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Columns and rows of places given in coordinates, numbers or arrays."""
        return _apply(~self.transform, x, y)


def _apply(transform: Any, x: Any, y: Any) -> tuple[Any, Any]:
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def is_vector(path: str) -> bool:
    """Whether a path names polygons rather than a raster."""
    return path.lower().endswith(SUFFIXES)


@lru_cache(maxsize=4096)
def _grid(path: str, stamp: int) -> Grid:
    with rasterio.Env(), open_raster(path) as source:
        return Grid(source.height, source.width, source.crs, source.transform)


def grid_of(path: Path | str) -> Grid:
    """Read where the pixels of an image lie.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return _grid(str(path), os.stat(file_of(path)).st_mtime_ns)
    except (OSError, RasterioError) as error:
        raise unreadable(path, error) from error


def burn(path: Path | str, grid: Grid, window: Window | None, column: str, names: Mapping[str, int]) -> np.ndarray:
    """Turn polygons into codes on the grid of an image: a pixel has the class that its middle lies in.

    Where polygons overlap, the one that comes last in the file counts; what no polygon covers is unlabelled.

    Args:
        path: GeoPackage or GeoJSON.
        grid: Grid of the image.
        window: Part of the grid; None for all of it.
        column: Column of the polygons' classes: codes, or names.
        names: Codes by the classes' names.

    Returns:
        H x W codes, int32.

    Raises:
        DataError: If the file cannot be read or placed, or a polygon has a class that is none.
    """
    import shapely
    from rasterio.features import rasterize
    from rasterio.transform import array_bounds
    from rasterio.windows import Window as RasterioWindow
    from rasterio.windows import transform as window_transform

    if grid.crs is None:
        raise DataError(
            f"{path} cannot be laid on its tile: the image names no coordinate reference system; assign one "
            "(rio edit-info --crs EPSG:CODE), or rasterise the labels"
        )
    top, left, height, width = window or (0, 0, grid.height, grid.width)
    transform = window_transform(RasterioWindow(left, top, width, height), grid.transform)  # type: ignore[no-untyped-call, unused-ignore]
    polygons, codes, tree = _drawn(str(path), _stamp(path), column, tuple(sorted(names.items())), grid.crs.to_wkt())
    west, south, east, north = array_bounds(height, width, transform)
    there = np.sort(tree.query(shapely.box(min(west, east), min(south, north), max(west, east), max(south, north))))
    shapes = [(polygons[i], int(codes[i])) for i in there]
    if not shapes:
        return np.full((height, width), UNLABELLED, dtype=np.int32)
    return np.asarray(rasterize(shapes, out_shape=(height, width), transform=transform, fill=UNLABELLED, dtype="int32"))


def _stamp(path: Path | str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise unreadable(path, error) from error


def read_polygons(path: str, grid: Grid) -> tuple[np.ndarray, pd.DataFrame]:
    """Read polygons in the system of coordinates of an image.

    Args:
        path: GeoPackage or GeoJSON.
        grid: Grid of the image.

    Returns:
        The polygons, and their columns as text, empty where there is no value.

    Raises:
        DataError: If the file cannot be read or placed.
    """
    if grid.crs is None:
        raise DataError(
            f"{path} cannot be laid on a scene that names no coordinate reference system; assign one "
            "(rio edit-info --crs EPSG:CODE)"
        )
    frame = _polygons(path, _stamp(path), grid.crs.to_wkt())
    table = frame.drop(columns=frame.geometry.name)
    text = {str(column): table[column].map(str).where(table[column].notna(), "") for column in table.columns}
    return frame.geometry.to_numpy(), pd.DataFrame(text, index=table.index)


@lru_cache(maxsize=_FILES_KEPT)
def _drawn(path: str, stamp: int, column: str, names: tuple[tuple[str, int], ...], crs: str) -> tuple[Any, Any, Any]:
    """Polygons of labels, their codes, and what finds them by their place."""
    import shapely

    frame = _polygons(path, stamp, crs)
    if column not in frame.columns:
        known = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
        raise DataError(
            f"{path} has no column {column!r}; it has: {known}. Name the one with the classes: 'class_column' under "
            "'folder' in the protocol file"
        )
    codes = np.array([_code(value, dict(names), path) for value in frame[column]], dtype=np.int64)
    polygons = frame.geometry.to_numpy()
    return polygons, codes, shapely.STRtree(polygons)


@lru_cache(maxsize=_FILES_KEPT)
def _polygons(path: str, stamp: int, crs: str) -> gpd.GeoDataFrame:
    _require_vector(path)
    try:
        layers = gpd.list_layers(path)["name"].tolist()
        if len(layers) != 1:
            raise DataError(
                f"{path} has {len(layers)} layers ({', '.join(map(str, layers[:5]))}) where one is read; write that "
                "layer into a file of its own"
            )
        frame = gpd.read_file(path, engine="pyogrio")
    except (ValueError, RuntimeError, OSError) as error:
        raise unreadable(path, error) from error
    if not isinstance(frame, gpd.GeoDataFrame) or frame.empty:
        raise DataError(f"{path} holds no polygons")
    if frame.crs is None:
        raise DataError(f"{path} names no coordinate reference system, so its polygons lie nowhere; assign one")
    if frame.crs.is_geographic and not _on_the_globe(frame.total_bounds):
        raise DataError(
            f"{path} has coordinates up to {np.abs(frame.total_bounds).max():.0f}, which are no longitudes and "
            "latitudes, as GeoJSON without 'crs' has them; write it as GeoPackage with its coordinate reference system "
            "(ogr2ogr -a_srs EPSG:CODE labels.gpkg)"
        )
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)].reset_index(drop=True)
    other = sorted(set(frame.geometry.geom_type) - {"Polygon", "MultiPolygon"})
    if other:
        raise DataError(f"{path} holds {other[0]} geometries where polygons are read: buffer them, or leave them out")
    return frame.to_crs(crs)


def _on_the_globe(bounds: np.ndarray) -> bool:
    """Whether west, south, east and north are degrees; longitudes may run beyond 180."""
    return bool(
        np.nan_to_num(np.abs(bounds[[0, 2]])).max() <= 360 and np.nan_to_num(np.abs(bounds[[1, 3]])).max() <= 90
    )


def _code(value: Any, names: Mapping[str, int], path: str) -> int:
    text = str(value).strip()
    if text in names:
        return names[text]
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer() or not LOWEST_CODE <= number <= HIGHEST_CODE:
        known = ", ".join(list(names)[:8])
        raise DataError(
            f"{path} has a polygon of class {text!r}, which is neither a code nor the name of a class; the classes are "
            f"{known}"
        )
    return int(number)


def _require_vector(path: str) -> None:
    """Refuse what only calls itself a GeoPackage or GeoJSON: other formats may name other files.

    Raises:
        DataError: If it is none.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise unreadable(path, error) from error
    if size > _LARGEST:
        raise DataError(f"{path} is {size / 2**30:.1f} GiB large where labels may have {_LARGEST / 2**30:.0f}; cut it")
    kind = "GeoPackage" if path.lower().endswith(".gpkg") else "GeoJSON"
    geopackage = start.startswith(_GEOPACKAGE) and start[68:72] in _GEOPACKAGE_IDS
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not (geopackage if kind == "GeoPackage" else text.startswith(b"{")):
        raise DataError(f"{path} is no {kind}; export it again")
