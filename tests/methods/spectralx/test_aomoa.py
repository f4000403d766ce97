import pytest
import torch
from torch import nn

from spectral_tl_bench.methods.spectralx.aomoa import (
    AoMoALinear,
    MixtureOfExperts,
    NoisyTopKRouter,
    mix,
    squared_variation,
)


def dense(log_gates: torch.Tensor, chosen: torch.Tensor, experts: int = 4) -> torch.Tensor:
    """Gates of all experts, 0 for those not kept."""
    return log_gates.new_zeros(*chosen.shape[:-1], experts).scatter(-1, chosen, log_gates.exp())


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def dispatch_naively(moe: MixtureOfExperts, x: torch.Tensor) -> torch.Tensor:
    """Gather each expert's tokens, run it, scatter exp(output) times gate back, take the logarithm."""
    total = torch.zeros_like(x)
    for attribute in range(2):
        u = x[:, attribute]
        logits = u @ moe.router.gate[attribute]
        values, indices = logits.topk(moe.router.top_k, dim=-1)
        gates = values.softmax(-1)
        for expert in range(logits.shape[-1]):
            token, slot = (indices == expert).nonzero(as_tuple=True)
            hidden = (u[token] @ moe.reduce_weight[expert].T + moe.reduce_bias[expert]).relu()
            out = hidden @ moe.expand_weight[expert].T + moe.expand_bias[expert]
            total[:, attribute].index_add_(0, token, gates[token, slot, None] * out.exp())
    return total.log()


def test_mix_equals_the_naive_formula_where_that_is_finite():
    torch.manual_seed(0)
    best = torch.randn(50, 4, dtype=torch.float64).topk(2)
    log_gates = best.values.log_softmax(-1)
    outputs = 3 * torch.randn(4, 50, 6, dtype=torch.float64)
    naive = (dense(log_gates, best.indices).T.unsqueeze(-1) * outputs.exp()).sum(0).log()
    torch.testing.assert_close(mix(outputs, log_gates, best.indices), naive)


def test_mix_stays_finite_where_the_naive_formula_overflows():
    outputs = torch.tensor([500.0, -500.0, 1e4, 0.0]).view(4, 1, 1).requires_grad_()
    log_gates = torch.tensor([[0.75, 0.25]]).log()
    mixed = mix(outputs, log_gates, torch.tensor([[1, 0]]))
    mixed.sum().backward()
    assert mixed.item() == pytest.approx(500 + torch.tensor(0.25).log().item())
    assert outputs.grad.flatten().tolist() == [1, 0, 0, 0]


def test_a_kept_gate_that_underflows_leaves_gradients_finite():
    router = NoisyTopKRouter(1, 4, 2).eval()
    with torch.no_grad():
        router.gate[:] = torch.tensor([300.0, 100.0, -100.0, -300.0])
    log_gates, chosen, _ = router(torch.ones(3, 2, 1), balanced=False)
    assert (log_gates.exp()[..., 1] == 0).all()
    assert (log_gates[..., 1] == -200).all()
    outputs = torch.zeros(4, 6, 2, requires_grad=True)
    mix(outputs, log_gates.flatten(0, 1), chosen.flatten(0, 1)).sum().backward()
    assert router.gate.grad.isfinite().all()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_gates_sum_to_one_over_exactly_two_experts(training, trained):
    torch.manual_seed(0)
    router = NoisyTopKRouter(8, 4, 2).train(training)
    if trained:
        randomised(router)
    log_gates, chosen, _ = router(torch.randn(20, 2, 8), balanced=False)
    gates = dense(log_gates, chosen)
    torch.testing.assert_close(gates.sum(-1), torch.ones(20, 2))
    assert ((gates > 0).sum(-1) == 2).all()


def test_dense_experts_equal_gathering_and_scattering():
    torch.manual_seed(0)
    moe = randomised(MixtureOfExperts(16, 4, 2)).double().eval()
    x = torch.randn(30, 2, 16, dtype=torch.float64)
    torch.testing.assert_close(moe(x, balanced=False)[0], dispatch_naively(moe, x))


def make_linear(zero_up: bool = False, balanced: bool = True, features: tuple[int, int] = (32, 64)) -> AoMoALinear:
    return AoMoALinear(nn.Linear(*features), experts=4, top_k=2, zero_up=zero_up, balanced=balanced)


def test_halves_share_their_weights_and_have_routers_of_their_own():
    torch.manual_seed(0)
    layer = make_linear().eval()
    nn.init.zeros_(layer.linear.weight)
    nn.init.zeros_(layer.linear.bias)
    nn.init.normal_(layer.mixture.router.gate)
    x = torch.randn(2, 7, 32)
    out = layer(x)
    swapped = x.roll(16, dims=-1)
    assert not torch.allclose(layer(swapped), out.roll(32, dims=-1))
    layer.mixture.router.gate.data = layer.mixture.router.gate.data.flip(0)
    torch.testing.assert_close(layer(swapped), out.roll(32, dims=-1))


@pytest.mark.parametrize("training", [True, False])
def test_zero_up_starts_as_the_plain_layer(training):
    torch.manual_seed(0)
    layer = make_linear(zero_up=True).train(training)
    x = torch.randn(2, 7, 32)
    assert torch.equal(layer(x), layer.linear(x))
    assert not torch.allclose(make_linear().train(training)(x), layer.linear(x))


def test_noise_is_drawn_in_training_only():
    torch.manual_seed(0)
    layer = make_linear()
    x = torch.randn(2, 7, 32)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_the_narrowest_backbone_still_has_experts():
    assert make_linear(features=(16, 64))(torch.randn(1, 3, 16)).shape == (1, 3, 64)


def test_squared_variation_is_zero_for_equal_and_largest_for_single_use():
    totals = torch.tensor([[5.0, 5, 5, 5], [20, 0, 0, 0]])
    torch.testing.assert_close(squared_variation(totals), torch.tensor([0.0, 3.0]))


def test_load_is_the_expected_number_of_tokens_of_each_expert():
    torch.manual_seed(0)
    router = randomised(NoisyTopKRouter(4, 4, 2))
    x = torch.randn(5, 2, 4)
    clean = torch.einsum("nai,aie->nae", x, router.gate)
    deviation = torch.rand_like(clean) + 0.1
    loads, counts = [], []
    with torch.no_grad():
        for _ in range(3000):
            best = (clean + torch.randn_like(clean) * deviation).topk(3)
            kept = torch.zeros_like(clean, dtype=torch.bool).scatter(-1, best.indices[..., :2], True)
            loads.append(router.load(clean, deviation, best.values, kept))
            counts.append(kept.sum(0).float())
    torch.testing.assert_close(torch.stack(loads).mean(0), torch.stack(counts).mean(0), atol=0.06, rtol=0)


def test_descending_the_balance_loss_evens_out_a_collapsed_router():
    torch.manual_seed(0)
    router = NoisyTopKRouter(4, 4, 2)
    with torch.no_grad():
        router.gate[:, 0, :2] = 3.0
    x = torch.cat([torch.ones(64, 2, 1), torch.randn(64, 2, 3)], dim=-1)
    optimizer = torch.optim.Adam(router.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        loss = router(x, balanced=True)[-1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2
    assert losses[-1] < 0.2 * losses[0]


def test_balance_is_computed_in_training_and_taken_once():
    layer = make_linear()
    x = torch.randn(2, 7, 32)
    layer(x)
    assert layer.take_balance().requires_grad
    assert layer.take_balance() is None
    layer.eval()(x)
    assert layer.take_balance() is None
    unbalanced = make_linear(balanced=False)
    unbalanced(x)
    assert unbalanced.take_balance() is None


def test_as_many_kept_as_there_are_experts_is_a_full_mixture():
    layer = AoMoALinear(nn.Linear(32, 32), experts=2, top_k=2, zero_up=False, balanced=True)
    layer(torch.randn(2, 7, 32)).sum().backward()
    assert layer.take_balance().isfinite()
