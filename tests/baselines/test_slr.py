import pytest
import torch
from small_vits import disturb, small_vit
from torch import nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import PatchEmbedding
from spectral_tl_bench.baselines.slr import ScaledLowRank, ScaledLowRankTokenizer
from spectral_tl_bench.methods import build_method


def test_a_layer_is_one_matrix_between_two_scales():
    torch.manual_seed(0)
    linear = nn.Linear(6, 5)
    layer = ScaledLowRank(linear, rank=2)
    disturb(layer)
    weight = linear.weight + layer.up.weight @ layer.down.weight
    bias = linear.bias + layer.up(layer.down.bias)
    x = torch.randn(3, 4, 6)
    expected = layer.scale_out * F.linear(layer.scale_in * x, weight, bias)
    torch.testing.assert_close(layer(x), expected)


def test_the_patch_embedding_is_scaled_with_a_path_of_two_convolutions():
    torch.manual_seed(0)
    plain = PatchEmbedding(nn.Conv2d(3, 8, 16, stride=16))
    tokenizer = ScaledLowRankTokenizer(plain, bands=3, width=8, patch_size=16, rank=2)
    disturb(tokenizer)
    images = torch.randn(2, 3, 32, 48)
    scaled = images * tokenizer.scale_in
    maps = plain.projection(scaled) + tokenizer.up(tokenizer.down(scaled))
    expected = (maps * tokenizer.scale_out[:, None, None]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokenizer(images)[0], expected)


@pytest.mark.parametrize(("patch", "kernels"), [(16, (4, 4)), (8, (4, 2)), (14, (7, 2)), (7, (7, 1))])
def test_the_two_convolutions_cover_any_patch(patch, kernels):
    plain = PatchEmbedding(nn.Conv2d(3, 8, patch, stride=patch))
    tokenizer = ScaledLowRankTokenizer(plain, bands=3, width=8, patch_size=patch, rank=2)
    assert (tokenizer.down.stride[0], tokenizer.up.stride[0]) == kernels
    assert tokenizer(torch.randn(1, 3, 2 * patch, 3 * patch))[0].shape == (1, 6, 8)


def test_down_is_drawn_with_unit_variance_and_norms_train():
    torch.manual_seed(0)
    backbone = small_vit()
    build_method("slr").apply(backbone)
    down = torch.cat([b.mlp.fc2.down.weight.flatten() for b in backbone.blocks])
    assert abs(down.std() - 1) < 0.05
    norms = [m for m in backbone.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 8
    assert all(p.requires_grad for norm in norms for p in norm.parameters())
