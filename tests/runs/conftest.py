"""What tests of runs share: the data of a small protocol, and a small run of every method."""

import pytest
from rich.console import Console
from tiny_run import TINIEST

from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.splits import split_tiles
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.methods import method_names
from spectral_tl_bench.presets import override, preset
from spectral_tl_bench.protocols import load_protocols
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute

TWO_CITIES = """
title: From one side to two cities
dataset: whuohs
source: {side: S}
target: {city: [Jilin, Tangshan]}
by: city
"""


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
        return execute(plan(request), out, Console(quiet=True), device="cpu")

    return make


@pytest.fixture(scope="session")
def every_method(train, tmp_path_factory):
    """A run of every method, by its name; a test that changes one copies it first.

    Tests that need them belong to the xdist group "every_method", so that one worker trains them once.
    """
    out = tmp_path_factory.mktemp("every_method") / "runs"
    return {name: train(out, method=name) for name in method_names()}
