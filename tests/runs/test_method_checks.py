"""Methods and numbers that would spoil a record without a word end the run with one line and leave no record."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import TINY

from spectral_tl_bench import backbones
from spectral_tl_bench.backbones import backbone_entry
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.records import RECORD
from spectral_tl_bench.runs.method_checks import require_head
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils.errors import CheckpointError, RunFailedError, SpectralBenchError
from spectral_tl_bench.utils.runtime import RuntimeOptions

HEAD = """
from dataclasses import dataclass
import numpy
import torch
from torch import nn
from spectral_tl_bench.methods import Method


@dataclass
class Mine(Method):
"""


@pytest.fixture
def run(whuohs_root, tmp_path):
    def make(body=None, method="frozen", **changes):
        if body is not None:
            file = tmp_path / "mine.py"
            file.write_text(HEAD + body)
            method = f"{file}:Mine"
        training = TINY | {"segmentation_steps": 2, "validations": 1} | changes.pop("training", {})
        (asked,) = requests(
            method,
            "whu_region/s2t",
            root=whuohs_root,
            preset_name="quick",
            training=training,
            **{"weights": "embedded"} | changes,
        )
        return execute(plan(asked), tmp_path / "runs", RuntimeOptions(device="cpu"))

    yield make
    assert not list((tmp_path / "runs").rglob(RECORD))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "    def adapt(self, backbone):\n"
            "        backbone.tokenizer.requires_grad_(True)\n"
            "    def extra_loss(self, backbone):\n"
            "        backbone.blocks[0].mlp.fc1.weight.data += 1\n",
            "changes the pretrained weights blocks.0.mlp.fc1.weight in training, though they are frozen",
        ),
        (
            "    def adapt(self, backbone):\n        return backbone\n",
            r"Mine.adapt returns a \w+; let it change the backbone",
        ),
        (
            "    def adapt(self, backbone):\n"
            "        backbone.tokenizer.requires_grad_(True)\n"
            "        noise = numpy.random.default_rng().normal(size=3)\n"
            "        backbone.register_parameter('noise', nn.Parameter(torch.tensor(noise)))\n",
            "Mine.adapt draws noise from a generator without a seed",
        ),
        (
            "    def adapt(self, backbone):\n        pass\n",
            "trains no parameter of the backbone in segmentation: all are frozen",
        ),
        (
            "    def adapt(self, backbone):\n        backbone.unused = nn.Linear(2, 2)\n",
            "trains no parameter of the backbone in segmentation: none receives a gradient",
        ),
        (
            "    stages = ('segmentation', 'reconstruction')\n    def adapt(self, backbone):\n        pass\n",
            "has the stages segmentation, reconstruction; a method has segmentation",
        ),
        ("    stages = ()\n    def adapt(self, backbone):\n        pass\n", "has the stages none; a method has"),
    ],
    ids=["training-changes", "returns", "draws", "frozen", "unreached", "order", "no-stages"],
)
def test_a_method_that_would_spoil_its_record_is_refused(run, body, problem):
    with pytest.raises(SpectralBenchError, match=problem):
        run(body)


def test_a_probe_of_frozen_features_says_so(run, tmp_path):
    done = run("    trains_backbone = False\n    def adapt(self, backbone):\n        pass\n")
    assert done.record.parameters.trainable == 0
    (done.folder / RECORD).unlink()


def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(run):
    body = (
        "    def adapt(self, backbone):\n"
        "        backbone.tokenizer.requires_grad_(True)\n"
        "        self.calls = 0\n"
        "    def extra_loss(self, backbone):\n"
        "        self.calls += 1\n"
        "        return torch.tensor(float('nan') if self.calls == 2 else 0.0)\n"
    )
    with pytest.raises(RunFailedError, match="the loss of step 2/2 of segmentation is not finite") as caught:
        run(body)
    assert caught.value.exit_status == 1


def test_weights_that_are_not_finite_are_no_checkpoint(run):
    body = (
        "    def adapt(self, backbone):\n"
        "        backbone.tokenizer.requires_grad_(True)\n"
        "        backbone.register_buffer('seen', torch.zeros(()))\n"
        "    def extra_loss(self, backbone):\n"
        "        backbone.seen += float('inf')\n"
    )
    with pytest.raises(RunFailedError, match=r"the weights .*seen are not finite after step 2 of segmentation"):
        run(body)


def test_logits_that_are_not_finite_are_no_classes(run, monkeypatch):
    monkeypatch.setattr(Segmentation, "training_step", lambda self, batch, index: self.total_loss(0 * self.first()))
    monkeypatch.setattr(Segmentation, "first", lambda self: next(iter(self.trained())).sum(), raising=False)
    monkeypatch.setattr(
        Segmentation, "trained", lambda self: (p for p in self.parameters() if p.requires_grad), raising=False
    )
    monkeypatch.setattr(
        "spectral_tl_bench.training.decoders.segmenter.Segmenter.forward",
        lambda self, images: torch.full((len(images), 24, *images.shape[-2:]), np.nan),
    )
    with pytest.raises(RunFailedError, match="the model's logits are not finite after step 2"):
        run()


def test_pretrained_weights_that_are_not_finite_are_refused_by_name(run, tmp_path):
    state = load_file(Path(backbones.__file__).with_name(backbone_entry("vit_micro").embedded))
    name = next(name for name in state if "mlp.fc2.weight" in name)
    state[name][0, 0] = float("nan")
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=rf"broken\.safetensors: {name} holds numbers that are not finite"):
        run(weights=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize(
    "raised",
    [
        "torch.OutOfMemoryError('CUDA out of memory')",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 9 bytes")',
    ],
    ids=["accelerator", "processor"],
)
def test_too_little_memory_says_what_to_lower(run, raised):
    body = (
        "    def adapt(self, backbone):\n"
        "        backbone.tokenizer.requires_grad_(True)\n"
        "    def extra_loss(self, backbone):\n"
        f"        raise {raised}\n"
    )
    with pytest.raises(RunFailedError, match=r"not enough memory; lower --train batch_size \(now 2\) or image_size"):
        run(body)


def test_one_window_at_a_time_is_refused_where_the_decoder_normalises_over_several(run):
    one = {"batch_size": 1, "decoder": "upernet"}
    with pytest.raises(SpectralBenchError, match="batch_size 1 with accumulation 1 is one window at a time"):
        run(training=one)
    with pytest.raises(SpectralBenchError, match="batch_size 2 with accumulation 2 is one window at a time"):
        run(training=one | {"batch_size": 2, "accumulation": 2})


@pytest.mark.parametrize(("decoder", "batch"), [("mlp", 1), ("upernet", 2)])
def test_one_window_is_enough_for_the_perceptron_and_two_for_upernet(decoder, batch):
    settings = TINY | {"batch_size": batch, "decoder": decoder}
    require_head(backbones.build_backbone("vit_micro", SENTINEL2), 5, override(preset("quick"), settings))
