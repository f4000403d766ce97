"""What a stage goes on from after its process has ended: written every few minutes and at every validation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch

from spectral_tl_bench import records
from spectral_tl_bench.training.base import REMEDY, AdaptationTask
from spectral_tl_bench.training.fit import KeepBest, Stopwatch
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import CheckpointError, RunFailedError
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import not_finite, restore, trained_state

_KEPT = 2
_FORMAT = 1


class Checkpoints:
    """The checkpoints in a run's folder: the two latest, whole at any moment."""

    def __init__(
        self, folder: Path, digest: str, software: Mapping[str, str] | None = None, *, across_versions: bool = False
    ) -> None:
        """Manage the checkpoints of a folder.

        Args:
            folder: The run's.
            digest: Of the run's specification; checkpoints of other runs are refused.
            software: Versions and commit of this process; checkpoints of others are refused.
            across_versions: Accept them nevertheless.
        """
        self.folder = folder
        self.digest = digest
        self.software = dict(software or {})
        self.across_versions = across_versions
        self.resumed_from: list[dict[str, str]] = []

    def require_software(self, path: Path, software: Mapping[str, str]) -> None:
        """Refuse what other software wrote; where it is accepted, remember it for the record.

        Args:
            path: A checkpoint, or the weights of a stage.
            software: Versions and commit that wrote it.

        Raises:
            CheckpointError: If they are not this process's; the message names them.
        """
        names = sorted(name for name in {*software, *self.software} if software.get(name) != self.software.get(name))
        if not names:
            return
        changes = ", ".join(f"{name} {software.get(name)}, now {self.software.get(name)}" for name in names)
        if not self.across_versions:
            raise CheckpointError(
                f"{path} was written by other software ({changes}): bring that back, add --resume-across-versions to "
                "go on, which the record will say, or delete the file to start again"
            )
        if dict(software) not in self.resumed_from:
            self.resumed_from.append(dict(software))

    def paths(self) -> list[Path]:
        """All checkpoints, the latest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)

    def save(self, stage: str, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint and let go of all but the latest two.

        Raises:
            RecordError: If it cannot be written; earlier ones stay.
        """
        path = self.folder / f"checkpoint-{stage}-{step:09d}.pt"
        software = {"software": self.software, "resumed_from": self.resumed_from}
        content = {"format": _FORMAT, "run": self.digest, "stage": stage, "step": step, **software, **state}
        with records.replacing(path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError(str(error).split(".")[0]) from error
        for old in self.paths()[_KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, stage: str) -> dict[str, Any] | None:
        """The latest readable checkpoint of a stage, None where there is none.

        Raises:
            CheckpointError: If one is of another run, or none can be read.
        """
        unreadable = None
        for path in self.paths():
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                run, of_stage, format_ = state["run"], state["stage"], state["format"]
            except Exception as error:  # noqa: BLE001  # torch raises whatever a damaged file makes it stumble over
                unreadable = unreadable or (path, error)
                continue
            if run != self.digest or format_ != _FORMAT:
                raise CheckpointError(f"{path} is a checkpoint of another run; delete it, or choose another --out")
            if of_stage == stage:
                self.resumed_from.extend(other for other in state["resumed_from"] if other not in self.resumed_from)
                self.require_software(path, state["software"])
                return state
        if unreadable is not None and stage in unreadable[0].name:
            raise CheckpointError(f"{unreadable[0]} is damaged; delete it, and the stage starts again")
        return None

    def remove(self) -> None:
        """Delete all checkpoints: what they led to is written."""
        for path in self.paths():
            path.unlink(missing_ok=True)


class StageCheckpoints(lightning.Callback):
    """Saves a stage's state in time, and puts it back."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        task: AdaptationTask,
        pretrained: frozenset[int],
        history: list[dict[str, Any]],
        watch: Stopwatch,
        options: RuntimeOptions,
        *,
        best: KeepBest | None = None,
    ) -> None:
        """Watch over a stage.

        Args:
            checkpoints: Where its state is written.
            task: The stage.
            pretrained: Identities of the pretrained parameters, which are left out while they are frozen.
            history: The run's training curve; rows of this stage belong to its state.
            watch: Counts the seconds of the stage.
            options: How often to save, and whether the process should end.
            best: The stage's best weights so far, where it selects any.
        """
        self.checkpoints, self.task, self.pretrained, self.history = checkpoints, task, pretrained, history
        self.watch, self.options, self.best = watch, options, best
        self.interruption = options.interruption
        self.saved = time.monotonic()

    def resume(self, title: str) -> None:
        """Go on from the latest checkpoint, if there is one."""
        task, state = self.task, distributed.rank_zero_first(lambda: self.checkpoints.load(self.task.stage))
        steps = set(distributed.gather(0 if state is None else int(state["step"])))
        if len(steps) > 1:
            raise CheckpointError(
                f"the processes of this run find checkpoints of {task.stage} after different steps, "
                f"{', '.join(map(str, sorted(steps)))}; name a folder with --out that all nodes share"
            )
        if state is None:
            return
        restore(task, state["model"], self.pretrained, "the checkpoint")
        task.steps_done, task.optimizer_state = state["step"], state["optimizer"]
        task.gradient_names = set(state["gradient_receiving"])
        self.history.extend(state["history"])
        self.watch.before = state["seconds"]
        if isinstance(task, Segmentation):
            task.held_out_miou = [(step, score) for step, score in state["held_out_miou"]]
        if self.best is not None:
            self.best.step, self.best.score, self.best.state = state["best"]
        self.options.say(f"  {title}: resumes at step {task.steps_done}/{task.steps}")

    def save(self, optimizer: dict[str, Any] | None) -> None:
        """Write the stage's state after the step just made.

        Raises:
            RunFailedError: If it holds numbers that are not finite: nothing sound could come of it.
            RecordError: If it cannot be written.
        """
        task = self.task
        task.require_finite()
        self.saved = time.monotonic()
        if not distributed.is_rank_zero():
            return
        model = trained_state(task, self.pretrained)
        if (name := not_finite(model)) is not None:
            raise RunFailedError(f"the weights {name} are not finite after step {task.step} of {task.stage}; {REMEDY}")
        state = {
            "model": model,
            "optimizer": optimizer,
            "gradient_receiving": sorted(task.gradient_names),
            "history": [row for row in self.history if row["stage"] == task.stage],
            "seconds": self.watch.seconds,
            "held_out_miou": task.held_out_miou if isinstance(task, Segmentation) else [],
            "best": None if self.best is None else (self.best.step, self.best.score, self.best.state),
        }
        self.checkpoints.save(task.stage, task.step, state)

    def after_part(self) -> None:
        """Save what a validation ended."""
        self.save(self.task.optimizer_state)
        self._agree()
        self.interruption.end_if_requested(self._place)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time to, or when somebody wants the process to end."""
        if not self.task.ends_step(batch_idx):
            return  # in the middle of a step, whose gradients no checkpoint holds
        if (
            self._agree(time.monotonic() - self.saved >= 60 * self.options.checkpoint_minutes)
            or self.interruption.requested
        ):
            self.save(trainer.optimizers[0].state_dict())
        self.interruption.end_if_requested(self._place)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on hearing signals."""
        self.interruption.reinstall()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on hearing signals."""
        self.interruption.reinstall()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on hearing signals."""
        self.interruption.reinstall()

    def _agree(self, due: bool = False) -> bool:
        """Hear what any process of the run has heard; returns whether a checkpoint is due in any of them."""
        heard, late = distributed.maxima(self.interruption.signal or 0, int(due))
        self.interruption.adopt(heard)
        return bool(late)

    @property
    def _place(self) -> str:
        return f"{self.task.stage}, step {self.task.step}/{self.task.steps}"
