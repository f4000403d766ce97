"""A scene: a landscape as one sensor sees it on its days, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_tl_bench.simulation.landscape import Landscape
from spectral_tl_bench.simulation.spectra import Conditions, atmosphere, material_spectra

_SHADE = 0.06
_HAZE_VARIATION = 0.25
_SAMPLES_PER_SIDE = 160


@dataclass(frozen=True)
class View:
    """What a sensor makes of the materials.

    Attributes:
        surface: Reflectance of each material as seen, materials x bands.
        path: Reflectance that the atmosphere adds, per band.
    """

    surface: np.ndarray
    path: np.ndarray


def sensor_view(dates: Sequence[tuple[Sequence[float], Conditions]], *, top: bool) -> View:
    """Return how the materials look.

    Args:
        dates: Wavelengths in nm and conditions of each acquisition, in the order of the bands.
        top: Whether the water vapour bands of top-of-atmosphere reflectance are left in.
    """
    surface, path = [], []
    for wavelengths, conditions in dates:
        own = np.array(wavelengths)
        factor, scattered = atmosphere(own, conditions, top=top)
        surface.append(material_spectra(own, conditions) * factor)
        path.append(scattered)
    return View(np.concatenate(surface, axis=1).astype(np.float32), np.concatenate(path).astype(np.float32))


def calibrate(landscape: Landscape, size: int, grid: np.ndarray) -> None:
    """Give the covers of a landscape their shares on the tiles of a grid.

    Args:
        landscape: The landscape; changed in place.
        size: Side of a tile in px.
        grid: True where there is a tile.
    """
    height, width = size * grid.shape[0], size * grid.shape[1]
    rows = np.linspace(0, height - 1, min(height, _SAMPLES_PER_SIDE)).round()
    columns = np.linspace(0, width - 1, min(width, _SAMPLES_PER_SIDE)).round()
    landscape.calibrate(rows, columns, grid[np.ix_((rows // size).astype(int), (columns // size).astype(int))])


def photograph(
    landscape: Landscape, view: View, top: int, left: int, size: int, noise: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a square part of a landscape as the sensor sees it.

    Args:
        landscape: The calibrated landscape.
        view: The sensor's view of its materials.
        top: First row in the scene.
        left: First column.
        size: Rows and columns.
        noise: Random stream of the sensor's noise.

    Returns:
        Class codes, uint8, size x size; reflectance, float32, size x size x bands; a slow field of unit variance,
        size x size, for gaps in the survey.
    """
    codes, shares = landscape.crop(top, left, size)
    slope, haze, survey = landscape.relief(np.arange(top, top + size), np.arange(left, left + size))
    seen = shares @ view.surface
    seen *= np.exp(_SHADE * slope)[..., None]
    seen += np.exp(_HAZE_VARIATION * haze)[..., None] * view.path
    seen += noise.standard_normal(seen.shape, dtype=np.float32) * (0.0015 + 0.012 * seen)
    return codes, seen, survey
