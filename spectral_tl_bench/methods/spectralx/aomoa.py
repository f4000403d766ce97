"""Attribute-oriented Mixture of Adapters: sparse experts beside a linear layer."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.utils import distributed

ATTRIBUTES = 2
_LEAST_NOISE = 0.1
_LEAST_BOTTLENECK = 16
"""Narrowest layer of an expert, that of a ViT-L (1/64 of its width). A small ViT's experts would be 3 wide and learn
next to nothing."""


class NoisyTopKRouter(nn.Module):
    """Noisy top-k gating with one router for each attribute (Shazeer et al., 2017, Sec. 2.1 and Appendix A)."""

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        """Make the routers.

        Args:
            width: Width of what is routed.
            experts: Number of experts.
            top_k: Experts kept for each token.
        """
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Parameter(torch.zeros(ATTRIBUTES, width, experts))
        self.noise = nn.Parameter(torch.zeros(ATTRIBUTES, width, experts))

    def forward(self, x: Tensor, balanced: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Choose experts for N x 2 x width inputs.

        Args:
            x: Inputs, both attributes of each token.
            balanced: Whether to compute the balance loss.

        Returns:
            Logarithms of the kept gates, N x 2 x top_k; the experts they belong to, of the same shape; and the balance
            loss.
        """
        clean = torch.einsum("nai,aie->nae", x, self.gate)
        logits, deviation = clean, None
        if self.training:
            deviation = F.softplus(torch.einsum("nai,aie->nae", x, self.noise)) + _LEAST_NOISE
            logits = clean + distributed.randn_like(clean) * deviation
        experts = logits.shape[-1]
        best = logits.topk(min(self.top_k + 1, experts), dim=-1)
        chosen = best.indices[..., : self.top_k]
        # Never the logarithm of a gate, which may have underflowed to 0.
        log_gates = best.values[..., : self.top_k].log_softmax(dim=-1)
        if not balanced:
            return log_gates, chosen, None
        gates = log_gates.new_zeros(logits.shape).scatter(-1, chosen, log_gates.exp())
        loss = squared_variation(distributed.sum_with_gradient(gates.sum(dim=0))).sum()
        if deviation is not None and self.top_k < experts:
            kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, chosen, True)
            loss = loss + squared_variation(self.load(clean, deviation, best.values, kept)).sum()
        return log_gates, chosen, loss

    def load(self, clean: Tensor, deviation: Tensor, best: Tensor, kept: Tensor) -> Tensor:
        """Expected number of tokens of each expert, were its own noise drawn anew; 2 x experts."""
        # A kept expert competes with the best one left out, any other with the last one kept.
        rival = torch.where(kept, best[..., self.top_k, None], best[..., self.top_k - 1, None])
        return distributed.sum_with_gradient(torch.special.ndtr((clean - rival) / deviation).sum(dim=0))


def squared_variation(totals: Tensor) -> Tensor:
    """Squared coefficient of variation over the last dimension."""
    mean = totals.mean(dim=-1)
    return totals.var(dim=-1, correction=0) / (mean.square() + 1e-10)


class MixtureOfExperts(nn.Module):
    """Bottleneck experts, combined in log space: y = log sum_e g_e exp(E_e(x)).

    Every expert runs on every token: they are narrow, two batched products do it, and neither shapes nor the host have
    to wait for the data, as they would if tokens were sorted by expert.
    """

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        """Make experts width -> width / 8 -> width, the middle never narrower than 16."""
        super().__init__()
        inner = max(_LEAST_BOTTLENECK, width // 8)
        self.router = NoisyTopKRouter(width, experts, top_k)
        self.reduce_weight = nn.Parameter(torch.empty(experts, inner, width))
        self.reduce_bias = nn.Parameter(torch.empty(experts, inner))
        self.expand_weight = nn.Parameter(torch.empty(experts, width, inner))
        self.expand_bias = nn.Parameter(torch.empty(experts, width))
        # The initialisation of nn.Linear, expert by expert.
        for parameter, fan_in in (
            (self.reduce_weight, width),
            (self.reduce_bias, width),
            (self.expand_weight, inner),
            (self.expand_bias, inner),
        ):
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, x: Tensor, balanced: bool) -> tuple[Tensor, Tensor | None]:
        """Mix the experts' outputs for N x 2 x width inputs; returns the same shape and the balance loss."""
        log_gates, chosen, loss = self.router(x, balanced)
        outputs = self.run_experts(x.flatten(0, 1))
        mixed = mix(outputs, log_gates.flatten(0, 1), chosen.flatten(0, 1))
        return mixed.view_as(x), loss

    def run_experts(self, x: Tensor) -> Tensor:
        """Outputs of all experts, experts x N x width, for N x width inputs."""
        experts, inner, _ = self.reduce_weight.shape
        hidden = F.linear(x, self.reduce_weight.flatten(0, 1), self.reduce_bias.flatten()).relu()
        hidden = hidden.view(-1, experts, inner).transpose(0, 1)
        return torch.baddbmm(self.expand_bias.unsqueeze(1), hidden, self.expand_weight.transpose(1, 2))


def mix(outputs: Tensor, log_gates: Tensor, chosen: Tensor) -> Tensor:
    """Combine experts in log space, log sum_e exp(log g_e + y_e), which neither overflows nor underflows.

    Args:
        outputs: experts x N x width.
        log_gates: N x top_k, of the experts kept for each token.
        chosen: N x top_k, which experts these are.

    Returns:
        N x width.
    """
    tokens = outputs.shape[1]
    rows = chosen.T * tokens + torch.arange(tokens, device=chosen.device)
    kept = outputs.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
    # Pairwise, which is one pass a pair; logsumexp takes several over all of them.
    return reduce(torch.logaddexp, (kept + log_gates.T.unsqueeze(-1)).unbind(0))


class AoMoALinear(nn.Module):
    """A frozen linear layer with a mixture of adapters beside it.

    y = W x + b + s * [A(spatial half of x), A(spectral half of x)], where A(u) = Up(MoE(LN(Down(LN(u))))) has one set
    of weights for both halves and a router for each.

    Attributes:
        balance: Balance loss of the last training forward pass, until somebody takes it.
    """

    def __init__(self, linear: nn.Linear, *, experts: int, top_k: int, zero_up: bool, balanced: bool) -> None:
        """Put a mixture beside a layer.

        Args:
            linear: The layer, in -> out; both even.
            experts: Number of experts.
            top_k: Experts kept for each token.
            zero_up: Start with Up = 0, so that the layer starts as the pretrained one.
            balanced: Whether to compute the balance loss in training.
        """
        super().__init__()
        half, inner = linear.in_features // 2, linear.in_features // 8
        self.linear = linear
        self.balanced = balanced
        self.norm = nn.LayerNorm(half)
        self.down = nn.Linear(half, inner, bias=False)
        self.norm_down = nn.LayerNorm(inner)
        self.mixture = MixtureOfExperts(inner, experts, top_k)
        self.up = nn.Linear(inner, linear.out_features // 2, bias=False)
        self.scale = nn.Parameter(torch.ones(linear.out_features))
        self.balance: Tensor | None = None
        nn.init.xavier_uniform_(self.down.weight)
        if zero_up:
            nn.init.zeros_(self.up.weight)
        else:
            nn.init.xavier_uniform_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x N x in tokens to B x N x out."""
        halves = x.reshape(-1, ATTRIBUTES, x.shape[-1] // ATTRIBUTES)
        inner = self.norm_down(self.down(self.norm(halves)))
        mixed, self.balance = self.mixture(inner, self.balanced and self.training)
        # addcmul and not a product and a sum: one pass over the widest tensor of the block.
        return torch.addcmul(self.linear(x), self.up(mixed).view(*x.shape[:-1], -1), self.scale)

    def take_balance(self) -> Tensor | None:
        """Return the balance loss of the last training forward pass and forget it."""
        balance, self.balance = self.balance, None
        return balance
