"""What the Lightning modules of both stages share: optimiser, schedule, and who receives gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import lightning
import torch
from torch import Tensor, nn

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import RunFailedError

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from spectral_tl_bench.backbones import Backbone
    from spectral_tl_bench.config.spec import StageName
    from spectral_tl_bench.methods import Method


def learning_rate_factor(step: int, steps: int, schedule: str, warmup_fraction: float) -> float:
    """Factor on the peak learning rate: linear warm-up, then constant or half a cosine down to 0.

    Args:
        step: Optimiser step, from 0.
        steps: Steps in all.
        schedule: "constant" or "cosine".
        warmup_fraction: Share of the steps that warm up.
    """
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


REMEDY = "try a smaller --train learning_rate; there is no record of this run"
"""What helps where numbers are not finite."""


class AdaptationTask(lightning.LightningModule):
    """What both stages share: the optimiser, its schedule, the method's extra loss, and who receives gradients.

    Attributes:
        stage: Which of the two stages this is.
        steps_done: Optimiser steps of the stage before the current part of it: parts end at validations, and a part
            may go on where an earlier process stopped.
        optimizer_state: What the optimiser knew at the end of those steps.
        gradient_names: Names (in ``self``) of the parameters that received a gradient other than 0 in the first steps.
    """

    stage: ClassVar[StageName]

    _STEPS_WATCHED = 3
    """A zero-initialised layer passes no gradient back in the first step, so several are looked at."""

    _STEPS_UNSEEN = 50
    """A loss is looked at so often on an accelerator: each look waits until it has caught up."""

    def __init__(self, backbone: Backbone, method: Method, training: TrainingSpec) -> None:
        """Keep what the stage adapts; subclasses add their heads."""
        super().__init__()
        self.backbone = backbone
        self.method = method
        self.training_spec = training
        self.gradient_names: set[str] = set()
        self.steps_done = 0
        self.optimizer_state: dict[str, Any] | None = None
        self._first_bad: Tensor | None = None
        self._losses: dict[str, list[Tensor]] = {}
        # Now, as the stage begins: a later process of an interrupted stage must get the same rates.
        self._backbone_groups = method.parameter_groups(backbone, training, self.stage)

    @property
    def step(self) -> int:
        """Optimiser steps of the stage so far."""
        return self.steps_done + self.global_step

    def ends_step(self, batch_idx: int) -> bool:
        """Whether a batch of the current part is the last one of its optimiser step."""
        return (batch_idx + 1) % self.training_spec.accumulation == 0

    @property
    def validated(self) -> frozenset[int]:
        """Steps after which held-out tiles were scored; none where a stage has no such score."""
        return frozenset()

    @property
    def steps(self) -> int:
        """Optimiser steps of the stage in all."""
        return self.training_spec.stage(self.stage).steps

    def head_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters outside the backbone whose options differ from the stage's; none by default."""
        return []

    def build_optimizer(self) -> torch.optim.AdamW:
        """AdamW on what trains, each parameter at its peak rate, with the state at the end of the steps done."""
        stage = self.training_spec.stage(self.stage)
        options: dict[int, dict[str, Any]] = {}
        for group in (*self._backbone_groups, *self.head_groups()):
            named = {name: value for name, value in group.items() if name != "params"}
            options |= {id(parameter): named for parameter in group["params"]}
        # In the order of the task's parameters, by which a checkpoint numbers the optimiser's state.
        groups: dict[tuple[Any, ...], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                chosen = {"lr": stage.learning_rate} | options.get(id(parameter), {})
                groups.setdefault(tuple(chosen.items()), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [{**dict(chosen), "params": parameters} for chosen, parameters in groups.items()],
            betas=stage.betas,
            weight_decay=self.training_spec.weight_decay,
        )
        if self.optimizer_state is not None:
            # Its moments alone: rates are those of this schedule.
            groups_now = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self.optimizer_state["state"], "param_groups": groups_now})
        return optimizer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, with the run's schedule stepped every batch."""
        optimizer = self.build_optimizer()
        done, steps, spec = self.steps_done, self.steps, self.training_spec
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(done + step, steps, spec.schedule, spec.warmup_fraction)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note which parameters receive a gradient."""
        if self.step < self._STEPS_WATCHED:
            self.gradient_names |= {
                name for name, p in self.named_parameters() if p.grad is not None and bool(p.grad.any())
            }

    def total_loss(self, loss: Tensor, *, of_whole_batch: bool = False) -> Tensor:
        """Add the method's own loss and log both.

        Args:
            loss: Of this process's share of the batch.
            of_whole_batch: It is that of all processes' shares, with the gradient of this one's alone.

        Returns:
            What the gradient is taken of, which is averaged over the processes.
        """
        extra = self.method.extra_loss(self.backbone)
        known = loss.detach() if of_whole_batch else distributed.mean(loss.detach())
        if of_whole_batch:
            loss = loss * distributed.world_size()
        if extra is not None:
            known_extra = distributed.mean(extra.detach())
            self._log("extra_loss", known_extra)
            known, loss = known + known_extra, loss + extra
        self._log("loss", known)
        self._watch(known)
        return loss

    def _log(self, name: str, value: Tensor) -> None:
        """Log the mean over the batches of a step."""
        values = self._losses.setdefault(name, [])
        if len(values) == self.training_spec.accumulation:
            values.clear()
        values.append(value)
        self.log(name, torch.stack(values).mean())

    def _watch(self, loss: Tensor) -> None:
        """Remember the first step whose loss is not finite, and end the run once it is known."""
        if self._first_bad is None:
            self._first_bad = torch.full((), -1, device=loss.device)
        bad = (self._first_bad < 0) & ~loss.isfinite()
        self._first_bad = torch.where(bad, self.step + 1, self._first_bad)
        if loss.device.type == "cpu" or self.step % self._STEPS_UNSEEN == 0:
            self.require_finite()

    def require_finite(self) -> None:
        """Look at the losses so far.

        Raises:
            RunFailedError: If one is not finite; the message names the step.
        """
        first = -1 if self._first_bad is None else int(self._first_bad)
        if first >= 0:
            raise RunFailedError(f"the loss of step {first}/{self.steps} of {self.stage} is not finite; {REMEDY}")
