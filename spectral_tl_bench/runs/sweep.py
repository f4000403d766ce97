"""Sweeps: every missing run of a suite, several side by side, one failure not ending the others."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from spectral_tl_bench.errors import (
    InterruptedRunError,
    RecordError,
    RunFailedError,
    RunInUseError,
    SpectralBenchError,
    UnknownNameError,
    first_problem,
)
from spectral_tl_bench.methods import PixelModel, method_class
from spectral_tl_bench.plugins import METHODS
from spectral_tl_bench.presets import SETTINGS_WITHOUT_BACKBONE
from spectral_tl_bench.runs.interruption import CHECKPOINT_MINUTES, Interruption
from spectral_tl_bench.runs.requests import Request, requests
from spectral_tl_bench.seeds import LARGEST_SEED
from spectral_tl_bench.values import Value, names_yaml, read_mapping

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.datasets.base import TileDataset


_MOST_RUNS = 10_000


class SuiteMethod(Value):
    """A method of a suite, with the options that differ from their defaults."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Suite(Value):
    """What a sweep runs: the product of all lists.

    Attributes:
        title: One line for people.
        methods: "all" installed ones that can be imported, or a list of names and of ``{name, options}``.
        protocols: Names as ``run --protocol`` takes them.
        seeds: Seeds.
        preset: Preset of every run; None is the command's default.
        backbones: Names; empty is the preset's.
        weights: As ``run --weights`` takes them; empty is the backbone's default.
        train: Training settings that differ from the preset's.
        tries: Training settings with the values that each takes in turn, every combination of them.
    """

    title: str
    methods: Literal["all"] | Annotated[tuple[SuiteMethod, ...], Field(min_length=1)]
    protocols: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...] = Field(default=(0,), min_length=1)
    preset: str | None = None
    backbones: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    train: dict[str, Any] = Field(default_factory=dict)
    tries: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("methods", mode="before")
    @classmethod
    def _names_alone_are_enough(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        try:
            # Checked here, so that what is said of a wrong one is not that it is no "all".
            return tuple(SuiteMethod.model_validate({"name": e} if isinstance(e, str) else e) for e in value)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error

    @model_validator(mode="after")
    def _can_be_done(self) -> Suite:
        lists = (self.methods, self.protocols, self.seeds, self.backbones, self.weights, *self.tries.values())
        runs = math.prod(len(values) or 1 for values in lists if values != "all")
        if runs > _MOST_RUNS:
            raise ValueError(f"these lists make {runs:,} runs; a suite has at most {_MOST_RUNS:,}")
        return self

    def requests(self, root: Path | None) -> Iterator[Request]:
        """One request for each combination of the lists, and for each protocol that a name stands for."""
        methods = tuple(SuiteMethod(name=n) for n in METHODS.usable()[0]) if self.methods == "all" else self.methods
        backbones: tuple[str | None, ...] = self.backbones or (None,)
        weights: tuple[str | None, ...] = self.weights or (None,)
        tries = itertools.product(*self.tries.values())
        settings = [{**self.train, **dict(zip(self.tries, values, strict=True))} for values in tries]
        for seed, protocol, method in itertools.product(self.seeds, self.protocols, methods):
            choices = list(itertools.product(settings, backbones, weights))
            if issubclass(method_class(method.name), PixelModel):
                # One run, however many backbones the suite has, and nothing that trains a network concerns it.
                training = {name: value for name, value in self.train.items() if name in SETTINGS_WITHOUT_BACKBONE}
                choices = [(training, None, None)]
            for training, backbone, weight in choices:
                yield from requests(
                    method.name,
                    protocol,
                    root=root,
                    preset_name=self.preset,
                    backbone=backbone,
                    weights=weight,
                    seed=seed,
                    options=method.options,
                    training=training,
                )


def shipped_suites() -> dict[str, Path]:
    """The installed ``benchmarks/suites/*.yaml`` by name."""
    folder = Path(str(files("spectral_tl_bench.benchmarks"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(name: str) -> Suite:
    """Read a shipped suite by its name, or a YAML file by its path.

    Raises:
        UnknownNameError: If it is neither.
        SpectralBenchError: If the file does not follow the format; the message names the field.
    """
    shipped = shipped_suites()
    if name not in shipped and not names_yaml(name):
        raise UnknownNameError("suite", name, shipped, f"name a YAML file, or one of {', '.join(shipped)}")
    return read_suite(shipped.get(name, Path(name)))


def read_suite(path: Path) -> Suite:
    """Read a suite's YAML file.

    Raises:
        SpectralBenchError: If it is missing, no YAML, or does not follow the format; the message names the field.
    """
    content = read_mapping(path, "suite", "docs/runs.md shows a complete example", SpectralBenchError)
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise SpectralBenchError(f"{path}: {first_problem(error)} (docs/runs.md explains the format)") from error


_opened: dict[tuple[str, Path], TileDataset] = {}
"""Archives that this worker has opened: most runs of a suite share one."""


_interruption = Interruption()
"""Hears signals for as long as this worker lives."""


@dataclass(frozen=True)
class _Job:
    request: Request
    out: Path
    device: str
    threads: int
    checkpoint_minutes: float


def _execute(job: _Job) -> str:
    """Run one job in a process of its own; returns what to print of it."""
    import torch
    from rich.console import Console

    from spectral_tl_bench.report.tables import ALL_TARGETS, HELD_OUT, protocol_table
    from spectral_tl_bench.runs.planning import plan
    from spectral_tl_bench.runs.runner import execute

    _interruption.end_if_asked("before it began")
    torch.set_num_threads(job.threads)
    started = time.monotonic()
    run = execute(
        plan(job.request, _opened),
        job.out,
        Console(quiet=True),
        device=job.device,
        checkpoint_minutes=job.checkpoint_minutes,
        interruption=_interruption,
    )
    table = protocol_table(run).set_index("domain")["mIoU"]
    seconds = time.monotonic() - started
    return f"target mIoU {table[ALL_TARGETS]:.2f} %, held-out {table[HELD_OUT]:.2f} %, {seconds:.0f} s"


def begin_worker() -> None:
    """Hear signals, and end when the parent does, however that ends: a killed sweep shall not train on unseen."""
    _interruption.listen()
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _is_done(folder: Path) -> bool:
    """Whether a folder holds a complete and sound run."""
    from spectral_tl_bench import records

    try:
        records.read_run(folder)
    except RecordError:
        return False
    return True


def _pass_on(pool: ProcessPoolExecutor) -> None:
    """Let the workers write checkpoints and end, and begin nothing new."""
    for worker in active_children():
        if worker.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
    pool.shutdown(wait=False, cancel_futures=True)


def sweep(
    suite: Suite,
    root: Path | None,
    out: Path,
    console: Console,
    *,
    device: str,
    jobs: int,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
) -> None:
    """Do every run of a suite that has no record yet.

    Args:
        suite: What to run.
        root: Folder of the archives; None takes the embedded simulated ones.
        out: Folder of all runs.
        console: Gets one line a run.
        device: "auto", "cpu" or "cuda".
        jobs: Runs at a time; they share the CPU cores evenly.
        checkpoint_minutes: From one checkpoint of a run to the next.

    Raises:
        SpectralBenchError: If an input is wrong (nothing has run then).
        InterruptedRunError: If a signal asked the sweep to end; every run under way has written a checkpoint.
        RunFailedError: At the end, if a run failed; the others are complete.
    """
    from spectral_tl_bench import records
    from spectral_tl_bench.runs.planning import plan
    from spectral_tl_bench.runs.predict import pick_device

    pick_device(device)
    wanted = list(suite.requests(root))
    opened: dict[tuple[str, Path], TileDataset] = {}
    # Every input is opened before anything trains: a mistake in the last run shows at once.
    specs = [plan(request, opened).spec for request in wanted]
    missing = [r for r, spec in zip(wanted, specs, strict=True) if not _is_done(out / spec.folder)]
    simulated = ", SIMULATED data" if any(spec.simulated for spec in specs) else ""
    console.print(
        f"{suite.title}: {len(wanted)} runs, {len(wanted) - len(missing)} of them already there{simulated}",
        highlight=False,
        soft_wrap=True,
    )
    if not missing:
        return
    records.prepare_folder(out)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failures = []
    # Fresh processes: a forked one would inherit locks of torch's threads.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=begin_worker) as pool:
        interruption = Interruption(tell=partial(_pass_on, pool))
        with interruption.listening():
            running = {
                pool.submit(_execute, _Job(r, out, device, threads, checkpoint_minutes)): r.label for r in missing
            }
            done = 0
            for future in as_completed(running):
                label = running[future]
                # Whatever a method raises is its own failure, not that of the sweep.
                error = future.exception() if not future.cancelled() else CancelledError()
                if isinstance(error, CancelledError | InterruptedRunError) and interruption.asked:
                    continue
                done += 1
                if error is None:
                    outcome = future.result()
                elif isinstance(error, RunInUseError):
                    outcome = "left to another process, which is at it"
                else:
                    outcome = f"FAILED: {' '.join(str(error).split()) or type(error).__name__}"
                    failures.append(label)
                line = f"[{done}/{len(missing)}] {label}: {outcome}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    interruption.end_if_asked(f"{done} of {len(missing)} runs are done")
    if failures:
        raise RunFailedError(
            f"{len(failures)} of {len(missing)} runs failed, first {failures[0]}; "
            "the others are complete, and the same command tries the failed ones again"
        )
