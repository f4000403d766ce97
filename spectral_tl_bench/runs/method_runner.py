"""What the benchmark does with one kind of method, from its defaults to its record."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from spectral_tl_bench import records
    from spectral_tl_bench.config.spec import RunChoices
    from spectral_tl_bench.datasets.cross_sensor import OtherBands
    from spectral_tl_bench.methods import AnyMethod
    from spectral_tl_bench.runs.estimate import Estimate
    from spectral_tl_bench.runs.plan import Plan, Request, Resolved, Selection
    from spectral_tl_bench.runs.progress_file import ProgressFile
    from spectral_tl_bench.utils.runtime import RuntimeOptions


class MethodRunner(abc.ABC):
    """Plans and executes the runs of one kind of method; the kind's base class names it as ``runner``.

    Attributes:
        needs_backbone: Whether runs differ by backbone, weights and all training settings.
        keeps_model: Whether a finished run can predict: maps and ``spectral-bench predict``.
        settings: Training settings that runs of this kind use; None for all.
    """

    needs_backbone: ClassVar[bool]
    keeps_model: ClassVar[bool]
    settings: ClassVar[tuple[str, ...] | None] = None

    @abc.abstractmethod
    def resolve(self, selection: Selection) -> Resolved:
        """Fill in the defaults.

        Raises:
            SpectralBenchError: If something is selected that this kind of method does not use.
        """

    @abc.abstractmethod
    def require_valid(self, method: Any, request: Request) -> None:
        """Refuse a request that such a method cannot run, before any input is opened.

        Raises:
            SpectralBenchError: If there is a problem; the message says what to do.
        """

    @abc.abstractmethod
    def other_bands(self, method: Any, backbone: str) -> OtherBands:
        """How the model sees target tiles of another sensor."""

    @abc.abstractmethod
    def fit_to_tiles(
        self, request: Request, training_sides: Sequence[int], all_sides: Sequence[int], simulated: bool
    ) -> tuple[RunChoices, list[str]]:
        """Adjust settings that the user did not name to the size of the tiles.

        Args:
            request: What is requested.
            training_sides: Shorter side of each training tile in pixels.
            all_sides: Shorter side of every tile of the run.
            simulated: Whether the archive is simulated; its tiles are as large as the preset wants them.

        Returns:
            The choices of the run, and notes for the user.
        """

    @abc.abstractmethod
    def require_executable(self, plan: Plan, options: RuntimeOptions, maps: int) -> None:
        """Refuse options that such a run cannot follow, before anything trains.

        Args:
            plan: The run.
            options: How it is to be executed.
            maps: Number of target tiles to write maps of.

        Raises:
            SpectralBenchError: If there is a problem; the message says what to do.
        """

    @abc.abstractmethod
    def execute(
        self,
        plan: Plan,
        provenance: records.Provenance,
        folder: Path,
        progress: ProgressFile,
        options: RuntimeOptions,
    ) -> None:
        """Check the method, then write ``run.yaml``, train, score and write the record.

        Args:
            plan: The run.
            provenance: Versions and hardware, determined before the run.
            folder: Gets the record; held by this process alone.
            progress: Shows other processes how far the run is.
            options: How to execute it.
        """

    def estimate(self, plan: Plan, device: torch.device) -> Estimate | None:
        """What the run will cost on a device; None where that is not worth estimating."""
        return None


def runner_of(method: type[AnyMethod]) -> MethodRunner:
    """The runner that a method's base class names."""
    module, _, name = method.runner.partition(":")
    runner: type[MethodRunner] = getattr(importlib.import_module(module), name)
    return runner()
