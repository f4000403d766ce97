"""The archives by name. A dataset is imported when it is opened, so that listing them stays fast."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.errors import UnknownNameError

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.protocols import ProtocolFile

DATASETS = {
    "whuohs": "whuohs:WHUOHS",
    "dfc2020": "dfc2020:DFC2020",
    "mts12": "mts12:MTS12",
    "tiles": "tiles:Tiles",
}
"""Name to ``module:class`` within this package."""


def dataset_class(name: str) -> type[TileDataset]:
    """Return the dataset class registered under a name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in DATASETS:
        raise UnknownNameError("dataset", name, DATASETS, "run `spectral-bench datasets` to see them all")
    module, _, attribute = DATASETS[name].partition(":")
    cls: type[TileDataset] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return cls


def open_dataset(file: ProtocolFile, root: str | Path, **options: Any) -> TileDataset:
    """Open the archive that a protocol file is about, with the classes that it keeps.

    Args:
        file: The protocol file.
        root: Folder of the archive.
        options: Further arguments of the dataset class (``split``, ``strict``, the ``order`` of MTS12 ...).

    Raises:
        UnknownNameError: If the file names a dataset that does not exist.
        DatasetNotFoundError: If ``root`` holds no tile of the archive.
        DataError: If a tile does not fit the archive.
    """
    cls: Any = dataset_class(file.dataset)
    if file.dataset == "tiles":
        dataset: TileDataset = cls(root, file=file, **options)
    else:
        dataset = cls(root, ignore=file.ignore, **options)
    return dataset
