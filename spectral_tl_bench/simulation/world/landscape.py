"""A landscape: an endless plane of one region from which labels and the composition of pixels are cropped.

Covers win by the highest score. A score is a large field, which differs from tile to tile, so that a tile holds a few
of the region's classes, plus a small one, which shapes patches, plus an offset that gives each class its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from spectral_tl_bench.simulation.world.covers import Cover
from spectral_tl_bench.simulation.world.integers import LatticeFields, hashed, key, octets, rounded
from spectral_tl_bench.simulation.world.shift import Conditions

MARGIN = 1
"""Pixels around a crop that a sensor's point spread mixes into it."""

WRONG_LABELS = 0.04
"""Share of pixels whose label is not their cover: objects too small for the map to show."""

WEIGHT = 1024
"""Weights of a pixel's composition are whole numbers; this one is 1."""

_LARGE_TILES = 0.9
_LARGE = 1.8
_PATCH = 13.0
_OCTAVES = (1.0, 0.5, 0.35)
_INCLUSION = 3.0
_PARCEL = (22.0, 13.0)
_WITHIN = 9.0
_VARIATION_PATCH, _VARIATION_SMOOTH, _VARIATION_PIXEL, _VARIATION_SLOW = 0.7, 0.5, 0.4, 0.95
_SAMPLES_PER_SIDE = 80
_CALIBRATION_STEPS = 25
_DIRECTIONS = 3
_FINE = 1.6
_RELIEF = 30.0


@dataclass(frozen=True)
class Crop:
    """A square part of a landscape, with a margin except for the labels.

    Attributes:
        labels: Class codes, uint8, size x size.
        covers: Position of each pixel's true cover among the region's classes.
        weights: Whole numbers, pixels x (3 mixtures x (1 + directions)): the composition in units of ``WEIGHT``.
        light: Field of unit variance over the whole region: differences of illumination between and within tiles.
        haze: The same for haze.
        survey: The same, without margin: gaps in the survey.
    """

    labels: np.ndarray
    covers: np.ndarray
    weights: np.ndarray
    light: np.ndarray
    haze: np.ndarray
    survey: np.ndarray


class Landscape:
    """Covers in patches, with their texture, over a plane without end."""

    def __init__(self, covers: Sequence[Cover], conditions: Conditions, names: Sequence[object], size: int) -> None:
        """Set up the fields.

        Args:
            covers: Classes that may occur.
            conditions: Shares of the classes and sizes of patches, parcels and texture.
            names: What the landscape is called (archive, draw, region); other names are other landscapes.
            size: Side of a tile in px: the size of the large field's features.
        """
        self._covers = tuple(covers)
        self._conditions = conditions
        self._codes = np.array([cover.code for cover in covers], dtype=np.uint8)
        count = len(covers)
        patch = _PATCH * conditions.patch_size
        self._large = LatticeFields((*names, "large"), count, _LARGE_TILES * size)
        self._patches = [
            (amplitude, LatticeFields((*names, "patches", octave), count, patch / 2**octave))
            for octave, amplitude in enumerate(_OCTAVES)
        ]
        self._linear = np.array([cover.linear for cover in covers])
        self._inclusions = LatticeFields((*names, "inclusions"), 1, _INCLUSION)
        self._inclusion_level = float(rounded(ndtri(1 - WRONG_LABELS)))
        self._within = LatticeFields((*names, "within"), _DIRECTIONS + 1, _WITHIN * conditions.patch_size)
        self._fine = LatticeFields((*names, "fine"), _DIRECTIONS, _FINE)
        self._texture = [
            LatticeFields((*names, "texture", cover.code), 1, max(1.5, 0.5 * cover.scale * conditions.texture_size))
            for cover in covers
        ]
        self._levels = rounded(ndtri(1 - np.array([cover.share for cover in covers])))
        self._slow = LatticeFields((*names, "slow"), 2 + _DIRECTIONS, 1.1 * size)
        self._relief = LatticeFields((*names, "relief"), 3, _RELIEF)
        self._parcel_seed = key(*names, "parcels")
        self._parcel_steps = _parcel_steps(self._parcel_seed, conditions.parcel_size)
        self._offsets = np.where(conditions.shares > 0, 0.0, -np.inf)

    def calibrate(self, size: int, grid: np.ndarray) -> None:
        """Set the offsets so that the classes have their shares on the tiles of a grid.

        Args:
            size: Side of a tile in px.
            grid: True where there is a tile.
        """
        height, width = size * grid.shape[0], size * grid.shape[1]
        rows, columns = (
            np.arange(min(side, _SAMPLES_PER_SIDE)) * side // min(side, _SAMPLES_PER_SIDE) for side in (height, width)
        )
        inside = grid[np.ix_(rows // size, columns // size)]
        scores = self._scores(rows, columns)[:, inside]
        shares = self._conditions.shares
        wanted = shares > 0
        for step in range(_CALIBRATION_STEPS):
            winner = np.argmax(scores + self._offsets[:, None], axis=0)
            reached = np.bincount(winner, minlength=len(shares)) / winner.size
            error = np.log((shares[wanted] + 1e-3) / (reached[wanted] + 1e-3))
            self._offsets[wanted] += rounded(0.7 * 0.96**step * error)

    def _scores(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        small = sum(amplitude * fields(rows, columns) for amplitude, fields in self._patches)
        assert isinstance(small, np.ndarray)
        small[self._linear] = 1.2 - 2.5 * np.abs(small[self._linear])
        return np.asarray(_LARGE * self._large(rows, columns) + small)

    def crop(self, top: int, left: int, size: int) -> Crop:
        """Return a square part of the landscape.

        Args:
            top: First row in the plane.
            left: First column.
            size: Rows and columns.
        """
        rows = np.arange(top - MARGIN, top + size + MARGIN)
        columns = np.arange(left - MARGIN, left + size + MARGIN)
        scores = self._scores(rows, columns) + self._offsets[:, None, None]
        labelled = np.argmax(scores, axis=0)
        np.put_along_axis(scores, labelled[None], -np.inf, axis=0)
        included = self._inclusions(rows, columns)[0] > self._inclusion_level
        truth = np.where(included, np.argmax(scores, axis=0), labelled)
        inner = slice(MARGIN, -MARGIN)
        relief = self._relief(rows, columns)
        slow = self._slow(rows, columns)
        return Crop(
            labels=self._codes[labelled[inner, inner]],
            covers=truth,
            weights=self._weights(truth, slow[2:], rows, columns),
            light=0.8 * slow[0] + 0.6 * relief[0],
            haze=0.8 * slow[1] + 0.6 * relief[1],
            survey=relief[2, inner, inner],
        )

    def _weights(self, truth: np.ndarray, slow: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Composition of every pixel, rows x columns x 12; ``slow`` varies it from tile to tile."""
        parcels = octets(self._parcels(rows, columns))
        within = self._within(rows, columns)
        fine = self._fine(rows, columns)
        smooth = np.clip(0.5 + 0.4 * within[-1], 0.0, 1.0)
        body = np.zeros(truth.shape)
        accent = np.zeros(truth.shape)
        variation = _VARIATION_SMOOTH * within[:-1] + _VARIATION_PIXEL * fine + _VARIATION_SLOW * slow
        for number in np.unique(truth):
            cover, chosen = self._covers[number], truth == number
            texture = self._texture[number](rows, columns)[0]
            if cover.rows:
                texture = 0.5 * texture + self._furrows(parcels, rows, columns, cover.scale)
            accent[chosen] = np.clip(0.5 + 1.6 * (texture[chosen] - self._levels[number]), 0.0, 1.0)
            place = (parcels[..., 1] / 255.0 if cover.parcels else smooth)[chosen]
            body[chosen] = np.clip(place + self._conditions.composition[number], 0.0, 1.0)
            if cover.parcels:
                shift = (parcels[..., 2 : 2 + _DIRECTIONS] - 127.5) / 73.9
                variation[:, chosen] += _VARIATION_PATCH * np.moveaxis(shift, -1, 0)[:, chosen]
        mixtures = np.stack(((1 - accent) * (1 - body), (1 - accent) * body, accent), axis=-1)
        directions = np.concatenate((np.ones((1, *truth.shape)), variation))
        weights = mixtures[..., :, None] * np.moveaxis(directions, 0, -1)[..., None, :]
        return np.rint(WEIGHT * weights).reshape(*truth.shape, -1)

    def _parcels(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Random bits of the parcel that each pixel lies in: bricks of turned rows."""
        along, across = self._turned(rows, columns)
        row = across >> 16
        shift = octets(hashed(self._parcel_seed, row, np.zeros_like(row)))[..., 0].astype(np.int64) << 8
        return hashed(self._parcel_seed + 1, row, (along + shift) >> 16)

    def _turned(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, c, d = self._parcel_steps
        rows, columns = rows.astype(np.int64)[:, None], columns.astype(np.int64)
        return columns * a + rows * b, rows * c + columns * d

    def _furrows(self, parcels: np.ndarray, rows: np.ndarray, columns: np.ndarray, scale: float) -> np.ndarray:
        """Parallel rows along one side of the parcel or the other."""
        steps = round(256 / max(2.5, scale * self._conditions.texture_size))
        along = (rows[:, None] * steps + columns * (steps // 3)) % 256
        across = (columns * steps - rows[:, None] * (steps // 3)) % 256
        return np.asarray(_WAVE[np.where(parcels[..., 5] & 1, along, across)])


_WAVE = rounded(1.2 * np.cos(2 * np.pi * np.arange(256) / 256))


def _parcel_steps(seed: int, size: float) -> tuple[int, int, int, int]:
    """Steps of the parcels' turned axes for each pixel, in 1/65536 of a parcel."""
    angle = math.pi * (seed % 1000) / 1000
    length, width = (65536 / (side * size) for side in _PARCEL)
    return (
        round(length * math.cos(angle)),
        round(length * math.sin(angle)),
        round(width * math.cos(angle)),
        round(-width * math.sin(angle)),
    )
