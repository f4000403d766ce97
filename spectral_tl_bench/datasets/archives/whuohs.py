"""WHU-OHS: hyperspectral tiles of Chinese cities, paired as source and target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from spectral_tl_bench.datasets.archives.simulated_neighbors import simulated_places
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.io.listing import (
    TIFF,
    FoundFile,
    Listing,
    Role,
    about_copies,
    find_pairs,
    role_by_folder,
)
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.splits import blocks
from spectral_tl_bench.splits.neighbors import TileLayout, by_number
from spectral_tl_bench.utils.registry import DATASETS

SOURCE_CITIES = ("Changchun", "Wuxi", "Guangzhou", "Xining", "Hetian", "Anyi", "Changde", "Tianjin")
"""Source city of each pair, from pair 1."""

TARGET_CITIES = ("Jilin", "Shanghai", "Zhongshan", "Lanzhou", "Kelamayi", "Nanchang", "Changsha", "Tangshan")
"""Target city of each pair, from pair 1."""

ORDINARY_CITIES = (
    *("Baoding", "Chongqing", "Fujin", "Huainan", "Huhehaote", "Jinzhong", "Luliang", "Manasi_1", "Manasi_2"),
    *("Nanmulin", "Neimenggu", "Qingdao", "Qinghuangdao", "Shawan", "Shenyang", "Shuozhou", "Songpan", "Taian"),
    *("Tongjiang_1", "Tongjiang_2", "Wuzhong", "Xundian", "Xuzhou"),
)
"""The ordinary images O1 to O23; which cities O24 to O26 show is not published."""

_CITIES = {"S": SOURCE_CITIES, "T": TARGET_CITIES, "O": ORDINARY_CITIES}
_NAME = re.compile(r"([sto])(\d+)_(\w+)", re.IGNORECASE)
_SPLITS = {"tr": "train", "val": "val", "ts": "test"}
_RELEASE_SPLITS = {"source": "train", "target": "test"}
_STRICTEST = ("test", "val", "train", "")
"""Splits by how much harm a tile does that is taken for another's: what tests must never train."""

_Release = Literal["official", "transfer"]


class _Key(NamedTuple):
    side: str
    pair: int
    number: tuple[int, ...]
    name: str
    split: str
    release: _Release


@DATASETS.register("whuohs", order=1)
class WHUOHS(TileDataset):
    """WHU-OHS land cover from Orbita hyperspectral (OHS) satellites.

    * 7,795 tiles of 512 x 512 px at 10 m, 32 bands from 466 to 940 nm, reflectance x 10,000
    * 24 classes; 0 = unlabelled
    * eight pairs of a source (S) and a target (T) city, and 26 ordinary (O) images

    Layouts, in any letter case and at any depth below ``root``:

    * official: ``{tr,val,ts}/{image,label}/S1_0007.tif``
    * transfer release: ``transfer-STall/{source,target}/{image,label}/[tr|val|ts/]S1_0007.tif``. Without a split
      folder, source tiles are "train" and target tiles "test".
    * both under one root, as in the re-release, which has ``tr/``, ``ts/`` and ``transfer-STall/`` and no ``val/``

    Attributes of a tile: ``side`` (S, T or O), ``pair`` and ``number`` (as in the name), ``city``, ``split``. Blocks
    are runs of consecutive numbers within a city.

    Under one root each protocol gets its own: ``split`` comes from ``tr/``, ``val/`` and ``ts/`` alone, and ``side`` is
    S or T for the tiles of ``transfer-STall/`` alone; what is not given is empty. The same name with the same pixels is
    the same tile, wherever it lies; a tile in several splits takes the last of train, val and test.

    Reference: Li et al., International Journal of Applied Earth Observation and Geoinformation 113:103022 (2022).
    """

    name = "whuohs"
    title = "WHU-OHS"
    citation = (
        "J. Li, X. Huang, L. Tu, WHU-OHS: A benchmark dataset for large-scale hyperspectral image classification, "
        "International Journal of Applied Earth Observation and Geoinformation 113 (2022) 103022, "
        "doi:10.1016/j.jag.2022.103022"
    )
    sensor = OHS
    ignored_codes = (0,)
    expected_counts: ClassVar[dict[str, dict[str, int]]] = {
        "split": {"train": 4822, "val": 513, "test": 2460},
        "side": {"S": 1464, "T": 1450},
    }
    all_classes = (
        LandClass(code=1, name="paddy field", color="#00a884"),
        LandClass(code=2, name="dry farm", color="#e6d24b"),
        LandClass(code=3, name="woodland", color="#0b5d1e"),
        LandClass(code=4, name="shrubbery", color="#5b8c2a"),
        LandClass(code=5, name="sparse woodland", color="#7fb069"),
        LandClass(code=6, name="other forest land", color="#a3b86c"),
        LandClass(code=7, name="high-covered grassland", color="#9ccc3c"),
        LandClass(code=8, name="medium-covered grassland", color="#c0dd77"),
        LandClass(code=9, name="low-covered grassland", color="#dfe8b0"),
        LandClass(code=10, name="river canal", color="#3d85c6"),
        LandClass(code=11, name="lake", color="#1f5fbf"),
        LandClass(code=12, name="reservoir pond", color="#6fb7e9"),
        LandClass(code=13, name="beach land", color="#b9d7ea"),
        LandClass(code=14, name="shoal", color="#8fa9b8"),
        LandClass(code=15, name="urban built-up", color="#c81d25"),
        LandClass(code=16, name="rural settlement", color="#f08a8e"),
        LandClass(code=17, name="other construction land", color="#8e4a7d"),
        LandClass(code=18, name="sand", color="#f6d7a7"),
        LandClass(code=19, name="gobi", color="#c9a66b"),
        LandClass(code=20, name="saline-alkali soil", color="#e9e4f0"),
        LandClass(code=21, name="marshland", color="#4aa3a2"),
        LandClass(code=22, name="bare land", color="#a9745b"),
        LandClass(code=23, name="bare rock", color="#7b7b7b"),
        LandClass(code=24, name="ocean", color="#0a2a66"),
    )

    count_variants: ClassVar[dict[int, tuple[int, ...]]] = {4822: (4821, 4648), 2460: (2459,), 513: (0,)}

    def find(self) -> Listing:
        """List the tiles of either release, those in both once for each; see the base class."""
        pairs = find_pairs(self.root, TIFF, _classify)
        rows = [
            {
                "tile": f"{key.release}/{key.split}/{key.name}",
                "image": image.path,
                "label": label.path,
                "split": key.split,
                "side": key.side,
                "pair": key.pair,
                "number": key.number[-1] if key.number else 0,
                "city": _city(key.side, key.pair),
                "block": "",
                "name": key.name,
                "release": key.release,
            }
            for key, (image, label) in sorted(pairs.tiles.items())
        ]
        return Listing(rows, [], pairs.unpaired, about_copies(pairs.copies, self.root))

    def settle(self, index: pd.DataFrame, contents: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """Make one tile of those with the same name and pixels, and give each protocol its own; see the class."""
        names, splits, releases = (index[column].tolist() for column in ("name", "split", "release"))
        both = len(set(releases)) > 1
        alike: dict[tuple[str, str], list[int]] = {}
        for position, identity in enumerate(zip(names, contents, strict=True)):
            alike.setdefault(identity, []).append(position)
        for members in alike.values():
            members.sort(key=lambda m: (releases[m] == "transfer", _STRICTEST.index(splits[m])))
        read = [members[0] for members in alike.values()]
        times = Counter(names[m] for m in read)
        tiles = index.iloc[read].drop(columns=["name", "release"]).reset_index(drop=True)
        tiles["tile"] = [names[m] if times[names[m]] == 1 else _full_name(index.iloc[m], both) for m in read]
        tiles["block"] = blocks.runs([f"{side}{pair}" for side, pair in zip(tiles["side"], tiles["pair"], strict=True)])
        if both:
            transferred = [any(releases[m] == "transfer" for m in members) for members in alike.values()]
            tiles["split"] = ["" if releases[m] == "transfer" else splits[m] for m in read]
            tiles["side"] = tiles["side"].where((tiles["side"] == "O") | np.array(transferred), "")
        return tiles, list(_notes(names, splits, releases, list(alike.values())))

    def numbered_places(self) -> TileLayout | None:
        """Return the tiles' places in their city: they are numbered through a grid of unknown width."""
        cities = [f"{_letter(tile)}{pair}" for tile, pair in zip(self.index["tile"], self.index["pair"], strict=True)]
        numbers = self.index["number"].tolist()
        return simulated_places(self.root, cities, numbers) or by_number(cities, numbers)


def _letter(tile: str) -> str:
    """S, T or O; the column ``side`` leaves out tiles that take no part in transfers."""
    return tile.rpartition("/")[2][0]


def _full_name(row: pd.Series, both: bool) -> str:
    release = "transfer-" if both and row["release"] == "transfer" else ""
    return f"{release}{row['split']}/{row['name']}"


def _notes(
    names: Sequence[str], splits: Sequence[str], releases: Sequence[str], tiles: Sequence[Sequence[int]]
) -> Iterator[str]:
    """Say what lies more than once; ``tiles`` are the members of each tile, the one that is read first."""
    homes = [{releases[m] for m in members} for members in tiles]
    official = {names[members[0]] for members, home in zip(tiles, homes, strict=True) if "official" in home}
    shared = sum(len(home) > 1 for home in homes)
    if shared:
        yield f"{shared} tiles lie in transfer-STall and in tr, val or ts, same name and same pixels: each counts once"
    leaning = [
        names[members[0]]
        for members in tiles
        if len({splits[m] for m in members if releases[m] == releases[members[0]]}) > 1
    ]
    if leaning:
        yield (
            f"{len(leaning)} tiles lie in more than one of tr, val and ts with the same pixels, for example "
            f"{leaning[0]}: each counts once, in the last of train, val and test"
        )
    if not official or not any("transfer" in home for home in homes):
        return
    other = {names[members[0]] for members, home in zip(tiles, homes, strict=True) if home == {"transfer"}} & official
    if other:
        yield (
            f"{len(other)} names stand for one tile in transfer-STall and another in tr, val or ts, for example "
            f"{min(other)}: whu_region takes the former, whu_indomain the latter"
        )
    missing = [
        names[members[0]]
        for members, home in zip(tiles, homes, strict=True)
        if home == {"official"} and not names[members[0]].startswith("O") and names[members[0]] not in other
    ]
    if missing:
        yield (
            f"{len(missing)} S and T tiles of tr, val and ts are not in transfer-STall, for example {missing[0]}: "
            "whu_region leaves them out"
        )


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    match = _NAME.fullmatch(file.stem)
    role = role_by_folder(file, image=("image",))
    if match is None or role is None:
        return None
    split = next((_SPLITS[folder] for folder in reversed(file.folders) if folder in _SPLITS), None)
    side = next((folder for folder in reversed(file.folders) if folder in _RELEASE_SPLITS), None)
    if split is None and side is None:
        return None
    letter, pair, rest = match.groups()
    key = _Key(
        side=letter.upper(),
        pair=int(pair),
        number=tuple(int(digits) for digits in re.findall(r"\d+", rest)),
        name=f"{letter.upper()}{int(pair)}_{rest}",
        split=split or _RELEASE_SPLITS[side or ""],
        release="official" if side is None else "transfer",
    )
    return role, key


def _city(side: str, pair: int) -> str:
    names = _CITIES[side]
    return names[pair - 1] if 1 <= pair <= len(names) else f"{side}{pair}"
