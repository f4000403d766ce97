import copy

import torch
from small_vits import disturb, small_vit

from spectral_tl_bench.baselines.insertion import After
from spectral_tl_bench.methods import build_method


def fold(module, scale_shift):
    """Write a scale and shift into the norm, linear layer or convolution before it."""
    scale, shift = scale_shift.scale, scale_shift.shift
    with torch.no_grad():
        module.weight.mul_(scale.view(-1, *[1] * (module.weight.ndim - 1)))
        module.bias.mul_(scale).add_(shift)
    return module


def test_folds_into_the_pretrained_architecture():
    torch.manual_seed(0)
    backbone = small_vit()
    plain = copy.deepcopy(backbone)
    build_method("ssf").apply(backbone)
    disturb(backbone)
    folded = 0
    for name, module in backbone.named_modules():
        if isinstance(module, After):
            fold(plain.get_submodule(name), module.outer)
            folded += 1
    fold(plain.tokenizer.projection, backbone.tokenizer.scale_shift)
    assert folded == 4 * 6
    images = torch.randn(2, 13, 24, 32)
    for adapted, without in zip(backbone(images), plain(images), strict=True):
        torch.testing.assert_close(adapted, without, rtol=1e-4, atol=1e-4)


def test_scales_are_drawn_around_one_and_shifts_around_zero():
    torch.manual_seed(0)
    backbone = small_vit()
    build_method("ssf").apply(backbone)
    added = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    for ending, mean in (("scale", 1), ("shift", 0)):
        values = torch.cat([p.flatten() for n, p in added.items() if n.endswith(ending)])
        assert abs(values.mean() - mean) < 0.002
        assert abs(values.std() - 0.02) < 0.002
    assert all(n.endswith(("scale", "shift")) for n in added)
