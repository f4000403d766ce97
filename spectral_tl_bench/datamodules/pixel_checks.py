"""What pixels tell of a protocol's parts: bands without data, labels where there is none, a scale that cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from spectral_tl_bench.datasets.base import TileDataset
from spectral_tl_bench.datasets.check import PLAUSIBLE_MEAN
from spectral_tl_bench.datasets.io.listing import Problem
from spectral_tl_bench.sensors.classes import IGNORE_INDEX

_FEWEST = 3
"""Tiles looked at of every part."""
_ENOUGH_TO_JUDGE = 50
"""Tiles whose mean is thought that of a part: a few may all be water or cloud."""


@dataclass(frozen=True)
class _Look:
    """One tile: lowest, highest and mean reflectance of each band where there is data, and whether a class is there."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    has_class: bool


_KNOWN: WeakKeyDictionary[TileDataset, dict[int, _Look]] = WeakKeyDictionary()


def _look(dataset: TileDataset, position: int) -> _Look:
    """Look at a tile, once for all runs on an opened archive."""
    known = _KNOWN.setdefault(dataset, {})
    if position not in known:
        row = dataset.index.iloc[position]
        pixels, valid = dataset.read_bands(position)
        reflectance = dataset.to_reflectance(torch.from_numpy(pixels)).flatten(1).double().numpy()
        ids = dataset.label_table[dataset.label_at(row)].ravel()
        if valid is not None:
            reflectance, ids = reflectance[:, valid.ravel()], ids[valid.ravel()]
        nothing = np.full(len(pixels), np.nan)
        some = reflectance.size > 0
        known[position] = _Look(
            reflectance.min(axis=1) if some else nothing,
            reflectance.max(axis=1) if some else nothing,
            reflectance.mean(axis=1) if some else nothing,
            bool(((ids >= 0) & (ids != IGNORE_INDEX)).any()),
        )
    return known[position]


def pixel_problems(
    name: str, dataset: TileDataset, sides: dict[str, Sequence[int]], parts: dict[str, Sequence[int]]
) -> Iterator[Problem]:
    """Name what only pixels tell, reading no more tiles than it takes: a few of each part where all is well.

    Args:
        name: The protocol's name.
        dataset: The archive.
        sides: Rows of the source and of the target, by what they are called.
        parts: Rows whose labels train, select and test, by what they are called.
    """
    for part, positions in parts.items():
        if not any(_look(dataset, position).has_class for position in _spread(positions)):
            yield Problem(
                "unusable",
                str(dataset.index["label"].iloc[positions[0]]),
                f"{name}: of its {len(positions)} {part} tiles, no pixel with a class has data in the image; correct "
                "'nodata' or the labels",
            )
    for side, positions in sides.items():
        yield from _without_data(name, dataset, side, positions)
        yield from _off_scale(name, dataset, side, positions)


def _spread(positions: Sequence[int]) -> list[int]:
    """The positions, the first few spread over all of them."""
    places = np.unique(np.linspace(0, len(positions) - 1, min(_FEWEST, len(positions))).round().astype(int)).tolist()
    first = [positions[place] for place in places]
    return [*first, *(position for position in positions if position not in set(first))]


def _without_data(name: str, dataset: TileDataset, side: str, positions: Sequence[int]) -> Iterator[Problem]:
    sensor = dataset.sensor_of(positions[0])
    low = np.full(len(sensor.bands), np.inf)
    high = -low
    for position in _spread(positions):
        look = _look(dataset, position)
        low, high = np.fmin(low, look.low), np.fmax(high, look.high)
        if (low < high).all():
            return
    blank = [band.name for band, one in zip(sensor.bands, low >= high, strict=True) if one]
    remedy = "leave it out with 'bands' in the protocol file, or restore the files"
    yield Problem(
        "unusable",
        str(dataset.index["image"].iloc[positions[0]]),
        f"{name}: band {', '.join(blank[:5])}{' ...' if len(blank) > 5 else ''} has one and the same value in all "
        f"{len(positions)} {side} tiles, that is, no data; {remedy}",
    )


def _off_scale(name: str, dataset: TileDataset, side: str, positions: Sequence[int]) -> Iterator[Problem]:
    step = max(1, len(positions) // _ENOUGH_TO_JUDGE)
    ordered = [*_spread(positions)[:_FEWEST], *positions[::step][:_ENOUGH_TO_JUDGE]]
    least, most = PLAUSIBLE_MEAN
    means: list[np.ndarray] = []
    for number, position in enumerate(ordered, start=1):
        means.append(_look(dataset, position).mean)
        if number < min(_FEWEST, len(positions)):
            continue
        some = np.array(means)
        mean = np.nanmean(some[:, ~np.isnan(some).all(axis=0)], axis=0)
        odd = (mean < least) | (mean > most)
        if not len(mean) or odd.mean() <= 0.5:
            return
    middle = float(np.median(mean))
    yield Problem(
        "unusable",
        str(dataset.index["image"].iloc[positions[0]]),
        f"{name}: the mean reflectance of its {side} tiles is {middle:.3g} where land has {least:g} to {most:g}: "
        f"{dataset.sensor.scale:g} cannot be the stored value that means 1; correct 'scale' under 'sensor' in the "
        "protocol file, or the files",
    )
