"""Codes of one's own label maps, of any integer type, and how often each occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from spectral_tl_bench.datasets.io.raster import integers
from spectral_tl_bench.sensors.classes import HIGHEST_CODE, LOWEST_CODE, UNLABELLED
from spectral_tl_bench.utils.errors import DataError

_COUNTED = 2**22
_FEWEST_CODES = 1024


def own_codes(
    stored: np.ndarray,
    nodata: float | None,
    classes: Collection[int],
    ignored: Collection[int] | Literal["rest"],
    path: Path | str,
) -> np.ndarray:
    """Turn a label map as it is stored into codes that a lookup table has room for.

    Unlabelled become NaN, what the file calls nodata unless the protocol says what that code means, and ignored codes
    beyond the table.

    Args:
        stored: H x W codes of any integer type, or floats that are whole numbers.
        nodata: The file's nodata.
        classes: Codes of the classes.
        ignored: Codes that are ignored, or "rest" for all others.
        path: File they come from, for the error.

    Returns:
        H x W codes from -32768, which is unlabelled, to 65535.

    Raises:
        DataError: If a code is a fraction, or beyond the table and not ignored.
    """
    codes = integers(stored, path, nan=UNLABELLED)
    unlabelled = np.isnan(stored) if np.issubdtype(stored.dtype, np.floating) else None
    if nodata is not None and np.isfinite(nodata) and not _means_something(int(nodata), classes, ignored):
        unlabelled = _either(unlabelled, stored == nodata)
    if not codes.size or (codes.min() >= LOWEST_CODE and codes.max() <= HIGHEST_CODE and unlabelled is None):
        return codes
    far = (codes < LOWEST_CODE) | (codes > HIGHEST_CODE)
    if ignored != "rest":
        beyond = [code for code in ignored if not LOWEST_CODE <= code <= HIGHEST_CODE]
        unlabelled = _either(unlabelled, np.isin(codes, beyond))
        strange = codes[far & ~unlabelled]
        if strange.size:
            raise DataError(
                f"{path} holds label code {strange[0]} where classes have codes from {LOWEST_CODE} to {HIGHEST_CODE}; "
                "correct the label, or list the code under 'ignore' in the protocol file"
            )
    return np.asarray(np.where(_either(unlabelled, far), UNLABELLED, codes.astype(np.int64)))


def _means_something(code: int, classes: Collection[int], ignored: Collection[int] | Literal["rest"]) -> bool:
    return code in classes or (ignored != "rest" and code in ignored)


def _either(one: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    return other if one is None else one | other


def code_counts(codes: np.ndarray) -> dict[int, int]:
    """Count the pixels of each code of a label map, those of the unlabelled too.

    Args:
        codes: H x W integer codes.
    """
    counts: Counter[int] = Counter()
    flat = codes.ravel()
    # A part at a time: counting makes 8 bytes of each pixel.
    for part in (flat[start : start + _COUNTED] for start in range(0, flat.size, _COUNTED)):
        low = int(part.min())
        # Most maps begin at 0 or little above, and need no copy.
        found = np.bincount(part) if 0 <= low < _FEWEST_CODES else np.bincount(part.astype(np.int64) - low)
        offset = 0 if 0 <= low < _FEWEST_CODES else low
        counts.update({int(code) + offset: int(found[code]) for code in np.flatnonzero(found)})
    return dict(sorted(counts.items()))
