"""WHU-OHS: hyperspectral tiles of Chinese cities, paired as source and target."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Literal, NamedTuple

from spectral_tl_bench.datasets import blocks
from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.files import TIFF, FoundFile, Problem, Role, find_pairs, role_by_folder
from spectral_tl_bench.labels import LandClass
from spectral_tl_bench.sensors import OHS

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


class _Key(NamedTuple):
    side: str
    pair: int
    number: tuple[int, ...]
    name: str
    split: str
    layout: Literal["official", "transfer"]


class WHUOHS(TileDataset):
    """WHU-OHS land cover from Orbita hyperspectral (OHS) satellites.

    * 7,795 tiles of 512 x 512 px at 10 m, 32 bands from 466 to 940 nm, reflectance x 10,000
    * 24 classes; 0 = unlabelled
    * eight pairs of a source (S) and a target (T) city, and 26 ordinary (O) images

    Layouts, in any letter case and at any depth below ``root``:

    * official: ``{tr,val,ts}/{image,label}/S1_0007.tif``
    * transfer release: ``transfer-STall/{source,target}/{image,label}/[tr|val|ts/]S1_0007.tif``. Without a split
      folder, source tiles are "train" and target tiles "test".

    Attributes of a tile: ``side`` (S, T or O), ``pair`` (number in the name), ``city``, ``split``. Blocks are runs of
    consecutive tile numbers within a city.

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

    def find(self) -> tuple[list[dict[str, Any]], list[Problem]]:
        """List the tiles; see the base class."""
        pairs, problems = find_pairs(self.root, TIFF, _classify)
        keys = sorted(pairs)
        if len({key.layout for key in keys}) > 1:
            twice = next(key for key in keys if key.layout == "transfer")
            path = pairs[twice][0].path
            problems.append(
                Problem(
                    "misplaced",
                    path,
                    f"{self.root} holds the official archive and the transfer release ({path}); "
                    "point the root at one of the two, so that no tile counts twice",
                )
            )
        repeated = {name for name, times in Counter(key.name for key in keys).items() if times > 1}
        rows = []
        for key, block in zip(keys, blocks.runs([f"{key.side}{key.pair}" for key in keys]), strict=True):
            image, label = pairs[key]
            rows.append(
                {
                    "tile": f"{key.split}/{key.name}" if key.name in repeated else key.name,
                    "image": image.path,
                    "label": label.path,
                    "split": key.split,
                    "side": key.side,
                    "pair": key.pair,
                    "city": _city(key.side, key.pair),
                    "block": block,
                }
            )
        return rows, problems


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    match = _NAME.fullmatch(file.stem)
    role = role_by_folder(file, image=("image",))
    if match is None or role is None:
        return None
    split = next((_SPLITS[folder] for folder in file.folders if folder in _SPLITS), None)
    side = next((folder for folder in file.folders if folder in _RELEASE_SPLITS), None)
    if split is None and side is None:
        return None
    letter, pair, rest = match.groups()
    key = _Key(
        side=letter.upper(),
        pair=int(pair),
        number=tuple(int(digits) for digits in re.findall(r"\d+", rest)),
        name=f"{letter.upper()}{int(pair)}_{rest}",
        split=split or _RELEASE_SPLITS[side or ""],
        layout="official" if side is None else "transfer",
    )
    return role, key


def _city(side: str, pair: int) -> str:
    names = _CITIES[side]
    return names[pair - 1] if 1 <= pair <= len(names) else f"{side}{pair}"
