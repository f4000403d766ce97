"""The archives by name. A dataset is imported when it is opened, so that listing them stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.errors import SpectralBenchError
from spectral_tl_bench.plugins import DATASETS

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.protocols import ProtocolFile


def dataset_class(name: str) -> type[TileDataset]:
    """Return the dataset of a registered name, or of ``path/to/file.py:ClassName``.

    Raises:
        UnknownNameError: If there is none.
        SpectralBenchError: If a plugin cannot be imported, or is no dataset.
    """
    from spectral_tl_bench.datasets.base import TileDataset

    cls = DATASETS.load(name)
    if not (isinstance(cls, type) and issubclass(cls, TileDataset)):
        raise SpectralBenchError(f"{name} is no dataset: let it subclass spectral_tl_bench.datasets.base.TileDataset")
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
