"""The data of one run: source tiles that train, source tiles held out, target tiles never seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule

from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.errors import ProtocolError
from spectral_tl_bench.protocols import Protocol
from spectral_tl_bench.radiometry import Augmentation, build_radiometry
from spectral_tl_bench.samplers import WindowSampler, class_weights, domain_weights, few_labels, held_out_tiles
from spectral_tl_bench.spec import TrainingSpec
from spectral_tl_bench.windows import TrainingWindows, WholeTiles, as_list, class_histogram


class ProtocolDataModule(NonGeoDataModule):
    """Serve a protocol's tiles to the Lightning trainer.

    Attributes:
        training: Rows of the dataset's index that train.
        held_out: Source rows that select the model.
        target: Rows that are scored, each once.
    """

    def __init__(
        self, protocol: Protocol, dataset: TileDataset, training: TrainingSpec, *, seed: int, num_workers: int = 0
    ) -> None:
        """Split the tiles.

        Args:
            protocol: Says which tiles are source and target.
            dataset: The archive, every split.
            training: Window size, batch sizes, samplers.
            seed: Fixes the order of training windows and the choice of few labels.
            num_workers: Reading processes; changes the speed only.

        Raises:
            ProtocolError: If source or target selects no tile, or they overlap.
        """
        super().__init__(type(dataset), batch_size=training.batch_size, num_workers=num_workers)
        self.protocol = protocol
        self.tiles = dataset
        self.settings = training
        self.seed = seed
        self._split()
        self.steps = 0
        self.train_batch_size = training.batch_size
        self.radiometry = build_radiometry(training.radiometry, dataset, self.unlabelled_training.tolist())
        self.augmentation = Augmentation() if training.augmentation else None

    def _split(self) -> None:
        index, transfer = self.tiles.index, self.protocol.transfer
        if transfer.by not in index.columns:
            raise ProtocolError(f"{self.protocol.name}: 'by: {transfer.by}' is not among the index's columns")
        source = transfer.source.select(index).to_numpy()
        target = transfer.target.select(index).to_numpy()
        for name, mask, domain in (("source", source, transfer.source), ("target", target, transfer.target)):
            if not mask.any():
                raise ProtocolError(
                    f"{self.protocol.name} selects no {name} tiles ({domain}) in {self.tiles.root}; "
                    "compare its values with the index: spectral-bench data check"
                )
        if (source & target).any():
            raise ProtocolError(
                f"{self.protocol.name}: {int((source & target).sum())} tiles are both source and target; "
                "a tile that trains must not test"
            )
        source_positions = np.flatnonzero(source)
        held = held_out_tiles(index.iloc[source_positions], transfer.by, self.settings.held_out_fraction)
        if not held.any():
            raise ProtocolError(
                f"{self.protocol.name}: the source has too few spatial blocks to hold any tile out; "
                "give the tiles a 'block' column with at least two values"
            )
        self.held_out = source_positions[held]
        self.unlabelled_training = source_positions[~held]
        self.training = self.unlabelled_training
        if self.settings.label_fraction < 1:
            domains = index[transfer.by].iloc[self.training].astype(str)
            self.training = self.training[few_labels(domains, self.settings.label_fraction, self.seed)]
        self.target = np.flatnonzero(target)

    def begin_stage(self, stage: str, steps: int, batch_size: int) -> None:
        """Say how many batches the next training stage needs; reconstruction uses every source tile's image."""
        self.stage = stage
        self.steps = steps
        self.train_batch_size = batch_size

    def setup(self, stage: str) -> None:
        """Do nothing: the tiles are known from the start."""

    def _weights(self, positions: np.ndarray) -> np.ndarray | None:
        if self.settings.sampler == "domain":
            return domain_weights(self.tiles.index[self.protocol.transfer.by].iloc[positions].astype(str))
        if self.settings.sampler == "class" and self.stage == "segmentation":
            num_classes = len(self.tiles.classes)
            return class_weights(
                np.stack([class_histogram(self.tiles.read(int(p))["mask"], num_classes) for p in positions])
            )
        return None

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the training batches of the current stage, exactly ``steps`` of them."""
        positions = self.training if self.stage == "segmentation" else self.unlabelled_training
        windows = TrainingWindows(self.tiles, self.settings.image_size, resize=self.settings.resolution == "resize")
        batch_size = self.train_batch_size or self.settings.batch_size
        sampler = WindowSampler(
            positions.tolist(),
            windows.heights,
            windows.widths,
            size=self.settings.image_size,
            count=self.steps * batch_size,
            seed=self.seed,
            weights=self._weights(positions),
        )
        return DataLoader(
            windows,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def _whole(self, positions: np.ndarray) -> DataLoader[Any]:
        index = self.tiles.index.iloc[positions]
        area = float((index["height"] * index["width"]).median())
        tiles_a_batch = max(1, int(self.settings.batch_size * self.settings.image_size**2 / area))
        return DataLoader(
            WholeTiles(self.tiles, positions.tolist()),
            batch_size=tiles_a_batch,
            collate_fn=as_list,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the held-out source tiles, whole."""
        return self._whole(self.held_out)

    def test_dataloader(self) -> Any:
        """Return the held-out source tiles and the target tiles, whole, as two loaders."""
        return [self._whole(self.held_out), self._whole(self.target)]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise and, in training, augment."""
        self.radiometry.to(self._device(batch))
        if isinstance(batch, list):
            return [{**sample, "image": self.radiometry(sample["image"][None])[0]} for sample in batch]
        images, masks = self.radiometry(batch["image"]), batch["mask"]
        if self.augmentation is not None and self.trainer is not None and self.trainer.training:
            images, masks = self.augmentation(images, masks)
        return {**batch, "image": images, "mask": masks}

    @staticmethod
    def _device(batch: Any) -> torch.device:
        image: Tensor = (batch[0] if isinstance(batch, list) else batch)["image"]
        return image.device

    def subdomain(self, tile: str) -> str:
        """Sub-domain of a tile, as the tables name it."""
        return self._subdomains[tile]

    @property
    def _subdomains(self) -> dict[str, str]:
        if not hasattr(self, "_subdomain_by_tile"):
            index = self.tiles.index
            self._subdomain_by_tile = dict(
                zip(index["tile"].astype(str), index[self.protocol.transfer.by].astype(str), strict=True)
            )
        return self._subdomain_by_tile
