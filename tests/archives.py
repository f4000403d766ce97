"""Small archives in the real layouts, written for the tests."""

from pathlib import Path

import numpy as np
import rasterio
import scipy.io
from rasterio.transform import from_origin

SIZE = 16


def write_tif(path, pixels, **profile):
    """Write C x H x W (or H x W) pixels as a GeoTIFF and return its path."""
    pixels = np.asarray(pixels)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype, **profile}
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


def write_mat(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


def random_image(bands, seed=0, size=SIZE, dtype="uint16"):
    return np.random.default_rng(seed).integers(100, 6000, (bands, size, size)).astype(dtype)


def random_label(codes, seed=0, size=SIZE, dtype="uint8"):
    return np.random.default_rng(seed).choice(np.asarray(codes), (size, size)).astype(dtype)


def utm(left=500_000.0, top=4_000_000.0):
    """Profile entries of a tile that knows where it lies."""
    return {"crs": "EPSG:32650", "transform": from_origin(left, top, 10.0, 10.0)}


WHUOHS_NAMES = {
    "tr": ("S1_0001", "S1_0002", "S2_0001", "T1_0001", "O5_0001"),
    "val": ("T1_0002", "O8_0003"),
    "ts": ("T2_0001", "S8_0004", "O24_0001"),
}


def write_whuohs(root, names=None, codes=range(25), size=SIZE, **profile):
    """Write the official layout: ``{tr,val,ts}/{image,label}/NAME.tif``."""
    root = Path(root)
    for split, members in (names or WHUOHS_NAMES).items():
        for name in members:
            seed = sum(map(ord, name))
            write_tif(root / split / "image" / f"{name}.tif", random_image(32, seed, size), **profile)
            write_tif(root / split / "label" / f"{name}.tif", random_label(list(codes), seed, size), **profile)
    return root


def write_whuohs_transfer(root, splits=("",)):
    """Write the transfer release: ``transfer-STall/{source,target}/{image,label}/[split/]NAME.tif``."""
    for side, letter in (("source", "S"), ("target", "T")):
        for position, split in enumerate(splits):
            for pair in (1, 2):
                name = f"{letter}{pair}_{position:04d}.tif"
                folder = Path(root) / "transfer-STall" / side
                write_tif(folder / "image" / split / name, random_image(32, pair))
                write_tif(folder / "label" / split / name, random_label(range(1, 18), pair))
    return Path(root)
