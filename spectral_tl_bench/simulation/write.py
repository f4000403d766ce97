"""Writing a simulated archive: tile by tile into a hidden folder, which takes its name when it is complete."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from scipy.io import savemat
from scipy.special import ndtri

from spectral_tl_bench.simulation.archives import (
    Archive,
    Counts,
    Tile,
    find_archive,
    mixed_lists,
    tile_counts,
)
from spectral_tl_bench.simulation.domains import Region
from spectral_tl_bench.simulation.fields import generator
from spectral_tl_bench.simulation.landscape import Landscape
from spectral_tl_bench.simulation.marker import GENERATOR_VERSION, MARKER_NAME, read_marker
from spectral_tl_bench.simulation.scene import View, calibrate, photograph, sensor_view
from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.errors import DataError

DEFAULT_TILE_SIZE = 64
_SMALLEST_TILE, _LARGEST_TILE = 8, 2048

Progress = Callable[[int, int], None]
"""Called after each tile with the number written and the number in all."""


@dataclass(frozen=True)
class _Scene:
    """A region ready to be cropped: its landscape, and how the sensor sees it."""

    landscape: Landscape
    view: View


def simulate_archive(
    dataset: str,
    root: str | Path,
    *,
    seed: int = 0,
    tile_size: int | Literal["real"] = DEFAULT_TILE_SIZE,
    tiles: Counts = 1.0,
    progress: Progress | None = None,
) -> Path:
    """Write a simulated archive in the layout of the real one.

    Args:
        dataset: "whuohs", "dfc2020" or "mts12".
        root: Folder to make; it must not exist or be empty. It appears when the archive is complete, not before.
        seed: Another seed gives other landscapes and slightly other acquisitions, of the same difficulty.
        tile_size: Side of a tile in px, or "real" for the archive's own (512, 256, 500).
        tiles: Multiple of the default number of tiles (244, 184, 122), or "real" for the published numbers.
        progress: Called after each tile.

    Returns:
        The folder.

    Raises:
        UnknownNameError: If the archive cannot be simulated.
        DataError: If an argument is out of range or the folder cannot be used.
    """
    archive = find_archive(dataset)
    size = archive.tile_size if tile_size == "real" else tile_size
    if size < _SMALLEST_TILE:
        raise DataError(f"tile size {size} is too small; simulated tiles have at least {_SMALLEST_TILE} px")
    if size > _LARGEST_TILE:
        raise DataError(f"tile size {size} is too large; simulated tiles have at most {_LARGEST_TILE} px")
    if seed < 0:
        raise DataError(f"seed {seed} is negative; choose 0 or more")
    if tiles != "real" and not 0 < float(tiles) < 1000:
        raise DataError(f"{tiles} times the default number of tiles makes no archive; choose a factor such as 0.5 or 2")
    target = Path(root).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists already and is not an empty folder; choose another one to simulate into")
    partial = target.parent / f".{target.name}.{uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        _write_tiles(archive, partial, seed, size, tiles, progress)
        partial.rename(target)
    except OSError as error:
        raise DataError(f"cannot write the simulated archive {target}: {error}; choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def default_archive(dataset: str, *, progress: Progress | None = None) -> Path:
    """Return the simulated archive that serves where a user names no root; written on first use.

    Several processes may ask at once: each writes its own and the first that is complete stays.

    Args:
        dataset: "whuohs", "dfc2020" or "mts12".
        progress: Called after each tile, on first use.

    Returns:
        A folder under the cache, named after the dataset and the generator's version.
    """
    find_archive(dataset)
    root = cache_dir() / "simulated" / f"{dataset}-v{GENERATOR_VERSION}"
    if read_marker(root) is None:
        try:
            simulate_archive(dataset, root, progress=progress)
        except DataError:
            # Another process may have been first; anything else is a real failure.
            if read_marker(root) is None:
                raise
    return root


def _write_tiles(archive: Archive, root: Path, seed: int, size: int, tiles: Counts, progress: Progress | None) -> None:
    regions = archive.regions(seed)
    counts = tile_counts(regions, tiles)
    plan = list(archive.tiles(regions, counts))
    grids = _grids(plan)
    for folder in {(root / path).parent for tile in plan for path in (tile.image, tile.label)}:
        folder.mkdir(parents=True, exist_ok=True)
    current, scene = "", None
    for done, tile in enumerate(plan, start=1):
        if scene is None or tile.region.name != current:
            current, scene = tile.region.name, _scene(archive, tile.region, seed, size, grids[tile.region.name])
        _write_tile(archive, scene, tile, root, seed, size)
        if progress is not None:
            progress(done, len(plan))
    if tiles == "real" and archive.lists is not None:
        (root / "data_list").mkdir()
        for name, members in mixed_lists(plan, archive.lists).items():
            path = root / "data_list" / f"{archive.list_name}_{name}_image_list.txt"
            path.write_text("\n".join(members) + "\n", encoding="utf-8")
    marker: dict[str, Any] = {
        "dataset": archive.name,
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "tile_size": size,
        "tiles": len(plan),
        "tiles_by_region": {region.name: count for region, count in zip(regions, counts, strict=True)},
    }
    (root / MARKER_NAME).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _grids(plan: list[Tile]) -> dict[str, np.ndarray]:
    """Region name to the grid of its tiles: True where there is one."""
    places: dict[str, list[tuple[int, int]]] = {}
    for tile in plan:
        places.setdefault(tile.region.name, []).append((tile.row, tile.column))
    grids = {}
    for name, cells in places.items():
        rows, columns = np.array(cells).T
        grids[name] = np.zeros((rows.max() + 1, columns.max() + 1), dtype=bool)
        grids[name][rows, columns] = True
    return grids


def _scene(archive: Archive, region: Region, seed: int, size: int, grid: np.ndarray) -> _Scene:
    landscape = Landscape(
        archive.covers,
        region.shares,
        seed=seed,
        name=f"{archive.name} {region.name}",
        texture_scale=region.conditions[0].texture_scale,
        inclusions=archive.inclusions,
    )
    calibrate(landscape, size, grid)
    bands = archive.sensor.bands
    dates = list(dict.fromkeys(band.date for band in bands))
    wavelengths = [[band.wavelength for band in bands if band.date == date] for date in dates]
    view = sensor_view(list(zip(wavelengths, region.conditions, strict=True)), top=archive.top_of_atmosphere)
    return _Scene(landscape, view)


def _write_tile(archive: Archive, scene: _Scene, tile: Tile, root: Path, seed: int, size: int) -> None:
    top, left = tile.row * size, tile.column * size
    noise = generator(seed, archive.name, tile.image.name, "noise")
    codes, seen, survey = photograph(scene.landscape, scene.view, top, left, size, noise)
    # Real products are stored as multiples of 1/10000 but resolve fewer levels; 0 would read as no data.
    stored = np.clip(np.rint(seen * (archive.sensor.scale / archive.step)) * archive.step, archive.step, 20_000)
    image = stored.astype(np.uint16).transpose(2, 0, 1)
    if archive.unlabelled:
        codes[survey > ndtri(1 - archive.unlabelled)] = 0
    profile: dict[str, Any] = {"width": size, "height": size}
    if tile.region.epsg is not None:
        pixel = archive.sensor.ground_sampling_distance
        east, north = tile.region.origin
        profile["crs"] = f"EPSG:{tile.region.epsg}"
        profile["transform"] = rasterio.Affine(pixel, 0.0, east + left * pixel, 0.0, -pixel, north - top * pixel)
    tag = f"simulated by spectral_tl_bench, generator {GENERATOR_VERSION}, seed {seed}"
    _write_raster(root / tile.image, image, profile, tag)
    if tile.label.suffix == ".mat":
        savemat(root / tile.label, {"label": codes}, do_compression=True)
    else:
        _write_raster(root / tile.label, codes[None], profile, tag)


def _write_raster(path: Path, pixels: np.ndarray, profile: dict[str, Any], tag: str) -> None:
    options = {"compress": "deflate", "predictor": 2, "interleave": "band", "photometric": "minisblack"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=len(pixels), dtype=pixels.dtype, **options, **profile
        ) as file:
            file.write(pixels)
            file.update_tags(TIFFTAG_IMAGEDESCRIPTION=tag)
