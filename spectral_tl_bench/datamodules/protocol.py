"""The data of one run: source tiles that train, source tiles held out, target tiles never seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule

from spectral_tl_bench.config.spec import StageName, TrainingSpec
from spectral_tl_bench.datamodules.radiometry import Augmentation, Radiometry, SourceStatistics, build_radiometry
from spectral_tl_bench.datamodules.samplers import BatchShares, ResumableData, SourceTiles, WindowSampler
from spectral_tl_bench.datamodules.windows import (
    TrainingWindows,
    WholeTiles,
    as_batch,
    as_list,
    blank_outside,
    class_histogram,
    with_labels_used,
)
from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.records.confusion import PARTS, Part, TileKey
from spectral_tl_bench.sensors.resampling import resampling_matrix
from spectral_tl_bench.splits.assignment import Split, domains_of
from spectral_tl_bench.splits.few_labels import labelled_tiles
from spectral_tl_bench.utils.random_state import seed_step
from spectral_tl_bench.utils.registry import SAMPLERS


class ProtocolDataModule(ResumableData, NonGeoDataModule):
    """Serve a protocol's tiles to the Lightning trainer.

    Attributes:
        split: The protocol's tiles as rows of the dataset's index.
        labelled: Training tiles with the windows whose labels train; fewer or smaller with ``label_fraction``.
        training: Rows of these tiles.
        scored: Tiles that :meth:`test_dataloader` leaves out because an earlier process has scored them.
    """

    def __init__(
        self,
        split: Split,
        dataset: TileDataset,
        training: TrainingSpec,
        *,
        seed: int,
        num_workers: int = 0,
        normalisation: tuple[list[float], list[float]] | None = None,
    ) -> None:
        """Prepare the parts of a split.

        Args:
            split: Which tiles train, select and test.
            dataset: The archive, every split.
            training: Window size, batch sizes, samplers.
            seed: Fixes the order of training windows and the choice of few labels.
            num_workers: Reading processes; changes the speed only.
            normalisation: What the backbone states, for ``radiometry=backbone``.
        """
        super().__init__(type(dataset), batch_size=training.batch_size, num_workers=num_workers)
        self.split = split
        self.tiles = dataset
        self.training_spec = training
        self.seed = seed
        self.stage: StageName = "segmentation"
        self.scored: set[TileKey] = set()
        self._batches = 0
        self.labelled = labelled_tiles(split, dataset.index, training.label_fraction, seed)
        self.training = self.labelled.rows
        self.radiometry = build_radiometry(training.radiometry, dataset, split.training.tolist(), normalisation)
        self.radiometry_of_target = self._of_other_bands()
        self.augmentation = Augmentation(training.rotation_degrees) if training.augmentation else None

    def _of_other_bands(self) -> Radiometry:
        """Normalisation of target tiles: the source's, at their own wavelengths where the model is shown these."""
        seen = None if self.tiles.crossing is None else self.tiles.crossing.seen
        if seen is None or not isinstance(self.radiometry, SourceStatistics):
            return self.radiometry
        return self.radiometry.resampled(resampling_matrix(self.tiles.sensor, seen, clamp=True))

    def _domains(self, positions: np.ndarray) -> pd.Series:
        return domains_of(self.split, self.tiles.index, positions)

    def begin_stage(self, stage: StageName) -> None:
        """Say which stage trains next; reconstruction uses every source tile's image, labelled or not."""
        self.stage = stage

    def setup(self, stage: str) -> None:
        """Do nothing: the tiles are known from the start."""

    def _weights(self, positions: np.ndarray) -> np.ndarray | None:
        def histograms() -> np.ndarray:
            num_classes = len(self.tiles.classes)
            samples = ((int(p), self.tiles.read_stored(int(p))) for p in positions)
            masks = (with_labels_used(sample, p, self.labelled)["mask"] for p, sample in samples)
            return np.stack([class_histogram(mask, num_classes) for mask in masks])

        labelled = histograms if self.stage == "segmentation" else None
        weights: np.ndarray | None = SAMPLERS.load(self.training_spec.sampler)(
            SourceTiles(self._domains(positions), labelled)
        )
        return weights

    def windows(self) -> TrainingWindows:
        """The windows that training draws from."""
        return TrainingWindows(
            self.tiles,
            self.training_spec.image_size,
            resize=self.training_spec.resolution == "resize",
            normalise=self._normalise if self._normalised_before_resizing else None,
            labelled=self.labelled if self.stage == "segmentation" else None,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the training batches of the current stage that are left, of exactly as many as its steps."""
        positions = self.training if self.stage == "segmentation" else self.split.training
        windows = self.windows()
        heights, widths = windows.heights, windows.widths
        if windows.labelled is not None:
            heights, widths = windows.labelled.sides(heights, widths)
        stage = self.training_spec.stage(self.stage)
        done = self.steps_done
        sampler = WindowSampler(
            positions.tolist(),
            heights,
            widths,
            size=self.training_spec.image_size,
            count=stage.steps * stage.batch_size,
            seed=self.seed,
            weights=self._weights(positions),
            start=done * stage.batch_size,
        )
        # Several batches a step where their gradients add up, and several shares a batch where processes share it.
        rank, processes = self._processes
        accumulated = self.training_spec.accumulation
        self._batches = done * accumulated
        share = stage.batch_size // (accumulated * processes)
        return DataLoader(
            windows,
            batch_sampler=BatchShares(sampler, share, rank=rank, processes=processes),
            collate_fn=as_batch,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def _whole(self, positions: np.ndarray, part: Part | None = None) -> DataLoader[Any]:
        if part is not None:
            names = self.tiles.index["tile"].iloc[positions].astype(str)
            positions = positions[[TileKey(part, name) not in self.scored for name in names]]
        index = self.tiles.index.iloc[positions]
        area = float((index["height"] * index["width"]).median()) if len(index) else 1.0
        size = self.training_spec.image_size if self.training_spec.resolution == "native" else None
        tiles_a_batch = max(1, int(self.training_spec.batch_size * self.training_spec.image_size**2 / area))
        rank, processes = self._processes
        tiles = WholeTiles(self.tiles, positions.tolist(), size)
        return DataLoader(
            tiles,
            batch_sampler=BatchShares(range(len(tiles)), tiles_a_batch, rank=rank, processes=processes),
            collate_fn=as_list,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the held-out source tiles, whole."""
        return self._whole(self.split.held_out)

    def test_dataloader(self) -> Any:
        """Return the held-out source tiles and the target tiles, whole: a loader for each of ``PARTS``."""
        positions: dict[Part, np.ndarray] = {"held_out_source": self.split.held_out, "target": self.split.target}
        return [self._whole(positions[part], part) for part in PARTS]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Seed what a training step draws, from the augmentation below to the last dropout, by the step's number."""
        if self.trainer is not None and self.trainer.training:
            seed_step(self.seed, self._batches)
            self._batches += 1
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn stored values into reflectance, normalise and, in training, augment."""
        if not batch:  # a process without a tile of the last batch
            return batch
        self.radiometry.to(self._device(batch))
        if isinstance(batch, list):
            radiometry = self.radiometry_of_target if PARTS[dataloader_idx] == "target" else self.radiometry
            radiometry.to(self._device(batch))
            return [{**s, "image": radiometry(self.tiles.to_reflectance(s["image"][None]))[0]} for s in batch]
        images, masks = batch["image"], batch["mask"]
        if not self._normalised_before_resizing:
            images = self._normalise(images)
        outside = {} if "inside" not in batch else {"inside": batch["inside"]}
        if outside:
            images = blank_outside(images, outside["inside"])
        if self.augmentation is not None and self.trainer is not None and self.trainer.training:
            rank, processes = self._processes
            images, masks, *turned = self.augmentation(images, masks, *outside.values(), rank=rank, processes=processes)
            outside = dict(zip(outside, turned, strict=True))
        return {**batch, "image": images, "mask": masks, **outside}

    @property
    def _processes(self) -> tuple[int, int]:
        """Which process this is, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def _normalised_before_resizing(self) -> bool:
        """Resampling takes extremes away: a tile's own are those of all its pixels, in training as in scoring."""
        return self.training_spec.resolution == "resize" and self.training_spec.radiometry == "minmax"

    def _normalise(self, stored: Tensor) -> Tensor:
        images: Tensor = self.radiometry(self.tiles.to_reflectance(stored))
        return images

    @staticmethod
    def _device(batch: Any) -> torch.device:
        image: Tensor = (batch[0] if isinstance(batch, list) else batch)["image"]
        return image.device
