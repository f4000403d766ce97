"""Checks of datasets."""

from __future__ import annotations

from pathlib import Path

import torch

from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.testing.contracts import ContractError, require


def check_dataset(cls: type[TileDataset], root: str | Path) -> None:
    """Check a dataset: its facts, its index, and the samples that it reads.

    Args:
        cls: A subclass of ``TileDataset``.
        root: A folder with a few tiles, in the layout that the class reads.

    Raises:
        ContractError: If it breaks a contract of docs/add-a-dataset.md.
        DataError: If the tiles cannot be read.
    """
    if not (isinstance(cls, type) and issubclass(cls, TileDataset)):
        raise ContractError(f"{cls!r} is no subclass of spectral_tl_bench.datasets.base.TileDataset")
    for fact in ("name", "title", "all_classes"):
        require(hasattr(cls, fact), f"{cls.__name__} lacks the class constant {fact}")
    dataset = cls(root)
    require(hasattr(dataset, "sensor"), f"{cls.__name__} lacks the class constant sensor")
    _check_index(dataset, cls(root))
    for position in range(min(len(dataset), 4)):
        _check_sample(dataset, position)


def _check_index(dataset: TileDataset, again: TileDataset) -> None:
    name = type(dataset).__name__
    require(len(dataset) > 0, f"{name} finds no tile")
    missing = {"tile", "image", "label", "split", "block", "height", "width", "geometry"} - set(dataset.index.columns)
    require(not missing, f"the index of {name} lacks columns: {', '.join(sorted(missing))}")
    require(dataset.index["tile"].is_unique, f"two tiles of {name} have the same name")
    unknown = set(dataset.index["split"]) - set(dataset.splits)
    require(not unknown, f"{name} has tiles of splits that `splits` does not name: {', '.join(sorted(unknown))}")
    same = list(dataset.index["tile"]) == list(again.index["tile"])
    require(same, f"{name} lists its tiles in another order each time; sort them")
    codes = [land.code for land in dataset.classes]
    require(len(codes) > 1 and len(set(codes)) == len(codes), f"{name} needs at least two classes of different codes")


def _check_sample(dataset: TileDataset, position: int) -> None:
    name, sample = type(dataset).__name__, dataset[position]
    image, mask, row = sample["image"], sample["mask"], dataset.index.iloc[position]
    bands, size = len(dataset.sensor_of(position).bands), (int(row["height"]), int(row["width"]))
    require(image.dtype == torch.float32, f"images of {name} are {image.dtype} instead of float32")
    require(tuple(image.shape) == (bands, *size), f"an image of {name} is {tuple(image.shape)}, not {(bands, *size)}")
    require(bool(image.isfinite().all()), f"an image of {name} has NaN or infinity")
    require(mask.dtype == torch.int64, f"masks of {name} are {mask.dtype} instead of int64")
    require(tuple(mask.shape) == size, f"a mask of {name} is {tuple(mask.shape)}, not {size}")
    ids = set(mask.unique().tolist()) - {IGNORE_INDEX}
    require(ids <= set(range(len(dataset.classes))), f"a mask of {name} has values {sorted(ids)} that are no class ids")
    require(sample["tile"] == row["tile"], f"a sample of {name} says that it is another tile")
    top, left, height, width = size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2
    window = dataset.read(position, (top, left, height, width))
    rows, columns = slice(top, top + height), slice(left, left + width)
    same = torch.equal(window["image"], dataset.read(position)["image"][:, rows, columns])
    require(same and torch.equal(window["mask"], mask[rows, columns]), f"a window of {name} is not cut from its tile")
