"""What tests of runs share: the data of a small protocol."""

import pytest

from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.datamodules.splits import split_tiles
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.presets import override, preset
from spectral_tl_bench.protocols import load_protocols


@pytest.fixture
def data(whuohs_root):
    protocol = load_protocols("whu_region/s2t")[0]
    dataset = open_dataset(protocol.file, whuohs_root)
    split = split_tiles(protocol, dataset.index, 0.1)

    def make(**changes):
        training = override(preset("quick"), {"image_size": 16} | changes)
        return ProtocolDataModule(split, dataset, training, seed=0)

    return make
