"""Training one stage: seeds, trainer, and which weights are kept."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from spectral_tl_bench.errors import RunFailedError
from spectral_tl_bench.spec import TrainingSpec
from spectral_tl_bench.tasks.base import AdaptationTask
from spectral_tl_bench.tasks.segmentation import Segmentation
from spectral_tl_bench.weights import trained_state

_CLEAR_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask for deterministic arithmetic.

    Called before every part that draws random numbers, so that a part gives the same numbers whatever ran before it.
    """
    # cuBLAS needs this before its first call to repeat its sums in one order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with _quiet():
        lightning.seed_everything(seed, workers=True, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Writing NaN into fresh memory only helps to find operators that read it before writing; it costs 5 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's tips and torch's notices out of the table a person reads."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            warnings.filterwarnings("ignore", message=".*geotransform.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class KeepBest(lightning.Callback):
    """Keep a copy of the trained weights from the validation with the best held-out mIoU."""

    def __init__(self, pretrained: frozenset[int]) -> None:
        """Leave out the ``pretrained`` parameters that stay frozen."""
        self.pretrained = pretrained
        self.step = -1
        self.score = -1.0
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare with the best so far; the earlier of two equals stays."""
        if not isinstance(pl_module, Segmentation):
            raise TypeError(f"only a segmentation task has held-out scores, not {type(pl_module).__name__}")
        step, score = pl_module.held_out_miou[-1]
        if score > self.score:
            self.step, self.score = step, score
            self.state = trained_state(pl_module.segmenter, self.pretrained)


def parts(steps: int, validations: int) -> list[int]:
    """Where the parts of a stage end: at evenly spaced validations and at the last step.

    >>> parts(10, 3)
    [3, 6, 9, 10]
    >>> parts(10, 0)
    [10]
    """
    interval = max(1, steps // validations) if validations else steps
    return [*range(interval, steps, interval), steps]


def fit(
    task: AdaptationTask,
    data: lightning.LightningDataModule,
    training: TrainingSpec,
    *,
    device: str,
    callbacks: list[lightning.Callback],
    validations: int,
    after_part: Callable[[], None] = lambda: None,
) -> lightning.Trainer:
    """Train one stage, or what is left of it.

    A trainer trains up to the next validation and makes it; the next one goes on with the optimiser's state. So a stage
    that goes on in the middle does what it would have done, and the state to go on from is in the task.

    Args:
        task: The stage; ``task.steps_done`` of its steps are done already.
        data: Already told which stage it is.
        training: Precision.
        device: "auto", "cpu" or "cuda".
        callbacks: Progress, history, selection.
        validations: Evenly spaced scorings of the held-out tiles, and one after the last step; 0 for none.
        after_part: Called after every part, its validation included.

    Returns:
        The last trainer, for scoring.
    """
    for end in parts(task.steps, validations):
        done, validated = task.step, not validations or end in task.validated
        if done >= end and validated and end < task.steps:
            continue
        # From here on the next trainer counts.
        task.steps_done = done
        with _quiet():
            trainer = lightning.Trainer(
                accelerator={"cuda": "gpu"}.get(device, device),
                devices=1,
                precision=training.precision,
                max_steps=max(0, end - done),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
                log_every_n_steps=1,
                callbacks=callbacks,
            )
            with _saying_what_to_lower(training):
                if done < end:
                    trainer.fit(task, datamodule=data)
                    task.optimizer_state = trainer.optimizers[0].state_dict()
                if not validated:
                    trainer.limit_val_batches = 1.0
                    trainer.validate(task, datamodule=data, verbose=False)
        after_part()
    return trainer


@contextlib.contextmanager
def _saying_what_to_lower(training: TrainingSpec) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # On a processor torch raises a plain RuntimeError.
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise RunFailedError(
                f"not enough memory; lower --train batch_size (now {training.batch_size}) or image_size (now "
                f"{training.image_size}), or take a smaller --backbone"
            ) from error
        raise


def score(trainer: lightning.Trainer, task: Segmentation, data: lightning.LightningDataModule) -> None:
    """Score held-out source and target tiles; the confusions stay in ``task.confusions``."""
    with _quiet(), _saying_what_to_lower(task.training_spec):
        trainer.test(task, datamodule=data, verbose=False)


class Stopwatch:
    """Seconds since it was made, and those of earlier processes."""

    def __init__(self) -> None:
        self.before = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        return self.before + time.monotonic() - self._started


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_mib` count from now on: a process may run one run after another."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        # Linux alone can forget a process's peak; elsewhere it spans the process's life.
        _CLEAR_PEAK.write_text("5")


def peak_memory_mib(device: Any) -> float:
    """Peak memory in MiB since :func:`reset_peak_memory`: of the GPU where one is used, else of this process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
