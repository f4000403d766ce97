import torch
from small_vits import disturb, small_rotary_vit, small_vit
from torch.nn import functional as F

from spectral_tl_bench.methods import build_method


def test_adapters_come_after_attention_and_after_the_mlp():
    torch.manual_seed(0)
    backbone = small_vit()
    block = backbone.blocks[0]
    norm1, attention, norm2, mlp = block.norm1, block.attn, block.norm2, block.mlp
    build_method("adapter", {"hidden": 6}).apply(backbone)
    disturb(backbone)

    def refine(bottleneck, x):
        return x + bottleneck.up(F.gelu(bottleneck.down(x)))

    x = torch.randn(2, 5, 32)
    middle = x + refine(block.attn.outer, attention(norm1(x)))
    torch.testing.assert_close(block(x), middle + refine(block.mlp.outer, mlp(norm2(middle))))


def test_adaptformer_adds_a_scaled_bottleneck_beside_the_mlp():
    torch.manual_seed(0)
    backbone = small_vit()
    block = backbone.blocks[0]
    attention, norm2, mlp = block.attn, block.norm2, block.mlp
    build_method("adaptformer", {"hidden": 6, "scale": 0.3}).apply(backbone)
    disturb(backbone)
    bottleneck = backbone.blocks[0].bottleneck
    x = torch.randn(2, 5, 32)
    middle = x + attention(block.norm1(x))
    expected = middle + mlp(norm2(middle)) + 0.3 * bottleneck.up(F.relu(bottleneck.down(middle)))
    torch.testing.assert_close(backbone.blocks[0](x), expected)


def test_adaptformer_is_not_scaled_by_the_backbones_layer_scale():
    torch.manual_seed(0)
    backbone = small_rotary_vit()
    block = backbone.blocks[0]
    attention, mlp = block.attn, block.mlp
    norm2 = block.norm2
    build_method("adaptformer", {"hidden": 6}).apply(backbone)
    disturb(backbone)
    bottleneck = backbone.blocks[0].bottleneck
    x = torch.randn(2, 5, 32)
    middle = x + block.gamma_1 * attention(block.norm1(x))
    expected = middle + block.gamma_2 * mlp(norm2(middle)) + 0.1 * bottleneck.up(F.relu(bottleneck.down(middle)))
    torch.testing.assert_close(backbone.blocks[0](x), expected)


def test_adaptformer_forgets_what_it_saw():
    backbone = small_vit()
    build_method("adaptformer").apply(backbone)
    backbone(torch.randn(1, 13, 24, 32))
    assert all(block.seen == [] for block in backbone.blocks)


def test_adaptformer_drops_channels_of_its_bottleneck_in_training_if_asked():
    backbone = small_vit()
    build_method("adaptformer", {"dropout": 0.1}).apply(backbone)
    assert {block.bottleneck.dropout.p for block in backbone.blocks} == {0.1}
    assert build_method("adaptformer").dropout == 0.0
