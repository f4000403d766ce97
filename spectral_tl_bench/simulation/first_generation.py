"""The first generation of simulated archives, as the writer uses it."""

from __future__ import annotations

from typing import Any

import numpy as np

from spectral_tl_bench.simulation.archives import Archive, Tile
from spectral_tl_bench.simulation.domains import Region
from spectral_tl_bench.simulation.fields import generator
from spectral_tl_bench.simulation.landscape import Landscape
from spectral_tl_bench.simulation.marker import GENERATOR_VERSION
from spectral_tl_bench.simulation.scene import calibrate, photograph, sensor_view


class FirstGeneration:
    """All regions of an archive; the seed varies the landscape and, a little, the acquisition.

    Attributes:
        archive: The archive.
        seed: Seed of every random choice.
        regions: Its regions.
    """

    def __init__(self, archive: Archive, seed: int) -> None:
        self.archive = archive
        self.seed = seed
        self.regions = archive.regions(seed)

    def scene(self, region: Region, size: int, grid: np.ndarray) -> FirstScene:
        """Return a region ready to be rendered; ``grid`` is True where it has a tile of ``size`` px."""
        return FirstScene(self, region, size, grid)

    def record(self) -> dict[str, Any]:
        """What the archive's marker says of it."""
        return {"generator_version": GENERATOR_VERSION, "seed": self.seed}


class FirstScene:
    """A region: its landscape, and how the sensor sees it."""

    def __init__(self, world: FirstGeneration, region: Region, size: int, grid: np.ndarray) -> None:
        archive = world.archive
        self._archive, self._seed, self._size = archive, world.seed, size
        self._landscape = Landscape(
            archive.covers,
            region.shares,
            seed=world.seed,
            name=f"{archive.name} {region.name}",
            texture_scale=region.conditions[0].texture_scale,
            inclusions=archive.inclusions,
        )
        calibrate(self._landscape, size, grid)
        bands = archive.sensor.bands
        dates = list(dict.fromkeys(band.date for band in bands))
        wavelengths = [[band.wavelength for band in bands if band.date == date] for date in dates]
        self._view = sensor_view(list(zip(wavelengths, region.conditions, strict=True)), top=archive.top_of_atmosphere)

    def tile(self, tile: Tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return stored values, uint16, bands x size x size; class codes; a slow field for gaps in the survey."""
        archive, size = self._archive, self._size
        noise = generator(self._seed, archive.name, tile.image.name, "noise")
        codes, seen, survey = photograph(self._landscape, self._view, tile.row * size, tile.column * size, size, noise)
        # Real products are stored as multiples of 1/10000 but resolve fewer levels; 0 would read as no data.
        stored = np.clip(np.rint(seen * (archive.sensor.scale / archive.step)) * archive.step, archive.step, 20_000)
        return stored.astype(np.uint16).transpose(2, 0, 1), codes, survey
