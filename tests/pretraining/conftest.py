import pytest

from spectral_tl_bench.simulation import simulate_archive


@pytest.fixture(scope="session")
def archives(whuohs_root, tmp_path_factory):
    """Two small archives of other sensors."""
    dfc2020 = simulate_archive("dfc2020", tmp_path_factory.mktemp("dfc2020") / "archive", tile_size=16, tiles=0.1)
    return (("whuohs", whuohs_root), ("dfc2020", dfc2020))
