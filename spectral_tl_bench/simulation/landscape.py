"""A landscape: an endless scene of one region from which label maps and material shares are cropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from spectral_tl_bench.simulation.covers import Cover, mixture_vector
from spectral_tl_bench.simulation.fields import Fields, generator

_PATCH_WAVES = (28.0, 130.0)
_FIELD_WAVES = (18.0, 60.0)
_INCLUSION_WAVES = (10.0, 18.0)
_RELIEF_WAVES = (60.0, 400.0)
_MARGIN = 1
_BLUR = 0.2
_CALIBRATION_STEPS = 30


class Landscape:
    """Covers in patches, with their texture, over a scene of unlimited size.

    Every pixel belongs to the cover whose score is highest. A score is a smooth random field plus an offset that is
    calibrated so that each cover gets the share of the land that the region wants.
    """

    def __init__(
        self,
        covers: Sequence[Cover],
        shares: np.ndarray,
        *,
        seed: int,
        name: str,
        texture_scale: float = 1.0,
        inclusions: float = 0.0,
    ) -> None:
        """Draw the scene's fields.

        Args:
            covers: Classes that may occur.
            shares: Wanted share of each, adding up to 1; a cover with 0 never occurs.
            seed: Seed of the archive.
            name: Region; another name is another scene.
            texture_scale: Multiplies the size of every texture.
            inclusions: Share of a patch that in truth has another cover, too small for the map to show.
        """
        self.covers = tuple(covers)
        self.shares = shares
        self.codes = np.array([cover.code for cover in covers], dtype=np.uint8)
        self._linear = np.array([cover.linear for cover in covers])
        count = len(covers)
        self._patches = Fields(generator(seed, name, "patches"), np.tile(_PATCH_WAVES, (count, 1)))
        self._within = Fields(generator(seed, name, "within"), np.tile(_FIELD_WAVES, (count, 1)))
        scales = texture_scale * np.array([cover.scale for cover in covers])
        rows = np.array([cover.rows for cover in covers])
        # Rows repeat almost evenly, crowns and gaps do not.
        spread = np.where(rows[:, None], (0.95, 1.05), (0.85, 1.7))
        self._texture = Fields(generator(seed, name, "texture"), scales[:, None] * spread, rows=rows)
        self._relief = Fields(generator(seed, name, "relief"), np.tile(_RELIEF_WAVES, (3, 1)))
        self._inclusions = Fields(generator(seed, name, "inclusions"), np.array([_INCLUSION_WAVES]))
        self._offsets = np.where(shares > 0, 0.0, -np.inf)
        self._bodies = np.stack([[mixture_vector(c.first), mixture_vector(c.second)] for c in covers])
        self._accents = np.stack([mixture_vector(cover.accent) for cover in covers])
        # A field of unit variance exceeds this level on the wanted share of the area.
        self._levels = ndtri(1 - np.array([cover.share for cover in covers])).astype(np.float32)
        self._inclusion_level = ndtri(1 - inclusions)

    def calibrate(self, rows: np.ndarray, columns: np.ndarray, inside: np.ndarray) -> None:
        """Set the offsets so that the covers have their shares on a sample of the scene.

        Args:
            rows: Sampled row positions, px.
            columns: Sampled column positions, px.
            inside: rows x columns booleans; only these samples count.
        """
        scores = self._scores(rows, columns)[:, inside]
        wanted = self.shares > 0
        for step in range(_CALIBRATION_STEPS):
            winner = np.argmax(scores + self._offsets[:, None], axis=0)
            found = np.bincount(winner, minlength=len(self.covers)) / winner.size
            error = np.log((self.shares[wanted] + 1e-3) / (found[wanted] + 1e-3))
            self._offsets[wanted] += 0.5 * 0.96**step * error

    def _scores(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        fields = self._patches(rows, columns)
        fields[self._linear] = 1.0 - 2.5 * np.abs(fields[self._linear])
        return fields

    def relief(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return three slow fields of unit variance (3 x rows x columns): slope, haze, gaps in the survey."""
        return self._relief(rows, columns)

    def crop(self, top: int, left: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a square part of the scene.

        Args:
            top: First row in the scene.
            left: First column.
            size: Rows and columns.

        Returns:
            Class codes, uint8, size x size; shares of the materials as a sensor mixes them, float32,
            size x size x materials, in the order of ``MATERIALS``.
        """
        rows = np.arange(top - _MARGIN, top + size + _MARGIN)
        columns = np.arange(left - _MARGIN, left + size + _MARGIN)
        scores = self._scores(rows, columns) + self._offsets[:, None, None]
        labelled = np.argmax(scores, axis=0)
        np.put_along_axis(scores, labelled[None], -np.inf, axis=0)
        included = self._inclusions(rows, columns)[0] > self._inclusion_level
        truth = np.where(included, np.argmax(scores, axis=0), labelled)
        inner = slice(_MARGIN, -_MARGIN)
        return self.codes[labelled[inner, inner]], _blur(self._materials(truth, rows, columns))

    def _materials(self, covers: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the shares of the materials (rows x columns x materials) of a map of covers."""
        present, position = np.unique(covers, return_inverse=True)
        position = position.reshape(covers.shape)[None]
        within = np.take_along_axis(self._within(rows, columns, present), position, axis=0)[0]
        texture = np.take_along_axis(self._texture(rows, columns, present), position, axis=0)[0]
        body = _sigmoid(1.8 * within)[..., None]
        accent = _sigmoid(5.0 * (texture - self._levels[covers]))[..., None]
        # body and accent weights turn into one product with the mixtures of the covers present.
        weights = np.concatenate(((1 - accent) * (1 - body), (1 - accent) * body, accent), axis=-1)
        shares = np.zeros((*covers.shape, self._accents.shape[1]), dtype=np.float32)
        for cover in present:
            mixtures = np.concatenate((self._bodies[cover], self._accents[cover][None]))
            chosen = covers == cover
            shares[chosen] = weights[chosen] @ mixtures
        return shares


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-value))


def _blur(shares: np.ndarray) -> np.ndarray:
    """Mix each pixel with its neighbours (point spread) and drop the margin."""
    rows = (1 - 2 * _BLUR) * shares[1:-1] + _BLUR * (shares[:-2] + shares[2:])
    return (1 - 2 * _BLUR) * rows[:, 1:-1] + _BLUR * (rows[:, :-2] + rows[:, 2:])
