import math

import pytest
import torch
from small_vits import disturb, small_vit
from torch.nn import functional as F

from spectral_tl_bench.backbones import Layout
from spectral_tl_bench.baselines.earth_adapter import FrequencyRefinement, Refinement, low_pass
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.utils.errors import SpectralBenchError


def wave(rows, columns, vertical, horizontal):
    """One cosine on the grid, with whole numbers of periods."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cos(2 * math.pi * (vertical * y / rows + horizontal * x / columns))[None, None]


@pytest.mark.parametrize(("vertical", "horizontal"), [(0, 0), (2, 0), (0, 3), (2, -3)])
def test_slow_waves_pass(vertical, horizontal):
    maps = wave(16, 21, vertical, horizontal)
    torch.testing.assert_close(low_pass(maps, 0.3), maps, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("vertical", "horizontal"), [(3, 0), (0, 4), (8, 1), (1, 10), (-3, 1)])
def test_fast_waves_are_taken_away(vertical, horizontal):
    # 0.15 periods a patch are 2.4 on 16 patches and 3.15 on 21.
    maps = wave(16, 21, vertical, horizontal)
    torch.testing.assert_close(low_pass(maps, 0.3), torch.zeros_like(maps), rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 8), (16, 16)])
def test_low_and_high_parts_add_up_and_low_has_the_mean(grid):
    maps = torch.randn(2, 4, *grid)
    low = low_pass(maps, 0.3)
    torch.testing.assert_close(low.mean(dim=(-2, -1)), maps.mean(dim=(-2, -1)))
    torch.testing.assert_close(low_pass(maps - low, 0.3), torch.zeros_like(maps), rtol=0, atol=1e-5)


def test_half_precision_is_transformed_in_single():
    maps = torch.randn(1, 2, 5, 6, dtype=torch.bfloat16)
    assert low_pass(maps, 0.3).dtype == torch.bfloat16


def test_refinement_is_a_scaled_mlp_beside_the_features():
    torch.manual_seed(0)
    layer = Refinement(6, 4, scale=0.1)
    disturb(layer)
    f = torch.randn(2, 9, 6)
    expected = f + layer.scale * layer.mlp.up(F.relu(layer.mlp.down(f)))
    torch.testing.assert_close(layer(f), expected)


def test_experts_see_all_low_and_high_frequencies_and_are_mixed_by_token():
    torch.manual_seed(0)
    layer = FrequencyRefinement(6, 4, scale=0.1, cutoff=0.3, layout=Layout(prefix=1, grid=(3, 7)))
    disturb(layer)
    f = torch.randn(2, 21, 6)
    low = low_pass(f.transpose(1, 2).view(2, 6, 3, 7), 0.3).view(2, 6, 21).transpose(1, 2)
    gates = layer.router(f).softmax(dim=-1)
    parts = torch.stack([layer.mlp(f), layer.mlp_low(low), layer.mlp_high(f - low)], dim=-1)
    expected = f + layer.scale * (parts * gates.unsqueeze(2)).sum(dim=-1)
    torch.testing.assert_close(layer(f), expected)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ("0,2", [True, False, True, False]),
        ([1], [False, True, False, False]),
        ((), [False] * 4),
        ("3", [False, True, True, True]),
    ],
)
def test_any_blocks_can_have_experts(blocks, expected):
    backbone = small_vit()
    build_method("earth_adapter", {"frequency_blocks": blocks}).apply(backbone)
    assert [isinstance(b.refine, FrequencyRefinement) for b in backbone.blocks] == expected


def test_a_block_that_the_backbone_lacks_is_refused():
    with pytest.raises(SpectralBenchError, match="frequency_blocks names block 5, but the backbone has 4"):
        build_method("earth_adapter", {"frequency_blocks": "0,5"}).apply(small_vit())
    with pytest.raises(SpectralBenchError, match="option frequency_blocks"):
        build_method("earth_adapter", {"frequency_blocks": "first"})


@pytest.mark.parametrize(("blocks", "expected"), [(3, [False, True, True, True]), (0, [False] * 4), (9, [True] * 4)])
def test_the_last_blocks_have_experts(blocks, expected):
    backbone = small_vit()
    build_method("earth_adapter", {"frequency_blocks": blocks}).apply(backbone)
    assert [isinstance(b.refine, FrequencyRefinement) for b in backbone.blocks] == expected
