"""Simulated archives in exactly the layout of the real ones: what a benchmark runs on where no data is at hand."""

from spectral_tl_bench.simulation.archives import ARCHIVES
from spectral_tl_bench.simulation.marker import GENERATOR_VERSION, MARKER_NAME, read_marker
from spectral_tl_bench.simulation.write import DEFAULT_TILE_SIZE, default_archive, simulate_archive

__all__ = [
    "ARCHIVES",
    "DEFAULT_TILE_SIZE",
    "GENERATOR_VERSION",
    "MARKER_NAME",
    "default_archive",
    "read_marker",
    "simulate_archive",
]
