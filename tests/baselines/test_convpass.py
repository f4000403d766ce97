import torch
from small_vits import disturb, small_vit
from torch import nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import Layout
from spectral_tl_bench.baselines.convpass import Bypass
from spectral_tl_bench.methods import build_method


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def test_the_convolution_starts_as_the_identity_kernel():
    bypass = Bypass(nn.Identity(), width=6, hidden=4, layout=Layout())
    kernel = bypass.convolution.weight
    assert torch.equal(kernel[:, :, 1, 1], torch.eye(4))
    assert kernel.abs().sum() == 4
    assert torch.equal(bypass.convolution(x := torch.randn(1, 4, 3, 5)), x)


def test_patches_are_convolved_on_their_grid_and_prefix_tokens_by_themselves():
    torch.manual_seed(0)
    bypass = Bypass(nn.Identity(), width=6, hidden=4, layout=Layout(prefix=2, grid=(3, 5)))
    disturb(bypass)
    x = torch.randn(2, 2 + 15, 6)
    inner = quick_gelu(bypass.down(x))
    kernel, bias = bypass.convolution.weight, bypass.convolution.bias
    grid = inner[:, 2:].view(2, 3, 5, 4).permute(0, 3, 1, 2)
    patches = F.conv2d(F.pad(grid, (1, 1, 1, 1)), kernel, bias).permute(0, 2, 3, 1).reshape(2, 15, 4)
    prefix = F.linear(inner[:, :2], kernel[:, :, 1, 1], bias)
    expected = x + bypass.up(quick_gelu(torch.cat([prefix, patches], dim=1)))
    torch.testing.assert_close(bypass(x), expected)


def test_a_patch_reaches_its_neighbours_only():
    torch.manual_seed(0)
    bypass = Bypass(nn.Identity(), width=6, hidden=4, layout=Layout(prefix=1, grid=(5, 5)))
    disturb(bypass)
    x = torch.randn(1, 26, 6)
    changed = x.clone()
    changed[:, 1 + 12] += 1  # the middle of the grid
    moved = (bypass(changed) - bypass(x)).abs().sum(dim=-1)[0] > 1e-6
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[1:4, 1:4] = True
    assert not moved[0]
    assert torch.equal(moved[1:].view(5, 5), expected)


def test_what_the_bypass_adds_is_scaled_and_its_channels_are_dropped_in_training():
    torch.manual_seed(0)
    layout = Layout(prefix=1, grid=(2, 2))
    x = torch.randn(2, 5, 6)
    bypass = Bypass(nn.Identity(), width=6, hidden=4, layout=layout, scale=0.1, dropout=0.5)
    disturb(bypass)
    seen = []
    bypass.up.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    scaled = bypass.eval()(x) - x
    bypass.scale = 1.0
    torch.testing.assert_close(bypass(x) - x, 10 * scaled)
    bypass.train()(x)
    # Channels that stay are doubled.
    kept = seen[2] != 0
    torch.testing.assert_close(seen[2][kept], 2 * seen[1][kept])
    assert 0 < (~kept).sum() < kept.numel()


def test_the_method_passes_scale_and_dropout_on():
    backbone = small_vit()
    build_method("convpass", {"scale": 10, "dropout": 0.1}).apply(backbone)
    bypasses = [module for module in backbone.modules() if isinstance(module, Bypass)]
    assert {(bypass.scale, bypass.dropout.p) for bypass in bypasses} == {(10.0, 0.1)}
