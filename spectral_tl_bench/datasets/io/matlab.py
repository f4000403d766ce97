"""Reading MATLAB files (version 5 to 7.2): named arrays, and whether the file is complete."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from spectral_tl_bench.datasets.io.raster import unreadable
from spectral_tl_bench.utils.errors import DataError

_HEADER_BYTES = 128
_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zlib.error, MatReadError)


def array_shape(path: Path, names: Sequence[str]) -> tuple[str, tuple[int, ...], str]:
    """Tell a variable's name, shape and MATLAB class without loading it.

    Args:
        path: The file.
        names: Names it may have, best first; where none occurs, the file's only variable is meant.

    Raises:
        DataError: If the file cannot be read to its end or holds no such variable.
    """
    _require_complete(path)
    try:
        variables = scipy.io.whosmat(path)
    except NotImplementedError as error:
        raise _too_new(path) from error
    except _BROKEN as error:
        raise unreadable(path, error) from error
    by_name = {name: (name, shape, kind) for name, shape, kind in variables}
    for name in names:
        if name in by_name:
            return by_name[name]
    if len(variables) == 1:
        only: tuple[str, tuple[int, ...], str] = variables[0]
        return only
    held = ", ".join(by_name) or "nothing"
    raise DataError(f"{path} holds no variable {names[0]!r} but {held}; fetch the file again")


def read_array(path: Path, names: Sequence[str]) -> np.ndarray:
    """Load a variable; see :func:`array_shape` for its choice and the errors."""
    name, _, _ = array_shape(path, names)
    try:
        array = scipy.io.loadmat(path, variable_names=[name])[name]
    except NotImplementedError as error:
        raise _too_new(path) from error
    except _BROKEN as error:
        raise unreadable(path, error) from error
    if isinstance(array, np.ndarray) and array.dtype.kind == "c":
        raise DataError(f"{path}: {name!r} holds complex numbers, which are no reflectance; write their magnitude")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uifb":
        raise DataError(f"{path}: {name!r} is not an array of numbers; fetch the file again")
    return array


def _too_new(path: Path) -> DataError:
    return DataError(f"{path} is a MATLAB 7.3 file, which is not read here; save it again in MATLAB with '-v7'")


def _require_complete(path: Path) -> None:
    """Walk a version 5 file's elements to its end; scipy's own look at the headers misses a cut."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
            if not start.startswith(b"MATLAB 5.0"):
                return
            order = "<" if start[126:128] == b"IM" else ">"
            position = _HEADER_BYTES
            while position < size:
                file.seek(position)
                _, length = struct.unpack(f"{order}II", file.read(8))
                position += 8 + length
    except (OSError, struct.error) as error:
        raise unreadable(path, error) from error
    if position != size or size <= _HEADER_BYTES:
        raise DataError(f"cannot read {path}: it ends too early; the file is incomplete, fetch it again")
