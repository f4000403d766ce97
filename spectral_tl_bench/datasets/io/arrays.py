"""Scenes and label maps in arrays: NumPy's ``.npy`` and MATLAB's ``.mat``, opened as rasters without coordinates.

An array is named by its file, the variable of a MATLAB file, and "bands first" where that is the order of its axes:
``PaviaU.mat:paviaU``, ``tile.npy``, ``tile.npy:bands first``.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from spectral_tl_bench.datasets.io import matlab
from spectral_tl_bench.datasets.io.formats import unreadable
from spectral_tl_bench.datasets.io.listing import Role
from spectral_tl_bench.utils.errors import DataError

ARRAYS = (".npy", ".mat")

_BANDS_FIRST = ":bands first"
_LARGEST = 16 * 2**30
"""Bytes that an array may have: it is held in memory."""
_KEPT = 8
_MATERIALS = 12
"""Rows that abundances of materials may have at most; spectra have more bands."""
_opened: OrderedDict[tuple[str, int], MemoryFile] = OrderedDict()
_reading = threading.Lock()


def is_array(path: Path | str) -> bool:
    """Whether a path names an array."""
    return file_of(path).lower().endswith(ARRAYS)


def file_of(path: Path | str) -> str:
    """The file that holds an array; of any other raster its path."""
    name = str(path).removesuffix(_BANDS_FIRST)
    end = name.lower().rfind(".mat:")
    return name if end < 0 else name[: end + len(".mat")]


def name_array(path: str, role: Role, bands: int | None) -> str:
    """Name the array of an image or a label map.

    Args:
        path: ``.npy`` or ``.mat``, the latter with the name of a variable where several may be meant.
        role: A label map has two axes longer than 1; an image has rows, columns and bands.
        bands: Bands of an image, where these are known.

    Returns:
        What :func:`open_array` takes.

    Raises:
        DataError: If the file cannot be read, or holds no such array or several.
    """
    file = file_of(path)
    if file.lower().endswith(".npy"):
        name, shape = file, _load_npy(file).shape
    else:
        held = {name: shape for name, shape, kind in matlab.variables(Path(file)) if kind in matlab.NUMBERS}
        variable = path[len(file) + 1 :] or _only(file, held, role)
        if variable not in held:
            raise DataError(f"{file} holds no array {variable!r} but {_listed(held)}")
        name, shape = f"{file}:{variable}", held[variable]
    # Rows, columns, bands is the order of MATLAB's scenes; rasterio and torch write bands first.
    many = 1 if role == "label" else bands
    first = len(shape) == 3 and shape[0] == many != shape[2]
    return f"{name}{_BANDS_FIRST}" if first else name


def _only(file: str, held: dict[str, tuple[int, ...]], role: Role) -> str:
    """The variable that can be an image, or a label map."""
    # Vectors and single numbers are wavelengths, sizes and the like.
    axes = {name: sum(side > 1 for side in shape) for name, shape in held.items()}
    fitting = [name for name, many in axes.items() if many == (2 if role == "label" else 3)]
    if role == "image" and not fitting:
        fitting = [name for name, shape in held.items() if _unmixing(file, held, shape) is not None]
    if len(fitting) == 1:
        return fitting[0]
    which = "several arrays that can be" if fitting else "no array that can be"
    raise DataError(
        f"{file} holds {which} the {role}: {_listed(held)}; name one behind the file under 'folder' in the protocol "
        f"file ({role}s: {Path(file).name}:NAME)"
    )


def _listed(held: dict[str, tuple[int, ...]]) -> str:
    few = [f"{name} ({' x '.join(map(str, shape))})" for name, shape in list(held.items())[:8]]
    return ", ".join(few) or "no numbers"


def _unmixing(file: str, held: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of an array of bands x pixels, beside which unmixing data have ``nRow`` and ``nCol``."""
    if len(shape) != 2 or not {"nRow", "nCol"} <= held.keys():
        return None
    sides = [int(matlab.read_array(Path(file), [name]).flat[0]) for name in ("nRow", "nCol")]
    # Abundances have as many columns; they are fractions of a few materials.
    return (sides[0], sides[1]) if shape[1] == math.prod(sides) and shape[0] > _MATERIALS else None


def open_array(name: Path | str) -> rasterio.DatasetReader:
    """Open an array as a raster; arrays opened lately are kept in memory.

    Raises:
        DataError: If it cannot be read, or is no scene and no label map.
    """
    file = file_of(name)
    try:
        key = (str(name), os.stat(file).st_mtime_ns)
    except OSError as error:
        raise unreadable(file, error) from error
    with _reading:
        if key not in _opened:
            _opened[key] = _as_raster(_array(str(name), file), file)
            if len(_opened) > _KEPT:
                _opened.popitem(last=False)[1].close()
        _opened.move_to_end(key)
        with rasterio.Env():
            return _opened[key].open()


def _array(name: str, file: str) -> np.ndarray:
    """Bands x rows x columns of an array."""
    if file.lower().endswith(".npy"):
        array = _load_npy(file)
    else:
        variable = name.removesuffix(_BANDS_FIRST)[len(file) + 1 :]
        held = {known: shape for known, shape, kind in matlab.variables(Path(file)) if kind in matlab.NUMBERS}
        _require_size(file, held.get(variable, ()), np.dtype(float))
        array = matlab.read_array(Path(file), [variable])
        sides = _unmixing(file, held, array.shape)
        if sides is not None:
            return array.reshape(array.shape[0], sides[1], sides[0]).swapaxes(1, 2)
    if array.ndim > 3:
        array = array.reshape([side for side in array.shape if side > 1] or [1])
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3 or array.size == 0:
        raise DataError(
            f"{file} has the axes {' x '.join(map(str, array.shape)) or 'of a single number'}, where a scene has rows, "
            "columns and bands, and a label map rows and columns; save each date or part as an array of its own"
        )
    return array if name.endswith(_BANDS_FIRST) else array.transpose(2, 0, 1)


def _load_npy(file: str) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:
        raise unreadable(file, error) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is an archive of several arrays (.npz); save the one that is meant with numpy.save")
    if array.dtype.kind not in "uifb":
        raise DataError(f"{file} holds values of type {array.dtype}, which are no reflectance and no class codes")
    _require_size(file, array.shape, array.dtype)
    return array


def _require_size(file: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    size = math.prod(shape) * dtype.itemsize
    if size > _LARGEST:
        raise DataError(
            f"{file} takes {size / 2**30:.0f} GiB in memory where an array may take {_LARGEST // 2**30}; write it as "
            "GeoTIFF or ENVI"
        )


def _as_raster(array: np.ndarray, file: str) -> MemoryFile:
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    count, height, width = array.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "interleave": "band"}
    memory = MemoryFile()
    try:
        with (
            rasterio.Env(),
            memory.open(**profile, dtype=array.dtype.newbyteorder("=").name, BIGTIFF="IF_SAFER") as raster,
        ):
            raster.write(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (rasterio.errors.RasterioError, TypeError, ValueError) as error:
        raise unreadable(file, error) from error
    return memory
