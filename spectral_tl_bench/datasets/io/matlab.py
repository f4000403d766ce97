"""Reading MATLAB files (version 5 to 7.3): named arrays, and whether the file is complete."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.utils.errors import DataError

_HEADER_BYTES = 128
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, RuntimeError),
    *(zlib.error, MatReadError),
)


NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
"""MATLAB classes of arrays of numbers."""
_HDF5_KINDS = {"float64": "double", "float32": "single", "bool": "logical"}


def variables(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Tell names, shapes and MATLAB classes of a file's variables without loading them.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    try:
        if _is_hdf5(path):
            with h5py.File(path, "r") as file:
                return [(name, held.shape[::-1], _kind(held)) for name, held in _datasets(file)]
        _require_complete(path)
        return list(scipy.io.whosmat(path))
    except _BROKEN as error:
        raise unreadable(path, error) from error


def array_shape(path: Path, names: Sequence[str]) -> tuple[str, tuple[int, ...], str]:
    """Tell a variable's name, shape and MATLAB class without loading it.

    Args:
        path: The file.
        names: Names it may have, best first; where none occurs, the file's only variable is meant.

    Raises:
        DataError: If the file cannot be read to its end or holds no such variable.
    """
    by_name = {held[0]: held for held in variables(path)}
    for name in names:
        if name in by_name:
            return by_name[name]
    if len(by_name) == 1:
        return next(iter(by_name.values()))
    raise DataError(f"{path} holds no variable {names[0]!r} but {', '.join(by_name) or 'none'}; fetch the file again")


def read_array(path: Path, names: Sequence[str]) -> np.ndarray:
    """Load a variable; see :func:`array_shape` for its choice and the errors."""
    name, _, _ = array_shape(path, names)
    try:
        if _is_hdf5(path):
            with h5py.File(path, "r") as file:
                # MATLAB stores columns first, and HDF5 lists the axes from the slowest.
                array = np.asarray(dict(_datasets(file))[name]).T
        else:
            array = scipy.io.loadmat(path, variable_names=[name])[name]
    except _BROKEN as error:
        raise unreadable(path, error) from error
    if isinstance(array, np.ndarray) and array.dtype.kind == "c":
        raise DataError(f"{path}: {name!r} holds complex numbers, which are no reflectance; write their magnitude")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uifb":
        raise DataError(f"{path}: {name!r} is not an array of numbers; fetch the file again")
    return array


def _is_hdf5(path: Path) -> bool:
    """Whether it is a file of version 7.3, which is HDF5."""
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES).startswith((b"MATLAB 7.3", b"\x89HDF"))


def _kind(held: h5py.Dataset) -> str:
    """MATLAB class of an array: MATLAB stores logical values and text as integers, and names the class."""
    named = held.attrs.get("MATLAB_class")
    if isinstance(named, bytes):
        return named.decode(errors="replace")
    return _HDF5_KINDS.get(held.dtype.name, held.dtype.name)


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays of a file that lie in it: HDF5 can also link to, and draw on, other files."""
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(held := file[name], h5py.Dataset):
            if held.is_virtual or held.external:
                raise DataError(f"{file.filename}: {name!r} draws on other files; write its values into this one")
            yield name, held


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
