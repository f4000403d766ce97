"""The shift between domains: named parts, each drawn anew in every draw from a stated distribution.

Each quantity of a region is the archive's usual value plus a deviation of the region's domain (side, season, half) plus
one of the region itself. ``--shift PART=FACTOR`` multiplies all deviations of a part: 0 removes it, 2 doubles it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from spectral_tl_bench.simulation.domains import Region
from spectral_tl_bench.simulation.world.covers import SOILS, Cover, Plants
from spectral_tl_bench.simulation.world.integers import generator, rounded
from spectral_tl_bench.utils.errors import DataError

PARTS = {
    "shares": "classes of a region and their shares (log, SD .8 and .45), mixtures within a class (SD .22 and .1)",
    "texture": "size of patches, parcels and texture (log, SD .2 and .1)",
    "phenology": "season, greenness of kinds (SD .04 and .03) and classes (.09, .04), canopies of classes (.6 and .2)",
    "soil": "soil types (log, SD .7 and .4), grounds of classes (SD .6 and .2), contents of water (log, SD .4 and .3)",
    "light": "brightness (log, SD .03 and .03), its slope with wavelength (SD .03 and .02), haze (log, SD .3 and .2)",
    "noise": "noise of the sensor (log, SD .3 and .1)",
}
"""Parts of the shift: what varies and by how much, between domains and between the regions of one."""

LARGEST_FACTOR = 10.0

_SEASONS = {
    "spring": (0.96, 0.82, 0.52, 0.72, 0.80, 0.68),
    "summer": (0.97, 0.92, 0.76, 0.50, 0.76, 0.86),
    "autumn": (0.95, 0.84, 0.60, 0.46, 0.70, 0.76),
    "winter": (0.93, 0.66, 0.42, 0.62, 0.62, 0.58),
}
"""Usual green share of each kind of plants, in the order of ``Plants``, by season, over several climates."""
_DATES = (
    (0.95, 0.30, 0.15, 0.80, 0.60, 0.30),
    (0.97, 0.97, 0.80, 0.70, 0.88, 0.95),
    (0.95, 0.88, 0.65, 0.35, 0.72, 0.80),
    (0.92, 0.20, 0.15, 0.60, 0.50, 0.30),
)
"""The same in March, June, September and December in one temperate climate."""
_EXPECTED_SNOW = 0.02
_PRESENT = 0.65
"""Chance that a class occurs in a region of an archive of many classes."""
_FEWEST_CITIES = 3
_ABSENT = {"S": 20, "T": 18}
_EVERYWHERE = (1, 2, 3, 8, 15, 16)
_MANY_CLASSES = 12
_SMALLEST_SHARE = 0.003


@dataclass(frozen=True)
class Conditions:
    """What a region has that another has not.

    Attributes:
        shares: Share of each class, adding up to 1.
        patch_size: Size of patches relative to the usual.
        parcel_size: Size of parcels relative to the usual.
        texture_size: Size of texture relative to the usual.
        greenness: Green share of each kind of plants for each class and date, dates x classes x kinds.
        composition: Shift of each class from the first to the second of its mixtures.
        canopy: Offsets of each class along the main directions of variation of canopies, in SD, classes x 3.
        soils: Share of each of ``SOILS``, adding up to 1.
        ground: The same for all other materials.
        water: Multiples of suspended matter, chlorophyll and dissolved organic matter.
        snow: Share of open ground under snow at each date.
        brightness: Illumination relative to the usual, at each date.
        slope: Change of illumination from 450 to 1000 nm as a fraction, at each date.
        haze: Path reflectance at 480 nm, at each date.
        noise: Noise relative to the usual.
    """

    shares: np.ndarray
    patch_size: float
    parcel_size: float
    texture_size: float
    greenness: np.ndarray
    composition: np.ndarray
    canopy: np.ndarray
    soils: np.ndarray
    ground: np.ndarray
    water: np.ndarray
    snow: np.ndarray
    brightness: np.ndarray
    slope: np.ndarray
    haze: np.ndarray
    noise: float

    def record(self) -> dict[str, Any]:
        """What the archive's marker says of them, rounded to three places."""
        return {
            name: np.round(value, 3).tolist() if isinstance(value, np.ndarray) else round(value, 3)
            for name, value in vars(self).items()
        }


def shift_factors(given: Mapping[str, float] | None) -> dict[str, float]:
    """Return the factor of every part.

    Raises:
        DataError: If a part is unknown or its factor out of range.
    """
    factors = dict.fromkeys(PARTS, 1.0)
    for name, factor in (given or {}).items():
        if name not in PARTS:
            raise DataError(f"the shift has no part {name!r}; its parts are {', '.join(PARTS)}")
        if not (math.isfinite(factor) and 0 <= factor <= LARGEST_FACTOR):
            raise DataError(f"shift {name}={factor}: give a factor from 0 to {LARGEST_FACTOR:g}")
        factors[name] = float(factor)
    return factors


def parse_shift(text: str) -> dict[str, float]:
    """Return the factors of a text such as ``shares=0,phenology=2``.

    Raises:
        DataError: If it is no such text, or names a part twice.
    """
    factors: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (part.strip() for part in item.partition("="))
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not equals or math.isnan(factor) or name in factors:
            raise DataError(f"shift {item!r}: give each part once with its factor, such as shares=0,phenology=2")
        factors[name] = factor
    shift_factors(factors)
    return factors


class _Deviations:
    """Deviations of one region, by part."""

    def __init__(self, archive: str, draw: int, domain: str, region: str, factors: Mapping[str, float]) -> None:
        self._names = archive, draw
        self._domain, self._region, self._factors = domain, region, factors

    def __call__(
        self, part: str, quantity: str, size: int | tuple[int, ...], by_domain: float, by_region: float
    ) -> np.ndarray:
        """Normal deviations of a domain and a region with these SD, multiplied by the part's factor."""
        drawn = [
            sd * rounded(generator(*self._names, part, quantity, kind, name).standard_normal(size))
            for sd, kind, name in ((by_domain, "domain", self._domain), (by_region, "region", self._region))
        ]
        return np.asarray(self._factors[part] * (drawn[0] + drawn[1]))


def _exp(values: np.ndarray) -> np.ndarray:
    return rounded(np.exp(values))


def domain_of(region: Region) -> str:
    """The domain of a region: its season or half where it has one, else the side that its name begins with."""
    return region.season or (region.name[0] if region.name[1:].isdecimal() else region.name)


def draw_conditions(
    archive: str,
    covers: Sequence[Cover],
    regions: Sequence[Region],
    *,
    dates: int,
    draw: int,
    factors: Mapping[str, float],
) -> list[Conditions]:
    """Draw the conditions of every region of an archive.

    Args:
        archive: Name of the archive.
        covers: Its classes.
        regions: Its regions.
        dates: Number of acquisition dates.
        draw: Number of the draw.
        factors: Factor of each part of the shift; see :func:`shift_factors`.
    """
    present = _presence(archive, covers, regions, draw, factors["shares"])
    return [
        _conditions(archive, covers, region, here, dates, draw, factors)
        for region, here in zip(regions, present, strict=True)
    ]


def _presence(archive: str, covers: Sequence[Cover], regions: Sequence[Region], draw: int, factor: float) -> np.ndarray:
    """Which classes a region has, regions x classes: all, but in an archive of many classes."""
    present = np.ones((len(regions), len(covers)), dtype=bool)
    sides = np.array([domain_of(region) for region in regions])
    if len(covers) >= _MANY_CLASSES:
        for column, cover in enumerate(covers):
            for side in dict.fromkeys(sides.tolist()):
                members = np.flatnonzero(sides == side)
                if cover.code == _ABSENT.get(side):
                    present[members, column] = False
                elif factor > 0 and cover.code not in _EVERYWHERE:
                    rng = generator(archive, draw, "shares", "presence", side, cover.code)
                    order = rng.permutation(len(members))
                    kept = max(_FEWEST_CITIES, int(rng.binomial(len(members), _PRESENT)))
                    present[members[order[kept:]], column] = False
    return present


def _seasons(region: Region, dates: int) -> np.ndarray:
    """Usual greenness at each date, dates x kinds of plants."""
    if dates > 1:
        return np.array(_DATES)
    return np.array([_SEASONS.get(region.season, _SEASONS["summer"])])


def _conditions(
    archive: str,
    covers: Sequence[Cover],
    region: Region,
    present: np.ndarray,
    dates: int,
    draw: int,
    factors: Mapping[str, float],
) -> Conditions:
    deviation = _Deviations(archive, draw, domain_of(region), region.name, factors)
    prior = np.array([cover.prior for cover in covers])
    weights = np.where(present, prior * _exp(deviation("shares", "weights", len(covers), 0.8, 0.45)), 0.0)
    shares = np.maximum(weights / math.fsum(weights), np.where(present, _SMALLEST_SHARE, 0.0))
    sizes = _exp(deviation("texture", "sizes", 3, 0.2, 0.1))
    usual = _seasons(region, dates)
    if dates == 1 and region.season in _SEASONS:
        # The season is part of the shift: without phenology all domains share a middle one.
        middle = np.array(list(_SEASONS.values())).mean(axis=0)
        usual = middle + factors["phenology"] * (usual - middle)
    greenness = usual[:, None, :] + deviation("phenology", "kinds", (dates, 1, len(get_args(Plants))), 0.04, 0.03)
    greenness = greenness + deviation("phenology", "classes", (dates, len(covers), 1), 0.09, 0.04)
    soils = _exp(deviation("soil", "types", len(SOILS), 0.7, 0.4))

    def by_class(part: str, quantity: str) -> np.ndarray:
        common = deviation(part, quantity, (1, 3), 0.1, 0.1)
        return np.asarray(common + deviation(part, f"{quantity} of classes", (len(covers), 3), 0.6, 0.2))

    return Conditions(
        shares=rounded(shares / math.fsum(shares)),
        patch_size=float(sizes[0]),
        parcel_size=float(sizes[1]),
        texture_size=float(sizes[2]),
        greenness=rounded(np.clip(greenness, 0.02, 1.0)),
        composition=deviation("shares", "composition", len(covers), 0.22, 0.1),
        canopy=by_class("phenology", "canopy"),
        soils=rounded(soils / math.fsum(soils)),
        ground=by_class("soil", "ground"),
        water=_exp(deviation("soil", "water", 3, 0.4, 0.3)),
        snow=rounded(np.where(np.arange(dates) == 3, _EXPECTED_SNOW, 0.0)),
        brightness=_exp(deviation("light", "brightness", dates, 0.03, 0.03)),
        slope=rounded(deviation("light", "slope", dates, 0.03, 0.02)),
        haze=rounded(0.014 * _exp(deviation("light", "haze", dates, 0.3, 0.2))),
        noise=float(_exp(deviation("noise", "level", 1, 0.3, 0.1))[0]),
    )
