"""Reflectance of materials as smooth functions of wavelength, and the atmosphere that a sensor sees them through.

The curves follow the textbook shapes (Jensen, Remote Sensing of the Environment, ch. 11-14): chlorophyll and water
absorption in leaves, soils that brighten towards the infrared, water that darkens. They are plausible, not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Spectrum = np.ndarray
"""Reflectance (0-1) at a vector of wavelengths."""


@dataclass(frozen=True)
class Conditions:
    """What distinguishes one acquisition of a region from another.

    Attributes:
        gain: Broadband illumination relative to a clear day at high sun.
        slope: Change of illumination from 450 to 1000 nm, as a fraction; smooth in wavelength.
        haze: Path reflectance at 480 nm; falls with the power 1.6 of wavelength.
        vapour: Strength of the atmospheric water vapour bands, 1 for a temperate summer.
        soil: Brightness of soils, 1 for dry loam.
        red_edge: Shift of the red edge in nm; ripening and stress move it to shorter wavelengths.
        greenness: Phenological type ("evergreen", "deciduous", "crop", "winter_crop", "grass", "reed") to the share of
            its leaves that is green; 1 for a type that is not named.
        turbidity: Sediment in water, 1 for the reference.
        snow: Share of open ground under snow.
        texture_scale: Size of fields, crowns and buildings relative to the reference landscape.
    """

    gain: float = 1.0
    slope: float = 0.0
    haze: float = 0.01
    vapour: float = 1.0
    soil: float = 1.0
    red_edge: float = 0.0
    greenness: dict[str, float] = field(default_factory=dict)
    turbidity: float = 1.0
    snow: float = 0.0
    texture_scale: float = 1.0


def _bell(wavelength: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((wavelength - centre) / width) ** 2)


def _step(wavelength: np.ndarray, centre: float, width: float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip((wavelength - centre) / width, -60, 60)))


def leaf(wavelength: np.ndarray, *, green: float, plateau: float, water: float, red_edge: float) -> Spectrum:
    """Return the reflectance of a green canopy.

    Args:
        wavelength: nm.
        green: Height of the green peak above the chlorophyll floor.
        plateau: Near-infrared reflectance.
        water: Depth of the leaf water bands (970, 1200, 1450, 1940 nm), 1 for a turgid broad leaf.
        red_edge: Wavelength of the steepest rise, nm.
    """
    visible = 0.025 + green * _bell(wavelength, 552, 34)
    infrared = plateau * np.exp(-0.00042 * water * np.maximum(wavelength - 1000, 0))
    absorbed = 0.10 * _bell(wavelength, 972, 28) + 0.16 * _bell(wavelength, 1200, 55)
    absorbed = absorbed + 0.62 * _bell(wavelength, 1450, 75) + 0.72 * _bell(wavelength, 1950, 130)
    infrared = infrared * (1 - np.clip(water * absorbed, 0, 0.95))
    rise = _step(wavelength, red_edge, 12)
    return visible * (1 - rise) + infrared * rise


def ground(wavelength: np.ndarray, *, blue: float, red: float, infrared: float, clay: float = 0.0) -> Spectrum:
    """Return the reflectance of a mineral surface that rises from blue to the shortwave infrared.

    Args:
        wavelength: nm.
        blue: Reflectance at 450 nm.
        red: Reflectance at 670 nm.
        infrared: Reflectance towards 1700 nm.
        clay: Depth of the hydroxyl band at 2200 nm.
    """
    knots = (400, 450, 550, 670, 900, 1250, 1700, 2300)
    middle = red + 0.5 * (infrared - red)
    values = (0.85 * blue, blue, blue + 0.45 * (red - blue), red, middle, 0.5 * (middle + infrared), infrared, infrared)
    return np.interp(wavelength, knots, values) * (1 - clay * _bell(wavelength, 2210, 60))


def water(wavelength: np.ndarray, *, blue: float, sediment: float, algae: float = 0.0) -> Spectrum:
    """Return the reflectance of a water body.

    Args:
        wavelength: nm.
        blue: Scattering of clear water at 450 nm.
        sediment: Scattering of suspended matter at its maximum, about 600 nm.
        algae: Height of the green and 705 nm peaks of phytoplankton.
    """
    clear = blue * np.exp(-np.maximum(wavelength - 450, 0) / 95)
    matter = sediment * _bell(wavelength, 600, 95) + 0.25 * sediment * _bell(wavelength, 810, 45)
    bloom = algae * (_bell(wavelength, 560, 30) + 0.8 * _bell(wavelength, 706, 14))
    return 0.004 + clear + matter + bloom


def dry_vegetation(wavelength: np.ndarray) -> Spectrum:
    """Return the reflectance of senescent plants: no red edge, cellulose absorption at 2100 nm."""
    return ground(wavelength, blue=0.07, red=0.17, infrared=0.36) * (1 - 0.3 * _bell(wavelength, 2100, 90))


def snow(wavelength: np.ndarray) -> Spectrum:
    """Return the reflectance of snow: bright in the visible, dark beyond 1400 nm."""
    return 0.85 - 0.80 * _step(wavelength, 1300, 110) - 0.10 * _bell(wavelength, 1030, 45)


def _soil(wavelength: np.ndarray, brightness: float) -> Spectrum:
    return brightness * ground(wavelength, blue=0.09, red=0.19, infrared=0.37, clay=0.12)


_Leaf = tuple[str, float, float, float, float]
_LEAVES: dict[str, _Leaf] = {
    # material: phenological type, green peak, infrared plateau, leaf water, red edge
    "needle": ("evergreen", 0.030, 0.30, 1.15, 718),
    "broadleaf": ("deciduous", 0.050, 0.44, 1.00, 720),
    "shrub": ("evergreen", 0.050, 0.33, 0.80, 714),
    "crop": ("crop", 0.070, 0.50, 1.05, 722),
    "winter_crop": ("winter_crop", 0.065, 0.46, 1.00, 719),
    "grass": ("grass", 0.075, 0.38, 0.75, 712),
    "reed": ("reed", 0.045, 0.28, 1.20, 710),
}

_Mineral = Callable[[np.ndarray, Conditions], Spectrum]
_OTHERS: dict[str, _Mineral] = {
    "dry": lambda w, c: dry_vegetation(w),
    "soil": lambda w, c: _soil(w, c.soil),
    "dark_soil": lambda w, c: _soil(w, 0.5 * c.soil),
    "sand": lambda w, c: ground(w, blue=0.16, red=0.34, infrared=0.50) * (0.6 + 0.4 * c.soil),
    "gravel": lambda w, c: ground(w, blue=0.13, red=0.19, infrared=0.27, clay=0.05) * (0.6 + 0.4 * c.soil),
    "salt": lambda w, c: ground(w, blue=0.32, red=0.40, infrared=0.36) * (1 - 0.2 * _bell(w, 1450, 90)),
    "rock": lambda w, c: ground(w, blue=0.12, red=0.15, infrared=0.19, clay=0.2),
    "concrete": lambda w, c: ground(w, blue=0.20, red=0.25, infrared=0.30),
    "roof": lambda w, c: ground(w, blue=0.06, red=0.24, infrared=0.34),
    "asphalt": lambda w, c: ground(w, blue=0.075, red=0.09, infrared=0.13),
    "clear_water": lambda w, c: water(w, blue=0.050, sediment=0.012 * c.turbidity),
    "turbid_water": lambda w, c: water(w, blue=0.030, sediment=0.085 * c.turbidity),
    "algal_water": lambda w, c: water(w, blue=0.015, sediment=0.020 * c.turbidity, algae=0.035),
    "deep_water": lambda w, c: water(w, blue=0.075, sediment=0.004),
    "shadow": lambda w, c: np.full(len(w), 0.012),
}

MATERIALS = (*_LEAVES, *_OTHERS)
"""Names of the materials that land covers are mixed from."""

# Snow covers open ground, not forests or water.
_UNDER_SNOW = ("crop", "winter_crop", "grass", "dry", "soil", "dark_soil", "sand", "gravel", "salt", "rock", "roof")


def material_spectra(wavelength: np.ndarray, conditions: Conditions) -> np.ndarray:
    """Return the surface reflectance of every material on one day.

    Args:
        wavelength: Band centres in nm.
        conditions: The day and the region.

    Returns:
        Reflectance, materials (in the order of ``MATERIALS``) x bands.
    """
    bare = {
        "evergreen": 0.5 * dry_vegetation(wavelength),
        "deciduous": 0.5 * dry_vegetation(wavelength) + 0.2 * _soil(wavelength, conditions.soil),
        "crop": _soil(wavelength, conditions.soil),
        "winter_crop": _soil(wavelength, conditions.soil),
        "grass": dry_vegetation(wavelength),
        "reed": 0.7 * dry_vegetation(wavelength),
    }
    rows: dict[str, Spectrum] = {}
    for name, (kind, peak, plateau, moisture, edge) in _LEAVES.items():
        share = conditions.greenness.get(kind, 1.0)
        canopy = leaf(wavelength, green=peak, plateau=plateau, water=moisture, red_edge=edge + conditions.red_edge)
        rows[name] = share * canopy + (1 - share) * bare[kind]
    rows |= {name: curve(wavelength, conditions) for name, curve in _OTHERS.items()}
    for name in _UNDER_SNOW:
        rows[name] = (1 - conditions.snow) * rows[name] + conditions.snow * snow(wavelength)
    return np.stack([rows[name] for name in MATERIALS])


def atmosphere(wavelength: np.ndarray, conditions: Conditions, *, top: bool) -> tuple[Spectrum, Spectrum]:
    """Return how the atmosphere and the sun change a surface's reflectance: seen = factor * surface + path.

    Args:
        wavelength: Band centres in nm.
        conditions: The day and the region.
        top: Whether the archive holds top-of-atmosphere reflectance, with its water vapour bands left in.

    Returns:
        The factor and the path reflectance, each per band.
    """
    scattering = conditions.haze * (wavelength / 480.0) ** -1.6
    tilt = np.clip((wavelength - 700.0) / 550.0, -0.5, 1.0)
    factor = conditions.gain * (1 + conditions.slope * tilt) * (1 - 1.2 * scattering)
    if top:
        bands = 0.30 * _bell(wavelength, 945, 22) + 4.5 * _bell(wavelength, 1375, 30)
        factor = factor * np.exp(-conditions.vapour * bands)
    return factor, scattering
