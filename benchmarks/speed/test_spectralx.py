"""What SpectralX adds to a ViT-L forward pass: 32 bands, 224 px, batch of 4, on the CPU and, where there is one, a GPU.

Run with ``pytest benchmarks/speed --benchmark-columns=min,median,rounds``; the test-suite leaves it out.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import Backbone
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.spectralx.aomoa import MixtureOfExperts
from spectral_tl_bench.spectralx.method import SpectralX

BATCH, BANDS, SIDE = 4, 32, 224
TOKENS = (SIDE // 16) ** 2 + 1
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class NaiveExperts(nn.Module):
    """The same mixture dispatched one expert at a time: gather its tokens, run it, scatter the results."""

    def __init__(self, mixture: MixtureOfExperts) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor, balanced: bool) -> tuple[Tensor, Tensor | None]:
        m = self.mixture
        log_gates, chosen, loss = m.router(x, balanced)
        flat, gates, chosen = x.flatten(0, 1), log_gates.flatten(0, 1).exp(), chosen.flatten(0, 1)
        total = torch.zeros_like(flat)
        for expert in range(len(m.reduce_weight)):
            token, slot = (chosen == expert).nonzero(as_tuple=True)
            hidden = F.linear(flat[token], m.reduce_weight[expert], m.reduce_bias[expert]).relu()
            out = F.linear(hidden, m.expand_weight[expert], m.expand_bias[expert])
            total = total.index_add(0, token, gates[token, slot, None] * out.exp())
        return total.log().view_as(x), loss


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    return torch.device(request.param)


def adapted(method: SpectralX | None, device: torch.device) -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone("vit_l_mae", OHS)
    if method is None:
        backbone.requires_grad_(False)
    else:
        method.apply(backbone)
        for stage in method.stages:
            method.begin_stage(backbone, stage)
    return backbone.to(device).eval()


def timed(benchmark, device: torch.device, function: Callable[[], object]) -> None:
    def run() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=3 if device.type == "cpu" else 20, warmup_rounds=1)


METHODS = {
    "plain": None,
    "hyper_tokenizer": SpectralX(aomoa=False, are_adapter=False),
    "hyper_tokenizer+aomoa": SpectralX(are_adapter=False),
    "spectralx": SpectralX(),
    "reference": SpectralX("reference"),
}


@pytest.mark.parametrize("name", METHODS)
def test_inference(benchmark, device, name):
    """AoMoA and Are-adapter together cost the difference of ``spectralx`` and ``hyper_tokenizer``."""
    backbone = adapted(METHODS[name], device)
    images = torch.randn(BATCH, BANDS, SIDE, SIDE, device=device)
    with torch.inference_mode():
        timed(benchmark, device, lambda: backbone(images))


@pytest.mark.parametrize("name", ["spectralx", "reference"])
def test_training_step(benchmark, device, name):
    """Forward and backward of the backbone in stage 2, without a segmentation head."""
    method = METHODS[name]
    backbone = adapted(method, device).train()
    images = torch.randn(BATCH, BANDS, SIDE, SIDE, device=device)

    def step() -> None:
        loss = sum(f.square().mean() for f in backbone(images))
        extra = method.extra_loss(backbone)
        (loss if extra is None else loss + extra).backward()

    timed(benchmark, device, step)


@pytest.mark.parametrize("wrap", [lambda mixture: mixture, NaiveExperts], ids=["dense", "naive"])
@pytest.mark.parametrize("width", [128, 512], ids=["fc1", "fc2"])
@pytest.mark.parametrize("training", [False, True], ids=["forward", "forward+backward"])
def test_experts(benchmark, device, wrap, width, training):
    """One mixture: every expert on every token at once, against one expert after the other."""
    torch.manual_seed(0)
    mixture = MixtureOfExperts(width, 4, 2)
    # Trained routers spread tokens over all experts; at the start every token would go to the first two.
    nn.init.normal_(mixture.router.gate)
    mixture = wrap(mixture).to(device).train(training)
    x = torch.randn(BATCH * TOKENS, 2, width, device=device, requires_grad=training)

    def run() -> None:
        with torch.set_grad_enabled(training):
            out, loss = mixture(x, training)
            if training:
                (out.square().mean() + loss).backward()

    timed(benchmark, device, run)
