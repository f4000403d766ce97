import pytest
import torch

from spectral_tl_bench.backbones.base import Tokens
from spectral_tl_bench.spectralx.are_adapter import AreAdapter, AttributeMatch
from spectral_tl_bench.spectralx.hyper_tokenizer import map_size


def make_tokens(grid: tuple[int, int], patch_size: int, reference: tuple[int, int], batch: int = 2) -> Tokens:
    height, width = map_size(patch_size, grid)
    rows, columns = map_size(patch_size, reference)
    context = {"spatial": torch.randn(batch, height, width, 16), "spectral": torch.randn(batch, 16, rows * columns)}
    patches = torch.randn(batch, grid[0] * grid[1], 32)
    return Tokens(patches, patches.new_zeros(batch, 1, 32), grid, context=context)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("patch_size", [4, 8, 14, 16])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 2), (1, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_grid_and_batch_trains(assignment, patch_size, grid, batch):
    torch.manual_seed(0)
    adapter = AreAdapter(32, patch_size, (4, 4), assignment)
    tokens = make_tokens(grid, patch_size, (4, 4), batch)
    out = adapter(tokens.patches, tokens)
    assert out.shape == tokens.patches.shape
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in adapter.parameters() if p.grad is not None)


def test_without_strength_the_tokens_pass_unchanged():
    adapter = AreAdapter(32, 8, (4, 4), "soft")
    adapter.strength.data.zero_()
    tokens = make_tokens((4, 4), 8, (4, 4))
    assert torch.equal(adapter(tokens.patches, tokens), tokens.patches)


def test_each_map_refines_its_own_half():
    torch.manual_seed(0)
    adapter = AreAdapter(32, 8, (4, 4), "soft").eval()
    tokens = make_tokens((4, 4), 8, (4, 4))
    before = adapter(tokens.patches, tokens)
    tokens.context["spectral"].normal_()
    after = adapter(tokens.patches, tokens)
    assert torch.equal(after[..., :16], before[..., :16])
    assert not torch.allclose(after[..., 16:], before[..., 16:])


def test_one_gate_scales_each_half_of_a_token():
    torch.manual_seed(0)
    adapter = AreAdapter(32, 16, (4, 4), "soft")
    tokens = make_tokens((4, 4), 16, (4, 4))
    ratio = (adapter(tokens.patches, tokens) / tokens.patches).unflatten(-1, (2, 16))
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio), atol=1e-4, rtol=1e-4)
    assert ratio.std(dim=1).min() > 0


def test_hard_match_takes_the_best_token_and_soft_tends_to_it():
    torch.manual_seed(0)
    hard = AttributeMatch(16, 8, 6, "hard")
    soft = AttributeMatch(16, 8, 6, "soft")
    soft.load_state_dict(hard.state_dict())
    positions, tokens = torch.randn(2, 10, 16), torch.randn(2, 6, 8)
    expected = torch.stack([tokens[b, hard.scores(positions, tokens)[b].argmax(-1)] for b in range(2)])
    assert torch.equal(hard(positions, tokens), expected)
    assert not torch.allclose(soft(positions, tokens), expected, atol=0.1)
    for parameter in soft.score.parameters():
        parameter.data *= 1e6
    torch.testing.assert_close(soft(positions, tokens), expected)


@pytest.mark.parametrize(("assignment", "reached"), [("soft", True), ("hard", False)])
def test_gradient_reaches_the_match_only_if_soft(assignment, reached):
    torch.manual_seed(0)
    adapter = AreAdapter(32, 8, (4, 4), assignment)
    tokens = make_tokens((4, 4), 8, (4, 4))
    adapter(tokens.patches, tokens).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        if "match" in name:
            assert (parameter.grad is not None) == reached, name
        else:
            assert parameter.grad.abs().sum() > 0, name
