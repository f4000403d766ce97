import pytest
import torch
from tiny_run import TINIEST

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import method_names
from spectral_tl_bench.runs.estimate import estimate, scored_windows
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.sensors import OHS

MIB = 2**20


@pytest.fixture
def planned(whuohs_root, two_cities):
    def make(method, **training):
        (request,) = requests(
            method, two_cities, root=whuohs_root, preset_name="quick", weights="none", training=TINIEST | training
        )
        return plan(request)

    return make


@pytest.fixture
def cost(planned):
    def make(method, **training):
        ready = planned(method, **training)
        return estimate(ready, ready.method, torch.device("cpu"))

    return make


@pytest.mark.parametrize("method", method_names())
def test_every_method_is_counted_and_timed_in_each_of_its_stages(planned, method):
    ready = planned(method)
    known = estimate(ready, ready.method, torch.device("cpu"))
    assert [stage.stage for stage in known.stages] == list(ready.method.stages)
    for stage in known.stages:
        assert stage.steps == 2
        assert stage.operations > 0
        assert stage.step_seconds > 0
    assert known.seconds == pytest.approx(sum(stage.seconds for stage in known.stages) + known.scoring_seconds)
    assert known.memory_mib == max(stage.memory_mib for stage in known.stages)


def test_operations_follow_the_batch_and_memory_what_trains(cost, planned):
    (small,), (large,) = cost("frozen").stages, cost("frozen", batch_size=4).stages
    assert large.operations == 2 * small.operations
    (full,) = cost("full").stages
    blocks = sum(p.numel() for p in small_backbone().blocks.parameters())
    # A gradient and two moments for every weight of the blocks.
    assert full.memory_mib - small.memory_mib > 3 * 4 * blocks / MIB


def small_backbone():
    return build_backbone("vit_micro", OHS)


def test_matrix_products_of_the_blocks_are_counted(cost):
    backbone = small_backbone()
    tokens, width, depth = (32 // backbone.patch_size) ** 2 + 1, backbone.width, len(backbone.blocks)
    # Queries, keys and values, what leaves attention, and the perceptron; attention's own products; two images.
    products = depth * tokens * (3 + 1 + 4 + 4) * width**2 + depth * 2 * tokens**2 * width
    (stage,) = cost("frozen").stages
    # Forward, and backward to the patch embedding, which trains: twice as many; neck and decoder come on top.
    assert 2 * 2 * 2 * products < stage.operations < 2 * 2 * 4 * products


@pytest.mark.parametrize(("size", "windows"), [(32, 1), (16, 4)])
def test_windows_that_are_scored(planned, size, windows):
    ready = planned("frozen", image_size=size, validations=2)
    held_out, target = len(ready.split.held_out), len(ready.split.target)
    assert scored_windows(ready) == windows * (2 * held_out + 2 * (held_out + target))


def test_a_step_that_does_not_fit_is_counted_but_not_tried(planned, monkeypatch):
    monkeypatch.setattr("spectral_tl_bench.runs.estimate._free_memory", lambda device: 1.0)
    ready = planned("frozen")
    known = estimate(ready, ready.method, torch.device("cpu"))
    assert known.stages[0].operations > 0
    assert known.seconds is known.stages[0].step_seconds is None
    assert known.memory_mib > known.free_mib
