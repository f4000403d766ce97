"""What a run will cost, before it starts: arithmetic and memory of a training step, and its seconds on this device.

Operations and memory are counted on the meta device, where even a ViT-L costs nothing. Seconds are measured in a few
real steps on random images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.config.spec import StageName
from spectral_tl_bench.datamodules.windows import offsets
from spectral_tl_bench.methods import Method
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.decoders.reconstruction import ReconstructionDecoder
from spectral_tl_bench.training.fit import seed_all
from spectral_tl_bench.training.reconstruction import MaskedReconstruction, hidden_patches
from spectral_tl_bench.training.segmentation import Segmentation

if TYPE_CHECKING:
    from spectral_tl_bench.runs.plan import Plan
    from spectral_tl_bench.training.base import AdaptationTask

_MIB = 2**20
_TIMED_OPERATIONS = 2e11
"""Operations of a step that is timed: a second or two on a processor."""
_TIMED_STEPS = 3


@dataclass(frozen=True)
class StageEstimate:
    """What one stage costs.

    Attributes:
        stage: Which one.
        steps: Optimiser steps.
        operations: Floating-point operations of one step: its matrix products and convolutions.
        memory_mib: Weights, gradients, AdamW's moments, and what a step keeps for its backward pass, in MiB.
        step_seconds: Of one step on the device asked for; None where it was not measured for want of memory.
    """

    stage: StageName
    steps: int
    operations: int
    memory_mib: float
    step_seconds: float | None

    @property
    def seconds(self) -> float | None:
        """Of all steps."""
        return None if self.step_seconds is None else self.steps * self.step_seconds


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        stages: Its stages in turn.
        scored_windows: Windows that pass the model in validations and in the last scoring.
        scoring_seconds: Of these; None where a step was not measured.
        free_mib: What the device has in MiB.
    """

    stages: tuple[StageEstimate, ...]
    scored_windows: int
    scoring_seconds: float | None
    free_mib: float

    @property
    def memory_mib(self) -> float:
        """Of the stage that needs most, in MiB; what the libraries themselves need comes on top."""
        return max(stage.memory_mib for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """Of the whole run, reading of tiles apart; None where a step was not measured."""
        parts = [*(stage.seconds for stage in self.stages), self.scoring_seconds]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def estimate(plan: Plan, method: Method, device: torch.device) -> Estimate:
    """Count and measure what a run costs.

    Args:
        plan: The run.
        method: Its method.
        device: Where it would run.
    """
    training = plan.spec.training
    windows, free = scored_windows(plan), _free_memory(device)
    stages: list[StageEstimate] = []
    scoring: float | None = None
    for stage in method.stages:
        # The parts of a batch whose gradients add up are worked on one after the other.
        batch = training.stage(stage).batch_size // training.accumulation
        with torch.device("meta"):
            task = _task(plan, method, stage)
            forward, step, kept = _count(task, plan, batch)
            weights = _weights(task)
        seconds = None
        # Few images tell as much as a whole batch.
        images = max(2, min(batch, int(_TIMED_OPERATIONS / (step / batch))))
        if weights + kept * images / batch < free:
            seconds = _measure(plan, method, stage, device, images) * batch / images * training.accumulation
            if stage == "segmentation":
                scoring = seconds * forward / step * windows / (batch * training.accumulation)
        operations = step * training.accumulation
        stages.append(StageEstimate(stage, training.stage(stage).steps, operations, (weights + kept) / _MIB, seconds))
    return Estimate(tuple(stages), windows, scoring, free / _MIB)


def scored_windows(plan: Plan) -> int:
    """Count windows: those of held-out tiles at each validation, those of all tiles with best and with last weights."""
    training, index = plan.spec.training, plan.dataset.index

    def of(positions: Iterable[int]) -> int:
        sizes = index.iloc[list(positions)][["height", "width"]].to_numpy()
        if training.resolution == "resize":
            return len(sizes)
        side = training.image_size
        return sum(len(offsets(int(height), side)) * len(offsets(int(width), side)) for height, width in sizes)

    held_out, target = of(plan.split.held_out), of(plan.split.target)
    return training.validations * held_out + 2 * (held_out + target)


def _task(plan: Plan, method: Method, stage: StageName) -> AdaptationTask:
    """A stage's task as a run builds it, with random weights."""
    training = plan.spec.training
    own = dataclasses.replace(method)
    seed_all(plan.spec.seed)
    backbone = build_backbone(plan.spec.backbone, plan.dataset.sensor)
    backbone.limit_band_tokens(training.band_tokens, training.band_dropping)
    own.apply(backbone)
    own.begin_stage(backbone, stage)
    backbone.recomputes = training.activation_checkpointing
    if stage == "reconstruction":
        return MaskedReconstruction(backbone, own, training, ReconstructionDecoder.of(backbone, training))
    classes = len(plan.dataset.classes)
    return Segmentation(Segmenter.of(backbone, classes, training), own, training, classes)


def _count(task: AdaptationTask, plan: Plan, batch: int) -> tuple[int, int, int]:
    """Operations of a forward pass and of a step, and bytes kept between forward and backward pass."""
    side = plan.spec.training.image_size
    images = torch.empty(batch, len(plan.dataset.sensor.bands), side, side)
    forward: Callable[[], Tensor]
    if isinstance(task, MaskedReconstruction):
        forward = _restoring(task, images)
    elif isinstance(task, Segmentation):
        segmenter = task.segmenter

        def forward() -> Tensor:
            return segmenter(images)

    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = forward()
        there = counter.get_total_flops()
        result.float().sum().backward()
    own = {parameter.untyped_storage()._cdata for parameter in task.parameters()}
    return there, counter.get_total_flops(), sum(size for place, size in kept.items() if place not in own)


def _restoring(task: MaskedReconstruction, images: Tensor) -> Callable[[], Tensor]:
    """Stage 1's forward pass with the first patches visible: how many are, not which, decides what it costs."""

    def forward() -> Tensor:
        enlarged = task.backbone.enlarge(images, task.training_spec.upsample)
        rows, columns = task.backbone.grid_of(enlarged)
        patches = rows * columns
        visible = torch.arange(patches - hidden_patches(patches, task.training_spec.mask_ratio))
        return task.decode(enlarged, visible.expand(len(images), -1))

    return forward


def _weights(task: nn.Module) -> int:
    """Bytes of all weights, and of gradients and both moments of those that train."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in task.parameters()]
    return sum(size * (4 if trains else 1) for size, trains in sizes)


def _free_memory(device: torch.device) -> float:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _measure(plan: Plan, method: Method, stage: StageName, device: torch.device, images: int) -> float:
    """Seconds of one training step with so many images, the fastest of a few."""
    task = _task(plan, method, stage).to(device).train()
    side, bands, classes = plan.spec.training.image_size, len(plan.dataset.sensor.bands), len(plan.dataset.classes)
    batch = {
        "image": torch.randn(images, bands, side, side, device=device),
        "mask": torch.randint(classes, (images, side, side), device=device),
    }
    optimizer = task.build_optimizer()
    half = plan.spec.training.precision == "bf16-mixed"
    seconds = []
    for _ in range(_TIMED_STEPS):
        _wait(device)
        started = time.perf_counter()
        with warnings.catch_warnings(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            # Without a trainer there is nowhere to log to.
            warnings.filterwarnings("ignore", message=".*self.log.*")
            loss = cast(Tensor, task.training_step(batch, 0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
