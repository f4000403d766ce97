"""What a file says of its own bands: names, wavelengths, widths and bad bands, from its tags or its ENVI header."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from spectral_tl_bench.datasets.io.formats import sidecars, unreadable
from spectral_tl_bench.datasets.io.raster import data_channels, open_raster
from spectral_tl_bench.sensors import Band, Sensor
from spectral_tl_bench.utils.errors import DataError, one_line

_LARGEST_HEADER = 4 * 2**20
_ENTRY = re.compile(r"^[ \t]*([^={}\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
_NANOMETRES = {
    **dict.fromkeys(("nanometers", "nanometer", "nanometres", "nm"), 1.0),
    **dict.fromkeys(("micrometers", "micrometer", "micrometres", "microns", "um", "µm", "μm"), 1e3),
    **dict.fromkeys(("angstroms", "angstrom"), 0.1),
    **dict.fromkeys(("millimeters", "mm"), 1e6),
}
_INVERSE = {
    **dict.fromkeys(("wavenumber", "wavenumbers", "cm-1", "1/cm"), 1e7),
    **dict.fromkeys(("ghz", "gigahertz"), 299_792_458.0),
    **dict.fromkeys(("thz", "terahertz"), 299_792.458),
    **dict.fromkeys(("mhz", "megahertz"), 299_792_458e3),
}
"""Wavelength in nm times the number in this unit."""
_NO_UNIT = ("", "unknown", "none")
_LARGEST_MICROMETRES = 100.0
"""A wavelength without a unit that is smaller is in micrometres: nanometres begin with the ultraviolet."""
_AGREEING = 0.1
"""Share by which the wavelength of a file's band may differ from the sensor's; other bands are farther off."""


def bad_bands(source: Any, path: Path | str) -> tuple[int, ...]:
    """Channels, counted from 0, that the ENVI header of an open raster marks as bad (``bbl``).

    Raises:
        DataError: If the header cannot be read.
    """
    flags = envi_header(source, path).get("bbl", "").strip(" {}").split(",")
    if len(flags) != source.count:
        return ()
    return tuple(channel for channel, flag in enumerate(flags) if _number(flag, 1.0) == 0)


def described_bands(path: Path) -> tuple[Band, ...]:
    """Read the bands that a file describes.

    A band's wavelength and width (full width at half maximum) come from its tags ``wavelength`` and ``fwhm``, else from
    the ENVI header, else from GDAL's IMAGERY domain (``CENTRAL_WAVELENGTH_UM``, ``FWHM_UM``, which GDAL itself rounds
    where it reads ENVI); its name from the header, else from its description. A band without a name of its own is
    called B and its number.

    Args:
        path: The file.

    Raises:
        DataError: If the file cannot be read, or does not say of every band where it lies.
    """
    try:
        with rasterio.Env(), open_raster(path) as source:
            header = envi_header(source, path)
            numbers = [channel + 1 for channel in data_channels(source)]
            names = [source.descriptions[number - 1] or "" for number in numbers]
            imagery = [source.tags(number, ns="IMAGERY") for number in numbers]
            tags = [{key.lower(): text for key, text in source.tags(number).items()} for number in numbers]
    except RasterioError as error:
        raise unreadable(path, error) from error
    count = len(names)
    try:
        tagged = [_Unit(tag) for tag in tags]
        wavelengths = _first_complete(
            [unit.wavelength(tag.get("wavelength")) for unit, tag in zip(tagged, tags, strict=True)],
            [_Unit(header).wavelength(value) for value in _listed(header, "wavelength", count)],
            [_number(band.get("CENTRAL_WAVELENGTH_UM"), 1e3) for band in imagery],
        )
        widths = _first_complete(
            [unit.width(tag.get("fwhm"), tag.get("wavelength")) for unit, tag in zip(tagged, tags, strict=True)],
            [
                _Unit(header).width(width, wavelength)
                for width, wavelength in zip(
                    _listed(header, "fwhm", count), _listed(header, "wavelength", count), strict=True
                )
            ],
            [_number(band.get("FWHM_UM"), 1e3) for band in imagery],
        )
    except ValueError as error:
        raise DataError(
            f"{path} gives the wavelengths of its bands in {str(error)!r}, which is no wavelength; list the bands "
            "under 'sensor' in the protocol file"
        ) from None
    missing = [number for number, wavelength in enumerate(wavelengths, start=1) if wavelength is None]
    if missing:
        raise DataError(
            f"{path} does not say the wavelength of band {missing[0]}: it has neither CENTRAL_WAVELENGTH_UM in GDAL's "
            "IMAGERY domain nor an ENVI header with 'wavelength' beside it; list the bands under 'sensor' in the "
            "protocol file"
        )
    listed = [name.strip() for name in header.get("band names", "").strip("{}").split(",")]
    if len(listed) == count:
        names = listed
    if len({name.strip() for name in names}) < count or not all(name.strip() for name in names):
        names = [f"B{number}" for number in range(1, count + 1)]
    try:
        return tuple(
            Band.model_validate({"name": name.strip(), "wavelength": wavelength, "bandwidth": width or None})
            for name, wavelength, width in zip(names, wavelengths, widths, strict=True)
        )
    except ValueError as error:
        raise DataError(f"{path} describes bands that cannot be: {one_line(str(error))[:160]}") from error


def require_agreement(path: Path, imagery: Sequence[Mapping[str, str]], sensor: Sensor) -> None:
    """Refuse a file whose bands lie elsewhere than the sensor's.

    Args:
        path: The file.
        imagery: What it says of each band in GDAL's IMAGERY domain, maybe nothing.
        sensor: All bands of the file.

    Raises:
        DataError: If a wavelength is farther off than a tenth.
    """
    for number, (said, band) in enumerate(zip(imagery, sensor.bands, strict=False), start=1):
        given = _number(said.get("CENTRAL_WAVELENGTH_UM"), 1e3)
        if given is not None and abs(given - band.wavelength) > _AGREEING * band.wavelength:
            raise DataError(
                f"band {number} of {path} is at {given:g} nm, {band.name} of {sensor.name} at {band.wavelength:g} nm; "
                "all files of a protocol have the same bands in the same order, those of its sensor"
            )


def envi_header(source: Any, path: Path | str) -> dict[str, str]:
    """The entries of an ENVI header: what GDAL read of it, or the file ``tile.hdr`` beside a raster of another format.

    Raises:
        DataError: If the header cannot be read.
    """
    if source.driver == "ENVI":
        return {name.lower().replace("_", " "): value.strip() for name, value in source.tags(ns="ENVI").items()}
    beside = sidecars(path).get("hdr")
    if beside is None or not Path(beside).is_file() or Path(beside).stat().st_size > _LARGEST_HEADER:
        return {}
    try:
        text = Path(beside).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(beside, error) from error
    if not text.startswith("ENVI"):
        return {}
    return {name.lower(): value.strip() for name, value in _ENTRY.findall(text)}


def _listed(header: Mapping[str, str], name: str, count: int) -> Sequence[str | None]:
    values = header.get(name, "").strip("{}").split(",")
    return values if len(values) == count else [None] * count


class _Unit:
    """The unit of wavelengths and widths in a header or in the tags of a band.

    Raises:
        ValueError: With the unit, where it is none of wavelengths.
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        written = entries.get("wavelength units", entries.get("wavelength_units", "")).strip()
        unit = written.lower()
        self.inverse = _INVERSE.get(unit)
        self.factor = _NANOMETRES.get(unit, 1.0)
        if unit in _NO_UNIT:
            first = _number(entries.get("wavelength", "").strip("{}").split(",")[0], 1.0)
            self.factor = 1e3 if first is not None and first < _LARGEST_MICROMETRES else 1.0
        elif self.inverse is None and unit not in _NANOMETRES and "wavelength" in entries:
            raise ValueError(written)

    def wavelength(self, value: str | None) -> float | None:
        """A wavelength in nm."""
        if self.inverse is None:
            return _number(value, self.factor)
        number = _number(value, 1.0)
        return None if not number else _rounded(self.inverse / number)

    def width(self, value: str | None, wavelength: str | None) -> float | None:
        """A width in nm, of a band at a wavelength in this unit."""
        if self.inverse is None:
            return _number(value, self.factor)
        width, middle = _number(value, 1.0), _number(wavelength, 1.0)
        return None if not width or not middle else _rounded(self.inverse * width / middle**2)


def _number(value: str | None, factor: float) -> float | None:
    with contextlib.suppress(ValueError):
        if value is not None and math.isfinite(number := float(value)):
            return _rounded(number * factor)
    return None


def _rounded(value: float) -> float:
    # Six digits: micrometres times 1000 would otherwise leave 442.70000000000005 nm.
    return float(f"{value:.6g}")


def _first_complete(*sources: list[float | None]) -> list[float | None]:
    """The first list that says something of every band, else the one that says most."""
    return max(sources, key=lambda values: sum(value is not None for value in values))
