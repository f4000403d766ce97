"""Reading tiles: straight into the type on disk, labels mapped by one table lookup."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window as RasterioWindow

from spectral_tl_bench.datasets.io.arrays import is_array, open_array
from spectral_tl_bench.datasets.io.calibration import Calibration, calibration
from spectral_tl_bench.datasets.io.formats import open_plain, unreadable
from spectral_tl_bench.datasets.io.vrt import checked_vrt, is_virtual
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import HIGHEST_CODE, UNLABELLED
from spectral_tl_bench.utils.errors import DataError

# Tiles without coordinates are the rule in benchmark archives; one warning a tile would drown everything else.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

Window = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""

_FARTHEST = 2.0**62
_FEW = 4
"""Below this part of a file's bands (one in four), GDAL's own way through pixels that lie bands together is faster."""

_UNKNOWN = -1
_IGNORED = -2


def _mapped() -> rasterio.Env:
    """GDAL's settings for reading: an uncompressed file is mapped into memory instead of copied block by block.

    Files that cannot be mapped (compressed, larger than the memory) are read as always.
    """
    return rasterio.Env(GTIFF_VIRTUAL_MEM_IO="IF_ENOUGH_RAM")


def open_raster(path: Path | str) -> rasterio.DatasetReader:
    """Open an image or a label map in one of the formats that are read, or a VRT of files in its own folder.

    Raises:
        DataError: If it makes GDAL open files elsewhere.
        RasterioError: If it cannot be read.
    """
    if is_array(path):
        return open_array(path)
    if not is_virtual(path):
        return open_plain(path)
    text = checked_vrt(path)
    with rasterio.Env():
        return rasterio.DatasetReader(text, driver=["VRT"])


def rasterio_window(window: Window | None) -> RasterioWindow | None:
    """The window as rasterio takes it."""
    if window is None:
        return None
    top, left, height, width = window
    return RasterioWindow(left, top, width, height)  # type: ignore[no-untyped-call, unused-ignore]


def _read_pixels(source: rasterio.DatasetReader, window: Window | None, channels: Sequence[int] | None) -> np.ndarray:
    """Read C x H x W pixels, each file in the order in which it stores them."""
    few = channels is not None and _FEW * len(channels) < source.count
    if few or source.count == 1 or source.interleaving != Interleaving.pixel:
        return source.read(None if channels is None else [c + 1 for c in channels], window=rasterio_window(window))
    # Asked for band after band, GDAL walks through a file that stores pixel after pixel once for each band.
    height, width = (source.height, source.width) if window is None else window[2:]
    stored = np.empty((height, width, source.count), dtype=source.dtypes[0])
    source.read(out=stored.transpose(2, 0, 1), window=rasterio_window(window))
    wanted = None if channels is None else np.asarray(channels)
    pixels = np.empty((source.count if wanted is None else len(wanted), height, width), dtype=stored.dtype)
    for row in range(height):
        # A row at a time stays in the processor's cache; turned in one go, a tile takes three times as long.
        turned = stored[row].T
        pixels[:, row] = turned if wanted is None else turned[wanted]
    return pixels


def data_channels(source: rasterio.DatasetReader, bands: int | None = None) -> tuple[int, ...]:
    """The channels of a file, counted from 0, without an alpha band where the file has one more than wanted.

    Args:
        source: The file.
        bands: How many are wanted; None for as many as there are without alpha.
    """
    channels = tuple(range(source.count))
    if source.count == bands:
        return channels
    rest = tuple(channel for channel in channels if source.colorinterp[channel] != ColorInterp.alpha)
    return rest if bands is None or len(rest) == bands else channels


def read_image(
    path: Path | str,
    window: Window | None = None,
    *,
    channels: Sequence[int] | None = None,
    sensor: Sensor | None = None,
    offset: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a raster of any integer or float type.

    Args:
        path: File.
        window: Part to read; None reads it whole.
        channels: Bands to read, counted from 0, in this order; None reads all.
        sensor: All bands of the file, their nodata, scale and offset. None reads values as they are stored.
        offset: Offset of this file, where the sensor's differs by tile.

    Returns:
        The pixels, C x H x W in the type on disk, or float32 where the file or the sensor states another offset or
        scale; and either None (every pixel has data) or an H x W boolean map that is False where one has none.

    Raises:
        DataError: If the file cannot be read, or contradicts the sensor.
    """
    try:
        with _mapped(), open_raster(path) as source:
            data = tuple(range(source.count)) if sensor is None else data_channels(source, len(sensor.bands))
            if channels is not None and max(channels) >= len(data):
                raise DataError(f"{path} has {len(data)} bands where band {max(channels) + 1} is read; restore it")
            wanted = data if channels is None else tuple(data[channel] for channel in channels)
            values = None if sensor is None else calibration(source, path, sensor, offset)
            return read_values(source, window, wanted, None if sensor is None else sensor.nodata, values)
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error


def read_values(
    source: rasterio.DatasetReader,
    window: Window | None,
    channels: Sequence[int],
    nodata: float | None,
    values: Calibration | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read pixels of an open raster and where they have data: the one reader of tiles and scenes.

    A pixel has no data where a band that is read is nodata or not finite, or where the file's mask (internal, or a
    ``.msk`` file) or an alpha band that is not read says so.

    Args:
        source: The raster.
        window: Part to read; None reads it whole.
        channels: Bands to read, counted from 0.
        nodata: Stored value of pixels without data; None for what the file says of each band.
        values: Turns stored values into the sensor's.

    Returns:
        As :func:`read_image`.
    """
    pixels = _read_pixels(source, window, None if tuple(channels) == tuple(range(source.count)) else channels)
    has_data = where_data(pixels, [source.nodatavals[c] if nodata is None else nodata for c in channels])
    valid = None if has_data is None else np.asarray(has_data.all(axis=0))
    for mask in masks(source, window, channels):
        valid = mask if valid is None else valid & mask
    if valid is not None and valid.all():
        valid = None
    return (pixels if values is None else values.apply(pixels, channels)), valid


def masks(source: rasterio.DatasetReader, window: Window | None, channels: Sequence[int]) -> Iterator[np.ndarray]:
    """Where the masks and the alpha band of a raster say that there is data; H x W each."""
    where = rasterio_window(window)
    flags = source.mask_flag_enums
    alpha = [c for c, role in enumerate(source.colorinterp) if role == ColorInterp.alpha and c not in channels]
    if alpha:
        yield source.read(alpha[0] + 1, window=where) > 0
    of_all = False
    for channel in channels:
        named = flags[channel]
        if MaskFlags.all_valid in named or MaskFlags.nodata in named or MaskFlags.alpha in named:
            continue
        if MaskFlags.per_dataset in named:
            if of_all:
                continue
            of_all = True
        yield source.read_masks(channel + 1, window=where) > 0


def where_data(pixels: np.ndarray, nodata: Sequence[float | None]) -> np.ndarray | None:
    """Tell stored values from nodata, NaN and infinity; None where type and file know no such value.

    Args:
        pixels: C x H x W.
        nodata: Nodata of each band.
    """
    has_data: np.ndarray | None = np.isfinite(pixels) if np.issubdtype(pixels.dtype, np.floating) else None
    finite = [value if value is not None and np.isfinite(value) else None for value in nodata]
    if all(value is None for value in finite):
        return has_data
    if len(set(finite)) == 1:
        differs: np.ndarray = pixels != finite[0]
    else:
        differs = np.stack(
            [
                np.ones(plane.shape, dtype=bool) if value is None else plane != value
                for plane, value in zip(pixels, finite, strict=True)
            ]
        )
    return differs if has_data is None else has_data & differs


def read_label(path: Path | str, window: Window | None = None) -> np.ndarray:
    """Read the first band of a label raster; codes stored as floats are accepted when they are whole numbers.

    Args:
        path: File.
        window: Part to read; None reads it whole.

    Returns:
        H x W integer codes.

    Raises:
        DataError: If the file cannot be read or holds fractions.
    """
    try:
        with _mapped(), open_raster(path) as source:
            return whole_numbers(source.read(1, window=rasterio_window(window)), path)
    except (RasterioIOError, RasterioError) as error:
        raise unreadable(path, error) from error


def whole_numbers(codes: np.ndarray, path: Path | str) -> np.ndarray:
    """Return label codes as integers.

    Args:
        codes: H x W codes of any numeric type; NaN counts as 0, the code of unlabelled pixels in every archive.
        path: File they come from, for the error.

    Raises:
        DataError: If a code is not a whole number from 0 to 65535.
    """
    codes = integers(codes, path, nan=0)
    if codes.size and (codes.min() < 0 or codes.max() > HIGHEST_CODE):
        raise DataError(f"{path} is not a label map: its codes run from {codes.min()} to {codes.max()}")
    return codes


def integers(codes: np.ndarray, path: Path | str, nan: int) -> np.ndarray:
    """Turn codes stored as floats into integers; others stay as they are.

    Raises:
        DataError: If one is a fraction.
    """
    if not np.issubdtype(codes.dtype, np.floating):
        return codes
    codes = np.nan_to_num(codes, nan=nan, posinf=_FARTHEST, neginf=-_FARTHEST)
    rounded = np.rint(codes)
    if not np.array_equal(rounded, codes):
        raise DataError(f"{path} is not a label map: it holds fractions; labels must be whole class codes")
    # Beyond int64 a cast would come out anywhere.
    return rounded.clip(-_FARTHEST, _FARTHEST).astype(np.int64)


def to_reflectance(stored: torch.Tensor, scale: float) -> torch.Tensor:
    """Convert stored values of any type and shape to float32 reflectance; ``scale`` means a reflectance of 1."""
    factor = np.float32(1.0 / scale)
    if stored.device.type == "cpu":
        # In one pass, and into memory that NumPy asks for in large pages: three times as fast as torch on a tile.
        return torch.from_numpy(np.multiply(stored.numpy(), factor, dtype=np.float32, casting="unsafe"))
    return (stored * float(factor)).float()


def label_table(codes: Sequence[int], ignored: Sequence[int] | None) -> np.ndarray:
    """Build the lookup table from codes on disk to contiguous class ids.

    Args:
        codes: Codes of the classes, in the order of their ids.
        ignored: Codes to ignore; None ignores every code that is not a class.

    Returns:
        int16, for the codes 0 to 65535 and then -32768 to -1, where Python looks negative ones up: the class id, -2 for
        ignored, -1 for a code that should not occur.
    """
    table = np.full(HIGHEST_CODE + 1 - UNLABELLED, _UNKNOWN if ignored is not None else _IGNORED, dtype=np.int16)
    table[UNLABELLED] = _IGNORED
    table[list(ignored or ())] = _IGNORED
    table[list(codes)] = np.arange(len(codes), dtype=np.int16)
    return table


def unknown_codes(codes: Sequence[int], table: np.ndarray) -> list[int]:
    """Tell which of some codes are neither a class nor ignored in a lookup table."""
    return [code for code in codes if table[code] == _UNKNOWN]


def unknown_code_error(path: Path | str, codes: Sequence[int]) -> DataError:
    """Return the error for a label map with codes that are neither a class nor ignored."""
    return DataError(
        f"{path} holds label code {', '.join(map(str, codes[:5]))}, which is neither a class nor ignored; "
        "correct the label, or list the code under 'ignore' in the protocol file"
    )


def map_labels(codes: np.ndarray, table: np.ndarray, path: Path | str, ignore_index: int) -> np.ndarray:
    """Turn codes on disk into contiguous class ids.

    Args:
        codes: H x W integer codes.
        table: From :func:`label_table`.
        path: File they come from, for the error.
        ignore_index: Id given to ignored pixels.

    Returns:
        int64, H x W.

    Raises:
        DataError: If a code is neither a class nor ignored.
    """
    ids = table[codes]
    lowest = ids.min(initial=0)
    if lowest < 0:
        if (ids == _UNKNOWN).any():
            raise unknown_code_error(path, np.unique(codes[ids == _UNKNOWN]).tolist())
        ids[ids == _IGNORED] = ignore_index
    return ids.astype(np.int64)
