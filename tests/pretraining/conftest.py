import pytest

from spectral_tl_bench.simulation import simulate_archive


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """Two small archives of other sensors."""
    folder = tmp_path_factory.mktemp("archives")
    return tuple(
        (name, simulate_archive(name, folder / name, tile_size=16, tiles=tiles))
        for name, tiles in (("mts12", 0.3), ("dfc2020", 0.1))
    )
