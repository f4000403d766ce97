"""Where the tiles of simulated archives without footprints lie: the simulator walks its grids back and forth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spectral_tl_bench.simulation.archives import grid_columns, place_in_grid
from spectral_tl_bench.simulation.marker import read_marker
from spectral_tl_bench.splits.neighbors import TileLayout, by_grid


def simulated_places(root: Path, regions: Sequence[str], numbers: Sequence[int]) -> TileLayout | None:
    """Positions of simulated tiles.

    Args:
        root: Folder of the archive.
        regions: Region of each tile.
        numbers: Number of each tile in its region, from 1.

    Returns:
        None where the archive is not simulated, or was by a version that did not write down its regions.
    """
    counts = (read_marker(root) or {}).get("tiles_by_region", {})
    if not set(regions) <= counts.keys():
        return None
    cells = [
        place_in_grid(int(number) - 1, grid_columns(int(counts[region])))
        for region, number in zip(regions, numbers, strict=True)
    ]
    return by_grid(regions, [column for _, column in cells], [row for row, _ in cells])
