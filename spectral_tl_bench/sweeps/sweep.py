"""Sweeps: every missing run of a suite, several side by side, one failure not ending the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.runs.requests import Request
from spectral_tl_bench.sweeps.engines.base import Engine
from spectral_tl_bench.sweeps.live_table import SweepView
from spectral_tl_bench.sweeps.suite import Suite
from spectral_tl_bench.utils.errors import RecordError, RunFailedError, one_line
from spectral_tl_bench.utils.interruption import CHECKPOINT_MINUTES, Interruption

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.datasets.base import TileDataset

_opened: dict[tuple[str, Path], TileDataset] = {}
"""Archives that this worker has opened: most runs of a suite share one."""


@dataclass(frozen=True)
class RunJob:
    """One run of a sweep, as an engine takes it.

    Attributes:
        request: What to run.
        spec: What the sweep made of it.
        out: Folder of all runs.
        device: "auto", "cpu" or "cuda".
        threads: Of torch.
        checkpoint_minutes: From one checkpoint to the next.
    """

    request: Request
    spec: RunSpec
    out: Path
    device: str
    threads: int
    checkpoint_minutes: float

    @property
    def key(self) -> str:
        """Its folder below that of all runs."""
        return self.spec.folder.as_posix()

    @property
    def label(self) -> str:
        """What a person calls it."""
        return one_line(self.request.label)

    def __call__(self, interruption: Interruption) -> str:
        """Do the run, or what an earlier process has left of it; returns its scores in one line.

        Raises:
            RunFailedError: If this machine's files make it another run than the sweep wants.
        """
        import torch
        from rich.console import Console

        from spectral_tl_bench.records.titles import ALL_TARGETS, HELD_OUT
        from spectral_tl_bench.report.tables import protocol_table
        from spectral_tl_bench.runs.planning import plan
        from spectral_tl_bench.runs.runner import execute
        from spectral_tl_bench.utils.distributed import pick_device

        interruption.end_if_asked("before it began")
        pick_device(self.device)
        torch.set_num_threads(self.threads)
        ready = plan(self.request, _opened)
        if ready.spec != self.spec:
            theirs = self.spec.model_dump()
            differ = [name for name, value in ready.spec.model_dump().items() if value != theirs[name]]
            raise RunFailedError(
                f"this worker sees other inputs than the sweep did ({', '.join(differ)}); every machine needs the same "
                "files and the same version, and a sweep files that stay"
            )
        run = execute(
            ready,
            self.out,
            Console(quiet=True),
            device=self.device,
            checkpoint_minutes=self.checkpoint_minutes,
            interruption=interruption,
        )
        table = protocol_table(run).set_index("domain")["mIoU"]
        return f"target mIoU {table[ALL_TARGETS]:.2f} %, held-out {table[HELD_OUT]:.2f} %"


def _is_done(folder: Path) -> bool:
    """Whether a folder holds a complete and sound run."""
    from spectral_tl_bench import records

    try:
        records.read_run(folder)
    except RecordError:
        return False
    return True


def _missing(
    suite: Suite, root: Path | None, out: Path, console: Console, *, device: str, threads: int, minutes: float
) -> list[RunJob]:
    """Plan every run of a suite, say how many there are, and return those without a record."""
    from spectral_tl_bench.runs.planning import plan

    opened: dict[tuple[str, Path], TileDataset] = {}
    # Every input is opened before anything trains: a mistake in the last run shows at once.
    wanted = [
        RunJob(request, plan(request, opened).spec, out.absolute(), device, threads, minutes)
        for request in suite.requests(root)
    ]
    missing = {job.key: job for job in wanted if not _is_done(out / job.spec.folder)}
    simulated = ", SIMULATED data" if any(job.spec.simulated for job in wanted) else ""
    there = sum(job.key not in missing for job in wanted)
    console.print(
        f"{suite.title}: {len(wanted)} runs, {there} of them already there{simulated}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return list(missing.values())


def sweep(
    suite: Suite,
    root: Path | None,
    out: Path,
    console: Console,
    *,
    engine: Engine,
    device: str,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
) -> None:
    """Do every run of a suite that has no record yet.

    Args:
        suite: What to run.
        root: Folder of the archives; None takes the embedded simulated ones.
        out: Folder of all runs.
        console: Gets one line a run and, if it is a terminal, a table of what is going on.
        engine: Does the runs; not started yet.
        device: "auto", "cpu" or "cuda".
        checkpoint_minutes: From one checkpoint of a run to the next.

    Raises:
        SpectralBenchError: If an input is wrong (nothing has run then).
        InterruptedRunError: If a signal asked the sweep to end; every run under way has written a checkpoint.
        RunFailedError: At the end, if a run failed; the others are complete.
    """
    from spectral_tl_bench import records
    from spectral_tl_bench.utils.distributed import pick_device

    # A GPU may be elsewhere; there, the worker says that it is missing.
    pick_device("auto" if engine.elsewhere and device == "cuda" else device)
    jobs = _missing(suite, root, out, console, device=device, threads=engine.threads, minutes=checkpoint_minutes)
    if not jobs:
        return
    records.prepare_folder(out)
    interruption = Interruption(tell=engine.end)
    with engine, SweepView(console, {job.key: job.label for job in jobs}, out) as view, interruption.listening():
        for job, outcome in engine.run(jobs, view.say):
            if outcome.kind != "interrupted" or not interruption.asked:
                view.ended(job.key, outcome)
    interruption.end_if_asked(f"{view.ended_runs} of {len(jobs)} runs are done")
    if view.failed:
        raise RunFailedError(
            f"{len(view.failed)} of {len(jobs)} runs failed, first {view.failed[0]}; "
            "the others are complete, and the same command tries the failed ones again"
        )
