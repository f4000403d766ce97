"""What each class of the archives is made of: materials, their mixture within the class, and its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spectral_tl_bench.simulation.spectra import MATERIALS

Mixture = dict[str, float]
"""Material to its share of a pixel."""


@dataclass(frozen=True)
class Cover:
    """One class.

    Classes of one family (forests, grasslands, waters) share materials and differ by shares and texture, so that
    context tells more than the spectrum of a pixel.

    Attributes:
        code: Label code on disk.
        prior: Usual share of the land, before a region changes it; relative to the other classes.
        first: One end of the mixtures between which the class varies from field to field.
        second: The other end.
        accent: Mixture of the texture's elements: crowns, gaps, roofs, furrows.
        share: Share of the class's area under accents.
        scale: Size of the texture in px.
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
    rows: bool = False
    linear: bool = False


def mixture_vector(mixture: Mixture) -> np.ndarray:
    """Return a mixture as shares that add up to 1, in the order of ``MATERIALS``."""
    shares = np.array([mixture.get(name, 0.0) for name in MATERIALS], dtype=np.float32)
    return shares / shares.sum()


_CANOPY: Mixture = {"broadleaf": 0.95, "shadow": 0.05}
_CONIFERS: Mixture = {"needle": 0.8, "broadleaf": 0.2}
_GAPS: Mixture = {"shadow": 0.7, "grass": 0.3}
_CROWNS: Mixture = {"broadleaf": 0.75, "shadow": 0.25}

# fmt: off
WHUOHS = (
    Cover(
        1, 3.0, {"crop": 7, "turbid_water": 3}, {"crop": 4, "turbid_water": 4, "dark_soil": 2},
        {"dark_soil": 1, "turbid_water": 1}, 0.25, 8, rows=True,
    ),
    Cover(2, 4.0, {"crop": 85, "soil": 15}, {"soil": 6, "winter_crop": 3, "dry": 1}, {"soil": 1}, 0.25, 6, rows=True),
    Cover(3, 4.0, _CANOPY, _CONIFERS, _GAPS, 0.3, 4.5),
    Cover(4, 1.5, {"shrub": 75, "soil": 25}, {"shrub": 6, "grass": 3, "soil": 1}, {"soil": 6, "shadow": 4}, 0.3, 5.5),
    Cover(5, 1.5, {"grass": 6, "soil": 3, "shrub": 1}, {"grass": 6, "dry": 4}, _CROWNS, 0.4, 9),
    Cover(
        6, 1.5, {"broadleaf": 7, "grass": 3}, {"broadleaf": 8, "soil": 2},
        {"soil": 6, "grass": 4}, 0.45, 5, rows=True,
    ),
    Cover(7, 2.0, {"grass": 95, "soil": 5}, {"grass": 75, "dry": 20, "soil": 5}, {"shrub": 1}, 0.08, 12),
    Cover(8, 2.0, {"grass": 65, "soil": 35}, {"grass": 45, "dry": 30, "soil": 25}, {"soil": 1}, 0.2, 7),
    Cover(
        9, 2.0, {"grass": 3, "soil": 6, "dry": 1}, {"grass": 2, "dry": 3, "soil": 5},
        {"soil": 8, "gravel": 2}, 0.4, 5,
    ),
    Cover(
        10, 1.2, {"turbid_water": 1}, {"turbid_water": 5, "clear_water": 5},
        {"sand": 4, "turbid_water": 6}, 0.08, 8, linear=True,
    ),
    Cover(
        11, 1.2, {"algal_water": 8, "clear_water": 2}, {"clear_water": 6, "algal_water": 4},
        {"algal_water": 1}, 0.15, 16,
    ),
    Cover(
        12, 1.2, {"clear_water": 7, "turbid_water": 3}, {"algal_water": 4, "turbid_water": 6},
        {"soil": 5, "grass": 5}, 0.2, 7, rows=True,
    ),
    Cover(13, 1.0, {"sand": 75, "turbid_water": 25}, {"sand": 6, "gravel": 4}, {"grass": 5, "sand": 5}, 0.12, 9),
    Cover(14, 1.0, {"dark_soil": 6, "turbid_water": 4}, {"turbid_water": 55, "sand": 45}, {"clear_water": 1}, 0.2, 6),
    Cover(
        15, 2.5, {"concrete": 6, "asphalt": 4}, {"concrete": 4, "roof": 3, "asphalt": 3},
        {"shadow": 7, "broadleaf": 3}, 0.25, 4.5,
    ),
    Cover(
        16, 1.8, {"roof": 5, "soil": 3, "grass": 2}, {"roof": 4, "concrete": 3, "grass": 3},
        {"broadleaf": 8, "shadow": 2}, 0.35, 6.5,
    ),
    Cover(17, 1.2, {"concrete": 7, "soil": 3}, {"asphalt": 6, "concrete": 4}, {"concrete": 1}, 0.3, 13),
    Cover(18, 1.2, {"sand": 1}, {"sand": 9, "dry": 1}, {"sand": 8, "shadow": 2}, 0.35, 7, rows=True),
    Cover(19, 1.2, {"gravel": 1}, {"gravel": 7, "sand": 3}, {"rock": 1}, 0.2, 6),
    Cover(20, 1.2, {"salt": 7, "soil": 3}, {"salt": 4, "soil": 6}, {"dry": 1}, 0.15, 8),
    Cover(
        21, 1.2, {"reed": 6, "dark_soil": 2, "clear_water": 2}, {"reed": 8, "grass": 2},
        {"clear_water": 1}, 0.25, 6,
    ),
    Cover(22, 1.4, {"soil": 1}, {"soil": 75, "gravel": 25}, {"dry": 5, "soil": 5}, 0.2, 10),
    Cover(23, 1.2, {"rock": 1}, {"rock": 8, "gravel": 2}, {"shadow": 6, "rock": 4}, 0.35, 5),
    Cover(
        24, 1.2, {"deep_water": 1}, {"deep_water": 8, "turbid_water": 2},
        {"deep_water": 7, "clear_water": 3}, 0.3, 14, rows=True,
    ),
)
# fmt: on
"""The 24 classes of WHU-OHS."""

# fmt: off
DFC2020 = (
    Cover(1, 2.5, _CANOPY, _CONIFERS, _GAPS, 0.3, 4.5),
    Cover(2, 1.6, {"shrub": 75, "soil": 25}, {"shrub": 5, "grass": 3, "soil": 2}, {"soil": 6, "shadow": 4}, 0.3, 6),
    Cover(4, 1.8, {"grass": 95, "soil": 5}, {"grass": 60, "dry": 25, "soil": 15}, {"soil": 5, "shrub": 5}, 0.1, 12),
    Cover(
        5, 1.4, {"reed": 6, "dark_soil": 2, "clear_water": 2}, {"reed": 8, "grass": 2},
        {"clear_water": 1}, 0.25, 6,
    ),
    Cover(6, 2.2, {"crop": 9, "soil": 1}, {"soil": 6, "winter_crop": 4}, {"soil": 1}, 0.25, 6, rows=True),
    Cover(
        7, 1.8, {"concrete": 6, "asphalt": 4}, {"roof": 4, "concrete": 3, "asphalt": 3},
        {"shadow": 5, "broadleaf": 5}, 0.3, 4.5,
    ),
    Cover(9, 1.4, {"soil": 6, "gravel": 4}, {"rock": 6, "sand": 4}, {"dry": 5, "shadow": 5}, 0.2, 9),
    Cover(
        10, 1.8, {"clear_water": 7, "turbid_water": 3}, {"turbid_water": 5, "algal_water": 5},
        {"clear_water": 1}, 0.2, 14,
    ),
)
# fmt: on
"""The eight classes of DFC2020 that occur at 10 m."""

# fmt: off
MTS12 = (
    Cover(1, 2.2, {"crop": 9, "soil": 1}, {"winter_crop": 6, "soil": 4}, {"soil": 1}, 0.25, 6, rows=True),
    Cover(2, 3.0, _CANOPY, _CONIFERS, _GAPS, 0.3, 4.5),
    Cover(3, 2.2, {"grass": 95, "soil": 5}, {"grass": 70, "dry": 25, "soil": 5}, {"shrub": 1}, 0.08, 12),
    Cover(4, 1.4, {"shrub": 7, "grass": 3}, {"shrub": 5, "grass": 3, "soil": 2}, _CROWNS, 0.3, 6),
    Cover(
        5, 1.2, {"clear_water": 7, "turbid_water": 3}, {"turbid_water": 5, "algal_water": 5},
        {"clear_water": 1}, 0.2, 14,
    ),
    Cover(6, 1.2, {"reed": 6, "dark_soil": 2, "clear_water": 2}, {"reed": 6, "grass": 4}, {"clear_water": 1}, 0.2, 6),
    Cover(
        7, 1.8, {"concrete": 5, "asphalt": 4, "grass": 1}, {"roof": 5, "concrete": 2, "grass": 3},
        {"broadleaf": 6, "shadow": 4}, 0.3, 5,
    ),
    Cover(8, 1.2, {"soil": 5, "gravel": 5}, {"rock": 8, "gravel": 2}, {"dry": 4, "shadow": 6}, 0.25, 8),
)
# fmt: on
"""The eight classes of MTS12."""
