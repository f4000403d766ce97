import torch
from small_vits import disturb, small_vit

from spectral_tl_bench.methods import build_method


def reined(prefix=3):
    torch.manual_seed(0)
    backbone = small_vit(prefix)
    plain = list(backbone.blocks)
    build_method("rein", {"tokens": 9, "rank": 2}).apply(backbone)
    return backbone, plain


def test_patch_tokens_follow_the_papers_equations():
    backbone, plain = reined()
    disturb(backbone)
    tokens = backbone.embed(torch.randn(2, 13, 24, 32))
    x = torch.cat([tokens.prefix, tokens.patches], dim=1)
    for block, wrapped, feature in zip(plain, backbone.blocks, backbone.encode(tokens), strict=True):
        layer = wrapped.refine
        w1, w2 = layer.shared.tokens, layer.shared.features
        learned = layer.a @ layer.b
        x = block(x)
        f = x[:, 3:]
        scores = torch.einsum("bnc,mc->bnm", f, learned) / 32**0.5
        attention = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        values = learned[1:] @ w1.weight.T + w1.bias
        mixed = torch.einsum("bnm,mc->bnc", attention[:, :, 1:], values)
        delta = (mixed + f) @ w2.weight.T + w2.bias
        x = torch.cat([x[:, :3], f + layer.shared.scale * delta], dim=1)
        torch.testing.assert_close(feature, x[:, 3:], rtol=1e-4, atol=1e-5)


def test_the_two_layers_and_the_scale_are_the_same_in_all_blocks():
    backbone, _ = reined()
    shared = {id(block.refine.shared) for block in backbone.blocks}
    assert len(shared) == 1
    assert len({id(block.refine.a) for block in backbone.blocks}) == 4
    assert backbone.blocks[0].refine.shared.scale.item() == torch.tensor(1e-3).item()


def test_starts_near_the_pretrained_function():
    backbone, _ = reined()
    for block in backbone.blocks:
        patches = torch.randn(1, 12, 32)
        moved = (block.refine(patches) - patches).norm() / patches.norm()
        assert 0 < moved < 5e-3
