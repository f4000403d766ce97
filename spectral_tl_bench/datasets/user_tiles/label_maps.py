"""Label rasters of a user's own tiles: which band holds the codes, and where they lie on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as transform_points
from rasterio.windows import Window as RasterioWindow

from spectral_tl_bench.config.tile_folder import ONE_HOT, LabelBand
from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.datasets.io.raster import Window, open_raster
from spectral_tl_bench.datasets.user_tiles.polygons import Grid
from spectral_tl_bench.sensors.classes import UNLABELLED
from spectral_tl_bench.utils.errors import DataError

_SAME_PLACE = 0.1
"""Pixels by which corners may differ and still be the same: headers round, and GeoTIFF and ENVI round differently."""
_COLOURS = {ColorInterp.red, ColorInterp.green, ColorInterp.blue}


@dataclass(frozen=True)
class Placement:
    """Where the pixels of an image lie in its label map: a shift of whole pixels, and turned over or not.

    Attributes:
        top: Row of the label map at the upper edge of the image; at its lower edge where rows are reversed.
        left: Column of the label map at the left edge of the image; at its right edge where columns are reversed.
        rows_reversed: Whether the rows of one run north and those of the other south.
        columns_reversed: Whether columns run in opposite directions.
    """

    top: int = 0
    left: int = 0
    rows_reversed: bool = False
    columns_reversed: bool = False

    def window(self, window: Window) -> Window:
        """The part of the label map that belongs to a part of the image."""
        top, left, height, width = window
        return (
            self.top - top - height if self.rows_reversed else self.top + top,
            self.left - left - width if self.columns_reversed else self.left + left,
            height,
            width,
        )

    def turned(self, codes: np.ndarray) -> np.ndarray:
        """Turn H x W codes of the label map the way the image's rows and columns run."""
        return codes[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


AS_STORED = Placement()
"""The label map has the image's grid."""


def place_label(image: Grid, label: Grid, names: tuple[str, str], window: Window | None = None) -> Placement:
    """Find where an image lies in its label map.

    Args:
        image: Grid of the image.
        label: Grid of the label map.
        names: Paths of both, for the error.
        window: Part of the image that must be covered; None for all of it.

    Returns:
        The placement; :data:`AS_STORED` where the image or the label map is not georeferenced.

    Raises:
        DataError: If the label map has another coordinate system or pixel size, lies between the image's pixels, or
            does not cover the image.
    """
    if image.transform.is_identity or label.transform.is_identity:
        return AS_STORED
    path = f"{names[1]} does not have the grid of its image {Path(names[0]).name}"
    corners = np.array([(0, 0), (image.width, 0), (0, image.height), (image.width, image.height)], dtype=float)
    x, y = image.place(*corners.T)
    if image.crs is not None and label.crs is not None and image.crs != label.crs:
        x, y = _transformed(image.crs, label.crs, x, y)
        # Two descriptions of one coordinate system, such as an ENVI header's and a GeoTIFF's, give the same places.
        if not np.allclose(image.pixels(x, y), corners.T, atol=_SAME_PLACE):
            raise DataError(
                f"{path}: it is in {_name(label.crs)}, the image in {_name(image.crs)}; warp it onto the image's grid "
                f"(gdalwarp -r near -t_srs {_name(image.crs)}), or draw the labels as polygons"
            )
    columns, rows = label.pixels(x, y)
    across, down = columns[1] - columns[0], rows[2] - rows[0]
    turned = max(abs(rows[1] - rows[0]), abs(columns[2] - columns[0]))
    differs = max(abs(abs(across) - image.width), abs(abs(down) - image.height), turned)
    if differs > _SAME_PLACE:
        sizes = [
            f"{np.hypot(g.transform.a, g.transform.d):.6g} x {np.hypot(g.transform.b, g.transform.e):.6g}"
            for g in (label, image)
        ]
        what = f"its pixels are {sizes[0]}, the image's {sizes[1]}" if sizes[0] != sizes[1] else "it is rotated"
        raise DataError(f"{path}: {what}; resample it to the image's grid (gdalwarp -r near), or draw polygons")
    left, top = round(columns[0]), round(rows[0])
    off = max(abs(columns[0] - left), abs(rows[0] - top))
    if off > _SAME_PLACE:
        raise DataError(
            f"{path}: it lies {off:.2g} pixels between the image's pixels; resample it to that grid (gdalwarp -r near)"
        )
    placement = Placement(top, left, down < 0, across < 0)
    _require_cover(placement, label, window or (0, 0, image.height, image.width), path)
    return placement


def _require_cover(placement: Placement, label: Grid, window: Window, path: str) -> None:
    top, left, height, width = placement.window(window)
    rows = min(top + height, label.height) - max(top, 0)
    columns = min(left + width, label.width) - max(left, 0)
    if rows < height or columns < width:
        covered = 100 * max(rows, 0) * max(columns, 0) / (height * width)
        raise DataError(
            f"{path}: by its coordinates it covers {covered:.0f} % of it; correct the coordinates, or bring labels of "
            "the whole image"
        )


def _transformed(source: Any, target: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        xs, ys = transform_points(source, target, x.tolist(), y.tolist())
    except (CRSError, RasterioError, CPLE_BaseError):
        return np.full_like(x, np.inf), np.full_like(y, np.inf)
    return np.asarray(xs), np.asarray(ys)


def _name(crs: Any) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else "a coordinate system of its own"


def read_codes(
    path: Path | str, window: Window | None, band: LabelBand | None, classes: Sequence[int]
) -> tuple[np.ndarray, float | None]:
    """Read a label raster as it is stored.

    Args:
        path: The file.
        window: Part to read; None reads it whole.
        band: Band of the codes, counted from 1; "one-hot" where each class has a band; None for the only one.
        classes: Codes of the classes, in the order of their bands.

    Returns:
        H x W codes of any type, and what the file calls nodata.

    Raises:
        DataError: If the file cannot be read, or does not have such bands.
    """
    where = None if window is None else RasterioWindow(window[1], window[0], window[3], window[2])  # type: ignore[no-untyped-call, unused-ignore]
    try:
        with rasterio.Env(GTIFF_VIRTUAL_MEM_IO="IF_ENOUGH_RAM"), open_raster(path) as source:
            if band == ONE_HOT:
                if source.count != len(classes):
                    raise DataError(
                        f"{path} has {source.count} bands where 'label_band: one-hot' needs one for each of "
                        f"{len(classes)} classes, in their order"
                    )
                return _from_one_hot(source.read(window=where), classes, path), None
            if band is None and source.count > 1:
                raise DataError(_several_bands(path, source, len(classes)))
            number = int(band or 1)
            if number > source.count:
                raise DataError(f"{path} has {source.count} bands, no band {number}; correct 'label_band'")
            return source.read(number, window=where), source.nodatavals[number - 1]
    except RasterioError as error:
        raise unreadable(path, error) from error


def _several_bands(path: Path | str, source: rasterio.DatasetReader, classes: int) -> str:
    one_hot = ", or 'label_band: one-hot' where each class has a band" if source.count == classes else ""
    if set(source.colorinterp) >= _COLOURS:
        return (
            f"{path} is a picture in red, green and blue, where a label map has one band of class codes; write codes "
            f"in place of the colours{one_hot}"
        )
    return (
        f"{path} has {source.count} bands where a label map has one; name the band of the class codes with "
        f"'label_band: 2' under 'folder' in the protocol file{one_hot}"
    )


def _from_one_hot(bands: np.ndarray, classes: Sequence[int], path: Path | str) -> np.ndarray:
    """Codes from bands that are 0 or not; where all are 0 a pixel is unlabelled."""
    marked = np.nan_to_num(bands) != 0 if bands.dtype.kind == "f" else bands != 0
    if marked.sum(axis=0).max(initial=0) > 1:
        raise DataError(f"{path} is not one-hot: pixels have more than one band that is not 0")
    codes = np.asarray(classes, dtype=np.int32)[marked.argmax(axis=0)]
    return np.where(marked.any(axis=0), codes, UNLABELLED)
