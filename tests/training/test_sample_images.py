"""What a run shows of its model on a few tiles."""

import numpy as np
import pandas as pd
import pytest
import torch

from spectral_tl_bench.records.titles import HELD_OUT
from spectral_tl_bench.training.sample_images import (
    eval_mode,
    images_by_domain,
    spread,
    window,
)

CPU = torch.device("cpu")


def test_looking_at_a_module_needs_no_gradients_and_ends_when_something_fails():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2).eval())
    seen = []

    def fail():
        with eval_mode(module, CPU):
            seen.append((module.training, module[0](torch.ones(1, 2)).requires_grad))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(False, False)]
    assert [part.training for part in module.modules()] == [True, True, False]


def test_tiles_are_spread_over_sub_domains_and_within_them():
    names = ["x"] * 10 + ["y"] * 3 + ["z"]
    positions = np.arange(14) + 100
    assert sorted(spread(positions, names, 3)) == [100, 110, 113]
    assert sorted(spread(positions, names, 6)) == [100, 109, 110, 112, 113]
    assert len(spread(positions, names, 2)) == 2
    assert spread(positions, ["x"] * 14, 50) == list(range(100, 114))


@pytest.mark.parametrize("size", [16, 32, 48])
def test_windows_have_the_model_s_size_whatever_the_tile_s(data, size):
    module = data(image_size=size)
    image = window(module, 0, module.training_spec)
    assert tuple(image.shape) == (32, size, size)
    whole = module.tiles.read(0)["image"]
    if size == 16:
        assert torch.equal(image, whole[:, 8:24, 8:24])
    else:
        assert torch.equal(image[:, :32, :32], whole)


def test_every_target_sub_domain_is_among_the_images(data):
    module = data()
    images = images_by_domain(module, module.training_spec, CPU)
    targets = {module.split.subdomains[name] for name in module.tiles.index["tile"].iloc[module.split.target]}
    assert set(images) == {HELD_OUT, *targets}
    counts = pd.Series({name: len(batch) for name, batch in images.items()})
    assert counts[HELD_OUT] <= 16
    assert counts.drop(HELD_OUT).sum() == 16
    # Normalised as in training: about 0 on average over the source.
    assert abs(float(images[HELD_OUT].mean())) < 1
