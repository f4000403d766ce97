"""What each class of the archives is made of: materials, how it varies, and its texture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mixture = dict[str, float]
"""Material to its share of a pixel, relative to the other shares. "soil" is the soil of the region."""

Plants = Literal["evergreen", "deciduous", "crop", "winter_crop", "grass", "reed"]

PLANTS: dict[str, Plants] = {
    "needle": "evergreen",
    "shrub": "evergreen",
    "broadleaf": "deciduous",
    "crop": "crop",
    "winter_crop": "winter_crop",
    "grass": "grass",
    "reed": "reed",
}
"""Material of green plants to the kind of plants whose season it follows."""

SOILS = ("dark_soil", "red_soil", "grey_soil", "bright_soil")
"""Measured soils, of which the soil of a region is mixed."""


@dataclass(frozen=True)
class Cover:
    """One class.

    Classes of one family (forests, grasslands, waters) share materials and differ by shares and texture, so that
    context tells more than the spectrum of a pixel.

    Attributes:
        code: Label code on disk.
        prior: Usual share of the land relative to the other classes, before a region changes it.
        first: One end of the mixtures between which the class varies from place to place.
        second: The other end.
        accent: Mixture of the texture's elements: crowns, gaps, roofs, furrows.
        share: Share of the class's area under accents.
        scale: Size of the texture in px.
        parcels: Whether the mixture changes from parcel to parcel with straight borders, rather than smoothly.
        rows: Whether the texture runs in parallel rows.
        linear: Whether the class forms bands (rivers) rather than patches.
    """

    code: int
    prior: float
    first: Mixture
    second: Mixture
    accent: Mixture
    share: float
    scale: float
    parcels: bool = False
    rows: bool = False
    linear: bool = False


_FOREST: tuple[Mixture, Mixture, Mixture] = (
    {"broadleaf": 85, "shadow": 15}, {"needle": 75, "shadow": 25}, {"shadow": 6, "grass": 4},
)  # fmt: skip
_SHRUBS: tuple[Mixture, Mixture, Mixture] = (
    {"shrub": 80, "soil": 20}, {"shrub": 4, "grass": 4, "dry": 2}, {"soil": 5, "shadow": 5},
)  # fmt: skip
_GRASS: tuple[Mixture, Mixture, Mixture] = (
    {"grass": 95, "soil": 5}, {"grass": 55, "dry": 35, "soil": 10}, {"soil": 5, "shrub": 5},
)  # fmt: skip
_WETLAND: tuple[Mixture, Mixture, Mixture] = (
    {"reed": 6, "dark_soil": 2, "clear_water": 2}, {"reed": 6, "grass": 3, "dry": 1}, {"clear_water": 1},
)  # fmt: skip
_CROPS: tuple[Mixture, Mixture, Mixture] = (
    {"crop": 85, "soil": 15}, {"winter_crop": 4, "soil": 4, "dry": 2}, {"soil": 7, "dry": 3},
)  # fmt: skip
_TOWN: tuple[Mixture, Mixture, Mixture] = (
    {"asphalt": 4, "concrete": 3, "shingle": 3}, {"tile": 3, "grass": 4, "broadleaf": 2, "concrete": 1},
    {"shadow": 5, "broadleaf": 5},
)  # fmt: skip
_BARE: tuple[Mixture, Mixture, Mixture] = (
    {"soil": 7, "gravel": 3}, {"gravel": 6, "sand": 4}, {"dry": 6, "shadow": 4},
)  # fmt: skip
_WATER: tuple[Mixture, Mixture, Mixture] = (
    {"clear_water": 8, "turbid_water": 2}, {"turbid_water": 6, "algal_water": 4}, {"clear_water": 1},
)  # fmt: skip

# fmt: off
WHUOHS = (
    Cover(
        1, 2.5, {"crop": 7, "turbid_water": 3}, {"crop": 3, "turbid_water": 4, "dark_soil": 3},
        {"dark_soil": 1, "turbid_water": 1}, 0.25, 6, parcels=True, rows=True,
    ),
    Cover(2, 4.5, *_CROPS, 0.2, 5, parcels=True, rows=True),
    Cover(3, 3.5, *_FOREST, 0.25, 4),
    Cover(4, 0.8, *_SHRUBS, 0.25, 5),
    Cover(5, 0.7, {"grass": 5, "broadleaf": 2, "soil": 3}, {"grass": 4, "dry": 4, "broadleaf": 2},
          {"broadleaf": 75, "shadow": 25}, 0.35, 7),
    Cover(6, 0.6, {"broadleaf": 6, "grass": 4}, {"broadleaf": 6, "soil": 4}, {"soil": 6, "grass": 4}, 0.4, 5,
          parcels=True, rows=True),
    Cover(7, 1.2, {"grass": 95, "soil": 5}, {"grass": 75, "dry": 20, "soil": 5}, {"shrub": 1}, 0.08, 10),
    Cover(8, 1.4, {"grass": 65, "soil": 35}, {"grass": 45, "dry": 35, "soil": 20}, {"soil": 1}, 0.2, 7),
    Cover(9, 1.0, {"grass": 3, "soil": 6, "dry": 1}, {"grass": 2, "dry": 4, "soil": 4}, {"soil": 8, "gravel": 2},
          0.35, 5),
    Cover(10, 0.5, {"turbid_water": 1}, {"turbid_water": 4, "clear_water": 6}, {"sand": 4, "turbid_water": 6}, 0.1, 8,
          linear=True),
    Cover(11, 0.6, {"algal_water": 8, "clear_water": 2}, {"clear_water": 7, "algal_water": 3}, {"algal_water": 1},
          0.15, 14),
    Cover(12, 0.5, {"clear_water": 6, "turbid_water": 4}, {"algal_water": 4, "turbid_water": 6},
          {"soil": 5, "grass": 5}, 0.15, 7, parcels=True),
    Cover(13, 0.15, {"sand": 75, "turbid_water": 25}, {"sand": 6, "gravel": 4}, {"grass": 5, "sand": 5}, 0.12, 8),
    Cover(14, 0.2, {"dark_soil": 6, "turbid_water": 4}, {"turbid_water": 55, "sand": 45}, {"clear_water": 1}, 0.2, 6),
    Cover(15, 1.5, {"asphalt": 5, "concrete": 3, "shingle": 2}, {"shingle": 5, "concrete": 3, "metal": 2},
          {"shadow": 7, "broadleaf": 3}, 0.25, 4, parcels=True),
    Cover(16, 0.9, {"tile": 5, "soil": 3, "grass": 2}, {"tile": 3, "concrete": 2, "grass": 3, "broadleaf": 2},
          {"broadleaf": 8, "shadow": 2}, 0.3, 5, parcels=True),
    Cover(17, 0.5, {"metal": 4, "concrete": 4, "soil": 2}, {"asphalt": 7, "concrete": 3}, {"concrete": 1}, 0.25, 9,
          parcels=True),
    Cover(18, 0.4, {"sand": 1}, {"sand": 7, "bright_soil": 3}, {"sand": 8, "shadow": 2}, 0.3, 7, rows=True),
    Cover(19, 0.6, {"gravel": 1}, {"gravel": 6, "sand": 4}, {"gravel": 5, "dark_soil": 5}, 0.25, 6),
    Cover(20, 0.3, {"salt": 6, "soil": 4}, {"salt": 3, "bright_soil": 7}, {"dry": 1}, 0.15, 8),
    Cover(21, 0.4, *_WETLAND, 0.25, 6),
    Cover(22, 0.6, {"soil": 1}, {"soil": 7, "gravel": 3}, {"dry": 5, "soil": 5}, 0.2, 8),
    Cover(23, 0.5, {"gravel": 7, "shadow": 3}, {"gravel": 5, "dark_soil": 5}, {"shadow": 5, "gravel": 5}, 0.35, 5),
    Cover(24, 0.6, {"deep_water": 1}, {"deep_water": 8, "turbid_water": 2}, {"deep_water": 7, "clear_water": 3},
          0.3, 12),
)
# fmt: on
"""The 24 classes of WHU-OHS."""

DFC2020 = (
    Cover(1, 3.2, *_FOREST, 0.25, 4),
    Cover(2, 0.9, *_SHRUBS, 0.25, 5),
    Cover(4, 1.3, *_GRASS, 0.1, 9),
    Cover(5, 0.055, *_WETLAND, 0.2, 6),
    Cover(6, 2.6, *_CROPS, 0.2, 5, parcels=True, rows=True),
    Cover(7, 1.0, *_TOWN, 0.25, 4, parcels=True),
    Cover(9, 0.16, *_BARE, 0.2, 7),
    Cover(10, 0.9, *_WATER, 0.15, 12),
)
"""The eight classes of DFC2020 that occur at 10 m."""

MTS12 = (
    Cover(1, 2.2, *_CROPS, 0.2, 5, parcels=True, rows=True),
    Cover(2, 4.0, *_FOREST, 0.25, 4),
    Cover(3, 1.8, *_GRASS, 0.08, 9),
    Cover(4, 0.6, *_SHRUBS, 0.3, 6),
    Cover(5, 0.35, *_WATER, 0.15, 12),
    Cover(6, 0.06, *_WETLAND, 0.2, 6),
    Cover(7, 0.8, *_TOWN, 0.3, 5, parcels=True),
    Cover(8, 0.18, *_BARE, 0.25, 7),
)
"""The eight classes of MTS12."""

COVERS = {"whuohs": WHUOHS, "dfc2020": DFC2020, "mts12": MTS12, "ohs_sentinel2": DFC2020}
"""Archive to its classes."""
