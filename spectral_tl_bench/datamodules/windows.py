"""Windows: the pieces of tiles that a model of fixed input size sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.labels import IGNORE_INDEX

WindowKey = tuple[int, int, int]
"""(row of the dataset's index, top, left)."""


def offsets(length: int, size: int, stride: int | None = None) -> list[int]:
    """Starts of the windows that cover ``length`` pixels, the last one flush with the end.

    Args:
        length: Pixels to cover.
        size: Side of a window.
        stride: From one window to the next; by default the side, so that they do not overlap.

    >>> offsets(500, 224)
    [0, 224, 276]
    >>> offsets(500, 224, 112)
    [0, 112, 224, 276]
    >>> offsets(60, 64)
    [0]
    """
    if length <= size:
        return [0]
    starts = list(range(0, length - size, stride or size))
    return [*starts, length - size]


def pad_sample(sample: Sample, height: int, width: int) -> Sample:
    """Grow a sample to at least height x width: the image repeats its edge, the added labels are ignored."""
    image, mask = sample["image"], sample["mask"]
    bottom, right = max(0, height - mask.shape[-2]), max(0, width - mask.shape[-1])
    if not bottom and not right:
        return sample
    # By NumPy, which repeats edges of any type on disk.
    image = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, bottom), (0, right)), mode="edge"))
    mask = torch.nn.functional.pad(mask, (0, right, 0, bottom), value=IGNORE_INDEX)
    return {**sample, "image": image, "mask": mask}


def resize_image(image: Tensor, size: int) -> Tensor:
    """Resample a whole C x H x W image to C x size x size, bilinearly with antialiasing."""
    return torch.nn.functional.interpolate(
        image[None].float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )[0]


def resize_sample(sample: Sample, size: int) -> Sample:
    """Resample a whole tile to size x size: the image by :func:`resize_image`, labels by nearest neighbour."""
    image = resize_image(sample["image"], size)
    mask = torch.nn.functional.interpolate(sample["mask"][None, None].float(), size=(size, size), mode="nearest-exact")
    return {**sample, "image": image, "mask": mask[0, 0].long()}


class TrainingWindows(Dataset[Sample]):
    """Windows of a dataset by key, always size x size, in stored values; only the window's part of the file is read."""

    def __init__(
        self, dataset: TileDataset, size: int, *, resize: bool, normalise: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Serve windows.

        Args:
            dataset: Tiles.
            size: Side of a window in pixels.
            resize: Serve whole tiles resampled to the size instead.
            normalise: What to make of the stored values of a batch of tiles before they are resampled.
        """
        self.dataset = dataset
        self.size = size
        self.resize = resize
        self.normalise = normalise
        self.heights = dataset.index["height"].to_numpy()
        self.widths = dataset.index["width"].to_numpy()

    def __getitem__(self, key: WindowKey) -> Sample:
        position, top, left = key
        if self.resize:
            sample = self.dataset.read_stored(position)
            if self.normalise is not None:
                sample = {**sample, "image": self.normalise(sample["image"][None])[0]}
            return resize_sample(sample, self.size)
        height = min(self.size, int(self.heights[position]))
        width = min(self.size, int(self.widths[position]))
        return pad_sample(self.dataset.read_stored(position, (top, left, height, width)), self.size, self.size)


class WholeTiles(Dataset[Sample]):
    """The tiles at some rows of a dataset's index, in stored values, for scoring."""

    def __init__(self, dataset: TileDataset, positions: Sequence[int]) -> None:
        """Serve the tiles at ``positions``."""
        self.dataset = dataset
        self.positions = list(positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset.read_stored(self.positions[index])


def as_batch(samples: list[Sample]) -> dict[str, Any]:
    """Collate windows; those of an archive whose files differ in type become float32."""
    if len({sample["image"].dtype for sample in samples}) > 1:
        samples = [{**sample, "image": sample["image"].float()} for sample in samples]
    batch: dict[str, Any] = default_collate(samples)
    return batch


def as_list(samples: list[Sample]) -> list[Sample]:
    """Collate tiles of any size: leave them apart."""
    return samples


def sliding_windows(image: Tensor, size: int) -> Iterator[tuple[int, int, Tensor]]:
    """Cut a C x H x W image into C x size x size windows that cover it.

    Yields:
        (top, left, window).
    """
    for top in offsets(image.shape[-2], size):
        for left in offsets(image.shape[-1], size):
            yield top, left, image[:, top : top + size, left : left + size]


def class_histogram(mask: np.ndarray | Tensor, num_classes: int) -> np.ndarray:
    """Count the pixels of each class id in a mask; ignored pixels do not count."""
    flat: Any = np.asarray(mask).ravel()
    return np.bincount(flat[flat < num_classes], minlength=num_classes)[:num_classes]
