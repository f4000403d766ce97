"""Jobs for tests of engines, small enough to be pickled and done anywhere."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from spectral_tl_bench.utils.errors import RunInUseError


@dataclass(frozen=True)
class Named:
    """Has a name."""

    key: str

    @property
    def label(self):
        return f"job {self.key}"


@dataclass(frozen=True)
class Saying(Named):
    """Says something."""

    text: str = "said"

    def __call__(self, interruption):
        return self.text


@dataclass(frozen=True)
class Failing(Named):
    """Raises something that does not travel."""

    def __call__(self, interruption):
        class LocalError(LookupError):
            pass

        raise LocalError("it does not\nwork")


@dataclass(frozen=True)
class Locked(Named):
    """Like a run: alone in its folder, which remembers every process that began."""

    folder: Path

    def __call__(self, interruption):
        lock = FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunInUseError("another process is at it") from error
        with lock:
            begun = self.folder / f"began-{os.getpid()}-{time.time_ns()}"
            begun.touch()
            return self.work(interruption, len(list(self.folder.glob("began-*"))))

    def work(self, interruption, time_of_it):
        return f"time {time_of_it}"


@dataclass(frozen=True)
class Dying(Locked):
    """Kills its process so many times."""

    times: int = 1

    def work(self, interruption, time_of_it):
        if time_of_it <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"time {time_of_it}"


@dataclass(frozen=True)
class Waiting(Locked):
    """Works until it is asked to end, or a file says that it is enough; leaves what it has done."""

    def work(self, interruption, time_of_it):
        patience = time.monotonic() + 60
        while time.monotonic() < patience:
            if (self.folder / "enough").exists():
                return f"time {time_of_it}"
            if interruption.requested:
                (self.folder / "checkpoint").touch()
                interruption.end_if_requested("in the middle")
            time.sleep(0.02)
        raise TimeoutError("nobody said that it was enough")


def wait_for(condition, seconds=60.0):
    """What a condition gives once it is true."""
    patience = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < patience, "it did not happen"
        time.sleep(0.02)
    return found


def processes_of(folder):
    """Processes that began with the job of a folder, the latest last."""
    begun = sorted(folder.glob("began-*"), key=lambda path: path.name.rpartition("-")[2])
    return [int(path.name.split("-")[1]) for path in begun]
