"""Normalisation and augmentation of batches, on the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spectral_tl_bench.sensors.classes import IGNORE_INDEX

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset

_SMALLEST_DEVIATION = 1e-4
_MOST_TILES = 2_000
_LARGEST_STRIP = 2**29
"""Bytes of a tile in double precision that are summed up at once."""


class Radiometry(nn.Module):
    """From reflectance to what the model sees, and back."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise B x C x H x W reflectance."""
        raise NotImplementedError

    def undo(self, normalised: Tensor, images: Tensor) -> Tensor:
        """Turn normalised B x C x H x W values back into reflectance.

        Args:
            normalised: The values.
            images: The reflectance whose normalisation is undone.
        """
        raise NotImplementedError


class SourceStatistics(Radiometry):
    """Standardise every band with the mean and standard deviation of the source's training tiles.

    Also with what a backbone's own pretraining subtracted and divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Keep one mean and one deviation a band, in reflectance."""
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.clamp_min(_SMALLEST_DEVIATION).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise B x C x H x W reflectance."""
        return (images - self.mean) / self.std

    def undo(self, normalised: Tensor, images: Tensor) -> Tensor:
        """Give every band its deviation and mean back."""
        return normalised * self.std + self.mean

    def resampled(self, matrix: np.ndarray) -> SourceStatistics:
        """The statistics of other bands, K of them, made from those of these by K x C weights."""
        weights = torch.from_numpy(matrix).to(self.mean)
        return SourceStatistics(weights @ self.mean.flatten(), weights @ self.std.flatten())


class MinMax(Radiometry):
    """Stretch each band of each image to 0-1, as the published set-up does."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalise B x C x H x W reflectance."""
        low, span = self._range(images)
        return (images - low) / span

    def undo(self, normalised: Tensor, images: Tensor) -> Tensor:
        """Give every band of every image its range back."""
        low, span = self._range(images)
        return normalised * span + low

    @staticmethod
    def _range(images: Tensor) -> tuple[Tensor, Tensor]:
        low = images.amin(dim=(-2, -1), keepdim=True)
        return low, (images.amax(dim=(-2, -1), keepdim=True) - low).clamp_min(_SMALLEST_DEVIATION)


def band_statistics(dataset: TileDataset, positions: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over tiles, pixels without data left out.

    Args:
        dataset: Tiles.
        positions: Rows of its index; evenly thinned to at most 2000, which settles both to three digits.

    Returns:
        Two float32 vectors of C.
    """
    chosen = list(positions)
    if len(chosen) > _MOST_TILES:
        step = len(chosen) / _MOST_TILES
        chosen = [chosen[int(i * step)] for i in range(_MOST_TILES)]
    bands = len(dataset.sensor.bands)
    heights_and_widths = list(zip(dataset.index["height"].tolist(), dataset.index["width"].tolist(), strict=True))
    total, squares, count = torch.zeros(bands).double(), torch.zeros(bands).double(), 0
    for position in chosen:
        for window in _strips(*heights_and_widths[position], bands):
            image = dataset.read(position, window)["image"].double()
            has_data = (image != 0).any(dim=0)
            pixels = image[:, has_data]
            total += pixels.sum(dim=1)
            squares += pixels.square().sum(dim=1)
            count += pixels.shape[1]
    mean = total / max(count, 1)
    variance = (squares / max(count, 1) - mean.square()).clamp_min(0)
    return mean.float(), variance.sqrt().float()


def _strips(height: int, width: int, bands: int) -> list[tuple[int, int, int, int] | None]:
    """Windows in which a tile is read one after another; None for all of it where it is not large."""
    rows = max(1, _LARGEST_STRIP // (8 * bands * width))
    if rows >= height:
        return [None]
    return [(top, 0, min(rows, height - top), width) for top in range(0, height, rows)]


def build_radiometry(
    name: Literal["source_statistics", "minmax", "backbone"],
    dataset: TileDataset,
    positions: Iterable[int],
    stated: tuple[list[float], list[float]] | None = None,
) -> Radiometry:
    """Build the normalisation a run asks for, from its training tiles or from what its backbone states.

    Args:
        name: Which one.
        dataset: The archive.
        positions: Rows of its index that train.
        stated: For "backbone", what is subtracted from each band's reflectance and what divides it.
    """
    if name == "minmax":
        return MinMax()
    if name == "backbone":
        assert stated is not None
        mean, std = stated
        return SourceStatistics(torch.tensor(mean), torch.tensor(std))
    return SourceStatistics(*band_statistics(dataset, positions))


class Augmentation(nn.Module):
    """Flips and rotations of image and labels together.

    What a rotation uncovers is 0 (the mean) in the image and ignored in the labels.
    """

    def __init__(self, degrees: float) -> None:
        """Rotate by up to ``degrees`` either way; where that is less than a quarter turn, by such turns as well."""
        super().__init__()
        import kornia.augmentation as K

        quarter_turns = [K.RandomRotation90(times=(0, 3), p=0.5)] if degrees < 90 else []
        self.geometry = K.AugmentationSequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomVerticalFlip(p=0.5),
            *quarter_turns,
            K.RandomRotation(degrees=degrees, p=0.5),
            data_keys=["input", "mask"],
            extra_args={},
        )

    @torch.no_grad()
    def forward(
        self, images: Tensor, masks: Tensor, *inside: Tensor, rank: int = 0, processes: int = 1
    ) -> tuple[Tensor, ...]:
        """Augment B x C x H x W images, B x H x W masks and, where windows are padded, where they are not.

        Args:
            images: Of this process.
            masks: The same.
            inside: The same.
            rank: This process, from 0.
            processes: How many share a batch. What is drawn is drawn for the whole batch, in every process alike.
        """
        # Rotations fill with 0, which is a class: shift the ids so that 0 means "ignore" while they happen.
        shifted = torch.where(masks == IGNORE_INDEX, -1, masks) + 1
        params = None
        if processes > 1:
            batch = len(images)
            drawn = self.geometry.forward_parameters(torch.Size((batch * processes, *images.shape[1:])))
            params = [item._replace(data=_share(item.data, rank * batch, batch)) for item in drawn]
        planes = torch.stack([shifted, *inside], dim=1).to(images.dtype)
        images, turned = self.geometry(images, planes, params=params)
        labels = turned[:, 0].round().long() - 1
        kept = tuple(plane > 0.5 for plane in turned[:, 1:].unbind(dim=1))
        return images, torch.where(labels < 0, IGNORE_INDEX, labels), *kept


def _share(drawn: Any, start: int, length: int) -> dict[str, Tensor]:
    """What one of kornia's augmentations has drawn for a batch, cut to some of its images.

    Args:
        drawn: By name; "batch_prob" says which images are meant at all. Other entries have one row for every image, or
            in older versions for those that are meant.
        start: First image.
        length: How many.
    """
    meant = drawn["batch_prob"] > 0.5
    before, own = int(meant[:start].sum()), int(meant[start : start + length].sum())
    shares = {}
    for name, rows in drawn.items():
        if name == "forward_input_shape":
            shares[name] = torch.cat([rows.new_tensor([length]), rows[1:]])
        elif len(rows) == len(meant):
            shares[name] = rows[start : start + length]
        else:
            shares[name] = rows[before : before + own]
    return shares
