"""Which archives pretrain, which of their tiles, and batches that hold one sensor each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from spectral_tl_bench.config.protocols import Protocol, ProtocolFile, read_protocol_file
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.samplers import ResumableData, WindowSampler
from spectral_tl_bench.datamodules.windows import TrainingWindows, WindowKey, as_batch
from spectral_tl_bench.datasets import dataset_class, open_dataset
from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.records.pretraining import PretrainingArchive
from spectral_tl_bench.simulation import GENERATOR_VERSION, read_marker, simulate_archive
from spectral_tl_bench.splits.assignment import Split, split_tiles
from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.errors import DataError, ProtocolError, SpectralBenchError
from spectral_tl_bench.utils.random_state import derived_seed, seed_step
from spectral_tl_bench.utils.registry import DATASETS
from spectral_tl_bench.utils.validation import names_yaml

LEFT_OUT = 20
"""Of so many tiles one does not train where no protocol says so, and shows what reconstruction makes of it."""

Key = tuple[int, WindowKey]
"""(archive, window)."""


@dataclass(frozen=True)
class OpenArchive:
    """An archive whose tiles are chosen.

    Attributes:
        said: What the weights will say of it.
        dataset: Its tiles.
        split: Which of them train, and which are left out.
    """

    said: PretrainingArchive
    dataset: TileDataset
    split: Split


def simulated_archive(name: str, seed: int, tile_size: int, tiles: float) -> Path:
    """A simulated archive that is in no benchmark, written on first use.

    Raises:
        SpectralBenchError: If the seed is that of the benchmark's archives, or the archive cannot be simulated.
    """
    if seed < 1:
        raise SpectralBenchError(
            f"--simulated-seed {seed}: seed 0 draws the archives that runs are tested on; choose 1 or more"
        )
    root = cache_dir() / "pretraining" / f"{name}-v{GENERATOR_VERSION}-s{seed}-{tile_size}px-x{tiles:g}"
    if not root.is_dir():
        try:
            simulate_archive(name, root, seed=seed, tile_size=tile_size, tiles=tiles)
        except DataError:
            # Another process may have been first; anything else is a real failure.
            if not root.is_dir():
                raise
    return root


def open_archives(
    named: Sequence[tuple[str, Path]], protocols: Sequence[Protocol], training: TrainingSpec
) -> list[OpenArchive]:
    """Open archives and choose their tiles.

    Args:
        named: Names of datasets, or protocol files of own tiles, and folders.
        protocols: Whose source tiles alone may be seen; each is about one of the archives.
        training: How many source tiles are held out.

    Raises:
        SpectralBenchError: If an archive cannot be opened, a protocol is about none, or no tile is left.
    """
    from spectral_tl_bench.datasets import archive_root

    files = [_file_of(name) for name, _ in named]
    for protocol in protocols:
        if not any(_is_about(protocol, name, file) for (name, _), file in zip(named, files, strict=True)):
            raise ProtocolError(
                f"--protocol {protocol.name} is about {protocol.file.dataset}, which is not among the archives; name "
                "its folder with --archive"
            )
    archives = []
    for (name, root), file in zip(named, files, strict=True):
        about = [protocol for protocol in protocols if _is_about(protocol, name, file)]
        own = about[0].file if about else file
        place = archive_root("tiles" if file is not None else name, root, "--archive")
        dataset = dataset_class(name)(place) if own is None else open_dataset(own, place)
        split = _source_of(about, dataset, training) if about else _all_of(dataset)
        contents = dataset.checksums(split.training.tolist())
        names = dataset.index["tile"].astype(str).to_numpy()
        said = PretrainingArchive(
            name=name if file is None else file.name,
            sensor=dataset.sensor.name,
            bands=len(dataset.sensor.bands),
            simulated=read_marker(place) is not None,
            protocols=tuple(protocol.name for protocol in about),
            tiles={tile: content.image for tile, content in contents.items()},
            left_out=tuple(sorted(names[split.held_out])),
        )
        archives.append(OpenArchive(said, dataset, split))
    return archives


def _file_of(name: str) -> ProtocolFile | None:
    """The protocol file that describes own tiles; None for an archive by its name."""
    if not names_yaml(name):
        DATASETS.require(name)
        if name == "tiles":
            raise SpectralBenchError("--archive tiles=DIR: own tiles are named by their protocol file, FILE.yaml=DIR")
        return None
    return read_protocol_file(Path(name))


def _is_about(protocol: Protocol, name: str, file: ProtocolFile | None) -> bool:
    if file is None:
        return protocol.file.dataset == name
    ignored = {"protocols", "title", "name"}
    return protocol.file.model_dump(exclude=ignored) == file.model_dump(exclude=ignored)


def _source_of(protocols: Sequence[Protocol], dataset: TileDataset, training: TrainingSpec) -> Split:
    """Tiles that train in every protocol; the first one's held-out tiles are left out."""
    places = dataset.places if training.held_out_rule == "cells" else None
    splits = []
    for protocol in protocols:
        dataset.require(protocol.transfer)
        splits.append(split_tiles(protocol, dataset.index, training.held_out_fraction, places))
    common = sorted(set.intersection(*(set(split.training.tolist()) for split in splits)))
    if not common:
        names = ", ".join(protocol.name for protocol in protocols)
        raise ProtocolError(
            f"no tile of {dataset.name} trains in all of {names}; pretrain once for each, or name fewer with --protocol"
        )
    first = splits[0]
    return Split(np.array(common), first.held_out, np.zeros(0, dtype=int), first.subdomains, None)


def _all_of(dataset: TileDataset) -> Split:
    """All tiles, apart from every twentieth."""
    many = len(dataset)
    if many < 2:
        raise DataError(f"{dataset.root} holds a single tile; pretraining needs one more, to look at")
    rows = np.arange(many)
    held = rows % LEFT_OUT == min(LEFT_OUT, many) // 2
    names = dataset.index["tile"].astype(str)
    return Split(rows[~held], rows[held], np.zeros(0, dtype=int), dict.fromkeys(names, dataset.name), None)


class _Windows(Dataset[Sample]):
    """Windows of several archives."""

    def __init__(self, windows: Sequence[TrainingWindows]) -> None:
        self.windows = windows

    def __getitem__(self, key: Key) -> Sample:
        archive, window = key
        return {**self.windows[archive][window], "archive": archive}


class _Batches(Sampler[list[Key]]):
    """Batches of one archive each, the archives in turn."""

    def __init__(self, samplers: Sequence[WindowSampler], *, each: int, parts: int, first: int, steps: int) -> None:
        self.samplers = samplers
        self.each, self.parts, self.first, self.steps = each, parts, first, steps

    def __len__(self) -> int:
        return (self.steps - self.first) * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        windows = [iter(sampler) for sampler in self.samplers]
        for step in range(self.first, self.steps):
            archive = step % len(windows)
            for _ in range(self.parts):
                yield [(archive, window) for window in itertools.islice(windows[archive], self.each)]


class PretrainingData(ResumableData, lightning.LightningDataModule):
    """Windows of several archives for the Lightning trainer, one archive a batch, in turn.

    Attributes:
        archives: Each as a run would serve its source; they normalise and augment their own batches.
    """

    def __init__(self, archives: Sequence[OpenArchive], training: TrainingSpec, *, seed: int, workers: int = 0) -> None:
        """Prepare the archives; ``workers`` read, and change the speed only."""
        super().__init__()
        self.training_spec, self.seed, self.workers = training, seed, workers
        self.archives = [ProtocolDataModule(a.split, a.dataset, training, seed=seed) for a in archives]
        self._batches = 0

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the batches that are left."""
        spec = self.training_spec
        size, batch, steps = spec.image_size, spec.reconstruction_batch_size, spec.reconstruction_steps
        windows = [data.windows() for data in self.archives]
        done = self.steps_done
        many = len(self.archives)
        samplers = [
            WindowSampler(
                data.split.training.tolist(),
                windows[number].heights,
                windows[number].widths,
                size=size,
                count=steps * batch,
                seed=derived_seed(self.seed, number),
                start=len(range(number, done, many)) * batch,
            )
            for number, data in enumerate(self.archives)
        ]
        parts = spec.accumulation
        self._batches = done * parts
        return DataLoader(
            _Windows(windows),
            batch_sampler=_Batches(samplers, each=batch // parts, parts=parts, first=done, steps=steps),
            collate_fn=as_batch,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Seed what a training step draws by the step's number."""
        seed_step(self.seed, self._batches)
        self._batches += 1
        return {**batch, "archive": int(batch["archive"][0])}

    def on_after_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Any:
        """Normalise and augment, as the archive of the batch does it."""
        archive = self.archives[batch["archive"]]
        archive.trainer = self.trainer
        return archive.on_after_batch_transfer(batch, dataloader_idx)
