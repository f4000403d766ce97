"""The size of the images' pixels on the ground, against the sensor's and between source and target."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
from pyproj import Geod

from spectral_tl_bench.config.protocols import ProtocolFile

_MEASURED = 200
"""Tiles of one side that are measured."""
_ALIKE = 1.25
"""Sizes that differ by less count as one, as they do for a scene that is predicted."""


def size_notes(file: ProtocolFile, index: gpd.GeoDataFrame, distance: float) -> Iterator[str]:
    """Say where pixels have another size than the sensor's, or another in the target than in the source.

    Args:
        file: The protocol file.
        index: Tile index with footprints; without any, nothing is known.
        distance: The sensor's ground sampling distance in metres.
    """
    if index.empty or index.geometry.isna().all():
        return
    everywhere = _metres(index)
    if not _alike(everywhere, distance):
        yield (
            f"the images' pixels are {everywhere:.3g} m wide by their coordinates, the sensor's {distance:g} m; "
            "correct 'ground_sampling_distance' under 'sensor' in the protocol file"
        )
    for name, transfer in file.protocols.items():
        source, target = (_metres(index[side.select(index)]) for side in (transfer.source, transfer.target))
        if not _alike(source, target):
            yield (
                f"{name or file.name}: pixels are {source:.3g} m wide in the source and {target:.3g} m in the target; "
                "resample one of them, unless the difference is what you study"
            )


def _alike(one: float, other: float) -> bool:
    """Whether two sizes are near one another; where one is unknown nothing speaks against it."""
    return not (one > other * _ALIKE or other > one * _ALIKE)


def _metres(tiles: gpd.GeoDataFrame) -> float:
    """Median width of the tiles' pixels in metres; NaN where none is known."""
    known = tiles[tiles.geometry.notna()]
    some = known.iloc[np.unique(np.linspace(0, len(known) - 1, min(_MEASURED, len(known))).round().astype(int))]
    earth = Geod(ellps="WGS84")
    areas = [abs(earth.geometry_area_perimeter(outline)[0]) for outline in some.geometry]
    pixels = some["height"].to_numpy(dtype=float) * some["width"].to_numpy(dtype=float)
    return float(np.median(np.sqrt(np.asarray(areas) / pixels))) if len(some) else float("nan")
