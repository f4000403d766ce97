import pandas as pd
import pytest
import torch

from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.methods.spectralx.usage import expert_usage, mixtures
from spectral_tl_bench.records.titles import HELD_OUT

TOKENS = 1 + 4 * 4


@pytest.fixture
def adapted(make_backbone):
    def make(**options):
        torch.manual_seed(0)
        backbone = make_backbone(width=64)
        method = SpectralX(**options)
        method.apply(backbone)
        method.begin_stage(backbone, "segmentation")
        return backbone.eval(), method

    return make


def images(count=3):
    return torch.randn(count, 5, 32, 32, generator=torch.Generator().manual_seed(0))


def test_every_token_chooses_its_experts_once_in_each_router(adapted):
    backbone, _ = adapted()
    usage = expert_usage(backbone, {HELD_OUT: images(3), "there": images(2)})
    assert len(usage) == 2 * 4 * 2 * 2 * 4
    totals = usage.groupby(["domain", "tap", "layer", "attribute"])["choices"].sum()
    assert (totals[HELD_OUT] == 3 * TOKENS * 2).all()
    assert (totals["there"] == 2 * TOKENS * 2).all()


def test_attributes_are_counted_apart_and_each_router_where_it_stands(adapted):
    backbone, _ = adapted(top_k=1)
    chosen = {(2, "fc2"): (3, 0)}
    for tap, layer, mixture in mixtures(backbone):
        spatial, spectral = chosen.get((tap, layer), (1, 2))
        gate = mixture.mixture.router.gate
        # The inner norm's bias makes the first input positive for sure.
        torch.nn.init.constant_(mixture.norm_down.weight, 0)
        torch.nn.init.constant_(mixture.norm_down.bias, 1)
        with torch.no_grad():
            gate.zero_()
            gate[0, :, spatial] = 1
            gate[1, :, spectral] = 1
    usage = expert_usage(backbone, {"here": images()})
    used = usage[usage["choices"] > 0].set_index(["tap", "layer", "attribute"])["expert"]
    assert used.index.is_unique
    assert used[(2, "fc2", "spatial")] == 4
    assert used[(2, "fc2", "spectral")] == 1
    assert used[(1, "fc1", "spatial")] == 2
    assert used[(4, "fc2", "spectral")] == 3


def test_counting_repeats_itself_and_leaves_no_hooks(adapted):
    backbone, _ = adapted()
    first, second = (expert_usage(backbone, {"here": images(9)}) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not any(m.mixture.router._forward_hooks for _, _, m in mixtures(backbone))


def test_the_method_writes_table_and_picture_or_nothing_without_mixtures(adapted):
    backbone, method = adapted()
    files = method.diagnostics(backbone, {HELD_OUT: images(1), "there": images(1)}, "x")
    assert set(files) == {"experts.csv", "experts.png"}
    assert files["experts.png"].startswith(b"\x89PNG")
    backbone, method = adapted(aomoa=False)
    assert method.diagnostics(backbone, {HELD_OUT: images(1)}, "x") == {}
