"""What a file says of its values (gain and offset), and how that and the sensor's scale and offset become one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import DataError

_SAME_GAIN = 1e-3
"""Share by which a file's gain may differ from the protocol's: 36363.6 stands for 1/0.0000275."""
_NO_FACTOR = 1e-6
_SAME_OFFSET = 1e-4
"""Reflectance by which their offsets may differ."""


@dataclass(frozen=True)
class Stated:
    """Reflectance is the stored value times ``gains`` plus ``offsets``, one number a band."""

    gains: tuple[float, ...]
    offsets: tuple[float, ...]

    def __str__(self) -> str:
        more = "" if len(set(zip(self.gains, self.offsets, strict=True))) == 1 else " in the first band"
        return f"scale {self.gains[0]:.6g} and offset {self.offsets[0]:.6g}{more}"


@dataclass(frozen=True)
class Calibration:
    """Turns stored values into values of which the sensor's ``scale`` means a reflectance of 1; one number a band."""

    factors: tuple[float, ...]
    addends: tuple[float, ...]

    @classmethod
    def adding(cls, offset: float, count: int) -> Self | None:
        """Add an offset to every band; None where there is none."""
        return cls((1.0,) * count, (offset,) * count) if offset else None

    @classmethod
    def of(cls, stated: Stated, scale: float) -> Self | None:
        """Values on a scale from what a file states; None where they are on it as they are stored."""
        factors = tuple(gain * scale for gain in stated.gains)
        if not any(stated.offsets) and all(abs(factor - 1) < _NO_FACTOR for factor in factors):
            return None
        return cls(factors, tuple(value * scale for value in stated.offsets))

    def apply(self, pixels: np.ndarray, channels: Sequence[int]) -> np.ndarray:
        """Return C x H x W float32 values of some channels of the file."""
        factors = np.array([self.factors[c] for c in channels], dtype=np.float64)[:, None, None]
        addends = np.array([self.addends[c] for c in channels], dtype=np.float64)[:, None, None]
        return np.asarray(pixels * factors + addends, dtype=np.float32)


def stated_by(source: Any) -> Stated | None:
    """What an open raster says of its values, None where it says nothing.

    Read are GDAL's scale and offset of each band (tags of a GeoTIFF, ``.aux.xml``, VRT), and of an ENVI header
    ``data gain values`` and ``data offset values``, else ``reflectance scale factor``.
    """
    gains, offsets = list(source.scales), list(source.offsets)
    if source.driver == "ENVI" and all(gain == 1 for gain in gains) and not any(offsets):
        header = source.tags(ns="ENVI")
        divisor = _numbers(header, "reflectance_scale_factor", 1)
        if any(divisor):
            gains = [1 / divisor[0]] * source.count
        gains = _numbers(header, "data_gain_values", source.count) or gains
        offsets = _numbers(header, "data_offset_values", source.count) or offsets
    usable = all(map(math.isfinite, (*gains, *offsets))) and all(gains)
    if not usable or (all(gain == 1 for gain in gains) and not any(offsets)):
        return None
    return Stated(tuple(gains), tuple(offsets))


def _numbers(header: Mapping[str, str], name: str, count: int) -> list[float]:
    try:
        values = [float(value) for value in header.get(name, "").strip(" {}").split(",")]
    except ValueError:
        return []
    return values if len(values) == count and all(map(math.isfinite, values)) else []


def calibration(source: Any, path: Path | str, sensor: Sensor, offset: float | None = None) -> Calibration | None:
    """How the stored values of an open raster become the sensor's; None where they are.

    What the protocol gives counts where the file says nothing, and what the file says where the protocol gives nothing.
    Where both do, they must agree.

    Args:
        source: The raster.
        path: Its path, for the error.
        sensor: Its scale and offset.
        offset: Offset of this file where the sensor's is a column of the table.

    Raises:
        DataError: If the file and the protocol contradict each other.
    """
    given = offset if isinstance(sensor.offset, str) else sensor.offset
    stated = stated_by(source)
    if stated is None:
        return Calibration.adding(given or 0.0, source.count)
    if "scale" in sensor.model_fields_set and any(abs(g * sensor.scale - 1) > _SAME_GAIN for g in stated.gains):
        raise _contradiction(path, stated, f"'scale: {sensor.scale:g}' under 'sensor', which is {1 / sensor.scale:.6g}")
    if not given:
        return Calibration.of(stated, sensor.scale)
    if not any(stated.offsets):
        # A file with a scale alone does not say that its offset is 0.
        return Calibration.of(Stated(stated.gains, tuple(given * gain for gain in stated.gains)), sensor.scale)
    if any(abs(o - given * g) > _SAME_OFFSET for g, o in zip(stated.gains, stated.offsets, strict=True)):
        raise _contradiction(path, stated, f"'offset: {given:g}' under 'sensor', which is {given / sensor.scale:.6g}")
    return Calibration.of(stated, sensor.scale)


def _contradiction(path: Path | str, stated: Stated, what: str) -> DataError:
    return DataError(
        f"{path} states {stated}, the protocol file {what}; correct it there, leave it out so that the file's is used, "
        "or remove it from the files (gdal_edit.py -scale 1 -offset 0)"
    )
