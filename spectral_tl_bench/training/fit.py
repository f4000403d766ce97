"""Training one stage: seeds, trainer, and which weights are kept."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.datamodules.samplers import ResumableData
from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.training.sync_layers import synchronized_layers
from spectral_tl_bench.utils.errors import RunFailedError
from spectral_tl_bench.utils.log_filters import suppress_third_party_messages
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import trained_state

_CLEAR_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask for deterministic arithmetic.

    Called before every part that draws random numbers, so that a part gives the same numbers whatever ran before it.
    """
    # cuBLAS needs this before its first call to repeat its sums in one order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with suppress_third_party_messages():
        lightning.seed_everything(seed, workers=True, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Writing NaN into fresh memory only helps to find operators that read it before writing; it costs 5 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


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
    options: RuntimeOptions,
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
        training: Precision, and what saves memory.
        options: Where to train.
        callbacks: Progress, history, selection.
        validations: Evenly spaced scorings of the held-out tiles, and one after the last step; 0 for none.
        after_part: Called after every part, its validation included.

    Returns:
        The last trainer, for scoring.
    """
    task.backbone.recomputes = training.activation_checkpointing
    for end in parts(task.steps, validations):
        done, validated = task.step, not validations or end in task.validated
        if done >= end and validated and end < task.steps:
            continue
        # From here on the next trainer counts.
        task.steps_done = done
        if isinstance(data, ResumableData):
            data.steps_done = done
        with suppress_third_party_messages():
            trainer = lightning.Trainer(
                **options.trainer_arguments,
                use_distributed_sampler=False,
                accumulate_grad_batches=training.accumulation,
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
            with _saying_what_helps(training), synchronized_layers(task):
                if done < end:
                    trainer.fit(task, datamodule=data)
                    task.optimizer_state = trainer.optimizers[0].state_dict()
                if not validated:
                    trainer.limit_val_batches = 1.0
                    trainer.validate(task, datamodule=data, verbose=False)
        after_part()
    return trainer


@contextlib.contextmanager
def _saying_what_helps(training: TrainingSpec) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        # On a processor torch raises a plain RuntimeError.
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise RunFailedError(
                f"not enough memory; lower --train batch_size (now {training.batch_size}) or image_size (now "
                f"{training.image_size}), cut it with --train accumulation=2, keep less with --train "
                "activation_checkpointing=true, or take a smaller --backbone"
            ) from error
        if _of_shared_memory(error):
            raise RunFailedError(
                "the shared memory that reading processes hand batches over in (/dev/shm) is full; give fewer "
                "--workers, or --workers 0 which needs none, or make it larger (docker run --shm-size=8g, mount -o "
                "remount,size=8g /dev/shm); the same command goes on from the last checkpoint"
            ) from error
        raise


def _of_shared_memory(error: BaseException) -> bool:
    """Whether a batch did not fit into /dev/shm: torch says so in words, or dies of it in a worker (SIGBUS)."""
    text = str(error)
    if "shared memory" in text or "Bus error" in text:
        return True
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in text
    return full and ("/torch_" in text or "/dev/shm" in text)


def score(trainer: lightning.Trainer, task: Segmentation, data: lightning.LightningDataModule) -> None:
    """Score held-out source and target tiles; the confusions stay in ``task.confusions``."""
    with suppress_third_party_messages(), _saying_what_helps(task.training_spec):
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
