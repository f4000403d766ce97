"""A scene to be mapped: any raster that GDAL reads, checked against a run's sensor and read a few rows at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from spectral_tl_bench.datasets.io.band_metadata import described_bands
from spectral_tl_bench.sensors import Sensor, band_spelling
from spectral_tl_bench.utils.errors import DataError

_METRES_A_DEGREE = 111_320.0
_LOOKS, _LOOK = 5, 64
"""A scene's range of values is judged by 5 x 5 places of 64 x 64 px."""
_FARTHEST = 50.0
"""How many times brighter or darker than the training data a scene may be before its scale is doubted."""
_SAME_WAVELENGTH = 0.1
"""Nanometres: files round the wavelengths of one product differently."""
_LEAST_CACHE, _MOST_CACHE = 64 * 2**20, 512 * 2**20


@dataclass(frozen=True)
class Scene:
    """An open scene.

    Attributes:
        source: The raster.
        bands: Its bands in the order of the sensor's, counted from 1.
        scale: Stored value that means a reflectance of 1.
        nodata: Stored value of pixels without data; None for what the raster says.
    """

    source: rasterio.DatasetReader
    bands: tuple[int, ...]
    scale: float
    nodata: float | None = None

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

        A pixel has no data where any band is nodata or not finite, where the raster's own mask says so, and where all
        bands are 0.

        Args:
            top: First row.
            rows: How many.
            left: First column.
            columns: How many; None for the rest.

        Returns:
            C x rows x columns in the type on disk, 0 where there is no data; and rows x columns, whether there is any.

        Raises:
            DataError: If the file is damaged.
        """
        window = Window(left, top, self.width - left if columns is None else columns, rows)  # type: ignore[no-untyped-call, unused-ignore]
        try:
            pixels = self.source.read(self.bands, window=window)
            valid = (pixels != 0).any(axis=0)
            if MaskFlags.per_dataset in self.source.mask_flag_enums[self.bands[0] - 1]:
                valid &= self.source.read_masks(self.bands[0], window=window) > 0
            if ColorInterp.alpha in self.source.colorinterp:
                # GDAL takes it for the mask of grey and colour pictures alone.
                valid &= self.source.read(self.source.colorinterp.index(ColorInterp.alpha) + 1, window=window) > 0
        except RasterioError as error:
            raise DataError(f"cannot read {self.source.name}: {_reason(error)}; the file is damaged") from error
        for band, plane in zip(self.bands, pixels, strict=True):
            nodata = self.source.nodatavals[band - 1] if self.nodata is None else self.nodata
            if nodata is not None and np.isfinite(nodata):
                valid &= plane != nodata
            if np.issubdtype(plane.dtype, np.floating):
                valid &= np.isfinite(plane)
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
    without_crs: bool = False,
    brightness: float | None = None,
) -> Iterator[Scene]:
    """Open a scene and check that a model of a sensor can be used on it.

    Args:
        path: A raster that GDAL reads.
        sensor: What the model was trained for.
        bands: The scene's bands in the sensor's order: numbers from 1, ranges or names, with commas between them. None
            takes them as they are, or, where there are more, those that the file says lie at the sensor's wavelengths.
        scale: Stored value that means a reflectance of 1; None for the sensor's, which the values are checked against.
        without_crs: Accept a scene that does not say where it lies.
        brightness: Mean reflectance of what the model was trained on, to tell whether the scene's scale is the same.

    Raises:
        DataError: If it is no raster, lies nowhere, has other bands than the sensor, or values on another scale.
    """
    if not path.exists():
        raise DataError(f"there is no scene {path}")
    if scale is not None and not 0 < scale < math.inf:
        raise DataError(f"--scale {scale:g}: the stored value that means a reflectance of 1 is a number greater than 0")
    try:
        source = rasterio.open(path)
    except RasterioError as error:
        raise DataError(f"{path} is not a raster that can be read: {_reason(error)}") from error
    with source, rasterio.Env(GDAL_CACHEMAX=_cache(source)):
        if source.count == 0:
            raise DataError(f"{path} holds no bands of its own; name one of its subdatasets")
        if source.crs is None and not source.gcps[0] and not without_crs:
            raise DataError(
                f"{path} has no coordinate reference system, so its map would lie nowhere; assign one "
                "(rio edit-info --crs EPSG:CODE) or pass --without-crs"
            )
        chosen = _bands(source, sensor, bands)
        _check_wavelengths(source, chosen, sensor)
        scene = Scene(source, chosen, scale if scale is not None else sensor.scale, sensor.nodata)
        _check_values(scene, sensor, None if scale is not None else brightness, given=scale is not None)
        yield scene


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _cache(source: Any) -> int:
    """Bytes that hold a row of the file's blocks, so that each is decoded once; bounded."""
    height = max((rows for rows, _ in source.block_shapes), default=1)
    item = max((np.dtype(kind).itemsize for kind in source.dtypes if not kind.startswith("complex_int")), default=8)
    return min(max(2 * height * source.width * source.count * item, _LEAST_CACHE), _MOST_CACHE)


def _bands(source: Any, sensor: Sensor, asked: str | None) -> tuple[int, ...]:
    """The scene's bands in the sensor's order."""
    names = [band.name for band in sensor.bands]
    data = [i for i, role in enumerate(source.colorinterp, start=1) if role != ColorInterp.alpha]
    described = {band_spelling(name): i for i, name in enumerate(source.descriptions, start=1) if name}
    order = f"{sensor.name}: {', '.join(names[:13])}{' ...' if len(names) > 13 else ''}"
    if asked is not None:
        chosen = [band for part in asked.split(",") for band in _meant(part.strip(), source, described)]
        if len(chosen) != len(names):
            raise DataError(
                f"--bands names {len(chosen)} bands where the run has {len(names)}; name {source.name}'s bands in the "
                f"order of {order}"
            )
        return tuple(chosen)
    found = [described.get(band_spelling(name)) for name in names]
    if None not in found and found != data:
        raise DataError(
            f"{source.name} names the run's bands, but in another order or among others; pass "
            f"--bands {','.join(map(str, found))}"
        )
    if len(data) != len(names):
        matching = _by_wavelength(source, sensor)
        if matching is None:
            raise DataError(
                f"{source.name} has {len(data)} bands where the run has {len(names)}; name its bands with --bands in "
                f"the order of {order}"
            )
        return matching
    return tuple(data)


def _by_wavelength(source: Any, sensor: Sensor) -> tuple[int, ...] | None:
    """The scene's bands at the sensor's wavelengths; None where it does not say of each, and of one alone, which."""
    path = Path(source.name)
    try:
        described = described_bands(path, path.parent)
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


def _meant(part: str, source: Any, described: dict[str, int]) -> list[int]:
    """Bands that a part of ``--bands`` means: a number, a range or a name."""
    first, dash, last = part.partition("-")
    if first.isdecimal() and (not dash or last.isdecimal()):
        meant = list(range(int(first), int(last or first) + 1))
        if not meant or meant[0] < 1 or meant[-1] > source.count:
            raise DataError(f"--bands {part}: {source.name} has the bands 1 to {source.count}")
        return meant
    if band_spelling(part) in described:
        return [described[band_spelling(part)]]
    known = ", ".join(name for name in source.descriptions if name) or "no names"
    raise DataError(f"--bands {part}: {source.name} has no band of that name; it has {known}; numbers count from 1")


def _check_wavelengths(source: Any, bands: Sequence[int], sensor: Sensor) -> None:
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
                f"band {band} of {source.name} is at {nanometres:g} nm, {wanted.name} of {sensor.name} at "
                f"{wanted.wavelength:g} nm; name the bands in the sensor's order with --bands"
            )


def _check_values(scene: Scene, sensor: Sensor, brightness: float | None, *, given: bool) -> None:
    """Refuse values that cannot be on the sensor's scale.

    Raises:
        DataError: If they cannot.
    """
    name = scene.source.name
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
