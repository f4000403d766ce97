"""Coherent random fields that can be evaluated anywhere, so that tiles are crops of one endless scene."""

from __future__ import annotations

import zlib

import numpy as np

_WAVES = 40


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return the random stream of one purpose; streams of different names are independent.

    Args:
        seed: Seed of the archive.
        names: What the stream is for ("whuohs", "S1", "labels").
    """
    return np.random.default_rng([seed, *(zlib.crc32(str(name).encode()) for name in names)])


class Fields:
    """A stack of Gaussian random fields of unit variance, each a sum of plane waves.

    A plane wave factors into a row and a column part, so that a crop of any position and size is one matrix product:
    neighbouring crops fit without a seam and none needs the whole scene in memory.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        wavelengths: np.ndarray,
        *,
        rows: np.ndarray | None = None,
    ) -> None:
        """Draw the waves.

        Args:
            rng: Random stream.
            wavelengths: Shortest and longest wave of each field in px, F x 2.
            rows: Which fields have parallel waves (crop rows, plantations), F booleans; None for no field.
        """
        count = len(wavelengths)
        low, high = np.log(wavelengths[:, :1]), np.log(wavelengths[:, 1:])
        lengths = np.exp(rng.uniform(size=(count, _WAVES)) * (high - low) + low)
        angle = rng.uniform(0, np.pi, size=(count, _WAVES))
        if rows is not None:
            parallel = rng.uniform(0, np.pi, size=(count, 1)) + rng.normal(0, 0.08, size=(count, _WAVES))
            angle = np.where(np.asarray(rows)[:, None], parallel, angle)
        self._down = 2 * np.pi * np.sin(angle) / lengths
        self._right = 2 * np.pi * np.cos(angle) / lengths
        self._phase = rng.uniform(0, 2 * np.pi, size=(count, _WAVES))

    def __call__(self, rows: np.ndarray, columns: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """Evaluate the fields on a grid.

        Args:
            rows: Positions of the grid's rows in the scene, px.
            columns: Positions of its columns, px.
            which: Indices of the fields wanted; None for all.

        Returns:
            float32, fields x rows x columns.
        """
        keep = slice(None) if which is None else which
        # The phase is reduced in double precision: positions reach ten thousand pixels.
        down = self._down[keep][..., None] * rows + self._phase[keep][..., None]
        right = self._right[keep][..., None] * columns
        left = np.concatenate((np.cos(down), -np.sin(down)), axis=1).astype(np.float32)
        over = np.concatenate((np.cos(right), np.sin(right)), axis=1).astype(np.float32)
        return np.matmul(left.transpose(0, 2, 1), over) * np.float32(np.sqrt(2 / _WAVES))
