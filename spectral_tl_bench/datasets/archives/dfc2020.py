"""DFC2020: Sentinel-2 tiles of seven regions, one to three for each season."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from spectral_tl_bench.datasets.archives import indomain
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.io.listing import TIFF, FoundFile, Listing, Role, about_copies, find_pairs
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.splits import blocks
from spectral_tl_bench.splits.neighbors import TileLayout, by_grid
from spectral_tl_bench.utils.registry import DATASETS

REGIONS = {
    "spring": {"BlackForest": 1444},
    "summer": {"Chabarovsk": 486},
    "autumn": {"BandarAnzali": 676, "CapeTown": 1440, "Mumbai": 900},
    "winter": {"KippaRing": 684, "MexicoCity": 484},
}
"""Number of tiles by season and region."""

GRID_WIDTHS = {
    "BlackForest": 39,
    "Chabarovsk": 23,
    "BandarAnzali": 27,
    "CapeTown": 40,
    "Mumbai": 31,
    "KippaRing": 27,
    "MexicoCity": 23,
}
"""Columns of the grid of tiles through which a region's numbers run, row by row.

Published nowhere: the numbers themselves tell, since none (of Chabarovsk, one of those looked at) is in column 0.
"""
_GRID_MARGIN = 2
"""Tiles of SEN12MS, from which these are taken, overlap by half; whether these do is not published."""

_SPELLING = {region.lower(): region for regions in REGIONS.values() for region in regions}
_PARTS = {"test": "train", "validation": "test"}
"""Part of the contest's release to its side of the in-domain reference: the larger one trains, as is usual."""

_NAME = re.compile(rf"rois\d+_({'|'.join((*REGIONS, *_PARTS))})_(s2|dfc)_(\w+)_p(\d+)", re.IGNORECASE)
_SEASON_FOLDER = re.compile(rf"(rois\d+_)?({'|'.join(REGIONS)})")

_ANONYMOUS = (
    "these are the contest's own DFC2020 tiles (ROIs0000_test, ROIs0000_validation), which tell neither season nor "
    "region: they serve dfc_indomain; for dfc_season get the release sorted by season, "
    "`spectral-bench data download dfc2020 FOLDER`"
)


class _Key(NamedTuple):
    season: str  # or, in the contest's own release, the part
    region: str
    number: int

    @property
    def anonymous(self) -> bool:
        return self.season in _PARTS


@DATASETS.register("dfc2020", order=2)
class DFC2020(TileDataset):
    """Land cover of the IEEE GRSS Data Fusion Contest 2020, Sentinel-2 images.

    * 6,114 tiles of 256 x 256 px at 10 m, 13 bands, reflectance x 10,000
    * eight classes (simplified IGBP); 3 savanna and 8 snow/ice do not occur at 10 m and are ignored should they
    * four seasons. Spring and summer hold one region each, so a change of season is also a change of region

    Files are known by their names, ``ROIs0000_{season}_{s2|dfc}_{Region}_p{N}.tif``, in any letter case and any folder
    below ``root``; so both layouts are read:

    * ``{season}/image/s2_{Region}/`` with ``{season}/label/dfc_{Region}/``
    * ``ROIs0000_{season}/s2_{Region}/`` with ``ROIs0000_{season}/dfc_{Region}/``

    Radar (``s1_*``) and coarse land cover (``lc_*``) may lie beside and are left alone. Where the same name occurs
    again, as in the ``trainset/`` and ``testset/`` of the re-release, it is the same tile, and the season's folder is
    read.

    The contest's own release is anonymous: ``ROIs0000_{test|validation}_{s2|dfc}_0_p{N}.tif``, 5,128 and 986 of the
    same tiles. Season and region are then "unknown", and only the in-domain reference can be run: ``test`` trains and
    ``validation`` tests. Beside tiles that have a season these are left alone, since they are the same tiles again.

    Attributes of a tile: ``season``, ``region``, ``number``, ``indomain`` (train or test of the in-domain reference,
    also its ``split``) and ``indomain_source`` (authors, from ``data_list/DFC_*.txt``; blocked, our own; or contest).
    Numbers run row by row through a region's grid of tiles, which tells neighbours. Blocks are runs of consecutive
    numbers.

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
    contest_counts: ClassVar[dict[str, dict[str, int]]] = {"indomain": {"train": 5128, "test": 986}}
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

    def find(self) -> Listing:
        """List the tiles; see the base class."""
        pairs = find_pairs(self.root, TIFF, _classify, rank=_rank)
        notes = about_copies(pairs.copies, self.root)
        keys = sorted(key for key in pairs.tiles if not key.anonymous)
        unknown: dict[str, str] = {}
        if keys and len(keys) < len(pairs.tiles):
            notes.append(
                f"{len(pairs.tiles) - len(keys)} tiles of the contest's own release (ROIs0000_test, "
                "ROIs0000_validation) lie beside those that tell their season: they are the same and left alone"
            )
        elif not keys and pairs.tiles:
            keys = sorted(pairs.tiles)
            unknown = {"season": _ANONYMOUS, "region": _ANONYMOUS}
        rows = []
        groups = [key.season if unknown else key.region for key in keys]
        for key, block in zip(keys, blocks.runs(groups), strict=True):
            image, label = pairs.tiles[key]
            rows.append(
                {
                    "tile": f"{key.season}_p{key.number}" if unknown else f"{key.season}_{key.region}_p{key.number}",
                    "image": image.path,
                    "label": label.path,
                    "season": "unknown" if unknown else key.season,
                    "region": "unknown" if unknown else key.region,
                    "number": key.number,
                    "block": block,
                }
            )
        if unknown:
            for row, key in zip(rows, keys, strict=True):
                row |= {"indomain": _PARTS[key.season], "indomain_source": "contest"}
        else:
            indomain.assign(rows, keys, self.root, "dfc", _key, group="region", places=_places(rows))
        for row in rows:
            row["split"] = row["indomain"]
        return Listing(rows, [], pairs.unpaired, notes, unknown)

    def numbered_places(self) -> TileLayout | None:
        """Return the tiles' places in the grid of their region."""
        return _places(self.index.to_dict("records"))

    def published_counts(self) -> dict[str, dict[str, int]]:
        """Return the published numbers of tiles of the release at hand."""
        return self.contest_counts if self.unknown else self.expected_counts


def _places(rows: Sequence[Mapping[Any, Any]]) -> TileLayout | None:
    regions = [str(row["region"]) for row in rows]
    if not regions or not GRID_WIDTHS.keys() >= set(regions):
        return None
    cells = [divmod(int(row["number"]), GRID_WIDTHS[region]) for row, region in zip(rows, regions, strict=True)]
    return by_grid(regions, [column for _, column in cells], [line for line, _ in cells], _GRID_MARGIN)


def _key(stem: str) -> _Key | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    season, _, region, number = match.groups()
    if season.lower() in _PARTS:
        # Images and labels of a tile may name their folder differently: 0 or validation.
        region = ""
    return _Key(season.lower(), _SPELLING.get(region.lower(), region), int(number))


def _rank(file: FoundFile) -> int:
    """Read the file in the season's folder where there are several."""
    return 0 if any(map(_SEASON_FOLDER.fullmatch, file.folders)) else 1


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    match, key = _NAME.fullmatch(file.stem), _key(file.stem)
    if match is None or key is None:
        return None
    return ("image" if match.group(2).lower() == "s2" else "label"), key
