"""Runs as an array job of Slurm, through submitit."""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import submitit
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from spectral_tl_bench.sweeps.engines.base import BEAT, Engine, Job, Outcome, attempt
from spectral_tl_bench.sweeps.engines.slurm_settings import parameters_of
from spectral_tl_bench.utils.errors import SpectralBenchError, one_line
from spectral_tl_bench.utils.interruption import SIGNALS, Interruption

FOLDER = ".slurm"
"""Of submitit's files, below the folder of all runs."""

_POLL = 10.0
"""Seconds from one look at the queue to the next."""

_ARRIVAL = 15.0
"""Seconds that a file may need from the machine of a job to this one."""

_LARGEST_ARRAY = 1000
"""Slurm's MaxArraySize is 1001 where nobody has changed it."""

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "CONFIGURING")
_GOING_ON = (*_WAITING, "RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING")


@dataclass(frozen=True)
class _Task:
    """What submitit calls in a job, and calls again when Slurm has started the job again."""

    job: Job
    directory: Path
    again: bool

    def __call__(self) -> Outcome:
        announced = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
        requeue = signal.getsignal(announced)
        interruption = Interruption(signals=(*{*SIGNALS, announced},))
        with interruption.listening():
            outcome = attempt(self.job, interruption, again=self.again or _restarted(), directory=self.directory)
        if outcome.kind == "interrupted":
            if interruption.signal == announced and callable(requeue):
                # The time limit or a preemption comes near: submitit puts the job into the queue again and ends here.
                requeue(announced, None)
            # No result is left behind: whether the job goes on is for Slurm, which has preempted or cancelled it.
            sys.exit(128 + signal.SIGTERM)
        return outcome

    def checkpoint(self) -> Any:
        """What submitit puts into the queue again: the run goes on from what is in its folder."""
        return submitit.helpers.DelayedSubmission(replace(self, again=True))


def _restarted() -> bool:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


class SlurmEngine(Engine):
    """Jobs of Slurm: one array for what a sweep begins with, and one job for each that is started again."""

    elsewhere: ClassVar[bool] = True

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, str],
        *,
        cpus: int | None,
        gpus: float,
        retries: int,
        cluster: str = "slurm",
        poll: float = _POLL,
    ) -> None:
        """Submit nothing yet.

        Args:
            out: Folder of all runs, which every machine of the cluster sees.
            settings: Of submitit's executor, by their names there without ``slurm_``.
            cpus: CPU cores a job; None is 1.
            gpus: GPUs a job.
            retries: How often a job is started again that Slurm has lost; what Slurm puts into the queue again itself
                is not counted.
            cluster: As submitit names it; "local" tries it without Slurm.
            poll: Seconds from one look at the queue to the next.

        Raises:
            SpectralBenchError: If there is no Slurm here, or a setting is none.
        """
        super().__init__(cpus or 1, retries)
        self._folder = out.absolute() / FOLDER
        limits, parameters = parameters_of(settings, cpus=cpus or 1, gpus=gpus)
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster, **limits)
            self._executor.update_parameters(**parameters)
        except RuntimeError as error:
            raise SpectralBenchError(f"there is no Slurm here ({one_line(str(error))}); --engine local") from error
        except (ValueError, NameError, AssertionError, TypeError) as error:
            raise SpectralBenchError(f"--slurm: {one_line(str(error))}") from error
        self._cluster, self._poll = cluster, poll
        self._jobs: dict[str, submitit.Job[Outcome]] = {}
        self._states: Mapping[str, str] = {}
        self._looked = float("-inf")
        self._told = False
        self._missing_since: dict[str, float] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._jobs:
            arrays = sorted({job.job_id.partition("_")[0] for job in self._jobs.values()})
            self._say(
                f"{len(self._jobs)} runs go on in Slurm: squeue shows them, scancel {' '.join(arrays)} ends them, and "
                "the same command waits for them again"
            )
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # where nothing is left that anybody could want to read

    def _submit(self, jobs: Sequence[Job], *, again: bool) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = {} if again else self._in_the_queue(jobs)
        self._jobs |= there
        new = [job for job in jobs if job.key not in there]
        if there:
            self._say(f"{len(there)} runs are in Slurm's queue already")
        for first in range(0, len(new), _LARGEST_ARRAY):
            part = new[first : first + _LARGEST_ARRAY]
            submitted = self._submitted([_Task(job, Path.cwd(), again) for job in part])
            for job, its in zip(part, submitted, strict=True):
                self._jobs[job.key] = its
                self._note(job.key).write_text(its.job_id)
            array = submitted[0].job_id.partition("_")[0]
            if not again:
                self._say(f"{len(part)} runs are job {array} of Slurm; logs in {self._folder}")

    def _submitted(self, tasks: Sequence[_Task]) -> list[submitit.Job[Outcome]]:
        """Jobs for tasks.

        Raises:
            SpectralBenchError: If Slurm does not take them.
        """
        before = set(self._folder.iterdir())
        try:
            # What sbatch says is repeated there, and told below.
            with contextlib.redirect_stderr(io.StringIO()):
                return self._executor.submit_array(tasks)
        except (RuntimeError, FailedSubmissionError, OSError, subprocess.SubprocessError) as error:
            for path in set(self._folder.iterdir()) - before:
                path.unlink(missing_ok=True)
            lines = str(error).splitlines() or [type(error).__name__]
            reason = next((line for line in lines if line.startswith("sbatch: error")), lines[-1])
            raise SpectralBenchError(f"Slurm does not take the jobs: {one_line(reason)}") from error

    def _note(self, key: str) -> Path:
        """Where it is written which job does a run: a later sweep looks there."""
        return self._folder / f"{Path(key).name}.job"

    def _in_the_queue(self, jobs: Sequence[Job]) -> dict[str, submitit.Job[Outcome]]:
        """Jobs that an earlier sweep has submitted and that have not ended."""
        found = {}
        for job in jobs:
            with contextlib.suppress(OSError):
                found[job.key] = self._note(job.key).read_text().strip()
        states = _queue() if found and self._cluster == "slurm" else None
        return {
            key: submitit.SlurmJob(self._folder, name)
            for key, name in found.items()
            if states is not None and states.get(name) in _GOING_ON
        }

    def _ended(self, seconds: float) -> Iterable[tuple[str, Outcome]]:
        until = time.monotonic() + seconds
        while True:
            self._look()
            ended = {key: found for key, job in self._jobs.items() if (found := self._outcome(key, job)) is not None}
            if ended or time.monotonic() >= until:
                break
            time.sleep(BEAT / 2)
        for key, outcome in ended.items():
            job = self._jobs.pop(key)
            self._missing_since.pop(key, None)
            if outcome.kind == "done":
                self._tidy(key, job)
            yield key, outcome

    def _look(self) -> None:
        """Ask for the states of all jobs, if it is time to."""
        every = min(self._poll, 2.0) if self._ending else self._poll
        if time.monotonic() - self._looked < every:
            return
        self._looked = time.monotonic()
        theirs = {job.job_id: job.state for job in self._jobs.values()} if self._cluster != "slurm" else None
        found = _queue() if theirs is None else theirs
        # Where the controller does not answer, nothing is known, and nothing has ended.
        self._states = self._states if found is None else found
        if self._ending and found is not None:
            self._cancel()

    def _outcome(self, key: str, job: submitit.Job[Outcome]) -> Outcome | None:
        """What came of a job; None while it goes on."""
        if job.paths.result_pickle.exists():
            try:
                outcome = job.result()
            except UncompletedJobError:
                return Outcome("failed", f"{_last_line(job)}; logs in {self._folder}")
            return outcome
        state = self._states.get(job.job_id, "")
        if state in _GOING_ON:
            self._missing_since.pop(key, None)
            return None
        if self._looked < self._missing_since.setdefault(key, time.monotonic()) + min(_ARRIVAL, 1.5 * self._poll):
            # It may not be in the queue yet, or its result may be on its way.
            return None
        if self._ending:
            return Outcome("interrupted", f"job {job.job_id} ended")
        if state == "CANCELLED":
            return Outcome("failed", f"job {job.job_id} was cancelled")
        if state == "OUT_OF_MEMORY":
            return Outcome("failed", f"job {job.job_id} had not enough memory; ask for more with --slurm mem_gb=N")
        said = f" ({_last_line(job)})" if state in ("FAILED", "NO PROCESS AND NO RESULT") else ""
        return Outcome("lost", f"job {job.job_id} ended as {state or 'no longer known'}{said}; logs in {self._folder}")

    def _tidy(self, key: str, job: submitit.Job[Outcome]) -> None:
        """Delete what nobody reads of a job that is done."""
        paths = job.paths
        for path in (paths.submitted_pickle, paths.result_pickle, paths.stdout, paths.stderr, self._note(key)):
            path.unlink(missing_ok=True)
        array = job.job_id.partition("_")[0]
        if not list(self._folder.glob(f"{array}_*.pkl")):
            paths.submission_file.unlink(missing_ok=True)
            for link in self._folder.glob(".submission_file_*.sh"):
                if not link.exists():
                    link.unlink(missing_ok=True)

    def _interrupt(self) -> None:
        self._looked = float("-inf")

    def _cancel(self) -> None:
        """Take jobs that wait out of the queue, and let the others write a checkpoint."""
        if self._cluster != "slurm":
            if not self._told:
                self._told = True
                for job in self._jobs.values():
                    job.cancel(check=False)
            return
        names = {job.job_id for job in self._jobs.values()}
        waiting = [name for name in names if self._states.get(name) in _WAITING]
        if waiting:
            _scancel(*waiting)
        running = [name for name in names if self._states.get(name) == "RUNNING"]
        if running:
            # A signal alone: a cancelled job is killed half a minute later, perhaps before its checkpoint is written.
            _scancel("--signal=TERM", *running)


def _scancel(*arguments: str) -> None:
    subprocess.run(["scancel", "--quiet", *arguments], check=False, capture_output=True)


def _queue() -> dict[str, str] | None:
    """States of this user's jobs by their names, for some minutes after their end; None if Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {name: state for name, _, state in lines}


def _last_line(job: submitit.Job[Outcome]) -> str:
    """The last thing that a job wrote to standard error."""
    with contextlib.suppress(OSError):
        lines = [line for line in job.paths.stderr.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return one_line(lines[-1])
    return "without a word"
