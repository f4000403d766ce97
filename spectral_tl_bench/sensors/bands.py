"""Sensors: what a band is, which of them a protocol uses, and the three sensors of the suite's archives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr, model_validator

from spectral_tl_bench.utils.errors import ProtocolError
from spectral_tl_bench.utils.validation import Value

BandSelection = Annotated[tuple[StrictInt | StrictStr, ...], Field(min_length=1)]
"""Some bands of a sensor in the order in which they are wanted: names ("B8A"), numbers from 1 (12), ranges of numbers
("1-130") and of centre wavelengths ("420-900 nm"); see :func:`select_bands`."""

Offset = float | Annotated[StrictStr, Field(min_length=1)]
"""What is added to stored values, or the column of the table of tiles that has it."""

DEFAULT_BANDWIDTH = 30.0
"""Bandwidth in nm that models take for a band whose own is not known: about the median of Sentinel-2's thirteen."""

_SHOWN = (660.0, 560.0, 480.0)
"""Wavelengths of red, green and blue in nm: the nearest bands are shown where nobody names them."""


class Band(Value):
    """One channel of an image.

    Attributes:
        name: The sensor's own name ("B8A"), with the date appended where a band occurs on several ("B8A 2019-03").
        wavelength: Centre wavelength in nm.
        bandwidth: Full width at half maximum in nm, where it is known.
        date: Acquisition date or month, for sensors that stack several dates.
    """

    name: str
    wavelength: float = Field(gt=100, lt=100_000)
    bandwidth: float | None = Field(default=None, gt=0)
    date: str | None = None


class UnreadSensor(Value):
    """What is known of a sensor before its files are read, which describe their bands themselves.

    Attributes:
        name: Short name.
        rgb: Names of the bands shown as red, green and blue; None for those nearest to these colours.
        scale: Stored value that means a reflectance of 1.
        offset: What is added to stored values first (-1000 for Sentinel-2 since baseline 04.00), or the column of the
            table that has it for each tile.
        ground_sampling_distance: Pixel size in metres.
        nodata: Stored value of pixels without data; None where the files say it themselves, or there is none.
        level: How far the values were processed, in the producer's words ("L1", "L2"); None where unknown.
    """

    name: str
    rgb: tuple[str, str, str] | None = None
    scale: float = Field(default=10_000.0, gt=0)
    offset: Offset = 0.0
    ground_sampling_distance: float = Field(default=10.0, gt=0)
    nodata: float | None = None
    level: str | None = Field(default=None, min_length=1)

    def with_bands(self, bands: Sequence[Band]) -> Sensor:
        """The sensor with the bands that its files describe.

        Raises:
            ValueError: If two bands have one name, or ``rgb`` names none of them.
        """
        facts = self.model_dump(exclude_unset=True, exclude_none=True)
        return Sensor.model_validate({**facts, "bands": tuple(bands)})


class Sensor(Value):
    """An ordered set of bands with the facts needed to turn stored numbers into reflectance.

    Attributes:
        name: Short name.
        bands: Bands in the order of the file's channels.
        rgb: Names of the bands shown as red, green and blue; by default those nearest to these colours.
        scale: Stored value that means a reflectance of 1.
        offset: What is added to stored values first (-1000 for Sentinel-2 since baseline 04.00), or the column of the
            table that has it for each tile.
        ground_sampling_distance: Pixel size in metres.
        nodata: Stored value of pixels without data; None where the files say it themselves, or there is none.
        level: How far the values were processed, in the producer's words ("L1", "L2"); None where unknown.
    """

    name: str
    bands: tuple[Band, ...] = Field(min_length=1)
    rgb: tuple[str, str, str]
    scale: float = Field(default=10_000.0, gt=0)
    offset: Offset = 0.0
    ground_sampling_distance: float = Field(default=10.0, gt=0)
    nodata: float | None = None
    level: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _shown_bands(cls, value: Any) -> Any:
        """Show the bands nearest to red, green and blue where nobody names any."""
        if not isinstance(value, dict) or value.get("rgb") is not None or not value.get("bands"):
            return value
        try:
            bands = [Band.model_validate(band) for band in value["bands"]]
        except (TypeError, ValueError):
            # Said of the bands themselves, by name.
            return {**value, "rgb": ("", "", "")}
        nearest = tuple(min(bands, key=lambda band: abs(band.wavelength - colour)).name for colour in _SHOWN)
        return {**value, "rgb": nearest}

    @model_validator(mode="after")
    def _names_are_known_and_distinct(self) -> Sensor:
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names):
            raise ValueError(f"sensor {self.name}: band names occur twice")
        unknown = [name for name in self.rgb if name not in names]
        if unknown:
            raise ValueError(f"sensor {self.name}: rgb names {unknown} are not among its bands {names}")
        return self

    def subset(self, positions: Sequence[int]) -> Sensor:
        """The sensor with some of its bands, in this order.

        Args:
            positions: Bands counted from 0, as :func:`select_bands` returns them.
        """
        bands = tuple(self.bands[position] for position in positions)
        kept = set(self.rgb) <= {band.name for band in bands}
        facts = {name: getattr(self, name) for name in self.model_fields_set - {"bands", "rgb"}}
        return Sensor.model_validate({**facts, "bands": bands, **({"rgb": self.rgb} if kept else {})})

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Centre wavelengths in nm, in channel order."""
        return tuple(band.wavelength for band in self.bands)

    @property
    def rgb_indices(self) -> tuple[int, int, int]:
        """Channel indices shown as red, green and blue, counted from 0."""
        names = [band.name for band in self.bands]
        red, green, blue = (names.index(name) for name in self.rgb)
        return red, green, blue


def band_spelling(name: str) -> str:
    """Band names as they compare: B02, b2 and "B2 " are one."""
    letters = name.strip().lower()
    stem = letters.rstrip("0123456789")
    return stem + letters[len(stem) :].lstrip("0") if letters != stem else letters


_NUMBERS = re.compile(r"(\d{1,6})\s*-\s*(\d{1,6})")
_WAVELENGTHS = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*(nm|um|µm)")


def select_bands(sensor: Sensor, selection: Sequence[int | str]) -> tuple[int, ...]:
    """Resolve a selection of bands against a sensor.

    Args:
        sensor: The sensor, all bands of its files.
        selection: Names, numbers from 1, ranges of numbers, ranges of centre wavelengths; see :data:`BandSelection`.
            What is the name of a band means that band; B02, b2 and "B2 " are one name.

    Returns:
        Positions of the bands counted from 0, in the order of the selection.

    Raises:
        ProtocolError: If a part of it means no band, or a band is meant twice.

    >>> [SENTINEL2.bands[i].name for i in select_bands(SENTINEL2, ["B04", 3, "1-2", "1500-2500 nm"])]
    ['B4', 'B3', 'B1', 'B2', 'B11', 'B12']
    """
    chosen: list[int] = []
    for part in selection:
        for position in _meant(sensor, part):
            if position in chosen:
                raise ProtocolError(
                    f"bands: {part!r} means {sensor.bands[position].name} of {sensor.name}, which is among the bands "
                    "already; name each band once"
                )
            chosen.append(position)
    return tuple(chosen)


def _meant(sensor: Sensor, part: int | str) -> Sequence[int]:
    many = len(sensor.bands)
    text = str(part).strip()
    named = [i for i, band in enumerate(sensor.bands) if band.name == text]
    named = named or [i for i, band in enumerate(sensor.bands) if band_spelling(band.name) == band_spelling(text)]
    if named and isinstance(part, str):
        return named[:1]
    if match := _WAVELENGTHS.fullmatch(text):
        low, high = (float(end) * (1 if match[3] == "nm" else 1000) for end in match.groups()[:2])
        found = [i for i, band in enumerate(sensor.bands) if low <= band.wavelength <= high]
        if not found:
            lowest, highest = min(sensor.wavelengths), max(sensor.wavelengths)
            raise ProtocolError(
                f"bands: {sensor.name} has no band in {text}; its wavelengths run from {lowest:g} to {highest:g} nm"
            )
        return found
    match = _NUMBERS.fullmatch(text)
    if isinstance(part, int) or match or text.isdecimal():
        first, last = (int(match[1]), int(match[2])) if match else (int(text[:7]), int(text[:7]))
        if not 1 <= first <= last <= many:
            raise ProtocolError(f"bands: {text}: {sensor.name} has the bands 1 to {many}")
        return range(first - 1, last)
    names = [band.name for band in sensor.bands]
    shown = ", ".join(names[:13]) + (" ..." if many > 13 else "")
    raise ProtocolError(
        f"bands: {sensor.name} has no band {text!r}; name some of {shown}, numbers from 1 to {many}, or ranges such as "
        f"'1-{many}' and '420-900 nm'"
    )


_OHS_WAVELENGTHS = (
    *(466, 480, 500, 520, 536, 550, 566, 580, 596, 610, 626, 640, 656, 670, 686, 700),
    *(716, 730, 746, 760, 776, 790, 806, 820, 836, 850, 866, 880, 896, 910, 926, 940),
)
OHS = Sensor(
    name="ohs",
    bands=tuple(Band(name=f"B{i}", wavelength=w) for i, w in enumerate(_OHS_WAVELENGTHS, start=1)),
    rgb=("B14", "B7", "B2"),
)
"""Orbita hyperspectral satellites, 32 bands, 10 m (Li et al., 2022)."""

_SENTINEL2_WAVELENGTHS = {
    "B1": 442.7,
    "B2": 492.7,
    "B3": 559.8,
    "B4": 664.6,
    "B5": 704.1,
    "B6": 740.5,
    "B7": 782.8,
    "B8": 832.8,
    "B8A": 864.7,
    "B9": 945.1,
    "B10": 1373.5,
    "B11": 1613.7,
    "B12": 2202.4,
}
SENTINEL2 = Sensor(
    name="sentinel2",
    bands=tuple(Band(name=name, wavelength=w) for name, w in _SENTINEL2_WAVELENGTHS.items()),
    rgb=("B4", "B3", "B2"),
)
"""Sentinel-2A MSI, all 13 bands at 10 m."""

MTS12_DATES = ("March", "June", "September", "December")
MTS12_BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")


def mts12_sensor(order: str = "date") -> Sensor:
    """The stack of four Sentinel-2 dates with six bands each (24 channels).

    Args:
        order: "date" when channels run through all bands of March first, "band" when they run through all dates of
            B2 first. The archive's papers do not say which holds.

    Returns:
        The sensor with its bands in channel order.
    """
    pairs = [(d, b) for d in MTS12_DATES for b in MTS12_BANDS]
    if order == "band":
        pairs = [(d, b) for b in MTS12_BANDS for d in MTS12_DATES]
    elif order != "date":
        raise ValueError(f"order must be 'date' or 'band', not {order!r}")
    bands = tuple(Band(name=f"{b} {d}", wavelength=_SENTINEL2_WAVELENGTHS[b], date=d) for d, b in pairs)
    return Sensor(name="mts12", bands=bands, rgb=("B4 June", "B3 June", "B2 June"))


MTS12 = mts12_sensor()
"""Four Sentinel-2 dates of 2019 with six bands each, date-major, 10 m (Zhao & Ji, 2022)."""

OHS_SENTINEL2 = Sensor(
    name="ohs_sentinel2",
    bands=tuple(
        Band(name=f"{prefix} {band.name}", wavelength=band.wavelength)
        for prefix, sensor in (("OHS", OHS), ("S2", SENTINEL2))
        for band in sensor.bands
    ),
    rgb=("OHS B14", "OHS B7", "OHS B2"),
)
"""Both sensors' bands of the same place, 45 in all, which the simulated archive of that name holds."""

SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in (OHS, SENTINEL2, MTS12)}
