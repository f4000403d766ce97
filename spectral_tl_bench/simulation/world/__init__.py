"""The second generation of simulated archives: the same pixels on every processor, and a shift with named parts."""

from spectral_tl_bench.simulation.world.digests import reference_difference
from spectral_tl_bench.simulation.world.render import World
from spectral_tl_bench.simulation.world.shift import PARTS, parse_shift

__all__ = ["PARTS", "World", "parse_shift", "reference_difference"]
