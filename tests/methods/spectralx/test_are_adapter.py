import dataclasses

import pytest
import torch

from spectral_tl_bench.methods.spectralx.are_adapter import AreAdapter, AttributeMatch


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("patch_size", [4, 8, 14, 16])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 2), (1, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_grid_and_batch_trains(make_tokens, assignment, patch_size, grid, batch):
    torch.manual_seed(0)
    adapter = AreAdapter(32, patch_size, (4, 4), assignment)
    tokens = make_tokens(grid, patch_size, (4, 4), batch)
    out = adapter(tokens.patches, tokens)
    assert out.shape == tokens.patches.shape
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in adapter.parameters() if p.grad is not None)


def test_without_strength_the_tokens_pass_unchanged(make_tokens):
    adapter = AreAdapter(32, 8, (4, 4), "soft")
    adapter.strength.data.zero_()
    tokens = make_tokens((4, 4), 8, (4, 4))
    assert torch.equal(adapter(tokens.patches, tokens), tokens.patches)


def test_each_map_refines_its_own_half(make_tokens):
    torch.manual_seed(0)
    adapter = AreAdapter(32, 8, (4, 4), "soft").eval()
    tokens = make_tokens((4, 4), 8, (4, 4))
    before = adapter(tokens.patches, tokens)
    tokens = dataclasses.replace(
        tokens, context={"spatial": tokens.context["spatial"], "spectral": torch.randn(2, 16, 16)}
    )
    after = adapter(tokens.patches, tokens)
    assert torch.equal(after[..., :16], before[..., :16])
    assert not torch.allclose(after[..., 16:], before[..., 16:])


def test_one_gate_scales_each_half_of_a_token(make_tokens):
    torch.manual_seed(0)
    adapter = AreAdapter(32, 16, (4, 4), "soft")
    tokens = make_tokens((4, 4), 16, (4, 4))
    ratio = (adapter(tokens.patches, tokens) / tokens.patches).unflatten(-1, (2, 16))
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio), atol=1e-4, rtol=1e-4)
    assert ratio.std(dim=1).min() > 0


def make_match(assignment):
    torch.manual_seed(0)
    match = AttributeMatch(8, 16, assignment)
    for layer in (match.query, match.key):
        torch.nn.init.normal_(layer.weight)
    return match


def test_hard_match_takes_the_token_that_attends_most_and_soft_averages_by_the_same_weights():
    hard, soft = make_match("hard"), make_match("soft")
    tokens, positions = torch.randn(2, 6, 8), torch.randn(2, 10, 16)
    keys = hard.keys(positions)
    weights = hard.log_weights(tokens, keys).exp()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 6))
    best = weights.argmax(dim=1)
    assert torch.equal(hard(tokens, keys), torch.stack([t[i] for t, i in zip(tokens, best, strict=True)]))
    shares = weights / weights.sum(dim=1, keepdim=True)
    torch.testing.assert_close(soft(tokens, keys), shares.mT @ tokens)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_a_position_keeps_its_content_whatever_the_order_of_the_tokens(assignment):
    match = make_match(assignment)
    tokens, positions = torch.randn(2, 12, 8), torch.randn(2, 40, 16)
    order = torch.randperm(12)
    keys = match.keys(positions)
    found = match(tokens, keys)
    assert (found - found[:, :1]).abs().amax(dim=-1).max() > 0.1
    torch.testing.assert_close(match(tokens[:, order], keys), found)


def test_an_image_has_many_matches():
    """Positions choose by what they hold; a score for slots would send most positions to the same few."""
    match = make_match("hard")
    tokens, positions = torch.randn(1, 64, 8), torch.randn(1, 256, 16)
    assert match.log_weights(tokens, match.keys(positions)).argmax(dim=1).unique().numel() > 32


@pytest.mark.parametrize(("assignment", "reached"), [("soft", True), ("hard", False)])
def test_gradient_reaches_the_match_only_if_soft(make_tokens, assignment, reached):
    torch.manual_seed(0)
    adapter = AreAdapter(32, 8, (4, 4), assignment)
    tokens = make_tokens((4, 4), 8, (4, 4))
    adapter(tokens.patches, tokens).square().sum().backward()
    for name, parameter in adapter.named_parameters():
        if "match" in name:
            assert (parameter.grad is not None) == reached, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_only_the_published_match_keeps_layers_that_nothing_uses(make_tokens):
    def used(assignment):
        torch.manual_seed(0)
        adapter = AreAdapter(32, 8, (4, 4), assignment)
        tokens = make_tokens((4, 4), 8, (4, 4))
        again = dataclasses.replace(tokens, context=dict(tokens.context))
        before = adapter(tokens.patches, tokens)
        unused = {name for name, _ in adapter.named_parameters() if "unused" in name}
        for name, parameter in adapter.named_parameters():
            if name in unused:
                parameter.data.fill_(torch.nan)
        assert torch.equal(adapter(again.patches, again), before)
        return len(unused)

    assert (used("hard"), used("soft")) == (8, 0)
