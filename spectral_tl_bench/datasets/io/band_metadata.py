"""What a file says of its own bands: names, wavelengths and widths, from its tags or the ENVI header beside it."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from spectral_tl_bench.datasets.io.raster import open_tile, unreadable
from spectral_tl_bench.sensors import Band, Sensor
from spectral_tl_bench.utils.errors import DataError, one_line
from spectral_tl_bench.utils.paths import leads_out

_LARGEST_HEADER = 4 * 2**20
_ENTRY = re.compile(r"^[ \t]*([^={}\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
_NANOMETRES = {"nanometers": 1.0, "nanometer": 1.0, "nm": 1.0, "micrometers": 1e3, "micrometer": 1e3, "microns": 1e3}
_NANOMETRES |= {"um": 1e3, "µm": 1e3, "μm": 1e3}
_LARGEST_MICROMETRES = 100.0
"""A wavelength without a unit that is smaller is in micrometres: nanometres begin with the ultraviolet."""
_AGREEING = 0.1
"""Share by which the wavelength of a file's band may differ from the sensor's; other bands are farther off."""


def header_beside(path: Path, root: Path) -> Path | None:
    """The ENVI header beside a file (``tile.hdr`` or ``tile.tif.hdr``), None where there is none in its folder."""
    for header in (path.with_suffix(".hdr"), path.with_name(f"{path.name}.hdr")):
        if header.is_file() and not leads_out(root, header):
            return header
    return None


def described_bands(path: Path, root: Path) -> tuple[Band, ...]:
    """Read the bands that a file describes.

    A band's wavelength and width (full width at half maximum) come from its tags ``wavelength`` and ``fwhm``, else from
    the ENVI header, else from GDAL's IMAGERY domain (``CENTRAL_WAVELENGTH_UM``, ``FWHM_UM``, which GDAL itself rounds
    where it reads ENVI); its name from the header, else from its description. A band without a name of its own is
    called B and its number.

    Args:
        path: The file.
        root: Folder of the tiles, which a header beside the file does not lead out of.

    Raises:
        DataError: If the file cannot be read, or does not say of every band where it lies.
    """
    try:
        with rasterio.Env(), open_tile(path) as source:
            names = [name or "" for name in source.descriptions]
            imagery = [source.tags(band, ns="IMAGERY") for band in source.indexes]
            tags = [{key.lower(): text for key, text in source.tags(band).items()} for band in source.indexes]
    except RasterioError as error:
        raise unreadable(path, error) from error
    header = _envi_header(path, root)
    many = len(names)
    wavelengths = _first_complete(
        [_number(said.get("wavelength"), _nanometres(said)) for said in tags],
        _listed(header, "wavelength", many),
        [_number(said.get("CENTRAL_WAVELENGTH_UM"), 1e3) for said in imagery],
    )
    missing = [number for number, wavelength in enumerate(wavelengths, start=1) if wavelength is None]
    if missing:
        raise DataError(
            f"{path} does not say the wavelength of band {missing[0]}: it has neither CENTRAL_WAVELENGTH_UM in GDAL's "
            "IMAGERY domain nor an ENVI header with 'wavelength' beside it; list the bands under 'sensor' in the "
            "protocol file"
        )
    widths = _first_complete(
        [_number(said.get("fwhm"), _nanometres(said)) for said in tags],
        _listed(header, "fwhm", many),
        [_number(said.get("FWHM_UM"), 1e3) for said in imagery],
    )
    listed = [name.strip() for name in header.get("band names", "").strip("{}").split(",")]
    if len(listed) == many:
        names = listed
    if len({name.strip() for name in names}) < many or not all(name.strip() for name in names):
        names = [f"B{number}" for number in range(1, many + 1)]
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


def _envi_header(path: Path, root: Path) -> dict[str, str]:
    header = header_beside(path, root)
    if header is None or os.path.getsize(header) > _LARGEST_HEADER:
        return {}
    try:
        text = header.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise unreadable(header, error) from error
    if not text.startswith("ENVI"):
        return {}
    return {name.lower(): value.strip() for name, value in _ENTRY.findall(text)}


def _listed(header: Mapping[str, str], name: str, many: int) -> list[float | None]:
    values = header.get(name, "").strip("{}").split(",")
    if len(values) != many:
        return [None] * many
    return [_number(value, _nanometres(header)) for value in values]


def _nanometres(said: Mapping[str, str]) -> float:
    """Nanometres in the unit of wavelengths and widths."""
    unit = said.get("wavelength units", said.get("wavelength_units", "")).strip().lower()
    if unit in _NANOMETRES:
        return _NANOMETRES[unit]
    first = _number(said.get("wavelength", "").strip("{}").split(",")[0], 1.0)
    return 1e3 if first is not None and first < _LARGEST_MICROMETRES else 1.0


def _number(value: str | None, factor: float) -> float | None:
    with contextlib.suppress(ValueError):
        if value is not None and math.isfinite(number := float(value)):
            # Six digits: micrometres times 1000 would otherwise leave 442.70000000000005 nm.
            return float(f"{number * factor:.6g}")
    return None


def _first_complete(*sources: list[float | None]) -> list[float | None]:
    """The first list that says something of every band, else the one that says most."""
    return max(sources, key=lambda values: sum(value is not None for value in values))
