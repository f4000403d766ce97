import pytest
import torch
from small_vits import small_rotary_vit, small_vit
from torch import nn

from spectral_tl_bench.baselines.insertion import AfterBlock, linear_layers, replace_in_blocks
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.utils.errors import SpectralBenchError

CHANGES_LINEAR_LAYERS = ["lora", "dora", "ia3", "slr", "ssf", "soma"]


class Double(nn.Module):
    def forward(self, patches):
        return 2 * patches


def test_what_comes_after_a_block_leaves_prefix_tokens_alone():
    backbone = small_vit(prefix=3)
    backbone.layout.prefix = 3
    x = torch.randn(2, 3 + 16, 32)
    plain = backbone.blocks[0](x)
    refined = AfterBlock(backbone.blocks[0], Double(), backbone.layout)(x)
    assert torch.equal(refined[:, :3], plain[:, :3])
    assert torch.equal(refined[:, 3:], 2 * plain[:, 3:])


def test_modules_are_replaced_from_the_first_block_asked_for():
    backbone = small_vit()
    replace_in_blocks(backbone, ["mlp.fc1", "norm2"], lambda module: nn.Sequential(module), first=2)
    wrapped = [isinstance(b.mlp.fc1, nn.Sequential) and isinstance(b.norm2, nn.Sequential) for b in backbone.blocks]
    assert wrapped == [False, False, True, True]


def test_every_linear_layer_of_the_blocks_is_named():
    import re

    backbone = small_vit()
    pattern = linear_layers(backbone)
    named = {n for n, _ in backbone.named_modules() if re.fullmatch(pattern, n)}
    assert named == {n for n, m in backbone.named_modules() if isinstance(m, nn.Linear)}


@pytest.mark.parametrize("name", CHANGES_LINEAR_LAYERS)
def test_a_block_without_such_a_layer_is_refused(name):
    backbone = small_vit()
    del backbone.blocks[1].mlp.fc1
    with pytest.raises(SpectralBenchError, match=r"linear layer mlp\.fc1, but block 1 has none"):
        build_method(name).apply(backbone)


@pytest.mark.parametrize("name", CHANGES_LINEAR_LAYERS)
def test_attention_that_never_calls_its_layer_is_refused(name):
    backbone = small_rotary_vit(qkv_bias=True)
    with pytest.raises(SpectralBenchError, match=r"keeps the biases of its attn\.qkv apart"):
        build_method(name).apply(backbone)
