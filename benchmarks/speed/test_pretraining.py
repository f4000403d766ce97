"""What spectral foundation models cost beside a ViT of the same size: a forward pass and a step of pretraining.

Run with ``pytest benchmarks/speed/test_pretraining.py --benchmark-columns=min,median,rounds``. 32 bands, each model as
it is used by default: spectral_mae with eight band tokens a patch. Operations stand in ``extra_info`` of the JSON.
"""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.base import Backbone
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.pretraining.planning import USUAL
from spectral_tl_bench.pretraining.recipes import recipe, shipped_recipes
from spectral_tl_bench.pretraining.tasks import pretraining_task
from spectral_tl_bench.sensors import OHS

BANDS = len(OHS.bands)
SMALL = ("vit_micro", "spectral_mae_micro", "specaware_micro")
LARGE = ("vit_b_mae", "spectral_mae_b", "specaware_b")
MANY = dict.fromkeys(SMALL, (16, 64)) | dict.fromkeys(LARGE, (1, 224))
"""Images and their side in pixels: a batch of a shipped recipe, or one image."""


def training(name: str) -> TrainingSpec:
    """Settings of the shipped recipe, or of the preset that pretraining starts from."""
    usual = override(preset("quick" if name in SMALL else "standard"), USUAL)
    if name in shipped_recipes():
        return override(usual, recipe(name, {}).train)
    # A decoder of the size that the recipes have, so that encoders are compared.
    return override(usual, {"reconstruction_decoder_depth": 1} if name in SMALL else {})


def backbone_of(name: str) -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone(name, OHS)
    backbone.limit_band_tokens(training(name).band_tokens, 0.0)
    return backbone


def images_of(name: str) -> torch.Tensor:
    many, side = MANY[name]
    return torch.randn(many, BANDS, side, side)


def counted(benchmark, name: str, function: Callable[[], object]) -> None:
    """Time a function and note its operations."""
    with FlopCounterMode(display=False) as counter:
        function()
    benchmark.extra_info["gflop_per_image"] = counter.get_total_flops() / MANY[name][0] / 1e9
    benchmark.pedantic(function, rounds=10 if name in SMALL else 2)


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_forward(benchmark, name):
    backbone, images = backbone_of(name).eval(), images_of(name)
    with torch.inference_mode():
        counted(benchmark, name, lambda: backbone(images))


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_pretraining_step(benchmark, name):
    """Forward, loss, backward, AdamW."""
    task = pretraining_task(backbone_of(name), (OHS,), training(name)).train()
    batch = {"image": images_of(name), "archive": torch.tensor(0)}
    optimizer = torch.optim.AdamW(p for p in task.parameters() if p.requires_grad)

    def step() -> None:
        task.training_step(batch, 0).backward()
        optimizer.step()
        optimizer.zero_grad()

    counted(benchmark, name, step)
