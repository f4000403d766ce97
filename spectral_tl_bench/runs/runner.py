"""One run from a plan to a record: its folder, the lock on it, and when a new record replaces an old one."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import torch

from spectral_tl_bench import records
from spectral_tl_bench.records.run import MAPS
from spectral_tl_bench.report.tables import write_table
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.runs.plan import Plan
from spectral_tl_bench.runs.progress_file import ProgressFile
from spectral_tl_bench.training.fit import reset_peak_memory
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import exclusive_folder, remove_empty_folders
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.trusted_code import trust_code


def execute(plan: Plan, out: Path, options: RuntimeOptions | None = None) -> records.Run:
    """Train, select, score and record a run, or what an interrupted process has left of it.

    Args:
        plan: From :func:`plan`.
        out: Folder of all runs.
        options: How to execute it. With several processes, this is called in each of them inside
            :func:`spectral_tl_bench.runs.launch.together`, and only the first one writes.

    Returns:
        The run as recorded.

    Raises:
        SpectralBenchError: If an input is wrong or a file cannot be written; what was computed so far stays on disk.
        InterruptedRunError: If a signal asked the process to end; the same command resumes the run.
        RunInUseError: If another process works on this run.
    """
    options = RuntimeOptions() if options is None else options
    folder = out / plan.spec.folder
    trust_code((*plan.spec.plugins, plan.request.protocol.file.dataset))
    replacement = folder.with_name(f".{folder.name}.again")
    progress = ProgressFile(folder)
    with contextlib.ExitStack() as stack:
        # A run that fails before it has anything to keep leaves no folder.
        for made in (folder, replacement):
            stack.callback(remove_empty_folders, made, out)

        def claim() -> Path | None:
            """The folder to run in; None where a complete run exists."""
            packed = records.has_record(folder) and not (folder / records.RECORD).is_file()
            if packed and not options.force and _is_finished(folder, options):
                return None
            records.prepare_folder(folder)
            stack.enter_context(exclusive_folder(folder))
            if (replacement / records.RECORD).is_file():
                # An earlier process ended after its record was complete and before it had replaced the old one.
                _replace(folder, replacement)
            records.remove_temporary_files(folder)
            if not options.force and not packed and _is_finished(folder, options):
                return None
            if not (folder / records.RECORD).is_file():
                return folder
            records.prepare_folder(replacement)
            records.remove_temporary_files(replacement)
            return replacement

        def finish() -> records.Run:
            if workspace == replacement:
                _replace(folder, replacement)
            run = records.read_run(folder)
            if workspace is not None:
                write_table(run, folder)
            return run

        workspace = distributed.rank_zero_result(claim)
        stack.enter_context(options.interruption.listening())
        if distributed.is_rank_zero():
            stack.enter_context(contextlib.closing(progress))
        if workspace is not None:
            _run(plan, workspace, progress, options)
        return distributed.rank_zero_result(finish)


def _is_finished(folder: Path, options: RuntimeOptions) -> bool:
    """Whether a folder has a complete and readable record."""
    if not records.has_record(folder):
        return False
    try:
        damaged = records.damaged_files(records.read_run(folder))
        if damaged:
            raise RecordError(f"{', '.join(damaged)} in {folder} is not as the run wrote it")
    except RecordError as error:
        options.say(f"not complete: {error}")
        return False
    options.say(f"already run: {folder} (--force runs it again)")
    return True


def _run(plan: Plan, folder: Path, progress: ProgressFile, options: RuntimeOptions) -> None:
    shared = {"devices": options.devices, "num_nodes": options.num_nodes, "strategy": options.strategy}
    # Before anything trains: versions and code as they run, and the peak memory of this run alone.
    provenance = records.provenance(torch.get_num_threads()).model_copy(update=shared)
    reset_peak_memory()
    runner_of(type(plan.method)).execute(plan, provenance, folder, progress, options)


def _replace(folder: Path, replacement: Path) -> None:
    """Move a complete run over an older one of the same specification; other files in the folder stay."""
    # Maps are made on request and would show the old model.
    shutil.rmtree(folder / MAPS, ignore_errors=True)
    for path in sorted(replacement.iterdir(), key=lambda path: path.name == records.RECORD):
        if path.is_dir():
            shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)
    replacement.rmdir()
