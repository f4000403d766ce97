import copy
import math

import pytest
import torch
from small_vits import small_rotary_vit, small_vit
from torch import nn

from spectral_tl_bench.methods import build_method
from spectral_tl_bench.utils.errors import SpectralBenchError


def prompted(backbone, prompts=7):
    torch.manual_seed(0)
    build_method("vpt", {"prompts": prompts}).apply(backbone)
    return backbone


def test_every_block_sees_its_own_prompts_after_the_prefix_and_drops_them():
    backbone = small_vit(prefix=3)
    plain = copy.deepcopy(backbone.blocks)
    prompted(backbone)
    tokens = backbone.embed(torch.randn(2, 13, 24, 32))
    x = torch.cat([tokens.prefix, tokens.patches], dim=1)
    for wrapped, block, feature in zip(backbone.blocks, plain, backbone.encode(tokens), strict=True):
        seen = torch.cat([x[:, :3], wrapped.prompts.expand(2, -1, -1), x[:, 3:]], dim=1)
        out = block(seen)
        x = torch.cat([out[:, :3], out[:, 3 + 7 :]], dim=1)
        torch.testing.assert_close(feature, x[:, 3:])


def test_prompts_are_drawn_from_the_papers_range():
    backbone = prompted(small_vit(), prompts=500)
    bound = math.sqrt(6 / (3 * 8 * 8 + 32))
    prompts = torch.stack([block.prompts.detach() for block in backbone.blocks])
    assert 0.98 * bound < prompts.abs().max() <= bound
    assert abs(prompts.std() - bound / math.sqrt(3)) < 0.02 * bound


def test_prompts_have_no_rotary_position():
    backbone = small_rotary_vit()
    block = copy.deepcopy(backbone.blocks[0])
    block.attn.num_prefix_tokens = 5 + 7
    prompted(backbone)
    tokens = backbone.embed(torch.randn(1, 13, 24, 32))
    prompts = backbone.blocks[0].prompts[None]
    out = block(torch.cat([tokens.prefix, prompts, tokens.patches], dim=1), rope=tokens.rotary)
    torch.testing.assert_close(backbone.encode(tokens)[0], out[:, 12:])


class Turning(nn.Module):
    def forward(self, x, rope):
        return x + rope


def test_rotary_attention_that_cannot_tell_prompts_apart_is_refused():
    backbone = small_vit()
    backbone.blocks = nn.ModuleList(Turning() for _ in backbone.blocks)
    with pytest.raises(SpectralBenchError, match="rotary positions"):
        build_method("vpt").apply(backbone)
