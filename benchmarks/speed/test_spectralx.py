"""What SpectralX adds to a ViT-L: 32 bands, 224 px, batch of 4, on the CPU and, where there is one, a GPU.

Run with ``pytest benchmarks/speed --benchmark-columns=min,median,rounds``; the test-suite leaves it out. Images per
second, the share of the device's own matrix product and the memory are ``extra_info`` of ``--benchmark-json``.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import Backbone
from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.methods.spectralx.aomoa import MixtureOfExperts
from spectral_tl_bench.methods.spectralx.method import SpectralX
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.training.decoders import Segmenter

BATCH, BANDS, SIDE, CLASSES = 4, 32, 224, 24
TOKENS = (SIDE // 16) ** 2 + 1


class Setting(NamedTuple):
    """Where and in which arithmetic something is timed."""

    device: str
    dtype: torch.dtype = torch.float32
    compiled: bool = False

    def __str__(self) -> str:
        """E.g. ``cuda-bfloat16-compiled``."""
        return f"{self.device}-{str(self.dtype).removeprefix('torch.')}" + "-compiled" * self.compiled

    def autocast(self) -> AbstractContextManager:
        """Arithmetic in ``dtype``."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)


SETTINGS = [Setting("cpu")]
if torch.cuda.is_available():
    SETTINGS += [Setting("cuda", torch.bfloat16), Setting("cuda", torch.bfloat16, compiled=True)]


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request) -> Setting:
    return request.param


def methods() -> dict[str, SpectralX | None]:
    return {
        "plain": None,
        "hyper_tokenizer": SpectralX(aomoa=False, are_adapter=False),
        "hyper_tokenizer+aomoa": SpectralX(are_adapter=False),
        "spectralx": SpectralX(),
        "reference": SpectralX("reference"),
    }


def adapted(method: SpectralX | None) -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone("vit_l_mae", OHS)
    if method is None:
        backbone.requires_grad_(False)
    else:
        method.apply(backbone)
        for stage in method.stages:
            method.begin_stage(backbone, stage)
    return backbone


def segmenter(method: SpectralX | None, setting: Setting) -> Segmenter:
    """The backbone with the head of preset ``standard``: neck of 1024 and UPerNet of 512 channels."""
    return Segmenter.of(adapted(method), CLASSES, preset("standard")).to(setting.device)


def ready(module: nn.Module, setting: Setting) -> nn.Module:
    module = module.to(setting.device)
    return torch.compile(module) if setting.compiled else module


def random_images(setting: Setting) -> Tensor:
    return torch.randn(BATCH, BANDS, SIDE, SIDE, device=setting.device)


@cache
def matrix_peak(setting: Setting) -> float:
    """Multiply-adds, counted as two operations, that a large matrix product gets out of the device in a second."""
    side = 2048 if setting.device == "cpu" else 8192
    a = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    fastest = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        if setting.device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest


def timed(benchmark, setting: Setting, function: Callable[[], object], rounds: int = 3) -> None:
    def run() -> None:
        with setting.autocast():
            function()
        if setting.device == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=rounds if setting.device == "cpu" else 20, warmup_rounds=1)


def add_forward_info(benchmark, setting: Setting, plain: nn.Module, images: Tensor) -> None:
    """Note images per second, and which share of the device's matrix product that is; ``plain`` is not compiled."""
    seconds = benchmark.stats.stats.min
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        plain(images)
    benchmark.extra_info["images_per_second"] = len(images) / seconds
    benchmark.extra_info["gflop_per_image"] = counter.get_total_flops() / len(images) / 1e9
    benchmark.extra_info["share_of_matrix_peak"] = counter.get_total_flops() / seconds / matrix_peak(setting)


@pytest.mark.parametrize("name", methods())
def test_backbone(benchmark, setting, name):
    """AoMoA and Are-adapter together cost the difference of ``spectralx`` and ``hyper_tokenizer``."""
    backbone = adapted(methods()[name]).eval().to(setting.device)
    module, images = ready(backbone, setting), random_images(setting)
    with torch.inference_mode():
        timed(benchmark, setting, lambda: module(images))
    add_forward_info(benchmark, setting, backbone, images)


@pytest.mark.parametrize("name", ["plain", "spectralx", "reference"])
def test_whole_forward(benchmark, setting, name):
    """From pixels to logits, with the same head."""
    model = segmenter(methods()[name], setting).eval()
    module, images = ready(model, setting), random_images(setting)
    with torch.inference_mode():
        timed(benchmark, setting, lambda: module(images))
    add_forward_info(benchmark, setting, model, images)


def training_step(method: SpectralX | None, setting: Setting) -> Callable[[], None]:
    """A step of stage 2: forward, loss, backward, AdamW."""
    model = segmenter(method, setting).train()
    module, images = ready(model, setting), random_images(setting)
    mask = torch.randint(CLASSES, (BATCH, SIDE, SIDE), device=setting.device)
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)

    def step() -> None:
        loss = F.cross_entropy(module(images), mask)
        extra = None if method is None else method.extra_loss(model.backbone)
        (loss if extra is None else loss + extra).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak_memory(name: str, setting: Setting) -> float:
    """GiB that two training steps take at most: of the whole process on the CPU, so run it in a fresh one."""
    step = training_step(methods()[name], setting)
    for _ in range(2):
        with setting.autocast():
            step()
    if setting.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.mark.parametrize("name", ["plain", "spectralx", "reference"])
def test_training_step(benchmark, setting, name):
    """``plain`` trains the head alone."""
    timed(benchmark, setting, training_step(methods()[name], setting), rounds=2)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        benchmark.extra_info["peak_memory_gib"] = pool.submit(peak_memory, name, setting).result()


def test_training_step_against_reference(benchmark, setting):
    """A step of ``default`` by one of ``reference``: both in one process, alternating, the fastest of each."""
    steps = {name: training_step(methods()[name], setting) for name in ("spectralx", "reference")}
    operations: dict[str, int] = {}
    for name, step in steps.items():
        with setting.autocast(), FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops()
    seconds = {name: [] for name in steps}

    # On the CPU the process's own time, which others on the machine do not lengthen.
    clock = time.process_time if setting.device == "cpu" else time.perf_counter

    def alternate() -> None:
        for name, step in steps.items():
            start = clock()
            with setting.autocast():
                step()
            if setting.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)

    benchmark.pedantic(alternate, rounds=3)
    benchmark.extra_info |= {f"seconds_{name}": min(each) for name, each in seconds.items()}
    benchmark.extra_info["ratio_of_seconds"] = min(seconds["spectralx"]) / min(seconds["reference"])
    if not setting.compiled:
        benchmark.extra_info["ratio_of_operations"] = operations["spectralx"] / operations["reference"]


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


@pytest.mark.parametrize("wrap", [lambda mixture: mixture, NaiveExperts], ids=["dense", "naive"])
@pytest.mark.parametrize("width", [128, 512], ids=["fc1", "fc2"])
@pytest.mark.parametrize("training", [False, True], ids=["forward", "forward+backward"])
def test_experts(benchmark, setting, wrap, width, training):
    """One mixture: every expert on every token at once, against one expert after the other."""
    torch.manual_seed(0)
    mixture = MixtureOfExperts(width, 4, 2)
    # Trained routers spread tokens over all experts; at the start every token would go to the first two.
    nn.init.normal_(mixture.router.gate)
    mixture = wrap(mixture).to(setting.device).train(training)
    x = torch.randn(BATCH * TOKENS, 2, width, device=setting.device, requires_grad=training)

    def run() -> None:
        with torch.set_grad_enabled(training):
            out, loss = mixture(x, training)
            if training:
                (out.square().mean() + loss).backward()

    timed(benchmark, setting, run, rounds=20)
