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

from spectral_tl_bench.datasets.io.band_metadata import require_agreement
from spectral_tl_bench.datasets.io.raster import open_tile, unreadable, where_data
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import DataError

Part = tuple[int, int, int, int]
"""Top, left, height and width of a part of a raster in pixels."""

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


def _footprint(source: rasterio.DatasetReader, part: Part) -> Polygon | None:
    # Some archives name a system of coordinates and leave the transform at its default: pixel numbers, no degrees.
    if source.crs is None or source.transform.is_identity:
        return None
    grid = source.transform
    top, left, height, width = part
    corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
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


def _content(source: rasterio.DatasetReader, part: Part) -> str:
    """Digest of some rows of the first and the last band."""
    top, left, height, width = part
    digest = hashlib.sha256(f"{source.count} {height} {width}".encode())
    for share in _SAMPLED_ROWS:
        pixels = source.read([1, source.count], window=Window(left, top + int(share * height), width, 1))
        digest.update(pixels.astype(np.float64).tobytes())
    return digest.hexdigest()[:16]


def own_bands(path: Path | str, sensor: Sensor, part: Part | None = None) -> tuple[int, ...]:
    """Look at the bands of an image of one's own: do they lie where the sensor's do, and which are nodata everywhere?

    Args:
        path: The file.
        sensor: All bands of the file.
        part: The part of the image that is looked at; None for all of it.

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
            top, left, height, width = part or (0, 0, source.height, source.width)
            step = max(1, source.block_shapes[0][0])
            some = [(top + int(share * height), 1) for share in _SAMPLED_ROWS]
            rest = [(row, min(step, top + height - row)) for row in range(top, top + height, step)]
            for row, rows in (*some, *rest):
                if not empty:
                    break
                window = Window(left, row, width, rows)
                has_data = where_data(source.read([channel + 1 for channel in empty], window=window), nodata)
                if has_data is None:
                    return ()
                filled = np.asarray(has_data.any(axis=(1, 2)))
                empty = [channel for channel, some_data in zip(empty, filled, strict=True) if not some_data]
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
    return tuple(empty)


def raster_header(path: Path | str, sample: bool = False, part: Part | None = None) -> Header:
    """Read a raster's header and its last rows, which a file that was cut short no longer has.

    Args:
        path: The file.
        sample: It is an image: take the digest of its pixels too. Of a label map only the first band counts.
        part: The part of the raster that is meant; None for all of it.

    Raises:
        DataError: If the file cannot be read to its end, or cannot be a tile's.
    """
    try:
        with rasterio.Env(), open_tile(path) as source:
            where = part or (0, 0, source.height, source.width)
            require_usable(path, where[2], where[3], source.count if sample else 1, source.dtypes[0])
            rows = min(source.block_shapes[-1][0], source.height)
            source.read(source.count, window=Window(0, source.height - rows, source.width, rows))
            content = _content(source, where) if sample else ""
            return Header(where[2], where[3], source.count, source.dtypes[0], _footprint(source, where), content)
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
