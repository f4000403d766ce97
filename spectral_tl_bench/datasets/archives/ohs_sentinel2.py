"""Simulated tiles that two sensors see: the same landscapes and classes in the bands of OHS and of Sentinel-2."""

from __future__ import annotations

import re

from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020
from spectral_tl_bench.datasets.archives.simulated_neighbors import simulated_places
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.io.listing import TIFF, FoundFile, Listing, Role, find_pairs, role_by_folder
from spectral_tl_bench.sensors import OHS_SENTINEL2
from spectral_tl_bench.splits import blocks
from spectral_tl_bench.splits.neighbors import TileLayout
from spectral_tl_bench.utils.registry import DATASETS

_NAME = re.compile(r"p(\d+)_(\d+)", re.IGNORECASE)
_PARTS = ("west", "east")

_Key = tuple[str, int, int]


@DATASETS.register("ohs_sentinel2", order=4)
class OHSSentinel2(TileDataset):
    """Eight simulated places, each tile in 32 bands of OHS and 13 of Sentinel-2; there is no real archive of the kind.

    It answers what the real ones cannot: how much a model loses by the change of sensor alone, since places, season,
    light and classes are alike on both sides. Classes are those of DFC2020.

    Layout: ``{west,east}/{image,label}/P1_0007.tif``. Attributes of a tile: ``part`` (west or east), ``place``,
    ``number``. Blocks are runs of consecutive tile numbers within a place.
    """

    name = "ohs_sentinel2"
    title = "OHS and Sentinel-2 of the same places (simulated only)"
    citation = ""
    splits = _PARTS
    sensor = OHS_SENTINEL2
    ignored_codes = (0,)
    all_classes = DFC2020.all_classes

    def find(self) -> Listing:
        """List the tiles; see the base class."""
        pairs = find_pairs(self.root, TIFF, _classify)
        keys = sorted(pairs.tiles)
        rows = []
        for key, block in zip(keys, blocks.runs([f"P{place}" for _, place, _ in keys]), strict=True):
            part, place, number = key
            image, label = pairs.tiles[key]
            rows.append(
                {
                    "tile": f"P{place}_{number:04d}",
                    "image": image.path,
                    "label": label.path,
                    "split": part,
                    "part": part,
                    "place": f"P{place}",
                    "number": number,
                    "block": block,
                }
            )
        return Listing(rows, [], pairs.unpaired)

    def numbered_places(self) -> TileLayout | None:
        """Return the tiles' places in the grid of their place."""
        return simulated_places(self.root, self.index["place"].tolist(), self.index["number"].tolist())


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    match = _NAME.fullmatch(file.stem)
    role = role_by_folder(file, image=("image",))
    part = next((folder for folder in reversed(file.folders) if folder in _PARTS), None)
    if match is None or role is None or part is None:
        return None
    return role, (part, int(match[1]), int(match[2]))
