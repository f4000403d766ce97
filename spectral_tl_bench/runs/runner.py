"""One run from a plan to a record: its folder, who may write into it, and when a record replaces another."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import torch
from rich.console import Console

from spectral_tl_bench import records
from spectral_tl_bench.methods import PixelModel
from spectral_tl_bench.records.run import MAPS
from spectral_tl_bench.report.tables import write_table
from spectral_tl_bench.runs.network import Means, NetworkRun
from spectral_tl_bench.runs.pixels import fit_and_score
from spectral_tl_bench.runs.planning import Plan
from spectral_tl_bench.runs.progress_file import ProgressFile
from spectral_tl_bench.training.fit import reset_peak_memory
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import alone
from spectral_tl_bench.utils.interruption import CHECKPOINT_MINUTES, Interruption


def execute(
    plan: Plan,
    out: Path,
    console: Console,
    *,
    device: str = "auto",
    workers: int = 0,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    interruption: Interruption | None = None,
    force: bool = False,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    loggers: tuple[str, ...] = (),
) -> records.Run:
    """Train, select, score and record a run, or what an earlier process has left of it.

    Args:
        plan: From :func:`plan`.
        out: Folder of all runs.
        console: Where progress goes.
        device: "auto", "cpu" or "cuda".
        workers: Reading processes; changes the speed only.
        checkpoint_minutes: From one checkpoint to the next, besides those at validations.
        interruption: Hears signals already; None hears them while the run goes on.
        force: Run again even where a complete record of this specification exists; the old one stays until then.
        devices: On each node. With more than one process in all, this is called in each of them inside
            :func:`spectral_tl_bench.runs.launch.together`; the first one alone writes.
        num_nodes: Nodes.
        strategy: How several processes share a run.
        loggers: Names of :data:`spectral_tl_bench.training.loggers.LOGGERS` that get the training curve too.

    Returns:
        The run as recorded.

    Raises:
        SpectralBenchError: If an input is wrong or a file cannot be written; what was computed so far stays on disk.
        InterruptedRunError: If a signal asked the process to end; the same command goes on.
        RunInUseError: If another process is at this run.
    """
    folder = out / plan.spec.folder
    again = folder.with_name(f".{folder.name}.again")
    own = Interruption()
    hardware = distributed.Hardware(device, devices, num_nodes, strategy)
    means = Means(ProgressFile(folder), hardware, workers, checkpoint_minutes, interruption or own, loggers)
    with contextlib.ExitStack() as held:

        def place() -> Path | None:
            """Where to run; None where a complete run is there."""
            records.prepare_folder(folder)
            held.enter_context(alone(folder))
            if (again / records.RECORD).is_file():
                # An earlier process ended after its record was complete and before it had replaced the old one.
                _replace(folder, again)
            records.sweep_up(folder)
            if not force and _is_finished(folder, console):
                return None
            if not (folder / records.RECORD).is_file():
                return folder
            records.prepare_folder(again)
            records.sweep_up(again)
            return again

        def finish() -> records.Run:
            if where == again:
                _replace(folder, again)
            done = records.read_run(folder)
            if where is not None:
                write_table(done, folder)
            return done

        where = distributed.decided(place)
        held.enter_context(own.listening() if interruption is None else contextlib.nullcontext())
        if distributed.is_first():
            held.enter_context(contextlib.closing(means.progress))
        if where is not None:
            _run(plan, where, console, means)
        return distributed.decided(finish)


def _is_finished(folder: Path, console: Console) -> bool:
    """Whether the run in a folder is complete and sound."""
    if not (folder / records.RECORD).is_file():
        return False
    try:
        records.read_run(folder)
    except RecordError as error:
        console.print(f"not complete: {error}", highlight=False, markup=False, soft_wrap=True)
        return False
    console.print(f"already run: {folder} (--force runs it again)", highlight=False, markup=False, soft_wrap=True)
    return True


def _run(plan: Plan, folder: Path, console: Console, means: Means) -> None:
    if distributed.is_first():
        records.write_run_yaml(folder, plan.spec, plan.request.where.absolute())
    hardware = means.hardware
    shared = {"devices": hardware.devices, "num_nodes": hardware.num_nodes, "strategy": hardware.strategy}
    # Before anything trains: the code that ran, not what lies there when it has finished, and this run's memory alone.
    provenance = records.provenance(torch.get_num_threads()).model_copy(update=shared)
    reset_peak_memory()
    if isinstance(plan.method, PixelModel):
        fit_and_score(plan, plan.method, provenance, folder, console, means.progress)
        return
    run = NetworkRun(plan, plan.method, provenance, folder, console, means)
    with contextlib.closing(run.loggers):
        for stage in plan.method.stages:
            run.reconstruct() if stage == "reconstruction" else run.segment()
    if distributed.is_first():
        run.tidy()


def _replace(folder: Path, again: Path) -> None:
    """Put a complete run in the place of an older one of the same specification; what else lies there stays."""
    # Maps are made on demand and would show the old model.
    shutil.rmtree(folder / MAPS, ignore_errors=True)
    written = sorted(again.iterdir(), key=lambda path: path.name == records.RECORD)
    for path in written:
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)
    again.rmdir()
