"""What a sweep shows to the person who waits: one line a run, and on a terminal a table of what is going on."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spectral_tl_bench.runs.progress_file import Progress, read_progress
from spectral_tl_bench.sweeps.engines.base import Outcome
from spectral_tl_bench.utils.text import duration, say

_ROWS = 12
_FAILURES = 3
_REFRESHES = 2
"""A second."""

_SHARE = 0.1
"""Of the time at most, files of progress are read: there may be thousands on a slow file system."""


def seconds_left(finished: Collection[float], running: Collection[Progress], waiting: int) -> float | None:
    """About how long the rest takes, if as many runs go on side by side as do now.

    Args:
        finished: Seconds that runs took.
        running: What runs under way say of themselves.
        waiting: Runs that have not begun.

    Returns:
        None where nothing can be told yet.
    """
    usual = finished or [p.seconds + p.seconds_left for p in running if p.seconds_left is not None]
    if not usual:
        return None
    mean = statistics.fmean(usual)
    left = [max(0.0, mean - p.seconds) if p.seconds_left is None else p.seconds_left for p in running]
    return max([(sum(left) + waiting * mean) / max(1, len(running)), *left])


class SweepView:
    """Counts what has ended and shows it; a context manager around the table.

    Attributes:
        failed: Labels of the runs that failed.
        ended_runs: How many have ended, one way or another.
    """

    def __init__(
        self, console: Console, labels: Mapping[str, str], out: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show nothing yet.

        Args:
            console: Where.
            labels: Of every run, by its folder below ``out``.
            out: Folder of all runs.
            clock: Seconds.
        """
        self.console, self.labels, self.out, self.clock = console, dict(labels), out, clock
        self.failed: list[str] = []
        self.ended_runs = 0
        self._left = dict(labels)
        self._seconds: list[float] = []
        self._reasons: list[str] = []
        # Left by a process that was killed, perhaps long ago.
        self._stale = {key: read_progress(out / key) for key in labels}
        self._running: dict[str, Progress] = {}
        self._look_again = float("-inf")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.table, console=self.console, refresh_per_second=_REFRESHES, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        say(self.console, line)

    def ended(self, key: str, outcome: Outcome) -> None:
        """Count a run and print its line."""
        label = self._left.pop(key)
        self.ended_runs += 1
        if outcome.kind == "done":
            self._seconds.append(outcome.seconds)
            text = f"{outcome.text}, {outcome.seconds:.0f} s"
        elif outcome.kind == "in use":
            text = "left to another process, which is at it"
        else:
            where = "" if outcome.host == socket.gethostname() else f" on {outcome.host}"
            text = f"FAILED{where}: {outcome.text}"
            self.failed.append(label)
            self._reasons.append(f"{label}: {outcome.text}")
        self.say(f"[{self.ended_runs}/{len(self.labels)}] {label}: {text}")

    def _look(self) -> dict[str, Progress]:
        """What runs under way say of themselves."""
        started = self.clock()
        if started >= self._look_again:
            found = {key: read_progress(self.out / key) for key in list(self._left)}
            self._running = {key: p for key, p in found.items() if p is not None and p != self._stale[key]}
            self._look_again = started + max(1 / _REFRESHES, (self.clock() - started) / _SHARE)
        return {key: progress for key, progress in self._running.items() if key in self._left}

    def table(self) -> RenderableType:
        """What is going on: counts, runs under way, the latest failures."""
        running = self._look()
        waiting = len(self._left) - len(running)
        left = seconds_left(self._seconds, running.values(), waiting)
        counts = [
            f"{self.ended_runs} of {len(self.labels)} ended",
            *([f"{len(self.failed)} failed"] if self.failed else []),
            f"{len(running)} under way",
            f"{waiting} to begin",
            *([] if left is None else [f"about {duration(left)} left in all"]),
        ]
        parts: list[RenderableType] = [Text(", ".join(counts), style="bold", no_wrap=True, overflow="ellipsis")]
        if running:
            rows = Table(box=None, pad_edge=False, expand=False)
            for column, justify in (("run", "left"), ("stage", "left"), ("step", "right"), ("left", "right")):
                rows.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
            for key, progress in list(running.items())[:_ROWS]:
                rows.add_row(
                    Text(self.labels[key]),
                    Text(progress.stage),
                    Text(f"{progress.step}/{progress.steps}"),
                    Text(duration(progress.seconds_left)),
                )
            parts.append(rows)
        if len(running) > _ROWS:
            parts.append(Text(f"and {len(running) - _ROWS} more"))
        parts += [
            Text(f"failed: {r}", style="red", overflow="ellipsis", no_wrap=True) for r in self._reasons[-_FAILURES:]
        ]
        return Group(*parts)
