"""The training curve for TensorBoard and Weights & Biases, beside history.csv, which every run has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning

from spectral_tl_bench.records.titles import heading
from spectral_tl_bench.utils.errors import SpectralBenchError, one_line

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from spectral_tl_bench.config.spec import RunSpec
    from spectral_tl_bench.utils.runtime import RuntimeOptions

LOGGERS = ("tensorboard", "wandb")
"""What ``--logger`` takes. Files lie in folders of these names in the run's folder."""
_PROJECT = "spectral_tl_bench"


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that are unknown or not installed.

    Raises:
        SpectralBenchError: If one is; the message says what to do.
    """
    from importlib.util import find_spec

    for name in names:
        if name not in LOGGERS:
            raise SpectralBenchError(
                f"unknown --logger {name!r}: {' or '.join(LOGGERS)}; history.csv is always written"
            )
        if find_spec(name) is None:
            raise SpectralBenchError(f"--logger {name} needs a package more: pip install 'spectral-tl-bench[{name}]'")


def _start(name: str, folder: Path, spec: RunSpec) -> Logger:
    # The title says SIMULATED where the data are.
    if name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        board = TensorBoardLogger(str(folder), name=name, version="")
        board.experiment.add_text("run", heading(spec))
        return board
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    run = WandbLogger(
        name=heading(spec),
        save_dir=str(folder),
        project=_PROJECT,
        # An interrupted run has several, which belong together.
        group=f"{spec.method_name}-{spec.digest}",
        config=spec.model_dump(mode="json"),
        settings=wandb.Settings(silent=True, console="off", disable_code=True, disable_git=True),
    )
    for stage in ("reconstruction", "segmentation"):
        # Steps are those of a stage; W&B's own would have to grow throughout.
        run.experiment.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
    return run


class Loggers(lightning.Callback):
    """Passes on what is new in the training curve; one that fails is left out with a note, and the run goes on."""

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        spec: RunSpec,
        history: Sequence[dict[str, Any]],
        options: RuntimeOptions,
    ) -> None:
        """Start the loggers.

        Args:
            names: Of :data:`LOGGERS`.
            folder: The run's.
            spec: The run.
            history: Its training curve, which grows.
            options: Its console gets notes.

        Raises:
            SpectralBenchError: If one cannot be started.
        """
        self.history, self.options = history, options
        self.sent = 0
        self.started: dict[str, Logger] = {}
        for name in names:
            try:
                self.started[name] = _start(name, folder, spec)
            except Exception as error:
                offline = "set WANDB_MODE=offline to send nothing, or " if name == "wandb" else ""
                raise SpectralBenchError(
                    f"--logger {name} does not start: {one_line(str(error))}; {offline}leave it out"
                ) from error

    def skip(self) -> None:
        """Leave out what an earlier process has sent."""
        self.sent = len(self.history)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Send new rows."""
        self._send()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Send new rows."""
        self._send()

    def close(self) -> None:
        """Write what is left."""
        for name in list(self.started):
            self._try(name, lambda logger: logger.finalize("success"))
        if "wandb" in self.started:
            import wandb

            wandb.finish()
        self.started.clear()

    def _send(self) -> None:
        rows, self.sent = self.history[self.sent :], len(self.history)
        for row in rows:
            stage, step = row["stage"], row["step"]
            figures = {f"{stage}/{k}": v for k, v in row.items() if k not in ("stage", "step") and v is not None}
            for name in list(self.started):
                if name == "wandb":
                    self._try(
                        name, lambda logger, f=figures, s=step, g=stage: logger.log_metrics({**f, f"{g}/step": s})
                    )
                else:
                    self._try(name, lambda logger, f=figures, s=step: logger.log_metrics(f, s))

    def _try(self, name: str, do: Any) -> None:
        try:
            do(self.started[name])
        except Exception as error:  # noqa: BLE001  # whatever a service makes of it
            del self.started[name]
            self.options.say(f"  note: no more for {name}: {one_line(str(error))}")
