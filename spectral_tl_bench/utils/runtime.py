"""How a run is executed: devices, checkpoints, output. None of it changes the result, apart from rounding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.interruption import Interruption
from spectral_tl_bench.utils.text import say

if TYPE_CHECKING:
    import torch
    from rich.console import Console

CHECKPOINT_MINUTES = 10.0
"""Default minutes between checkpoints: the most work that a kill can lose."""

STRATEGIES = {"auto": "ddp_find_unused_parameters_true", "ddp": "ddp"}
"""Lightning's strategy for each value of ``--strategy``.

Strategies that shard or replace parameters are not offered: methods, checkpoints and records refer to parameters by
identity and name, and what a method trains is small.
"""


@dataclass(frozen=True)
class RuntimeOptions:
    """How a run is executed. The command builds it once and every layer below receives it whole.

    Attributes:
        device: "auto", "cpu" or "cuda".
        devices: Devices of each node, one process for each.
        num_nodes: Nodes.
        strategy: A key of :data:`STRATEGIES`; used where there are several processes.
        workers: Processes that read tiles, for each device.
        checkpoint_minutes: Minutes between checkpoints; validations write one too.
        loggers: Loggers that also receive the training curve.
        resume_across_versions: Resume an interrupted run that other versions of the software began.
        force: Run again where a complete result exists; it is replaced at the end.
        console: Shows progress; None shows nothing.
        interruption: Records signals that ask the process to end.
    """

    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    workers: int = 0
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    loggers: tuple[str, ...] = ()
    resume_across_versions: bool = False
    force: bool = False
    console: Console | None = None
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def processes(self) -> int:
        """Number of processes, one for each device of each node."""
        return self.devices * self.num_nodes

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Arguments of Lightning's ``Trainer`` and ``Fabric``."""
        return {
            "accelerator": {"cuda": "gpu"}.get(self.device, self.device),
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": "auto" if self.processes == 1 else STRATEGIES[self.strategy],
        }

    @property
    def output(self) -> Console:
        """The console, or one that prints nothing."""
        from rich.console import Console

        return Console(quiet=True) if self.console is None else self.console

    def say(self, line: str) -> None:
        """Print a line on the console."""
        if self.console is not None:
            say(self.console, line)


def pick_device(name: str) -> torch.device:
    """Return the device that a user means: "auto" is the GPU where there is one.

    Raises:
        SpectralBenchError: If the device is unknown or not available.
    """
    import torch

    available = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not available):
        raise SpectralBenchError(f"there is no device {name} here; --device takes auto, cpu{' or cuda' * available}")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
