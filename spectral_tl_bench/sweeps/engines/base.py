"""An engine takes jobs, has them done somewhere, and says of each how it ended."""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Protocol, Self, TypeVar

from spectral_tl_bench.utils.errors import InterruptedRunError, RunInUseError, one_line
from spectral_tl_bench.utils.interruption import Interruption

RETRIES = 3
"""How often a job is started again whose worker was lost, unless stated."""

BEAT = 0.5
"""Seconds in which an engine notices that it shall end."""

_PATIENCE = 120.0
_PAUSE = 2.0

Kind = Literal["done", "failed", "in use", "interrupted", "lost"]


class Job(Protocol):
    """What an engine has done in another process, perhaps on another machine: a value that can be pickled."""

    @property
    def key(self) -> str:
        """What tells it from the others, a relative path: the same in every sweep that wants the same."""

    @property
    def label(self) -> str:
        """What a person calls it."""

    def __call__(self, interruption: Interruption) -> str:
        """Do it, in the main thread of a process; end where everything is safe once the interruption is asked for.

        Returns:
            What to tell of it, in one line.
        """


J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        kind: "done", "failed"; "in use" where another process is at the same run; "interrupted" by a signal, after a
            checkpoint; "lost" with its worker.
        text: What the job says of itself when it is done, else the reason, in one line.
        seconds: How long it took.
        host: Where it ran.
    """

    kind: Kind
    text: str
    seconds: float = 0.0
    host: str = field(default_factory=socket.gethostname)


def attempt(
    job: Job, interruption: Interruption, *, again: bool, directory: Path | None = None, patience: float = _PATIENCE
) -> Outcome:
    """Do a job in the worker and put whatever happens into words: exceptions do not travel well between machines.

    Args:
        job: What to do.
        interruption: Hears signals.
        again: Whether an earlier worker was lost with this job. It may hold the run's lock for a moment longer, on a
            network file system until its lease has expired.
        directory: Where relative paths begin, on a machine that may be another; None is where the process is.
        patience: Seconds to wait for that lock.
    """
    started = time.monotonic()
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            return Outcome(
                "failed", f"cannot enter {directory}: {error.strerror}; every machine needs the same files in one place"
            )
    while True:
        kind: Kind
        try:
            kind, text = "done", job(interruption)
        except RunInUseError as error:
            waited = time.monotonic() - started
            if again and waited < patience and not interruption.requested:
                time.sleep(min(_PAUSE, patience / 10))
                continue
            kind, text = "in use", str(error)
        except InterruptedRunError as error:
            kind, text = "interrupted", str(error)
        except Exception as error:  # noqa: BLE001  # whatever a method raises is its own failure, not that of the sweep
            kind, text = "failed", one_line(str(error)) or type(error).__name__
        return Outcome(kind, one_line(text), time.monotonic() - started)


class Engine(ABC):
    """Has jobs done; a context manager around whatever it has to start and stop.

    Attributes:
        elsewhere: Whether workers may be on other machines.
        threads: Threads that a job may use.
        retries: How often a job is started again whose worker was lost.
    """

    elsewhere: ClassVar[bool] = False

    def __init__(self, threads: int, retries: int) -> None:
        """Start nothing yet.

        Args:
            threads: Threads that a job may use.
            retries: How often a job is started again whose worker was lost.
        """
        self.threads = threads
        self.retries = retries
        self._ending = False
        self._say: Callable[[str], None] = lambda line: None

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the workers; after an exception without waiting for them."""

    def end(self) -> None:
        """Ask every worker to end where everything is safe, and begin nothing new; may be called by a signal."""
        self._ending = True

    def run(self, jobs: Sequence[J], say: Callable[[str], None] = lambda line: None) -> Iterator[tuple[J, Outcome]]:
        """Have jobs done.

        Args:
            jobs: What to do, each with a key of its own.
            say: Gets lines for people, such as of a job that is started again.

        Yields:
            Every job once, as they end, with its outcome.
        """
        left = {job.key: job for job in jobs}
        lost: Counter[str] = Counter()
        told = False
        self._say = say
        self._submit(list(jobs), again=False)
        while left:
            if self._ending and not told:
                told = True
                self._interrupt()
            for key, outcome in self._ended(BEAT):
                gone = outcome.kind in ("lost", "interrupted") and not self._ending
                if gone and lost[key] < self.retries:
                    lost[key] += 1
                    say(f"{left[key].label}: {outcome.text}; started again ({lost[key]} of {self.retries})")
                    self._submit([left[key]], again=True)
                else:
                    yield left.pop(key), outcome

    @abstractmethod
    def _submit(self, jobs: Sequence[Job], *, again: bool) -> None:
        """Have jobs done as soon as there is room; ``again`` where an earlier worker was lost with them."""

    @abstractmethod
    def _ended(self, seconds: float) -> Iterable[tuple[str, Outcome]]:
        """Wait at most so long; keys and outcomes of the jobs that have ended since the last call."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Drop the jobs that have not begun, and ask the workers of the others to end; all of them then end."""
