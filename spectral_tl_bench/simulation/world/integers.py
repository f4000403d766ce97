"""Random numbers and smooth random fields that have the same bits on every processor.

Random values are hashes of integers. Fields interpolate them with integer weights, so that every product and sum is an
integer below 2**53, which float64 holds exactly in whatever order a linear algebra library adds. What needs a function
such as a logarithm is rounded to a coarse grid afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_ROW, _COLUMN, _FIRST, _SECOND = (
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_FRACTIONS = 256
"""Positions between two points of a lattice."""
_UNIT = 1 << 16
"""Fixed-point positions count in 1/65536 of the lattice's spacing."""
_GRID = 4096
"""Rounded values are multiples of 1/4096."""


def key(*names: object) -> int:
    """Return the 64-bit key of one purpose; keys of different names are unrelated.

    Args:
        names: What the key is for (draw, "whuohs", "S1", "patches").
    """
    return int.from_bytes(hashlib.sha256(repr([str(name) for name in names]).encode()).digest()[:8], "little")


def generator(*names: object) -> np.random.Generator:
    """Return a random generator of one purpose; take whole numbers, or round what it gives with :func:`rounded`."""
    return np.random.default_rng(key(*names))


def rounded(values: np.ndarray | float) -> np.ndarray:
    """Return values as multiples of 1/4096, which removes differences between implementations of a function."""
    return np.rint(np.asarray(values, dtype=np.float64) * _GRID) / _GRID


def hashed(seed: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return 64 random bits for each pair of whole numbers (the finalizer of splitmix64).

    Args:
        seed: A :func:`key`.
        rows: Whole numbers, broadcast against ``columns``.
        columns: Whole numbers.
    """
    mixed = rows.astype(np.uint64) * _ROW + (columns.astype(np.uint64) * _COLUMN ^ np.uint64(seed))
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def octets(bits: np.ndarray) -> np.ndarray:
    """Return the eight bytes of 64-bit values in a last axis, least significant first on every processor."""
    return bits.astype("<u8")[..., None].view(np.uint8)


_OCTETS_MEAN = 8 * 127.5
_OCTETS_SD = float(np.sqrt(8 * (256**2 - 1) / 12))
# Mean over positions of the squared weights of a cubic B-spline, 151/315, for each of two axes.
_SPLINE_SD = 151 / 315


def _spline_weights() -> np.ndarray:
    """Cubic B-spline weights at each fraction, 256 x 4 whole numbers that add up to 256."""
    t = np.arange(_FRACTIONS) / _FRACTIONS
    weights = np.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3), axis=1) / 6
    whole = np.rint(weights * _FRACTIONS)
    whole[:, 1] += _FRACTIONS - whole.sum(axis=1)
    return whole


_WEIGHTS = _spline_weights()


class LatticeFields:
    """Several smooth random fields of about unit variance over an endless plane.

    Values at the points of a square lattice are normally distributed (sums of eight uniform ones) and interpolated with
    cubic B-splines: any crop can be evaluated alone and neighbouring crops fit without a seam.
    """

    def __init__(self, names: Sequence[object], count: int, spacing: float) -> None:
        """Set up the lattices.

        Args:
            names: What the fields are for.
            count: Number of fields.
            spacing: Distance of the lattice's points in px; a field changes sign over about twice as much.
        """
        self._seeds = [key(*names, number) for number in range(count)]
        self._step = max(1, round(_UNIT / spacing))
        self._start = key(*names, "start") % (1 << 40)

    def _axis(self, positions: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Lattice points that matter for some positions, and the weight matrix, positions x points."""
        fixed = positions.astype(np.int64) * self._step + start
        cells, fraction = fixed // _UNIT, (fixed % _UNIT) * _FRACTIONS // _UNIT
        reached = cells[:, None] + np.arange(4)
        points, place = np.unique(reached, return_inverse=True)
        matrix = np.zeros((len(positions), len(points)))
        np.put_along_axis(matrix, place.reshape(reached.shape), _WEIGHTS[fraction], axis=1)
        return points, matrix

    def __call__(self, rows: np.ndarray, columns: np.ndarray, which: Sequence[int] | None = None) -> np.ndarray:
        """Evaluate the fields on a grid.

        Args:
            rows: Whole positions of the grid's rows, px.
            columns: Whole positions of its columns, px.
            which: Indices of the fields wanted; None for all.

        Returns:
            float64, fields x rows x columns.
        """
        down, left = self._axis(rows, self._start)
        across, right = self._axis(columns, self._start // 3)
        wanted = range(len(self._seeds)) if which is None else which
        lattice = np.stack(
            [octets(hashed(self._seeds[i], down[:, None], across)).sum(axis=-1, dtype=np.int64) for i in wanted]
        )
        # Whole numbers below 2**31: exact.
        whole = np.matmul(np.matmul(left, lattice * 2.0 - 2 * _OCTETS_MEAN), right.T)
        return np.asarray(whole * (0.5 / (_FRACTIONS**2 * _OCTETS_SD * _SPLINE_SD)))


def sensor_noise(shape: tuple[int, ...], *names: object) -> np.ndarray:
    """Return noise of unit variance (sums of four uniform bytes), float32."""
    count = int(np.prod(shape))
    parts = np.frombuffer(generator(*names).bytes(4 * count), dtype=np.uint8).reshape(4, count)
    total = parts.sum(axis=0, dtype=np.int16) - np.int16(4 * 127.5)
    return (total.astype(np.float32) * np.float32(1 / np.sqrt((256**2 - 1) / 3))).reshape(shape)
