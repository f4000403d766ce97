"""What a run tells the person who waits: stage, step and time left; and the curve it keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.utils.text import duration

if TYPE_CHECKING:
    from rich.progress import TaskID

_PLAIN_LINES = 4
_SHOWN = ("loss", "extra_loss", "held_out_miou")


def _figures(trainer: lightning.Trainer) -> dict[str, float]:
    return {name: float(trainer.callback_metrics[name]) for name in _SHOWN if name in trainer.callback_metrics}


def _score(trainer: lightning.Trainer) -> str:
    """The last validation as tables show it: in percent."""
    score = _figures(trainer).get("held_out_miou")
    return "" if score is None else f"held-out mIoU {100 * score:.2f} %"


def _task(module: lightning.LightningModule) -> AdaptationTask:
    if not isinstance(module, AdaptationTask):
        raise TypeError(f"only an adaptation task has a stage, not {type(module).__name__}")
    return module


class StageProgress(lightning.Callback):
    """A bar with the stage, the step, the loss and the time left; a few plain lines where there is no terminal."""

    def __init__(self, console: Console, title: str, extra_loss_name: str) -> None:
        """Show progress on a console.

        Args:
            console: Where.
            title: Such as "stage 2/2 segmentation".
            extra_loss_name: What the method calls its own loss.
        """
        self.console = console
        self.title = title
        self.extra_loss_name = extra_loss_name
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.started = 0.0
        self.first = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar where none is open: a stage is trained in parts."""
        task = _task(pl_module)
        if not self.started:
            self.started, self.first = time.monotonic(), task.steps_done
        if self.console.is_terminal and self.bar is None:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=task.steps, completed=task.steps_done, figures="")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        task = _task(pl_module)
        if not task.ends_step(batch_idx):
            return
        step, steps = task.step, task.steps
        if self.bar is not None and self.task is not None:
            if step % 10 == 0 or step == steps:
                self.bar.update(self.task, completed=step, figures=self._text(trainer))
        elif step % max(1, steps // _PLAIN_LINES) == 0:
            elapsed = time.monotonic() - self.started
            left = elapsed / (step - self.first) * (steps - step)
            self.console.print(
                f"  {self.title}: step {step}/{steps}, {duration(left)} left, {self._losses(trainer)}",
                highlight=False,
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the validation just made: the line of its step was written before it."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=_task(pl_module).step, figures=self._text(trainer))
        elif score := _score(trainer):
            step = f"step {_task(pl_module).step}/{_task(pl_module).steps}"
            self.console.print(f"  {self.title}: {step}, {score}", highlight=False)

    def _losses(self, trainer: lightning.Trainer) -> str:
        names = {"extra_loss": self.extra_loss_name}
        figures = {name: value for name, value in _figures(trainer).items() if name != "held_out_miou"}
        return ", ".join(f"{names.get(name, name)} {value:.3f}" for name, value in figures.items())

    def _text(self, trainer: lightning.Trainer) -> str:
        return ", ".join(filter(None, (self._losses(trainer), _score(trainer))))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar after the last part."""
        if _task(pl_module).step >= _task(pl_module).steps:
            self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error's line stands alone."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class History(lightning.Callback):
    """The training curve: one row every few steps and one at each validation."""

    ROWS = 100
    COLUMNS = ("stage", "step", "learning_rate", "loss", "extra_loss", "held_out_miou")

    def __init__(self, stage: str, rows: list[dict[str, Any]]) -> None:
        """Append to ``rows``, shared by the stages of a run."""
        self.stage = stage
        self.rows = rows

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the losses."""
        task = _task(pl_module)
        if task.ends_step(batch_idx) and task.step % max(1, task.steps // self.ROWS) == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            figures = {k: v for k, v in _figures(trainer).items() if k != "held_out_miou"}
            self.rows.append({"stage": self.stage, "step": task.step, "learning_rate": rate, **figures})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the score on held-out source tiles."""
        score = _figures(trainer).get("held_out_miou")
        self.rows.append({"stage": self.stage, "step": _task(pl_module).step, "held_out_miou": score})
