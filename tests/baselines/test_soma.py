import pytest
import torch
from small_vits import small_vit
from torch import nn

from spectral_tl_bench.baselines.soma import MinorComponents
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.utils.errors import SpectralBenchError


def test_the_smallest_components_train_and_the_rest_is_frozen():
    torch.manual_seed(0)
    linear = nn.Linear(10, 7).requires_grad_(False)
    weight = linear.weight.clone()
    u, s, vh = torch.linalg.svd(weight)
    layer = MinorComponents(linear, rank=2, matrices=1)
    minor = u[:, -2:] @ torch.diag(s[-2:]) @ vh[5:7]
    torch.testing.assert_close(layer.up[0] @ layer.down[0], minor)
    torch.testing.assert_close(linear.weight, weight - minor)
    # Both factors carry the square root of the singular values.
    torch.testing.assert_close(layer.up[0].norm(dim=0), s[-2:].sqrt())
    torch.testing.assert_close(layer.down[0].norm(dim=1), s[-2:].sqrt())
    assert {n for n, p in layer.named_parameters() if p.requires_grad} == {"up", "down", "linear.bias"}


def test_queries_keys_and_values_are_decomposed_apart():
    torch.manual_seed(0)
    linear = nn.Linear(8, 24)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    layer = MinorComponents(linear, rank=2, matrices=3)
    for part, up, down in zip(weight.chunk(3), layer.up, layer.down, strict=True):
        u, s, vh = torch.linalg.svd(part)
        torch.testing.assert_close(up @ down, u[:, -2:] @ torch.diag(s[-2:]) @ vh[-2:])
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, weight, bias))
    with torch.no_grad():
        layer.up[1] += 1
    moved = (layer(x) - nn.functional.linear(x, weight, bias)).abs().amax(dim=(0, 1)) > 1e-4
    assert moved.tolist() == [False] * 8 + [True] * 8 + [False] * 8


def test_the_first_third_of_blocks_stays_frozen():
    backbone = small_vit()
    build_method("soma", {"rank": 4}).apply(backbone)
    trained = [any(p.requires_grad for p in block.parameters()) for block in backbone.blocks]
    assert trained == [False, True, True, True]


def test_residual_weights_are_still_the_pretrained_parameters():
    backbone = small_vit()
    build_method("soma", {"rank": 4}).apply(backbone)
    residual = backbone.blocks[2].attn.qkv.linear.weight
    assert id(residual) in backbone.pretrained_parameters
    assert not residual.requires_grad


def test_more_components_than_there_are_is_refused():
    with pytest.raises(SpectralBenchError, match="rank=40 is more than the 32 singular values"):
        build_method("soma", {"rank": 40}).apply(small_vit())
