"""What a file's header says about a tile, and whether the file is complete."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.warp import transform
from rasterio.windows import Window
from shapely.geometry import Polygon

from spectral_tl_bench.datasets.io.band_metadata import bad_bands, require_agreement
from spectral_tl_bench.datasets.io.calibration import calibration, stated_by
from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.datasets.io.raster import data_channels, masks, open_raster, rasterio_window, where_data
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
        empty: Bands counted from 0 that are nodata everywhere, as far as it was looked for.
        bad: Bands that the file's ENVI header marks as bad, as far as it was looked for.
        calibration: Scale and offset that the file states and that are applied, in words.
    """

    height: int
    width: int
    bands: int
    dtype: str
    footprint: Polygon | None = None
    content: str = ""
    empty: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    calibration: str = ""


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
    except (CRSError, RasterioError, CPLE_BaseError):
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


def _empty_bands(
    source: rasterio.DatasetReader, part: Part, channels: Sequence[int], nodata: float | None
) -> tuple[int, ...]:
    """Positions in ``channels`` of bands that have no data anywhere."""
    top, left, height, width = part
    values = [source.nodatavals[c] if nodata is None else nodata for c in channels]
    empty = list(range(len(channels)))
    # A few rows show of almost every band that it has data; only of the others all rows are read.
    step = max(1, source.block_shapes[0][0])
    some = [(top + int(share * height), 1) for share in _SAMPLED_ROWS]
    rest = [(row, min(step, top + height - row)) for row in range(top, top + height, step)]
    for row, rows in (*some, *rest):
        if not empty:
            break
        window = (row, left, rows, width)
        read = [channels[position] for position in empty]
        pixels = source.read([channel + 1 for channel in read], window=rasterio_window(window))
        has_data = where_data(pixels, [values[position] for position in empty])
        for mask in masks(source, window, channels):
            has_data = np.broadcast_to(mask, pixels.shape) if has_data is None else has_data & mask
        if has_data is None:
            return ()
        filled = np.atleast_1d(has_data.any(axis=(1, 2)))
        empty = [position for position, any_data in zip(empty, filled, strict=True) if not any_data]
    return tuple(empty)


def raster_header(
    path: Path | str,
    sensor: Sensor | None = None,
    part: Part | None = None,
    offset: float | None = None,
    *,
    own: bool = False,
) -> Header:
    """Read a raster's header and its last rows, which a file that was cut short no longer has.

    Args:
        path: The file.
        sensor: All bands of an image; its digest is taken then. None for a label map, of which the first band counts.
        part: The part of the raster that is meant; None for all of it.
        offset: Offset of this file, where the sensor's differs by tile.
        own: The image is a user's own: compare its wavelengths, and look for bands that are empty or marked as bad.

    Raises:
        DataError: If the file cannot be read to its end, cannot be a tile's, or contradicts the sensor.
    """
    try:
        with rasterio.Env(), open_raster(path) as source:
            where = part or (0, 0, source.height, source.width)
            rows = min(source.block_shapes[-1][0], source.height)
            channels = data_channels(source, None if sensor is None else len(sensor.bands))
            require_usable(path, where[2], where[3], 1 if sensor is None else len(channels), source.dtypes[0])
            source.read(source.count, window=Window(0, source.height - rows, source.width, rows))
            footprint = _footprint(source, where)
            if sensor is None:
                return Header(where[2], where[3], source.count, source.dtypes[0], footprint)
            applied = calibration(source, path, sensor, offset)
            stated = None if applied is None else stated_by(source)
            header = Header(
                where[2],
                where[3],
                len(channels),
                source.dtypes[0],
                footprint,
                _content(source, where),
                calibration="" if stated is None else str(stated),
            )
            if not own:
                return header
            require_agreement(Path(path), [source.tags(channel + 1, ns="IMAGERY") for channel in channels], sensor)
            empty = _empty_bands(source, where, channels, sensor.nodata)
            return dataclasses.replace(header, empty=empty, bad=bad_bands(source, path))
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error
