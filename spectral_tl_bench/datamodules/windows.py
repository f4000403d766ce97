"""Windows: the pieces of tiles that a model of fixed input size sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.datasets.io.raster import Window
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.splits.few_labels import LabelledTiles

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
    """Grow a sample to at least height x width: the image repeats its edge, the added labels are ignored.

    The repeated edge keeps an image's range; :func:`blank_outside` takes it away once the image is normalised.
    """
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
    """Windows of a dataset by key, always size x size, in stored values; only the window's part of the file is read.

    Where some tile is smaller than the size, samples have ``inside`` too: bool, size x size, False in what was added.
    """

    def __init__(
        self,
        dataset: TileDataset,
        size: int,
        *,
        resize: bool,
        normalise: Callable[[Tensor], Tensor] | None = None,
        labelled: LabelledTiles | None = None,
    ) -> None:
        """Serve windows.

        Args:
            dataset: Tiles.
            size: Side of a window in pixels.
            resize: Serve whole tiles resampled to the size instead.
            normalise: What to make of the stored values of a batch of tiles before they are resampled.
            labelled: Tiles with the windows whose labels are used; None where all are.
        """
        self.dataset = dataset
        self.size = size
        self.resize = resize
        self.normalise = normalise
        self.labelled = labelled
        self.heights = dataset.index["height"].to_numpy()
        self.widths = dataset.index["width"].to_numpy()
        # Of all tiles, so that every window of a batch says it or none does.
        self.pads = not resize and bool(min(self.heights.min(), self.widths.min()) < size)

    def __getitem__(self, key: WindowKey) -> Sample:
        position, top, left = key
        if self.resize:
            sample = with_labels_used(self.dataset.read_stored(position), position, self.labelled)
            if self.normalise is not None:
                sample = {**sample, "image": self.normalise(sample["image"][None])[0]}
            return resize_sample(sample, self.size)
        height = min(self.size, int(self.heights[position]))
        width = min(self.size, int(self.widths[position]))
        sample = self.dataset.read_stored(position, (top, left, height, width))
        sample = with_labels_used(sample, position, self.labelled, top, left)
        if self.pads:
            sample = {**sample, "inside": inside(height, width, self.size)}
        return pad_sample(sample, self.size, self.size)


def with_labels_used(sample: Sample, row: int, labelled: LabelledTiles | None, top: int = 0, left: int = 0) -> Sample:
    """Ignore the labels of a sample that may not be used.

    Args:
        sample: A tile, or a window of one.
        row: Its row of the index.
        labelled: Which labels may be used; None for all.
        top: First row of the window in the tile.
        left: First column.
    """
    if labelled is None or labelled.whole:
        return sample
    height, width = labelled.window(row)
    mask = sample["mask"].clone()
    mask[max(0, height - top) :] = IGNORE_INDEX
    mask[:, max(0, width - left) :] = IGNORE_INDEX
    return {**sample, "mask": mask}


def inside(height: int, width: int, size: int) -> Tensor:
    """Where a padded square holds its tile; bool, size x size."""
    where = torch.zeros(size, size, dtype=torch.bool)
    where[:height, :width] = True
    return where


def blank_outside(images: Tensor, where: Tensor) -> Tensor:
    """Set what was added to B x C x H x W normalised images to 0, the mean; ``where`` is B x H x W, True inside."""
    return images * where.unsqueeze(1)


LARGEST_PIECE = 2**29
"""Bytes that a tile may take as float32 when it is scored, with its bands or its classes; larger ones go in pieces."""


def pieces(height: int, width: int, size: int, channels: int) -> list[Window]:
    """Cut a tile into pieces that are scored one after another, with the same windows as the whole tile.

    Args:
        height: Rows of the tile.
        width: Columns.
        size: Side of a window.
        channels: Bands or classes, whichever are more.

    Returns:
        (top, left, height, width) of each piece: whole windows, those that overlap at an edge together. One piece where
        the tile is small enough, as every archive's tiles are.

    >>> pieces(500, 500, 224, 24)
    [(0, 0, 500, 500)]
    """
    most = LARGEST_PIECE // (4 * channels)
    if height * width <= most:
        return [(0, 0, height, width)]
    across = max(2, math.isqrt(most) // size)
    return [
        (top, left, rows, columns)
        for top, rows in _runs(height, size, across)
        for left, columns in _runs(width, size, across)
    ]


def _runs(length: int, size: int, most: int) -> list[tuple[int, int]]:
    """Starts and lengths of runs of at most so many windows, at least two, along one axis."""
    starts = offsets(length, size)
    # The last window overlaps the one before it: both belong to one run.
    cuts = [number for number in range(0, len(starts), most) if number == 0 or number < len(starts) - 1]
    ends = [*cuts[1:], len(starts)]
    return [
        (starts[first], min(length, starts[last - 1] + size) - starts[first])
        for first, last in zip(cuts, ends, strict=True)
    ]


class WholeTiles(Dataset[Sample]):
    """The tiles at some rows of a dataset's index, in stored values, for scoring.

    A tile that is too large for that comes in pieces, in turn: they have ``pieces`` too, how many there are.
    """

    def __init__(self, dataset: TileDataset, positions: Sequence[int], size: int | None = None) -> None:
        """Serve the tiles at ``positions``: with windows of ``size`` px large ones in pieces, else each whole."""
        self.dataset = dataset
        self.parts: list[tuple[int, Window | None, int]] = []
        channels = max(len(dataset.sensor.bands), len(dataset.classes))
        for position in positions:
            height, width = (int(dataset.index[side].iloc[position]) for side in ("height", "width"))
            cut = [(0, 0, height, width)] if size is None else pieces(height, width, size, channels)
            self.parts += [(position, part if len(cut) > 1 else None, len(cut)) for part in cut]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Sample:
        position, part, many = self.parts[index]
        sample = self.dataset.read_stored(position, part)
        return sample if part is None else {**sample, "pieces": many}


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
