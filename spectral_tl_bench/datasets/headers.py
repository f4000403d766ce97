"""What a file's header says about a tile, and whether the file is complete."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.warp import transform
from rasterio.windows import Window
from shapely.geometry import Polygon

from spectral_tl_bench.datasets.raster import unreadable


@dataclass(frozen=True)
class Header:
    """Facts about an image or a label map.

    Attributes:
        height: Rows.
        width: Columns.
        bands: Channels.
        dtype: Type on disk.
        footprint: Outline in WGS 84 (longitude, latitude), where the file has a coordinate reference system.
    """

    height: int
    width: int
    bands: int
    dtype: str
    footprint: Polygon | None = None


def _footprint(source: rasterio.DatasetReader) -> Polygon | None:
    if source.crs is None:
        return None
    grid = source.transform
    corners = [(0, 0), (source.width, 0), (source.width, source.height), (0, source.height)]
    xs = [grid.a * column + grid.b * row + grid.c for column, row in corners]
    ys = [grid.d * column + grid.e * row + grid.f for column, row in corners]
    try:
        longitudes, latitudes = transform(source.crs, "EPSG:4326", xs, ys)
    except (CRSError, RasterioError):
        # A local system of coordinates has no place on the globe.
        return None
    if not all(math.isfinite(value) for value in (*longitudes, *latitudes)):
        return None
    return Polygon(zip(longitudes, latitudes, strict=True))


def raster_header(path: Path | str) -> Header:
    """Read a raster's header and its last rows, which a file that was cut short no longer has.

    Args:
        path: The file.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    try:
        with rasterio.open(path) as source:
            rows = min(source.block_shapes[-1][0], source.height)
            source.read(source.count, window=Window(0, source.height - rows, source.width, rows))
            return Header(source.height, source.width, source.count, source.dtypes[0], _footprint(source))
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
