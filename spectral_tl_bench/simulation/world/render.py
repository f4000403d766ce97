"""A region as one sensor sees it on its days: stored values and labels of each tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spectral_tl_bench.sensors import Band
from spectral_tl_bench.simulation.archives import Archive, Tile
from spectral_tl_bench.simulation.domains import Region
from spectral_tl_bench.simulation.world.covers import COVERS, PLANTS, SOILS, Cover, Mixture
from spectral_tl_bench.simulation.world.integers import rounded, sensor_noise
from spectral_tl_bench.simulation.world.landscape import MARGIN, WEIGHT, WRONG_LABELS, Landscape
from spectral_tl_bench.simulation.world.materials import DIRECTIONS, GRID, band_responses, material
from spectral_tl_bench.simulation.world.shift import Conditions, draw_conditions, shift_factors

_STEP = 1e-5
"""Reflectance is computed in whole multiples of this."""
_VARIATION = 0.65
"""Variation within a class relative to that of the spectral library, which covers the world."""
_LIGHT, _HAZE = 0.08, 0.4
"""SD of illumination and haze within a domain, as fractions."""
_NOISE = 0.0012, 0.010
_BARE: dict[str, Mixture] = {
    "evergreen": {"dry": 0.5, "shadow": 0.5},
    "deciduous": {"wood": 0.3, "dry": 0.3, "shadow": 0.4},
    "crop": {"soil": 0.8, "dry": 0.2},
    "winter_crop": {"soil": 0.9, "dry": 0.1},
    "grass": {"dry": 0.8, "soil": 0.2},
    "reed": {"dry": 0.7, "shadow": 0.3},
}
"""What is seen of plants that are not green."""
_TABLE_NAMES = {"winter_crop": "crop"}
_WATERS = ("clear_water", "turbid_water", "algal_water", "deep_water")
_NOT_UNDER_SNOW = (*_WATERS, "shadow", "needle", "broadleaf", "snow")


class World:
    """One draw of an archive's world.

    Attributes:
        archive: The archive.
        draw: Number of the draw.
        factors: Factor of each part of the shift.
        regions: Its regions.
        conditions: Conditions of each region by name.
    """

    generation = 2

    def __init__(self, archive: Archive, *, draw: int = 0, shift: Mapping[str, float] | None = None) -> None:
        """Draw the conditions.

        Args:
            archive: The archive.
            draw: Number of the draw.
            shift: Factor of each part of the shift that is not 1.

        Raises:
            DataError: If the shift has no such part, or a factor is out of range.
        """
        self.archive = archive
        self.draw = draw
        self.factors = shift_factors(shift)
        # Only names, numbers of tiles and places of the regions are taken.
        self.regions = archive.regions(0)
        self._covers = COVERS[archive.name]
        bands = archive.sensor.bands
        self._dates = list(dict.fromkeys(band.date for band in bands))
        drawn = draw_conditions(
            archive.name, self._covers, self.regions, dates=len(self._dates), draw=draw, factors=self.factors
        )
        self.conditions = {region.name: part for region, part in zip(self.regions, drawn, strict=True)}

    def scene(self, region: Region, size: int, grid: np.ndarray) -> Scene:
        """Return a region ready to be rendered tile by tile.

        Args:
            region: The region.
            size: Side of a tile in px.
            grid: True where the region's grid has a tile.
        """
        return Scene(self, region, size, grid, self._covers, self._dates)

    def record(self) -> dict[str, Any]:
        """What the archive's marker says of the world."""
        return {
            "generator_version": self.generation,
            "draw": self.draw,
            "shift": self.factors,
            "wrong_labels": WRONG_LABELS,
            "conditions": {name: part.record() for name, part in self.conditions.items()},
        }


class Scene:
    """A region: its landscape, and how the sensor sees it."""

    def __init__(
        self, world: World, region: Region, size: int, grid: np.ndarray, covers: Sequence[Cover], dates: Sequence[Any]
    ) -> None:
        """Set up the landscape and compute the spectra.

        Args:
            world: The draw.
            region: The region.
            size: Side of a tile in px.
            grid: True where the region's grid has a tile.
            covers: Classes of the archive.
            dates: Dates of the sensor's bands.
        """
        self._archive, self._names = world.archive, (world.archive.name, world.draw)
        self._size = size
        conditions = world.conditions[region.name]
        self._noise = conditions.noise
        self._landscape = Landscape(covers, conditions, (*self._names, region.name), size)
        self._landscape.calibrate(size, grid)
        bands = world.archive.sensor.bands
        order = [dates.index(band.date) for band in bands]
        responses = band_responses(bands)
        surface = np.stack([_spectra(covers, conditions, date) for date in range(len(dates))])
        in_bands = [(surface[date] * responses[b]).sum(axis=-1) for b, date in enumerate(order)]
        # Whole multiples of a small step: the products with whole weights are exact in float64.
        self._spectra = np.rint(np.stack(in_bands, axis=-1) / _STEP)
        factor, path = _atmosphere(bands, order, conditions, top=world.archive.top_of_atmosphere)
        self._factor, self._path = (rounded(part * 16).astype(np.float32) / np.float32(16) for part in (factor, path))

    def tile(self, tile: Tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render a tile.

        Returns:
            Stored values, uint16, bands x size x size; class codes, uint8, size x size; a slow field of unit variance,
            size x size, for gaps in the survey.
        """
        size, archive = self._size, self._archive
        crop = self._landscape.crop(tile.row * size, tile.column * size, size)
        surface = np.empty((*crop.covers.shape, self._spectra.shape[-1]))
        for number in np.unique(crop.covers):
            chosen = crop.covers == number
            surface[chosen] = crop.weights[chosen] @ self._spectra[number]
        seen = _spread(surface.astype(np.float32) * np.float32(_STEP / WEIGHT))
        inner = slice(MARGIN, -MARGIN)
        light, haze = (field[inner, inner, None].astype(np.float32) for field in (crop.light, crop.haze))
        seen *= (np.float32(1) + np.float32(_LIGHT) * light) * self._factor
        seen += np.maximum(np.float32(1) + np.float32(_HAZE) * haze, np.float32(0.2)) * self._path
        noise = sensor_noise(seen.shape, *self._names, tile.image.name, "noise")
        constant, relative = (np.float32(self._noise * part) for part in _NOISE)
        seen += noise * (constant + relative * np.maximum(seen, np.float32(0)))
        stored = np.rint(seen * np.float32(archive.sensor.scale / archive.step)) * np.float32(archive.step)
        # 0 would read as no data.
        stored = np.clip(stored, archive.step, 20_000)
        return stored.astype(np.uint16).transpose(2, 0, 1), crop.labels, crop.survey


def _spread(seen: np.ndarray) -> np.ndarray:
    """Mix each pixel with its neighbours (point spread) and drop the margin."""
    edge, centre = np.float32(0.1875), np.float32(0.625)
    rows = centre * seen[1:-1] + edge * (seen[:-2] + seen[2:])
    return np.asarray(centre * rows[:, 1:-1] + edge * (rows[:, :-2] + rows[:, 2:]))


def _spectra(covers: Sequence[Cover], conditions: Conditions, date: int) -> np.ndarray:
    """Spectra of the three mixtures of each class and their variation, classes x 12 x wavelengths."""
    rows = []
    for number, cover in enumerate(covers):
        for mixture in (cover.first, cover.second, cover.accent):
            rows.append(_mixed(mixture, conditions, number, date))
    return np.stack(rows).reshape(len(covers), 3 * (1 + DIRECTIONS), len(GRID))


def _mixed(mixture: Mixture, conditions: Conditions, number: int, date: int) -> np.ndarray:
    total = sum(mixture.values())
    parts = [share / total * _seen(name, conditions, number, date) for name, share in mixture.items()]
    return np.asarray(sum(parts))


def _seen(name: str, conditions: Conditions, number: int, date: int) -> np.ndarray:
    """A material's mean and variation in a class of a region, (1 + directions) x wavelengths."""
    if name == "soil":
        pairs = zip(SOILS, conditions.soils, strict=True)
        return np.asarray(sum(share * _seen(kind, conditions, number, date) for kind, share in pairs))
    spectra = material(_TABLE_NAMES.get(name, name), conditions.water.tolist()).copy()
    # The spread of plants and of all else is the library's; waters state their own.
    offsets = (conditions.canopy if name in PLANTS else conditions.ground)[number]
    if name not in _WATERS:
        spectra[1:] *= _VARIATION
        spectra[0] += sum(offset * row for offset, row in zip(offsets, spectra[1:], strict=True))
    spectra[0] = np.maximum(spectra[0], 0.004)
    if name in PLANTS:
        kind = PLANTS[name]
        green = float(conditions.greenness[date, number, list(_BARE).index(kind)])
        bare = _mixed(_BARE[kind], conditions, number, date)
        spectra = green * spectra + (1 - green) * bare
    snow = float(conditions.snow[date])
    if snow and name not in _NOT_UNDER_SNOW:
        spectra = (1 - snow) * spectra + snow * material("snow")
    return np.asarray(spectra)


def _atmosphere(
    bands: Sequence[Band], order: Sequence[int], conditions: Conditions, *, top: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What a band's reflectance is multiplied by, and what haze adds to it, each per band."""
    wavelengths = np.array([band.wavelength for band in bands])
    brightness, slope, haze = (
        np.array([values[date] for date in order])
        for values in (conditions.brightness, conditions.slope, conditions.haze)
    )
    path = haze * (wavelengths / 480.0) ** -1.6
    tilt = np.clip((wavelengths - 700.0) / 550.0, -0.5, 1.0)
    factor = brightness * (1 + slope * tilt) * (1 - 1.2 * path)
    if top:
        vapour = 0.30 * np.exp(-0.5 * ((wavelengths - 945) / 22) ** 2)
        vapour = vapour + 4.5 * np.exp(-0.5 * ((wavelengths - 1375) / 30) ** 2)
        factor = factor * np.exp(-vapour)
    return factor, path
