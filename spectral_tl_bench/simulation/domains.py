"""The regions of the three archives: how many tiles, what grows there, and under which sun and haze it is seen.

Source and target of every transfer differ on purpose in everything that a sensor sees: illumination, haze, soils,
phenology, class shares and texture. The offsets between them are fixed, so that a benchmark on another seed is as
hard; what varies with the seed is the landscape and the scatter of the regions around their group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectral_tl_bench.simulation.covers import DFC2020, MTS12, WHUOHS, Cover
from spectral_tl_bench.simulation.fields import generator
from spectral_tl_bench.simulation.spectra import Conditions


@dataclass(frozen=True)
class Region:
    """One city, region or half of an archive.

    Attributes:
        name: As it occurs in tile names or in the protocol.
        published: Tiles in the real archive.
        usual: Tiles in the simulated default.
        shares: Share of each cover of the archive, adding up to 1.
        conditions: One per acquisition date.
        season: Season of the acquisition, for archives that sort by it.
        epsg: Coordinate reference system of its tiles, None where the archive has none.
        origin: Easting and northing of the scene's upper left corner.
    """

    name: str
    published: int
    usual: int
    shares: np.ndarray
    conditions: tuple[Conditions, ...]
    season: str = ""
    epsg: int | None = None
    origin: tuple[float, float] = (0.0, 0.0)


def _scatter(base: Conditions, rng: np.random.Generator, amount: float = 1.0) -> Conditions:
    """Vary a group's conditions a little, as between two acquisitions of one campaign."""
    draw = rng.normal(0, amount, size=7)
    return replace(
        base,
        gain=base.gain * float(np.exp(0.05 * draw[0])),
        slope=base.slope + float(0.03 * draw[1]),
        haze=max(0.002, base.haze + float(0.004 * draw[2])),
        vapour=base.vapour * float(np.exp(0.1 * draw[3])),
        soil=base.soil * float(np.exp(0.06 * draw[4])),
        red_edge=base.red_edge + float(1.2 * draw[5]),
        turbidity=base.turbidity * float(np.exp(0.1 * draw[6])),
    )


def _shares(covers: Sequence[Cover], present: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Vary the usual class shares; no class that is present falls below a hundredth of the land."""
    usual = np.array([cover.prior for cover in covers])
    weight = np.where(present, usual * np.exp(rng.normal(0, spread, size=len(covers))), 0.0)
    weight = np.maximum(weight / weight.sum(), np.where(present, 0.02, 0.0))
    return weight / weight.sum()


def _even(total: int, parts: int) -> Iterator[int]:
    for part in range(parts):
        yield total * (part + 1) // parts - total * part // parts


_WHU_GROUPS = {
    "S": Conditions(
        gain=1.0,
        haze=0.012,
        greenness={"evergreen": 0.97, "deciduous": 0.95, "crop": 0.9, "winter_crop": 0.75, "grass": 0.9, "reed": 0.9},
    ),
    "T": Conditions(
        gain=0.75,
        slope=-0.05,
        haze=0.018,
        soil=0.95,
        red_edge=-2,
        greenness={"evergreen": 0.95, "deciduous": 0.9, "crop": 0.84, "winter_crop": 0.78, "grass": 0.84, "reed": 0.86},
        turbidity=1.1,
        texture_scale=1.1,
    ),
    "O": Conditions(
        gain=0.85,
        slope=-0.02,
        haze=0.015,
        soil=0.97,
        red_edge=-1,
        greenness={
            "evergreen": 0.95,
            "deciduous": 0.92,
            "crop": 0.87,
            "winter_crop": 0.77,
            "grass": 0.87,
            "reed": 0.88,
        },
    ),
}
# Cities of a side, published tiles, usual tiles of the side. O24-O26 exist in the archive without a published name.
_WHU_SIDES = {"S": (8, 1464, 96), "T": (8, 1450, 96), "O": (26, 4881, 52)}
_WHU_ABSENT = {"S": 20, "T": 18}
_WHU_EVERYWHERE = (1, 2, 3, 8, 15, 16)
_WHU_CITIES_WITH_CLASS = 5


def whuohs_regions(seed: int) -> list[Region]:
    """Cities of WHU-OHS. Five of a side's eight cities have a given class; S lacks class 20 and T class 18."""
    codes = [cover.code for cover in WHUOHS]
    regions = []
    for side, (cities, published, usual) in _WHU_SIDES.items():
        rng = generator(seed, "whuohs", side)
        present = np.zeros((cities, len(codes)), dtype=bool)
        for column, code in enumerate(codes):
            if code != _WHU_ABSENT.get(side):
                count = cities if code in _WHU_EVERYWHERE else cities * _WHU_CITIES_WITH_CLASS // 8
                present[rng.permutation(cities)[:count], column] = True
        counts = zip(_even(published, cities), _even(usual, cities), strict=True)
        for city, (many, few) in enumerate(counts):
            regions.append(
                Region(
                    name=f"{side}{city + 1}",
                    published=many,
                    usual=few,
                    shares=_shares(WHUOHS, present[city], rng, 0.35),
                    conditions=(_scatter(_WHU_GROUPS[side], rng),),
                )
            )
    return regions


def _green(evergreen: float, deciduous: float, crop: float, winter_crop: float, grass: float) -> dict[str, float]:
    return {
        "evergreen": evergreen,
        "deciduous": deciduous,
        "crop": crop,
        "winter_crop": winter_crop,
        "grass": grass,
        "reed": 0.5 * (deciduous + grass),
    }


_DFC_SEASONS = {
    "spring": Conditions(
        gain=0.92, slope=0.02, haze=0.018, soil=0.92, red_edge=1, greenness=_green(1, 0.85, 0.55, 0.85, 0.92)
    ),
    "summer": Conditions(
        gain=1.18, slope=0.04, haze=0.012, soil=1.0, vapour=1.2, greenness=_green(1, 0.97, 0.85, 0.6, 0.85)
    ),
    "autumn": Conditions(
        gain=0.74, slope=-0.04, haze=0.022, soil=1.05, red_edge=-2, greenness=_green(0.97, 0.8, 0.65, 0.6, 0.75)
    ),
    "winter": Conditions(
        gain=0.55,
        slope=-0.06,
        haze=0.024,
        soil=0.95,
        red_edge=-1,
        vapour=0.85,
        greenness=_green(0.95, 0.72, 0.5, 0.75, 0.7),
    ),
}
# Season, region, published tiles, usual tiles, UTM zone, easting and northing of the scene, in metres.
_DFC_REGIONS = (
    ("spring", "BlackForest", 1444, 48, 32632, (400_000, 5_350_000)),
    ("summer", "Chabarovsk", 486, 30, 32653, (500_000, 5_380_000)),
    ("autumn", "BandarAnzali", 676, 20, 32639, (360_000, 4_150_000)),
    ("autumn", "CapeTown", 1440, 30, 32734, (260_000, 6_250_000)),
    ("autumn", "Mumbai", 900, 22, 32643, (270_000, 2_120_000)),
    ("winter", "KippaRing", 684, 18, 32756, (500_000, 6_990_000)),
    ("winter", "MexicoCity", 484, 16, 32614, (480_000, 2_160_000)),
)


def dfc2020_regions(seed: int) -> list[Region]:
    """Regions of DFC2020; every one has all eight classes, in other shares."""
    regions = []
    for season, name, published, usual, epsg, origin in _DFC_REGIONS:
        rng = generator(seed, "dfc2020", name)
        regions.append(
            Region(
                name=name,
                published=published,
                usual=usual,
                shares=_shares(DFC2020, np.ones(len(DFC2020), dtype=bool), rng, 0.5),
                conditions=(replace(_scatter(_DFC_SEASONS[season], rng), texture_scale=float(rng.uniform(0.9, 1.2))),),
                season=season,
                epsg=epsg,
                origin=origin,
            )
        )
    return regions


_PLACES = 8
_PLACE_TILES = 12


def ohs_sentinel2_regions(seed: int) -> list[Region]:
    """Eight places of one kind, four in the west and four in the east."""
    regions = []
    for number in range(1, _PLACES + 1):
        rng = generator(seed, "ohs_sentinel2", f"P{number}")
        regions.append(
            Region(
                name=f"P{number}",
                published=_PLACE_TILES * 10,
                usual=_PLACE_TILES,
                shares=_shares(DFC2020, np.ones(len(DFC2020), dtype=bool), rng, 0.35),
                conditions=(_scatter(_WHU_GROUPS["S"], rng),),
                season="west" if number <= _PLACES // 2 else "east",
            )
        )
    return regions


# March, June, September, December. The north is higher and later in the year, with snow in winter.
_MTS_DATES = {
    "north": (
        Conditions(gain=0.80, haze=0.018, soil=0.95, snow=0.02, greenness=_green(0.95, 0.25, 0.05, 0.7, 0.5)),
        Conditions(gain=0.95, haze=0.014, soil=0.95, greenness=_green(1, 1, 0.7, 0.85, 0.95)),
        Conditions(gain=0.85, haze=0.012, soil=0.95, greenness=_green(1, 0.92, 0.8, 0.3, 0.85)),
        Conditions(gain=0.65, haze=0.018, soil=0.9, snow=0.03, greenness=_green(0.95, 0.1, 0.05, 0.5, 0.45)),
    ),
    "south": (
        Conditions(gain=1.05, slope=0.04, haze=0.024, soil=1.0, greenness=_green(0.95, 0.38, 0.08, 0.8, 0.62)),
        Conditions(gain=1.22, slope=0.04, haze=0.020, soil=1.05, greenness=_green(0.97, 0.97, 0.82, 0.65, 0.8)),
        Conditions(gain=1.15, slope=0.03, haze=0.020, soil=1.05, greenness=_green(0.95, 0.82, 0.65, 0.3, 0.68)),
        Conditions(gain=0.84, slope=0.03, haze=0.026, soil=1.0, greenness=_green(0.92, 0.18, 0.05, 0.58, 0.58)),
    ),
}
_MTS_HALVES = (("north", 639, 82, (370_000, 5_194_000)), ("south", 297, 40, (370_000, 5_084_000)))


def mts12_regions(seed: int) -> list[Region]:
    """The two halves of Slovenia; both have all eight classes."""
    regions = []
    for name, published, usual, origin in _MTS_HALVES:
        rng = generator(seed, "mts12", name)
        regions.append(
            Region(
                name=name,
                published=published,
                usual=usual,
                shares=_shares(MTS12, np.ones(len(MTS12), dtype=bool), rng, 0.4),
                conditions=tuple(_scatter(date, rng, 0.5) for date in _MTS_DATES[name]),
                epsg=32633,
                origin=origin,
            )
        )
    return regions
