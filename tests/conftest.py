"""What every test needs: one thread, a cache of its own, and small archives."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep simulated archives and indices of the tests out of the user's cache, shared by all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(folder))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Let parallel test processes share the cores instead of fighting for them."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def whuohs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated WHU-OHS archive."""
    from spectral_tl_bench.simulation import simulate_archive

    return simulate_archive("whuohs", tmp_path_factory.mktemp("whuohs") / "archive", tile_size=32, tiles=0.4)
