"""The archives by name. A dataset is imported when it is opened, so that listing them stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.config.protocols import selection_notes
from spectral_tl_bench.simulation import default_archive
from spectral_tl_bench.utils.errors import ProtocolError, SpectralBenchError
from spectral_tl_bench.utils.registry import DATASETS, short_name

if TYPE_CHECKING:
    from spectral_tl_bench.config.protocols import ProtocolFile
    from spectral_tl_bench.datasets.base import TileDataset


def __getattr__(name: str) -> Any:
    """Import the class of a registered dataset, such as ``WHUOHS``, when it is first used."""
    for entry in DATASETS.built_in.values():
        if entry.attribute == name:
            return DATASETS.load(entry.name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    if dataset.split is None and not dataset.index.empty:
        dataset.notes = [*dataset.notes, *selection_notes(file, dataset.index)]
    return dataset


def archive_root(dataset: str, root: Path | None, option: str = "--root") -> Path:
    """Folder of an archive: as given, its sub-folder of the dataset's name, or the embedded simulated archive.

    Args:
        dataset: Registered name.
        root: What the user gave.
        option: Where the user gave it.

    Raises:
        SpectralBenchError: If there is none.
    """
    if root is None:
        if dataset == "tiles":
            raise ProtocolError("this protocol is about your own tiles: name their folder with --root")
        return default_archive(dataset)
    root = root.expanduser()
    if not root.is_dir():
        raise SpectralBenchError(f"there is no folder {root}; {option} names the folder of the archive")
    inner = root / short_name(dataset)
    return inner if inner.is_dir() else root
