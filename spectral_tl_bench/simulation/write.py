"""Writing a simulated archive: tile by tile into a hidden folder, which takes its name when it is complete."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
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
from spectral_tl_bench.simulation.first_generation import FirstGeneration
from spectral_tl_bench.simulation.marker import GENERATOR_VERSION, MARKER_NAME, read_marker
from spectral_tl_bench.simulation.world import World
from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.errors import DataError

DEFAULT_TILE_SIZE = 64
_SMALLEST_TILE, _LARGEST_TILE = 8, 2048

Progress = Callable[[int, int], None]
"""Called after each tile with the number written and the number in all."""


def simulate_archive(
    dataset: str,
    root: str | Path,
    *,
    seed: int = 0,
    tile_size: int | Literal["real"] = DEFAULT_TILE_SIZE,
    tiles: Counts = 1.0,
    progress: Progress | None = None,
    generation: int = GENERATOR_VERSION,
    draw: int = 0,
    shift: Mapping[str, float] | None = None,
) -> Path:
    """Write a simulated archive in the layout of the real one.

    Args:
        dataset: "whuohs", "dfc2020" or "mts12".
        root: Folder to make; it must not exist or be empty. It appears when the archive is complete, not before.
        seed: Another seed gives other landscapes and slightly other acquisitions, of the same difficulty.
        tile_size: Side of a tile in px, or "real" for the archive's own (512, 256, 500).
        tiles: Multiple of the default number of tiles (244, 184, 122), or "real" for the published numbers.
        progress: Called after each tile.
        generation: 1, which takes a seed, or 2, which takes a draw and a shift.
        draw: Another draw is another world: landscapes, and a shift from the same distribution.
        shift: Factor of each part of the shift that is not 1: ``{"shares": 0, "phenology": 2}``.

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
    world = _world(archive, generation, seed, draw, shift)
    if tiles != "real" and not 0 < float(tiles) < 1000:
        raise DataError(f"{tiles} times the default number of tiles makes no archive; choose a factor such as 0.5 or 2")
    target = Path(root).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists already and is not an empty folder; choose another one to simulate into")
    partial = target.parent / f".{target.name}.{uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        _write_tiles(world, partial, size, tiles, progress)
        partial.rename(target)
    except OSError as error:
        raise DataError(f"cannot write the simulated archive {target}: {error}; choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def default_archive(
    dataset: str, *, progress: Progress | None = None, generation: int = GENERATOR_VERSION, draw: int = 0
) -> Path:
    """Return the simulated archive that serves where a user names no root; written on first use.

    Several processes may ask at once: each writes its own and the first that is complete stays.

    Args:
        dataset: "whuohs", "dfc2020" or "mts12".
        progress: Called after each tile, on first use.
        generation: Generation of the archives.
        draw: Draw of generation 2.

    Returns:
        A folder under the cache, named after the dataset, the generation and the draw.
    """
    find_archive(dataset)
    suffix = "" if generation == GENERATOR_VERSION else f"-d{draw}"
    root = cache_dir() / "simulated" / f"{dataset}-v{generation}{suffix}"
    if read_marker(root) is None:
        try:
            simulate_archive(dataset, root, progress=progress, generation=generation, draw=draw)
        except DataError:
            # Another process may have been first; anything else is a real failure.
            if read_marker(root) is None:
                raise
    return root


def _world(
    archive: Archive, generation: int, seed: int, draw: int, shift: Mapping[str, float] | None
) -> FirstGeneration | World:
    for name, number in (("seed", seed), ("draw", draw)):
        if number < 0:
            raise DataError(f"{name} {number} is negative; choose 0 or more")
    if generation == GENERATOR_VERSION:
        if draw or shift:
            raise DataError("generation 1 has a seed, and neither draws nor a shift of parts; choose generation 2")
        return FirstGeneration(archive, seed)
    if generation != World.generation:
        raise DataError(f"there is no generation {generation} of simulated archives; choose 1 or 2")
    if seed:
        raise DataError("generation 2 has draws instead of a seed; choose a draw")
    return World(archive, draw=draw, shift=shift)


def _write_tiles(
    world: FirstGeneration | World, root: Path, size: int, tiles: Counts, progress: Progress | None
) -> None:
    archive, regions = world.archive, world.regions
    counts = tile_counts(regions, tiles)
    plan = list(archive.tiles(regions, counts))
    grids = _grids(plan)
    for folder in {(root / path).parent for tile in plan for path in (tile.image, tile.label)}:
        folder.mkdir(parents=True, exist_ok=True)
    record = world.record()
    origin = f"seed {record['seed']}" if "seed" in record else f"draw {record['draw']}"
    tag = f"simulated by spectral_tl_bench, generator {record['generator_version']}, {origin}"
    digest = hashlib.sha256()
    current = None
    for done, tile in enumerate(plan, start=1):
        if tile.region is not current:
            current = tile.region
            scene = world.scene(current, size, grids[current.name])
        image, codes, survey = scene.tile(tile)
        if archive.unlabelled:
            codes[survey > ndtri(1 - archive.unlabelled)] = 0
        _write_tile(archive, tile, root, image, codes, tag)
        digest.update(tile.image.as_posix().encode() + image.astype("<u2").tobytes() + codes.tobytes())
        if progress is not None:
            progress(done, len(plan))
    if tiles == "real" and archive.lists is not None:
        (root / "data_list").mkdir()
        for name, members in mixed_lists(plan, archive.lists).items():
            path = root / "data_list" / f"{archive.list_name}_{name}_image_list.txt"
            path.write_text("\n".join(members) + "\n", encoding="utf-8")
    marker: dict[str, Any] = {
        "dataset": archive.name,
        **record,
        "tile_size": size,
        "tiles": len(plan),
        "tiles_by_region": {region.name: count for region, count in zip(regions, counts, strict=True)},
    }
    if record["generator_version"] == World.generation:
        marker |= {"factor": tiles, "digest": digest.hexdigest()}
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


def _write_tile(archive: Archive, tile: Tile, root: Path, image: np.ndarray, codes: np.ndarray, tag: str) -> None:
    size = codes.shape[0]
    top, left = tile.row * size, tile.column * size
    profile: dict[str, Any] = {"width": size, "height": size}
    if tile.region.epsg is not None:
        pixel = archive.sensor.ground_sampling_distance
        east, north = tile.region.origin
        profile["crs"] = f"EPSG:{tile.region.epsg}"
        profile["transform"] = rasterio.Affine(pixel, 0.0, east + left * pixel, 0.0, -pixel, north - top * pixel)
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
