"""What every test needs: one thread, a cache of its own, small archives, and a small run of every method."""

import os
from pathlib import Path

import pytest
from tiny_run import TINIEST

from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.methods import method_names
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.splits.assignment import split_tiles
from spectral_tl_bench.utils.runtime import RuntimeOptions

TWO_CITIES = """
title: From one side to two cities
dataset: whuohs
source: {side: S}
target: {city: [Jilin, Tangshan]}
by: city
"""


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


@pytest.fixture
def data(whuohs_root):
    protocol = load_protocols("whu_region/s2t")[0]
    dataset = open_dataset(protocol.file, whuohs_root)
    split = split_tiles(protocol, dataset.index, 0.1)

    def make(**changes):
        training = override(preset("quick"), {"image_size": 16} | changes)
        return ProtocolDataModule(split, dataset, training, seed=0)

    return make


@pytest.fixture(scope="session")
def two_cities(tmp_path_factory):
    """A protocol with few target tiles, whose scoring takes no time."""
    path = tmp_path_factory.mktemp("protocol") / "two_cities.yaml"
    path.write_text(TWO_CITIES)
    return str(path)


@pytest.fixture(scope="session")
def train(whuohs_root, two_cities):
    def make(out, method="lora", **changes):
        training = TINIEST | changes.pop("training", {}) if "PixelForest" not in method else {}
        usual = {"root": whuohs_root, "preset_name": "quick"}
        protocol = changes.pop("protocol", two_cities)
        (request,) = requests(method, protocol, training=training, **usual | changes)
        return execute(plan(request), out, RuntimeOptions(device="cpu"))

    return make


@pytest.fixture(scope="session")
def every_method(train, tmp_path_factory):
    """A run of every method, by its name; a test that changes one copies it first.

    Tests that need them belong to the xdist group "every_method", so that one worker trains them once.
    """
    out = tmp_path_factory.mktemp("every_method") / "runs"
    return {name: train(out, method=name) for name in method_names()}


@pytest.fixture
def fidelity():
    """Check a largest relative difference between what a published name computes here and its reference."""

    def check(name: str, compared: str, difference: float, bound: float) -> None:
        assert difference <= bound, f"{name}, {compared}: {difference:.1e} is more than {bound:.0e}"

    return check
