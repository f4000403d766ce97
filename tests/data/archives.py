"""Small archives in the real layouts, written for the tests."""

from pathlib import Path
from zlib import crc32

import h5py
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


def write_mat_73(path, **arrays):
    """Write a MATLAB 7.3 file as MATLAB does: HDF5 behind a header of 512 bytes, axes in reverse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array).T).attrs["MATLAB_class"] = np.bytes_(
                {"float64": "double", "float32": "single", "bool": "logical"}.get(array.dtype.name, array.dtype.name)
            )
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
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
            seed = crc32(name.encode())
            write_tif(root / split / "image" / f"{name}.tif", random_image(32, seed, size), **profile)
            write_tif(root / split / "label" / f"{name}.tif", random_label(list(codes), seed, size), **profile)
    return root


WHUOHS_RELEASE = {
    "tr": tuple(f"{side}{pair}_{number:04d}" for side in "STO" for pair in (1, 2) for number in range(6)),
    "val": tuple(f"{side}{pair}_{number:04d}" for side in "ST" for pair in (1, 2) for number in (6, 7)),
    "ts": tuple(f"{side}{pair}_{number:04d}" for side in "STO" for pair in (1, 2) for number in (8, 9)),
}


def write_whuohs_release(root, names=None, codes=range(1, 18), size=SIZE):
    """Write the re-release: ``tr/``, ``ts/`` and ``transfer-STall/{source,target}/{image,label}/{tr,val,ts}/``.

    The S and T tiles lie in both, packed otherwise, and there is no ``val/``; images are stored pixel by pixel.
    """
    root, names = Path(root), names or WHUOHS_RELEASE
    official = {split: members for split, members in names.items() if split != "val"}
    write_whuohs(root, official, codes, size, interleave="pixel")
    for split, members in names.items():
        for name in members:
            seed, side = crc32(name.encode()), {"S": "source", "T": "target"}.get(name[0])
            if side is not None:
                for role, pixels in (
                    ("image", random_image(32, seed, size)),
                    ("label", random_label(list(codes), seed, size)),
                ):
                    path = root / "transfer-STall" / side / role / split / f"{name}.tif"
                    write_tif(path, pixels, compress="deflate", interleave="pixel")
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


DFC2020_TILES = {
    ("spring", "BlackForest"): 12,
    ("summer", "Chabarovsk"): 3,
    ("autumn", "Mumbai"): 4,
    ("winter", "KippaRing"): 3,
}
DFC2020_CODES = (1, 2, 4, 5, 6, 7, 9, 10)


def write_dfc2020(root, layout="spectralx", tiles=None, codes=DFC2020_CODES):
    """Write ``{season}/{image,label}/{s2,dfc}_{Region}/`` ("spectralx") or ``ROIs0000_{season}/...`` ("public")."""
    root = Path(root)
    for (season, region), count in (tiles or DFC2020_TILES).items():
        for number in range(count):
            for kind, role, pixels in (
                ("s2", "image", random_image(13, number)),
                ("dfc", "label", random_label(codes, number)),
                ("s1", "image", random_image(2, number, dtype="float32")),
                ("lc", "label", random_label(range(17), number)),
            ):
                name = f"ROIs0000_{season}_{kind}_{region}_p{number}.tif"
                folder = {"spectralx": f"{season}/{role}", "public": f"ROIs0000_{season}"}[layout]
                write_tif(root / folder / f"{kind}_{region}" / name, pixels)
    return root


def write_dfc2020_release(root, tiles=None, size=SIZE):
    """Write the re-release: the season folders, and the same tiles again under ``trainset/`` and ``testset/``.

    As shipped: labels int32, images uint16 beyond 10,000, and WGS 84 named with a transform that says nothing.
    """
    root = Path(root)
    for (season, region), count in (tiles or DFC2020_TILES).items():
        half = "trainset" if season in ("spring", "autumn") else "testset"
        for number, folder in ((number, folder) for number in range(count) for folder in (season, half)):
            _write_dfc2020_pair(root / folder, season, region, number, size=size)
    return root


def write_dfc2020_contest(root, tiles=None, size=SIZE):
    """Write the contest's own release: ``ROIs0000_{test,validation}/{s2,dfc}_{0,validation}/``, no season or region."""
    for (part, folder), count in (tiles or {("test", "0"): 30, ("validation", "validation"): 8}).items():
        for number in range(count):
            for kind, pixels in _dfc2020_pixels(number + 100 * len(part), size):
                path = Path(root) / f"ROIs0000_{part}" / f"{kind}_{folder}" / f"ROIs0000_{part}_{kind}_0_p{number}.tif"
                write_tif(path, pixels, crs="EPSG:4326")
    return Path(root)


def _dfc2020_pixels(number, size):
    image = random_image(13, number, size)
    image[:, 0, 0] = 21_393
    label = random_label(DFC2020_CODES, number, size, dtype="int32")
    radar = random_image(2, number, size, dtype="float32")
    return (("s2", image), ("dfc", label), ("s1", radar))


def _write_dfc2020_pair(folder, season, region, number, size=SIZE):
    seed = number + crc32(region.encode())
    for kind, pixels in _dfc2020_pixels(seed, size):
        role = "label" if kind == "dfc" else "image"
        path = folder / role / f"{kind}_{region}" / f"ROIs0000_{season}_{kind}_{region}_p{number}.tif"
        write_tif(path, pixels, crs="EPSG:4326")


MTS12_TILES = {"train": ((5, 12), (5, 13), (6, 12), (6, 13)), "val": ((7, 20),), "test": ((5, 3), (6, 3), (7, 11))}


def write_mts12(root, tiles=None):
    """Write ``image/{split}/NAME.tif`` and ``label/{split}/NAME_label.mat``."""
    root = Path(root)
    for split, cells in (tiles or MTS12_TILES).items():
        for column, row in cells:
            name, seed = f"eopatch_id_{column * 40 + row}_col_{column}_row_{row}", column * 40 + row
            write_tif(root / "image" / split / f"{name}.tif", random_image(24, seed))
            write_mat(root / "label" / split / f"{name}_label.mat", label=random_label(range(9), seed))
    return root


def write_mts12_original(root, months=12):
    """Write ``{s2,label}/{split}/NAME.mat`` with ``band`` (months x H x W x 6 in 0-1)."""
    root = Path(root)
    for split, cells in MTS12_TILES.items():
        for column, row in cells:
            name, seed = f"eopatch_id_{column * 40 + row}_col_{column}_row_{row}", column * 40 + row
            band = np.random.default_rng(seed).random((months, SIZE, SIZE, 6)).astype("float32")
            write_mat(root / "s2" / split / f"{name}.mat", band=band)
            write_mat(root / "label" / split / f"{name}.mat", label=random_label(range(9), seed))
    return root


def write_data_lists(root, archive, train, test):
    """Write the authors' lists, one image path a line."""
    folder = Path(root) / "data_list"
    folder.mkdir(parents=True, exist_ok=True)
    for side, paths in (("train", train), ("test", test)):
        (folder / f"{archive}_{side}_image_list.txt").write_text("\n".join(paths) + "\n")


def write_own_tiles(root, tiles=8, header="name,region,sheet", size=SIZE):
    """Write four-band tiles with an index CSV."""
    root = Path(root)
    lines = [header]
    for number in range(tiles):
        name = f"{number:03d}.tif"
        write_tif(root / "images" / name, random_image(4, number, size, dtype="int16"))
        write_tif(root / "labels" / name, random_label([10, 20, 30], number, size))
        lines.append(f"{name},{'coast' if number < tiles // 2 else 'inland'},sheet{number // 2}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n")
    return root
