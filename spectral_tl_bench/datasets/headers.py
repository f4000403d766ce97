"""What a file's header says about a tile, and whether the file is complete."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.warp import transform
from rasterio.windows import Window
from shapely.geometry import Polygon

from spectral_tl_bench.datasets.descriptions import require_agreement
from spectral_tl_bench.datasets.raster import open_tile, unreadable, where_data
from spectral_tl_bench.errors import DataError
from spectral_tl_bench.sensors import Sensor

_SAMPLED_ROWS = (0.25, 0.5, 0.75)

LARGEST_TILE = 2.0
"""GiB that a tile may take as float32: four times a whole tile of 4096 x 4096 px and 8 bands."""
LARGEST_TILE_VARIABLE = "SPECTRAL_TL_BENCH_TILE_GIB"
"""Environment variable that sets another limit."""


@dataclass(frozen=True)
class Header:
    """Facts about an image or a label map.

    Attributes:
        height: Rows.
        width: Columns.
        bands: Channels.
        dtype: Type on disk.
        footprint: Outline in WGS 84 (longitude, latitude), where the file says where it lies.
        content: Digest of a sample of the pixels: equal for copies, whatever their compression, type or place; empty
            where none was taken.
        empty: Channels counted from 0 that are nodata everywhere, as far as it was looked for.
    """

    height: int
    width: int
    bands: int
    dtype: str
    footprint: Polygon | None = None
    content: str = ""
    empty: tuple[int, ...] = ()


def require_usable(path: Path | str, height: int, width: int, bands: int, dtype: str) -> None:
    """Refuse what no tile can be, before any of its pixels is read.

    Args:
        path: The file.
        height: Rows.
        width: Columns.
        bands: Channels that are read.
        dtype: Type on disk.

    Raises:
        DataError: If the values are complex, or a tile is scored whole that does not fit into memory.
    """
    if "complex" in dtype:
        raise DataError(
            f"{path} holds complex numbers ({dtype}), which are no reflectance; write their magnitude as float32"
        )
    given = os.environ.get(LARGEST_TILE_VARIABLE, str(LARGEST_TILE))
    try:
        limit = float(given)
    except ValueError:
        raise DataError(f"{LARGEST_TILE_VARIABLE} is {given!r}; set it to a number of GiB, such as 8") from None
    needed = height * width * bands * np.float32().itemsize / 2**30
    if needed > limit:
        raise DataError(
            f"{path} is {height} x {width} px with {bands} bands, {needed:.3g} GiB in memory where a tile may take "
            f"{limit:g}; cut it into tiles (gdal_retile.py does), or set {LARGEST_TILE_VARIABLE}={math.ceil(needed)}"
        )


def _footprint(source: rasterio.DatasetReader) -> Polygon | None:
    # Some archives name a system of coordinates and leave the transform at its default: pixel numbers, no degrees.
    if source.crs is None or source.transform.is_identity:
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
    if not all(abs(value) <= 180 for value in longitudes) or not all(abs(value) <= 90 for value in latitudes):
        # Nor has one of which nothing finite, or nothing on the globe, comes out.
        return None
    return Polygon(zip(longitudes, latitudes, strict=True))


def _content(source: rasterio.DatasetReader) -> str:
    """Digest of some rows of the first and the last band."""
    digest = hashlib.sha256(f"{source.count} {source.height} {source.width}".encode())
    for share in _SAMPLED_ROWS:
        pixels = source.read([1, source.count], window=Window(0, int(share * source.height), source.width, 1))
        digest.update(pixels.astype(np.float64).tobytes())
    return digest.hexdigest()[:16]


def own_bands(path: Path | str, sensor: Sensor) -> tuple[int, ...]:
    """Look at the bands of an image of one's own: do they lie where the sensor's do, and which are nodata everywhere?

    Args:
        path: The file.
        sensor: All bands of the file.

    Returns:
        Channels without any data, counted from 0.

    Raises:
        DataError: If the file cannot be read, or says other wavelengths than the sensor's.
    """
    try:
        with rasterio.Env(), open_tile(path) as source:
            require_agreement(Path(path), [source.tags(band, ns="IMAGERY") for band in source.indexes], sensor)
            nodata = source.nodata if sensor.nodata is None else sensor.nodata
            empty = list(range(source.count))
            # A few rows tell of almost every band that it has data; only of the others all rows are read.
            step = max(1, source.block_shapes[0][0])
            some = [Window(0, int(share * source.height), source.width, 1) for share in _SAMPLED_ROWS]
            rest = [
                Window(0, top, source.width, min(step, source.height - top)) for top in range(0, source.height, step)
            ]
            for window in (*some, *rest):
                if not empty:
                    break
                has_data = where_data(source.read([channel + 1 for channel in empty], window=window), nodata)
                if has_data is None:
                    return ()
                filled = np.asarray(has_data.any(axis=(1, 2)))
                empty = [channel for channel, some_data in zip(empty, filled, strict=True) if not some_data]
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
    return tuple(empty)


def raster_header(path: Path | str, sample: bool = False) -> Header:
    """Read a raster's header and its last rows, which a file that was cut short no longer has.

    Args:
        path: The file.
        sample: It is an image: take the digest of its pixels too. Of a label map only the first band counts.

    Raises:
        DataError: If the file cannot be read to its end, or cannot be a tile's.
    """
    try:
        with rasterio.Env(), open_tile(path) as source:
            require_usable(path, source.height, source.width, source.count if sample else 1, source.dtypes[0])
            rows = min(source.block_shapes[-1][0], source.height)
            source.read(source.count, window=Window(0, source.height - rows, source.width, rows))
            content = _content(source) if sample else ""
            return Header(source.height, source.width, source.count, source.dtypes[0], _footprint(source), content)
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
