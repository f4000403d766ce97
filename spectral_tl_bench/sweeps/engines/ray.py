"""Runs as tasks of Ray: on this machine, or on a cluster that is there already."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import ray

from spectral_tl_bench.sweeps.engines.base import Engine, Job, Outcome, attempt
from spectral_tl_bench.utils.errors import SpectralBenchError, one_line
from spectral_tl_bench.utils.interruption import Interruption

_THIS_MACHINE = "local"

_ANSWER = 5.0
"""Seconds for a cluster to answer."""


def _require_answer(address: str) -> None:
    """Refuse an address where nobody answers: Ray itself would try for minutes.

    Raises:
        SpectralBenchError: If there is no cluster.
    """
    if "://" in address:
        raise SpectralBenchError(
            f"--address {address}: start the sweep on a machine of the cluster, with --address auto or HOST:PORT"
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise SpectralBenchError(
            f"no Ray cluster answers at {address} ({error}); `ray start --head` on one machine says its HOST:PORT"
        ) from error


def _task(job: Job, directory: Path, again: bool) -> Outcome:
    """Do a job in a worker; Ray's cancelling comes as SIGINT, as Ctrl-C would."""
    interruption = Interruption()
    with interruption.listening():
        return attempt(job, interruption, again=again, directory=directory)


class RayEngine(Engine):
    """Tasks of Ray, one a job."""

    elsewhere: ClassVar[bool] = True

    def __init__(self, address: str | None, *, cpus: int, gpus: float, retries: int) -> None:
        """Start nothing yet.

        Args:
            address: Of a running cluster, as ``ray.init`` takes it; None starts one of this machine alone.
            cpus: CPU cores a job.
            gpus: GPUs a job; several share one where this is a fraction.
            retries: How often a job is started again whose worker or machine was lost.
        """
        super().__init__(cpus, retries)
        self._address = address
        self._needs = {"CPU": float(cpus), "GPU": gpus}
        self._ours = False
        self._running: dict[Any, str] = {}

    def __enter__(self) -> Self:
        if ray.is_initialized():
            # By the program that sweeps, which goes on with it.
            self._require_room()
            return self
        self._ours = True
        # What Ray tells of itself and of its use is not for the person at the terminal.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is not None:
            _require_answer(self._address)
        try:
            ray.init(
                address=self._address or _THIS_MACHINE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=None if self._address else False,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"cannot use the Ray cluster at {self._address}" if self._address else "cannot start Ray"
            raise SpectralBenchError(f"{where}: {one_line(str(error))}") from error
        try:
            self._require_room()
        except SpectralBenchError:
            self._disconnect()
            raise
        return self

    def _require_room(self) -> None:
        """Refuse what would wait for ever; a cluster that grows by itself has room when it is needed.

        Raises:
            SpectralBenchError: If no machine is large enough.
        """
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(machine.get(name, 0) >= need for name, need in self._needs.items()) for machine in machines):
            return
        raise SpectralBenchError(
            f"no machine of the Ray cluster has the {self._needs['CPU']:g} CPU and {self._needs['GPU']:g} GPU that "
            "--cpus and --gpus give a run"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _submit(self, jobs: Sequence[Job], *, again: bool) -> None:
        # A worker that is lost is the engine's to replace, which knows then that a job may have left a lock.
        task = ray.remote(_task).options(
            num_cpus=self._needs["CPU"], num_gpus=self._needs["GPU"], max_retries=0, name="spectral-bench"
        )
        for job in jobs:
            self._running[task.remote(job, Path.cwd(), again)] = job.key

    def _ended(self, seconds: float) -> Iterable[tuple[str, Outcome]]:
        ended, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        for reference in ended:
            yield self._running.pop(reference), _outcome(reference)

    def _interrupt(self) -> None:
        for reference in self._running:
            ray.cancel(reference, force=False)


def _outcome(reference: Any) -> Outcome:
    """What came of a task that has ended."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome("interrupted", "cancelled")
    except ray.exceptions.RayTaskError as error:
        # Not from the job, whose exceptions are an outcome: its task could not even begin.
        return Outcome("failed", one_line(str(error.cause)))
    except ray.exceptions.RayError as error:
        return Outcome("lost", one_line(str(error).partition("\n")[0]))
    return outcome
