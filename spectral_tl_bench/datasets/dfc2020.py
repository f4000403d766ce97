"""DFC2020: Sentinel-2 tiles of seven regions, one to three for each season."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple

from spectral_tl_bench.datasets import blocks, indomain
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.files import TIFF, FoundFile, Problem, Role, find_pairs
from spectral_tl_bench.labels import LandClass
from spectral_tl_bench.sensors import SENTINEL2

REGIONS = {
    "spring": {"BlackForest": 1444},
    "summer": {"Chabarovsk": 486},
    "autumn": {"BandarAnzali": 676, "CapeTown": 1440, "Mumbai": 900},
    "winter": {"KippaRing": 684, "MexicoCity": 484},
}
"""Number of tiles by season and region."""

_SPELLING = {region.lower(): region for regions in REGIONS.values() for region in regions}
_NAME = re.compile(rf"rois\d+_({'|'.join(REGIONS)})_(s2|dfc)_(\w+)_p(\d+)", re.IGNORECASE)


class _Key(NamedTuple):
    season: str
    region: str
    number: int


class DFC2020(TileDataset):
    """Land cover of the IEEE GRSS Data Fusion Contest 2020, Sentinel-2 images.

    * 6,114 tiles of 256 x 256 px at 10 m, 13 bands, reflectance x 10,000
    * eight classes (simplified IGBP); 3 savanna and 8 snow/ice do not occur at 10 m and are ignored should they
    * four seasons. Spring and summer hold one region each, so a change of season is also a change of region

    Files are known by their names, ``ROIs0000_{season}_{s2|dfc}_{Region}_p{N}.tif``, in any letter case and any folder
    below ``root``; so both layouts are read:

    * ``{season}/image/s2_{Region}/`` with ``{season}/label/dfc_{Region}/``
    * ``ROIs0000_{season}/s2_{Region}/`` with ``ROIs0000_{season}/dfc_{Region}/``

    Radar (``s1_*``) and coarse land cover (``lc_*``) may lie beside and are left alone.

    Attributes of a tile: ``season``, ``region``, ``number``, ``indomain`` (train or test of the in-domain reference,
    also its ``split``) and ``indomain_source`` (authors, from ``data_list/DFC_*.txt``, or blocked, our own). Blocks are
    runs of consecutive tile numbers within a region.

    Reference: Robinson et al., Global Land-Cover Mapping With Weak Supervision: Outcome of the 2020 IEEE GRSS Data
    Fusion Contest, IEEE JSTARS 14 (2021); data CC BY.
    """

    name = "dfc2020"
    title = "DFC2020"
    citation = (
        "M. Schmitt, L. Hughes, P. Ghamisi, N. Yokoya, R. Hänsch, 2020 IEEE GRSS Data Fusion Contest, "
        "IEEE DataPort (2019), doi:10.21227/rha7-m332"
    )
    splits = ("train", "test")
    sensor = SENTINEL2
    ignored_codes = (0, 3, 8)
    expected_counts: ClassVar[dict[str, dict[str, int]]] = {
        "season": {season: sum(regions.values()) for season, regions in REGIONS.items()},
        "region": {region: count for regions in REGIONS.values() for region, count in regions.items()},
    }
    all_classes = (
        LandClass(code=1, name="forest", color="#009900"),
        LandClass(code=2, name="shrubland", color="#c6b044"),
        LandClass(code=4, name="grassland", color="#b6ff05"),
        LandClass(code=5, name="wetlands", color="#27ff87"),
        LandClass(code=6, name="croplands", color="#c24f44"),
        LandClass(code=7, name="urban", color="#a5a5a5"),
        LandClass(code=9, name="barren", color="#f9ffa4"),
        LandClass(code=10, name="water", color="#1c0dff"),
    )

    def find(self) -> tuple[list[dict[str, Any]], list[Problem]]:
        """List the tiles; see the base class."""
        pairs, problems = find_pairs(self.root, TIFF, _classify)
        keys = sorted(pairs)
        rows = []
        for key, block in zip(keys, blocks.runs([key.region for key in keys]), strict=True):
            image, label = pairs[key]
            rows.append(
                {
                    "tile": f"{key.season}_{key.region}_p{key.number}",
                    "image": image.path,
                    "label": label.path,
                    "season": key.season,
                    "region": key.region,
                    "number": key.number,
                    "block": block,
                }
            )
        indomain.assign(rows, keys, self.root, "dfc", _key, group="region")
        for row in rows:
            row["split"] = row["indomain"]
        return rows, problems


def _key(stem: str) -> _Key | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    season, _, region, number = match.groups()
    return _Key(season.lower(), _SPELLING.get(region.lower(), region), int(number))


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    match, key = _NAME.fullmatch(file.stem), _key(file.stem)
    if match is None or key is None:
        return None
    return ("image" if match.group(2).lower() == "s2" else "label"), key
