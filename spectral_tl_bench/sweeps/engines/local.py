"""Runs side by side in processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from types import TracebackType

from spectral_tl_bench.sweeps.engines.base import Engine, Job, Outcome, attempt
from spectral_tl_bench.utils.interruption import Interruption

_PATIENCE = 5.0
"""Seconds for a worker without work to end."""


def begin_worker() -> Interruption:
    """Hear signals, and end when the parent does, however that ends: a killed sweep shall not train on unseen."""
    interruption = Interruption()
    interruption.install()
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
    return interruption


def _work(connection: Connection) -> None:
    """Do one job after another, until there are no more."""
    interruption = begin_worker()
    with contextlib.suppress(EOFError):
        while True:
            job, again = connection.recv()
            connection.send(attempt(job, interruption, again=again))


class _Worker:
    """A process, and the job that it is at."""

    def __init__(self) -> None:
        # A fresh process: a forked one would inherit locks of torch's threads.
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,))
        self.process.start()
        theirs.close()
        self.key: str | None = None

    def take(self, job: Job, again: bool) -> None:
        self.key = job.key
        with contextlib.suppress(BrokenPipeError):  # that it has ended is seen where its outcome is waited for
            self.connection.send((job, again))

    def outcome(self) -> Outcome:
        """What came of the job, once something can be received."""
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(_PATIENCE)
            return Outcome("lost", f"its process ended{_reason(self.process.exitcode)}")
        return outcome

    def tell(self) -> None:
        """Let it write a checkpoint and end."""
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)

    def close(self, patience: float = _PATIENCE) -> None:
        """Let it end, whatever it is at."""
        self.connection.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _reason(status: int | None) -> str:
    if status is None or status >= 0:
        return "" if not status else f" with status {status}"
    name = signal.Signals(-status).name
    return f" by {name}{' (too little memory?)' if name == 'SIGKILL' else ''}"


class LocalEngine(Engine):
    """Processes of this machine, each of which does one job after another."""

    def __init__(self, jobs: int, retries: int) -> None:
        """Start nothing yet.

        Args:
            jobs: How many at a time; they share the CPU cores evenly.
            retries: How often a job is started again whose process ended under it.
        """
        super().__init__(max(1, (os.cpu_count() or 1) // jobs), retries)
        self._places = jobs
        self._waiting: deque[tuple[Job, bool]] = deque()
        self._workers: list[_Worker] = []
        self._dropped: list[str] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.close(0.0 if kind is not None and worker.key is not None else _PATIENCE)
        self._workers.clear()

    def _submit(self, jobs: Sequence[Job], *, again: bool) -> None:
        if again:
            self._waiting.extendleft((job, True) for job in jobs)
        else:
            self._waiting.extend((job, False) for job in jobs)

    def _begin(self) -> None:
        """Give work to whoever has none."""
        idle = [worker for worker in self._workers if worker.key is None]
        while self._waiting and (idle or len(self._workers) < self._places):
            if idle:
                worker = idle.pop()
            else:
                worker = _Worker()
                self._workers.append(worker)
            worker.take(*self._waiting.popleft())

    def _ended(self, seconds: float) -> Iterable[tuple[str, Outcome]]:
        for key in self._dropped:
            yield key, Outcome("interrupted", "it had not begun")
        self._dropped.clear()
        self._begin()
        working = {worker.connection: worker for worker in self._workers if worker.key is not None}
        for connection in wait(list(working), seconds) if working else []:
            worker = working[connection]  # type: ignore[index]  # nothing else was waited for
            outcome = worker.outcome()
            done, worker.key = worker.key, None
            if outcome.kind in ("lost", "interrupted"):
                # It has ended, or heard a signal that it would not forget.
                self._workers.remove(worker)
                worker.close()
            if done is not None:
                yield done, outcome

    def _interrupt(self) -> None:
        self._dropped = [job.key for job, _ in self._waiting]
        self._waiting.clear()
        for worker in self._workers:
            worker.tell()
