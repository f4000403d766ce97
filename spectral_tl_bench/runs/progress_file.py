"""How far a run is, in a small file in its folder: whoever waits may be another process on another machine."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning

from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.utils.validation import Value

PROGRESS = ".progress.json"

_EVERY = 1.0
"""Seconds from one writing to the next, at least."""


class Progress(Value):
    """What a run under way says of itself.

    Attributes:
        stage: What it is at.
        step: Steps of the stage that are done; tiles where it scores.
        steps: Steps of the stage in all.
        seconds: Since this process began with the run.
        seconds_left: Of this stage and later ones (scoring counts once it has begun); None before that can be told.
    """

    stage: str
    step: int
    steps: int
    seconds: float
    seconds_left: float | None = None


class ProgressFile:
    """Writes it, at most once a second; a file that cannot be written costs the run nothing."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: The run's.
        """
        self.path = folder / PROGRESS
        self._begun = self._stage_begun = time.monotonic()
        self._stage, self._first, self._written = "", 0, float("-inf")

    def show(self, stage: str, step: int, steps: int, later: int = 0) -> None:
        """Say how far the run is.

        Args:
            stage: What it is at.
            step: Steps of the stage that are done.
            steps: Steps of the stage in all.
            later: Steps of the stages after it.
        """
        now = time.monotonic()
        if stage != self._stage:
            # Steps before the first that is shown may be those of an earlier process.
            self._stage, self._first, self._stage_begun = stage, step, now
        elif now - self._written < _EVERY:
            return
        self._written = now
        done = step - self._first
        left = (now - self._stage_begun) / done * (steps - step + later) if done > 0 else None
        progress = Progress(stage=stage, step=step, steps=steps, seconds=now - self._begun, seconds_left=left)
        temporary = self.path.with_name(f".{self.path.name}-{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            temporary.write_text(progress.model_dump_json())
            os.replace(temporary, self.path)

    def close(self) -> None:
        """Take the file away: the run has ended, one way or another."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_progress(folder: Path) -> Progress | None:
    """What a run says of itself; None where it says nothing."""
    try:
        return Progress.model_validate_json((folder / PROGRESS).read_bytes())
    except (OSError, ValueError):
        return None


class StageProgressFile(lightning.Callback):
    """Says after every step of a stage how far it is."""

    def __init__(self, file: ProgressFile, task: AdaptationTask, stages: Mapping[str, int]) -> None:
        """Watch over a stage.

        Args:
            file: Where it is said.
            task: The stage.
            stages: Steps of every stage of the run, in their order.
        """
        self.file, self.task = file, task
        names = list(stages)
        self.later = sum(stages[name] for name in names[names.index(task.stage) + 1 :])

    def _show(self) -> None:
        self.file.show(self.task.stage, self.task.step, self.task.steps, self.later)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say where the stage begins or goes on."""
        self._show()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Say how far it is."""
        self._show()
