"""MTS12: four Sentinel-2 dates of Slovenia stacked in one image, north against south."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from spectral_tl_bench.datasets.archives import indomain
from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.datasets.io.headers import Header, require_usable
from spectral_tl_bench.datasets.io.listing import (
    TIFF,
    FoundFile,
    Listing,
    Problem,
    Role,
    about_copies,
    find_pairs,
    role_by_folder,
)
from spectral_tl_bench.datasets.io.matlab import array_shape, read_array
from spectral_tl_bench.datasets.io.raster import Window, whole_numbers
from spectral_tl_bench.sensors import MTS12_BANDS, MTS12_DATES, mts12_sensor
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.splits import blocks
from spectral_tl_bench.splits.neighbors import TileLayout, by_grid
from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.registry import DATASETS

_NAME = re.compile(r"eopatch_id_(\d+)_col_(\d+)_row_(\d+)(?:_(?:label|band|image|s2))?", re.IGNORECASE)
_HALVES = {"train": "north", "val": "north", "test": "south"}
_MONTHS = {12: (2, 5, 8, 11), 4: (0, 1, 2, 3)}
"""Positions of March, June, September and December among an original file's dates."""

_IMAGE_KEYS = ("band",)
_LABEL_KEYS = ("label",)


class _Key(NamedTuple):
    patch: int
    column: int
    row: int


@DATASETS.register("mts12", order=3)
class MTS12(TileDataset):
    """MTS12 land cover of Slovenia in 2019, Sentinel-2 at four dates.

    * 936 tiles of 500 x 500 px at 10 m, 24 channels (March, June, September and December x B2 B3 B4 B8 B11 B12)
    * eight classes; 0 = no data

    Layouts, in any letter case and at any depth below ``root``:

    * stacked: ``image/{train,val,test}/eopatch_id_62_col_5_row_16.tif`` (reflectance x 10,000) with
      ``label/{train,val,test}/eopatch_id_62_col_5_row_16_label.mat`` (variable ``label``)
    * original: ``{s2,label}/{train,val,test}/*.mat``; the image is the variable ``band``, dates x H x W x bands in 0-1.
      Its channel order is not published; assumed are the months from January to December (or just the four) and the
      six bands in the order above. It is given back on the stacked layout's scale, in the sensor's channel order.
      Where both lie under one root, the stacked files are read.

    Whether the stacked channels run date by date or band by band is not published either: see ``order``.

    Attributes of a tile: ``half`` (north: train and val; south: test), ``col`` and ``row`` in the grid of tiles,
    ``indomain`` (train or test of the in-domain reference) and ``indomain_source`` (authors, from
    ``data_list/MTS12_*.txt``, or blocked, our own). Blocks are cells of 3 x 3 tiles.

    Reference: Zhao & Ji, IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing (2022).
    """

    name = "mts12"
    title = "MTS12"
    citation = (
        "Zhao and Ji, MTS12: land cover of Slovenia from multitemporal Sentinel-2 images of 2019, IEEE Journal of "
        "Selected Topics in Applied Earth Observations and Remote Sensing (2022)"
    )
    ignored_codes = (0,)
    expected_counts: ClassVar[dict[str, dict[str, int]]] = {
        "split": {"train": 509, "val": 130, "test": 297},
        "half": {"north": 639, "south": 297},
    }
    all_classes = (
        LandClass(code=1, name="cultivated land", color="#e8c547"),
        LandClass(code=2, name="forest", color="#1b6e2f"),
        LandClass(code=3, name="grassland", color="#9bcf5f"),
        LandClass(code=4, name="shrubland", color="#a68a3d"),
        LandClass(code=5, name="water", color="#2b6fd6"),
        LandClass(code=6, name="wetland", color="#4fb9a8"),
        LandClass(code=7, name="artificial surface", color="#d1343b"),
        LandClass(code=8, name="bare land", color="#b9b1a5"),
    )

    def __init__(
        self,
        root: str | Path = "data",
        split: str | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        download: bool = False,
        *,
        ignore: Sequence[int] | Literal["rest"] = (),
        strict: bool = True,
        order: Literal["date", "band"] = "date",
    ) -> None:
        """Find the tiles; arguments as in the base class.

        Args:
            root: Folder of the archive.
            split: One of ``splits``, or None for every tile.
            transforms: Applied to each sample.
            download: Fetch the archive into ``root`` if it is not there.
            ignore: Label codes to ignore beyond the archive's own.
            strict: Refuse an archive with a tile that does not fit.
            order: "date" when the stacked channels run through all bands of March first, "band" when they run through
                all dates of B2 first.
        """
        self.order = order
        self.sensor = mts12_sensor(order)
        super().__init__(root, split, transforms, download, ignore=ignore, strict=strict)

    def find(self) -> Listing:
        """List the tiles; see the base class."""
        pairs = find_pairs(self.root, (*TIFF, ".mat"), _classify, rank=_rank)
        problems = [
            Problem(
                "misplaced",
                copy.path,
                f"{copy.path} is the same tile as {read.path}, once in the north and once in the south; "
                "remove the wrong one, so that no tile trains and tests",
            )
            for copy, read in pairs.copies
            if _half(copy) != _half(read)
        ]
        keys = sorted(pairs.tiles)
        splits = [_split(pairs.tiles[key][0]) or "" for key in keys]
        halves = [_HALVES[split] for split in splits]
        cells = blocks.cells(halves, [key.column for key in keys], [key.row for key in keys])
        rows = []
        for key, split, half, block in zip(keys, splits, halves, cells, strict=True):
            image, label = pairs.tiles[key]
            rows.append(
                {
                    "tile": f"eopatch_id_{key.patch}_col_{key.column}_row_{key.row}",
                    "image": image.path,
                    "label": label.path,
                    "split": split,
                    "half": half,
                    "col": key.column,
                    "row": key.row,
                    "block": block,
                }
            )
        places = _places([key.column for key in keys], [key.row for key in keys])
        indomain.assign(rows, keys, self.root, "mts", _key, group="half", places=places)
        return Listing(rows, problems, pairs.unpaired, about_copies(pairs.copies, self.root))

    def numbered_places(self) -> TileLayout | None:
        """Return the tiles' places in the grid of Slovenia."""
        return _places(self.index["col"].tolist(), self.index["row"].tolist())

    def image_header(self, path: Path) -> Header:
        """Read an image's header, of either layout."""
        if path.suffix.lower() != ".mat":
            return super().image_header(path)
        _, shape, kind = array_shape(path, _IMAGE_KEYS)
        _require_stack(path, shape)
        require_usable(path, shape[1], shape[2], shape[0] * shape[3], kind)
        return Header(shape[1], shape[2], len(self.sensor.bands), kind)

    def label_header(self, path: Path) -> Header:
        """Read a label map's header."""
        if path.suffix.lower() != ".mat":
            return super().label_header(path)
        _, shape, kind = array_shape(path, _LABEL_KEYS)
        height, width = _map_size(path, shape)
        require_usable(path, height, width, 1, kind)
        return Header(height, width, 1, kind)

    def read_image(self, path: Path, window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read an image of either layout, on the scale and in the channel order of the sensor."""
        if path.suffix.lower() != ".mat":
            return super().read_image(path, window)
        stack = read_array(path, _IMAGE_KEYS)
        _require_stack(path, stack.shape)
        dates = _crop(stack[list(_MONTHS[stack.shape[0]])], window, axis=1)
        axes = (0, 3, 1, 2) if self.order == "date" else (3, 0, 1, 2)
        channels = dates.transpose(axes).reshape(-1, *dates.shape[1:3])
        pixels = np.multiply(channels, np.float32(self.sensor.scale), dtype=np.float32, casting="unsafe")
        valid = np.isfinite(pixels).all(axis=0)
        return pixels, None if valid.all() else valid

    def read_label(self, path: Path, window: Window | None = None) -> np.ndarray:
        """Read a label map as integer codes."""
        if path.suffix.lower() != ".mat":
            return super().read_label(path, window)
        codes = read_array(path, _LABEL_KEYS)
        codes = codes.reshape(_map_size(path, codes.shape))
        return whole_numbers(_crop(codes, window, axis=0), path)


def _places(columns: Sequence[int], rows: Sequence[int]) -> TileLayout | None:
    return by_grid(["Slovenia"] * len(columns), columns, rows) if len(columns) else None


def _key(stem: str) -> _Key | None:
    match = _NAME.fullmatch(stem)
    return None if match is None else _Key(*map(int, match.groups()))


def _split(file: FoundFile) -> str | None:
    return next((folder for folder in reversed(file.folders) if folder in _HALVES), None)


def _half(file: FoundFile) -> str:
    return _HALVES[_split(file) or ""]


def _rank(file: FoundFile) -> int:
    """Read the stacked layout, which most people have, where the original lies beside it."""
    return 0 if file.suffix in TIFF or file.stem.lower().endswith("_label") else 1


def _classify(file: FoundFile) -> tuple[Role, _Key] | None:
    key = _key(file.stem)
    role = role_by_folder(file, image=("image", "s2"))
    if key is None or role is None or _split(file) is None:
        return None
    return role, key


def _require_stack(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) != 4 or shape[0] not in _MONTHS or shape[3] != len(MTS12_BANDS):
        found = " x ".join(map(str, shape))
        raise DataError(
            f"{path} is {found} where dates x height x width x bands is expected, with 12 months or the "
            f"{len(MTS12_DATES)} dates and {len(MTS12_BANDS)} bands; use the archive's own tiles"
        )


def _map_size(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    sides = [length for length in shape if length != 1] if len(shape) > 2 else list(shape)
    if len(sides) != 2:
        raise DataError(f"{path} is {' x '.join(map(str, shape))} where a label map of height x width is expected")
    return sides[0], sides[1]


def _crop(array: np.ndarray, window: Window | None, axis: int) -> np.ndarray:
    if window is None:
        return array
    top, left, height, width = window
    lead = (slice(None),) * axis
    return array[(*lead, slice(top, top + height), slice(left, left + width))]
