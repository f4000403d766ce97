"""Sweeps: every missing run of a suite, several at a time; one failure does not end the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.runs.plan import Request
from spectral_tl_bench.sweeps.engines.base import Engine
from spectral_tl_bench.sweeps.live_table import SweepView
from spectral_tl_bench.sweeps.suite import Suite
from spectral_tl_bench.utils.errors import RecordError, RunFailedError, one_line
from spectral_tl_bench.utils.interruption import Interruption
from spectral_tl_bench.utils.runtime import RuntimeOptions

if TYPE_CHECKING:
    from spectral_tl_bench.datasets.base import TileDataset

_opened: dict[tuple[str, Path], TileDataset] = {}
"""Archives that this worker has opened: most runs of a suite share one."""


@dataclass(frozen=True)
class RunJob:
    """One run of a sweep, as an engine takes it.

    Attributes:
        request: What to run.
        spec: Its specification, as the sweep planned it.
        out: Folder of all runs.
        threads: Threads of torch.
        options: How to execute it; without a console, which no other process can use.
    """

    request: Request
    spec: RunSpec
    out: Path
    threads: int
    options: RuntimeOptions

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

        from spectral_tl_bench.records.titles import ALL_TARGETS, HELD_OUT
        from spectral_tl_bench.report.tables import protocol_table
        from spectral_tl_bench.runs.planning import plan
        from spectral_tl_bench.runs.runner import execute
        from spectral_tl_bench.utils.runtime import pick_device

        interruption.end_if_requested("before it began")
        pick_device(self.options.device)
        torch.set_num_threads(self.threads)
        ready = plan(self.request, _opened)
        if ready.spec != self.spec:
            theirs = self.spec.model_dump()
            differ = [name for name, value in ready.spec.model_dump().items() if value != theirs[name]]
            raise RunFailedError(
                f"this worker sees other inputs than the sweep did ({', '.join(differ)}); every machine needs the same "
                "files and the same version, and a sweep files that stay"
            )
        run = execute(ready, self.out, replace(self.options, interruption=interruption))
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


def _missing(suite: Suite, root: Path | None, out: Path, threads: int, options: RuntimeOptions) -> list[RunJob]:
    """Plan every run of a suite, print how many there are, and return those without a record."""
    from spectral_tl_bench.runs.planning import plan

    opened: dict[tuple[str, Path], TileDataset] = {}
    portable = replace(options, console=None, interruption=Interruption())
    # Every input is opened before anything trains: a mistake in the last run shows at once.
    jobs = [
        RunJob(request, plan(request, opened).spec, out.absolute(), threads, portable)
        for request in suite.requests(root)
    ]
    missing = {job.key: job for job in jobs if not _is_done(out / job.spec.folder)}
    simulated = ", SIMULATED data" if any(job.spec.simulated for job in jobs) else ""
    done = sum(job.key not in missing for job in jobs)
    options.say(f"{suite.title}: {len(jobs)} runs, {done} of them already there{simulated}")
    return list(missing.values())


def sweep(suite: Suite, root: Path | None, out: Path, engine: Engine, options: RuntimeOptions) -> None:
    """Do every run of a suite that has no record yet.

    Args:
        suite: What to run.
        root: Folder of the archives; None takes the embedded simulated ones.
        out: Folder of all runs.
        engine: Executes the runs; not started yet.
        options: How to execute each run. The console gets one line a run and, if it is a terminal, a table of the runs
            under way.

    Raises:
        SpectralBenchError: If an input is wrong (nothing has run then).
        InterruptedRunError: If a signal asked the sweep to end; every run under way has written a checkpoint.
        RunFailedError: At the end, if a run failed; the others are complete.
    """
    from spectral_tl_bench import records
    from spectral_tl_bench.utils.runtime import pick_device

    # A GPU may be on another machine; there, the worker reports that it is missing.
    pick_device("auto" if engine.elsewhere and options.device == "cuda" else options.device)
    jobs = _missing(suite, root, out, engine.threads, options)
    if not jobs:
        return
    records.prepare_folder(out)
    interruption = Interruption(on_signal=engine.end)
    labels = {job.key: job.label for job in jobs}
    with engine, SweepView(options.output, labels, out) as view, interruption.listening():
        for job, outcome in engine.run(jobs, view.say):
            if outcome.kind != "interrupted" or not interruption.requested:
                view.ended(job.key, outcome)
    interruption.end_if_requested(f"{view.ended_runs} of {len(jobs)} runs are done")
    if view.failed:
        raise RunFailedError(
            f"{len(view.failed)} of {len(jobs)} runs failed, first {view.failed[0]}; "
            "the others are complete, and the same command tries the failed ones again"
        )
