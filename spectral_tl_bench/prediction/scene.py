"""A scene to be mapped, checked against a run's sensor and read a few rows at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from spectral_tl_bench.datasets.io.band_metadata import described_bands
from spectral_tl_bench.datasets.io.calibration import Calibration, stated_by
from spectral_tl_bench.datasets.io.formats import FORMATS, unreadable
from spectral_tl_bench.datasets.io.raster import data_channels, open_raster, read_values
from spectral_tl_bench.sensors import Sensor, band_spelling
from spectral_tl_bench.utils.errors import DataError

_METRES_A_DEGREE = 111_320.0
_LOOKS, _LOOK = 5, 64
"""A scene's range of values is judged by 5 x 5 places of 64 x 64 px."""
_FARTHEST = 50.0
"""How many times brighter or darker than the training data a scene may be before its scale is doubted."""
_SAME_WAVELENGTH = 0.1
"""Nanometres: files round the wavelengths of one product differently."""
_FORMATS = ", ".join([*FORMATS, "VRT"])
_LEAST_CACHE, _MOST_CACHE = 64 * 2**20, 512 * 2**20


@dataclass(frozen=True)
class Scene:
    """An open scene.

    Attributes:
        source: The raster.
        path: Its file.
        bands: Its bands in the order of the sensor's, counted from 1.
        scale: Value that means a reflectance of 1.
        nodata: Stored value of pixels without data; None for what the raster says.
        calibration: Turns stored values into those on ``scale``; None where they are.
        notes: What the user should know about how it is read.
    """

    source: rasterio.DatasetReader
    path: Path
    bands: tuple[int, ...]
    scale: float
    nodata: float | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.source.height)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.source.width)

    def read(self, top: int, rows: int, left: int = 0, columns: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read some rows.

        A pixel has no data where :func:`~spectral_tl_bench.datasets.io.raster.read_values` says so, the one reader of
        tiles and scenes, and where all bands are 0, as around a scene that is turned in its grid.

        Args:
            top: First row.
            rows: How many.
            left: First column.
            columns: How many; None for the rest.

        Returns:
            C x rows x columns in the type on disk or float32, 0 where there is no data; and rows x columns, whether
            there is any.

        Raises:
            DataError: If the file is damaged.
        """
        window = (top, left, rows, self.width - left if columns is None else columns)
        try:
            stored, valid = read_values(self.source, window, [band - 1 for band in self.bands], self.nodata, None)
        except RasterioError as error:
            raise unreadable(self.path, error) from error
        not_zero = np.asarray((stored != 0).any(axis=0))
        valid = not_zero if valid is None else valid & not_zero
        pixels = stored if self.calibration is None else self.calibration.apply(stored, [b - 1 for b in self.bands])
        pixels[:, ~valid] = 0
        return pixels, valid

    def ground_sampling_distance(self) -> float | None:
        """Side of a pixel in metres in the scene's middle, None where the scene does not say where it lies."""
        crs, transform = self.source.crs, self.source.transform
        if crs is None:
            return None
        side = math.sqrt(abs(transform.determinant))
        if crs.is_geographic:
            _, latitude = self.source.xy(self.height // 2, self.width // 2)
            return side * _METRES_A_DEGREE * math.sqrt(max(0.0, math.cos(math.radians(latitude))))
        if not crs.is_projected:
            return None
        return float(side * crs.linear_units_factor[1])


@contextlib.contextmanager
def open_scene(
    path: Path,
    sensor: Sensor,
    *,
    bands: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    without_crs: bool = False,
    brightness: float | None = None,
    channels: Sequence[int] | None = None,
    file_bands: int | None = None,
) -> Iterator[Scene]:
    """Open a scene and check that a model of a sensor can be used on it.

    Args:
        path: A raster in one of the formats that tiles may have.
        sensor: What the model was trained for.
        bands: The scene's bands in the sensor's order: numbers from 1, ranges or names, with commas between them. None
            takes them as they are, or, where there are more, those that the file says lie at the sensor's wavelengths.
        scale: Stored value that means a reflectance of 1; None for what the file says, else the sensor's, which the
            values are checked against.
        offset: What is added to stored values; None likewise.
        without_crs: Accept a scene that does not say where it lies.
        brightness: Mean reflectance of what the model was trained on, to tell whether the scene's scale is the same.
        channels: Which bands of the run's own files it used, counted from 0: those of a scene with as many bands.
        file_bands: How many bands these files have.

    Raises:
        DataError: If it is no raster, lies nowhere, has other bands than the sensor, or values on another scale.
    """
    _require_file(path)
    if scale is not None and not 0 < scale < math.inf:
        raise DataError(f"--scale {scale:g}: the stored value that means a reflectance of 1 is a number greater than 0")
    if offset is not None and not math.isfinite(offset):
        raise DataError(f"--offset {offset:g}: what is added to stored values is a finite number")
    try:
        source = open_raster(path)
    except RasterioError as error:
        raise DataError(f"{path} is not a raster that can be read: {_reason(error)}; formats: {_FORMATS}") from error
    with source, rasterio.Env(GDAL_CACHEMAX=_cache(source)):
        if source.crs is None and not source.gcps[0] and not without_crs:
            raise DataError(
                f"{path} has no coordinate reference system, so its map would lie nowhere; assign one "
                "(rio edit-info --crs EPSG:CODE) or pass --without-crs"
            )
        own = channels if channels is not None and file_bands == len(data_channels(source, file_bands)) else None
        chosen, among = _bands(source, path, sensor, bands, own)
        _check_wavelengths(source, path, chosen, sensor)
        values, notes = _calibration(source, path, sensor, scale, offset)
        scene = Scene(
            source, path, chosen, scale if scale is not None else sensor.scale, sensor.nodata, values, (*among, *notes)
        )
        _check_values(scene, sensor, None if scale is not None else brightness, given=scale is not None)
        yield scene


def _require_file(path: Path) -> None:
    """Refuse what is no file, with what to do about the other ways in which GDAL names rasters."""
    if path.is_file():
        return
    text = str(path)
    if text.startswith("/vsi"):
        raise DataError(f"{path}: a scene is read from a file; unpack or download it, and give its path")
    kind, colon, rest = text.partition(":")
    if colon and rest and not path.exists() and kind.isalnum() and len(kind) > 1:
        raise DataError(
            f"{path}: a scene is read from a file; write this part of it as GeoTIFF: gdal_translate {text!r} scene.tif"
        )
    if path.is_dir():
        raise DataError(f"{path} is not a raster but a folder; name one of its files")
    raise DataError(f"there is no scene {path}")


def _calibration(
    source: rasterio.DatasetReader, path: Path, sensor: Sensor, scale: float | None, offset: float | None
) -> tuple[Calibration | None, tuple[str, ...]]:
    """How a scene's values become reflectance: as the user says, else as the file does, else as the run's sensor does.

    Raises:
        DataError: If the run's offset differs by tile and neither user nor file says the scene's.
    """
    stated = stated_by(source)
    if scale is not None or offset is not None:
        note = () if stated is None else (f"note: {path} states {stated}; --scale and --offset count instead",)
        return Calibration.adding(offset or 0.0, source.count), note
    if stated is not None:
        values = Calibration.of(stated, sensor.scale)
        note = () if values is None else (f"note: {path} states {stated}, which is applied",)
        return values, note
    if isinstance(sensor.offset, str):
        raise DataError(
            f"the offset of the run's tiles is in the column {sensor.offset!r} of their table; pass the scene's with "
            "--offset (0 where there is none)"
        )
    return Calibration.adding(sensor.offset, source.count), ()


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _cache(source: Any) -> int:
    """Bytes that hold a row of the file's blocks, so that each is decoded once; bounded."""
    height = max((rows for rows, _ in source.block_shapes), default=1)
    item = max((np.dtype(kind).itemsize for kind in source.dtypes if not kind.startswith("complex_int")), default=8)
    return min(max(2 * height * source.width * source.count * item, _LEAST_CACHE), _MOST_CACHE)


def _bands(
    source: Any, path: Path, sensor: Sensor, asked: str | None, own: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The scene's bands in the sensor's order, and a note where they are some of more."""
    names = [band.name for band in sensor.bands]
    data = [channel + 1 for channel in data_channels(source, len(names))]
    described = {band_spelling(name): i for i, name in enumerate(source.descriptions, start=1) if name}
    order = f"{sensor.name}: {', '.join(names[:13])}{' ...' if len(names) > 13 else ''}"
    if asked is not None:
        chosen = [band for part in asked.split(",") for band in _meant(part.strip(), source, path, described)]
        if len(chosen) != len(names):
            raise DataError(
                f"--bands names {len(chosen)} bands where the run has {len(names)}; name {path}'s bands in the "
                f"order of {order}"
            )
        return tuple(chosen), ()
    among = f"note: of the scene's {source.count} bands those at the run's {len(names)} wavelengths"
    by_name = [described.get(band_spelling(name)) for name in names]
    if len(data) != len(names):
        matching = _by_wavelength(path, sensor)
        if matching is None and own is not None:
            matching = tuple(channel + 1 for channel in own)
            among = f"note: of the scene's {source.count} bands the {len(names)} that the run used of its own files"
        if matching is not None and by_name in ([None] * len(names), list(matching)):
            return matching, (among,)
    if None not in by_name and by_name != data:
        raise DataError(
            f"{path} names the run's bands, but in another order or among others; pass "
            f"--bands {','.join(map(str, by_name))}"
        )
    if len(data) != len(names):
        raise DataError(
            f"{path} has {len(data)} bands where the run has {len(names)}; name its bands with --bands in "
            f"the order of {order}"
        )
    return tuple(data), ()


def _by_wavelength(path: Path, sensor: Sensor) -> tuple[int, ...] | None:
    """The scene's bands at the sensor's wavelengths; None where it does not say of each, and of one alone, which."""
    try:
        described = described_bands(path)
    except DataError:
        return None
    found = []
    for wanted in sensor.bands:
        same = [
            number
            for number, band in enumerate(described, start=1)
            if abs(band.wavelength - wanted.wavelength) <= _SAME_WAVELENGTH
        ]
        if len(same) != 1:
            return None
        found += same
    return tuple(found)


def _meant(part: str, source: Any, path: Path, described: dict[str, int]) -> list[int]:
    """Bands that a part of ``--bands`` means: a number, a range or a name."""
    first, dash, last = part.partition("-")
    if first.isdecimal() and (not dash or last.isdecimal()):
        meant = list(range(int(first), int(last or first) + 1))
        if not meant or meant[0] < 1 or meant[-1] > source.count:
            raise DataError(f"--bands {part}: {path} has the bands 1 to {source.count}")
        return meant
    if band_spelling(part) in described:
        return [described[band_spelling(part)]]
    known = ", ".join(name for name in source.descriptions if name) or "no names"
    raise DataError(f"--bands {part}: {path} has no band of that name; it has {known}; numbers count from 1")


def _check_wavelengths(source: Any, path: Path, bands: Sequence[int], sensor: Sensor) -> None:
    """Compare the wavelengths that a file gives for its bands with the sensor's.

    Raises:
        DataError: If one is farther off than a tenth.
    """
    for band, wanted in zip(bands, sensor.bands, strict=True):
        given = source.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM")
        if given is None:
            continue
        nanometres = 1000 * float(given)
        if abs(nanometres - wanted.wavelength) > 0.1 * wanted.wavelength:
            raise DataError(
                f"band {band} of {path} is at {nanometres:g} nm, {wanted.name} of {sensor.name} at "
                f"{wanted.wavelength:g} nm; name the bands in the sensor's order with --bands"
            )


def _check_values(scene: Scene, sensor: Sensor, brightness: float | None, *, given: bool) -> None:
    """Refuse values that cannot be on the sensor's scale.

    Raises:
        DataError: If they cannot.
    """
    name = scene.path
    kinds = {scene.source.dtypes[band - 1] for band in scene.bands}
    strange = sorted(kind for kind in kinds if "complex" in kind)
    if strange:
        raise DataError(f"{name} holds {strange[0]} values; a scene must hold reflectance as integers or floats")
    advice = f"the run's data store a reflectance of 1 as {sensor.scale:g}; pass what it is here with --scale"
    for kind in kinds:
        if not given and np.issubdtype(kind, np.integer) and 10 * np.iinfo(kind).max < sensor.scale:
            raise DataError(f"{name} holds {kind}, which cannot reach the run's values: {advice}")
    if brightness is None or brightness <= 0:
        return
    values = _look(scene)
    median = float(np.median(values)) / scene.scale if values.size else brightness
    if not brightness / _FARTHEST <= median <= brightness * _FARTHEST:
        raise DataError(
            f"the values of {name} (median {median * scene.scale:.4g}) are not on the run's scale "
            f"(mean {brightness * scene.scale:.4g}): {advice}"
        )


def _look(scene: Scene) -> np.ndarray:
    """Values at a few places of a scene, pixels without data left out."""
    found = []
    for row in range(_LOOKS):
        for column in range(_LOOKS):
            top = max(0, round((row + 0.5) * scene.height / _LOOKS) - _LOOK // 2)
            left = max(0, round((column + 0.5) * scene.width / _LOOKS) - _LOOK // 2)
            rows, columns = min(_LOOK, scene.height - top), min(_LOOK, scene.width - left)
            pixels, valid = scene.read(top, rows, left, columns)
            found.append(pixels[:, valid].ravel())
    return np.concatenate(found)
