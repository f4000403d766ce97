"""Spectra of materials: measured ones from the table ``spectra.csv``; water, snow and shadow by formula.

The table is made by ``benchmarks/make_material_spectra.py`` from the spectral library of earthlib (MIT licence).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from spectral_tl_bench.sensors import Band

DIRECTIONS = 3
"""Main directions of variation of a material, beside its mean."""

_SCALE = 10_000
GRID = np.arange(400, 2451, 10)
"""Wavelengths in nm that spectra are computed at."""

_SENTINEL2_WIDTHS = {443: 21, 493: 66, 560: 36, 665: 31, 704: 15, 740: 15, 783: 20, 833: 106, 865: 21, 945: 20}
_SENTINEL2_WIDTHS |= {1374: 31, 1614: 91, 2202: 175}
_NARROW = 12.0
"""Width in nm of a band whose own is not known and that is not one of Sentinel-2."""


@cache
def _table() -> dict[str, np.ndarray]:
    """Material to its mean and directions, (1 + DIRECTIONS) x wavelengths of ``GRID``."""
    text = files("spectral_tl_bench.simulation.world").joinpath("spectra.csv").read_text(encoding="utf-8")
    header, *lines = (line.split(",") for line in text.splitlines())
    wavelengths = np.array(header[3:], dtype=float)
    rows: dict[str, list[np.ndarray]] = {}
    for name, _, _, *values in lines:
        # The atmosphere's water bands, where nothing was measured, are bridged by straight lines.
        rows.setdefault(name, []).append(np.interp(GRID, wavelengths, np.array(values, dtype=float)) / _SCALE)
    return {name: np.stack(spectra) for name, spectra in rows.items()}


def _bell(centre: float, width: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * ((GRID - centre) / width) ** 2))


# Absorption of pure water, 1/m (Pope & Fry 1997; Hale & Querry 1973), at some wavelengths in nm.
_WATER_AT = (400, 450, 500, 550, 600, 650, 700, 740, 800, 840, 900, 970, 1070, 1200, 1450, 2450)
_WATER_ABSORBS = (0.007, 0.009, 0.02, 0.057, 0.22, 0.34, 0.62, 2.4, 2.1, 3.9, 6.5, 45, 15, 100, 2500, 5000)


@cache
def water_spectrum(sediment: float, chlorophyll: float, organic: float) -> np.ndarray:
    """Return the reflectance of water (Gordon et al. 1988: R = 0.18 pi bb / (a + bb), and 0.4 % of sky glint).

    Args:
        sediment: Suspended matter, g/m3.
        chlorophyll: Phytoplankton pigment, mg/m3.
        organic: Absorption of dissolved organic matter at 440 nm, 1/m.
    """
    absorption = np.exp(np.interp(GRID, _WATER_AT, np.log(_WATER_ABSORBS)))
    absorption = absorption + organic * np.exp(-0.015 * (GRID - 440.0))
    absorption = absorption + 0.05 * chlorophyll**0.8 * (_bell(440, 40) + 0.5 * _bell(675, 14))
    scattering = 0.0022 * (GRID / 450.0) ** -4.3 + 0.012 * sediment * (GRID / 555.0) ** -0.6
    scattering = scattering + 0.0015 * chlorophyll
    return np.asarray(0.004 + 0.18 * np.pi * scattering / (absorption + scattering))


_WATERS = {"clear_water": (1.5, 1.0, 0.15), "deep_water": (0.3, 0.3, 0.02), "algal_water": (6.0, 35.0, 0.6)}
_WATERS |= {"turbid_water": (35.0, 3.0, 0.5)}


def _varied_water(sediment: float, chlorophyll: float, organic: float) -> np.ndarray:
    """Mean and directions of a water type: one standard deviation (a factor 1.6) of each of its constituents."""
    mean = water_spectrum(sediment, chlorophyll, organic)
    others = (
        water_spectrum(1.6 * sediment, chlorophyll, organic),
        water_spectrum(sediment, 1.6 * chlorophyll, organic),
        water_spectrum(sediment, chlorophyll, 1.6 * organic),
    )
    return np.stack((mean, *(other - mean for other in others)))


@cache
def _snow() -> np.ndarray:
    """Snow: bright in the visible, dark beyond 1400 nm; it varies by grain size and dirt."""
    clean = 0.85 - 0.80 / (1 + np.exp(-(GRID - 1300) / 110)) - 0.10 * _bell(1030, 45)
    return np.stack((clean, 0.06 * _bell(1100, 250), 0.05 * _bell(450, 250), 0 * clean))


def material(name: str, water: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Return the mean reflectance of a material and its directions of variation, (1 + DIRECTIONS) x ``GRID``.

    Args:
        name: A material of the table, "snow", "shadow" or a water type.
        water: Multiples of suspended matter, chlorophyll and dissolved organic matter, for water types.
    """
    if name in _WATERS:
        sediment, chlorophyll, organic = (base * factor for base, factor in zip(_WATERS[name], water, strict=True))
        return _varied_water(sediment, chlorophyll, organic)
    if name == "snow":
        return _snow()
    if name == "shadow":
        return np.stack((0.012 + 0 * GRID, *(0.0 * GRID for _ in range(DIRECTIONS))))
    return _table()[name]


def band_responses(bands: Sequence[Band]) -> np.ndarray:
    """Return the response of each band, bands x ``GRID``, each adding up to 1.

    Bands are Gaussian with their own bandwidth, or that of Sentinel-2's band of the same wavelength, or 12 nm.
    """
    rows = []
    for band in bands:
        width: float = band.bandwidth or _SENTINEL2_WIDTHS.get(round(band.wavelength), 0)
        response = _bell(band.wavelength, max(width, _NARROW) / 2.355)
        rows.append(response / response.sum())
    return np.stack(rows)
