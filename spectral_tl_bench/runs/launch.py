"""Starting the other processes of a run on several devices, and ending with them in one line whoever fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from spectral_tl_bench.config.spec import TrainingSpec
from spectral_tl_bench.utils.distributed import process_group
from spectral_tl_bench.utils.errors import RunFailedError, SpectralBenchError
from spectral_tl_bench.utils.runtime import STRATEGIES, RuntimeOptions

_PARENT = "SPECTRAL_TL_BENCH_PARENT"
"""In the environment of a process started here: the one that started it."""

_GRACE = 20.0
"""Seconds that a process has to end by itself once another has failed."""
_LOOK = 0.5


def started_elsewhere() -> bool:
    """Whether this process is one of several that Slurm, torchrun or an earlier process has started."""
    return "LOCAL_RANK" in os.environ or SLURMEnvironment.detect()


def is_another() -> bool:
    """Whether this process is not the first of its run, as far as the environment tells."""
    slurm = SLURMEnvironment.detect()
    names = ["SLURM_PROCID"] if slurm else ["LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK"]
    return any(os.environ.get(name, "0") != "0" for name in names)


def require_usable(options: RuntimeOptions) -> None:
    """Refuse devices that are not there, and ways to share a run that are unknown.

    Raises:
        SpectralBenchError: If a run cannot be trained so; the message says what to do.
    """
    if options.strategy not in STRATEGIES:
        raise SpectralBenchError(
            f"unknown --strategy {options.strategy!r}: auto, or ddp, which is quicker and needs every trained "
            "parameter to take part in every step; ways that shard parameters are not offered"
        )
    if options.processes == 1:
        return
    found = torch.cuda.device_count()
    if options.device != "cpu" and found and options.devices > found:
        raise SpectralBenchError(f"--devices {options.devices}: this machine has {found} GPUs; ask for as many")
    if options.device == "auto" and not found:
        raise SpectralBenchError(
            f"--devices {options.devices} --num-nodes {options.num_nodes}: there is no GPU here; leave both out, or "
            "say --device cpu where several processes shall share the processor"
        )
    if SLURMEnvironment.detect():
        tasks = int(os.environ["SLURM_NTASKS"])
        if tasks != options.processes:
            raise SpectralBenchError(
                f"--devices {options.devices} --num-nodes {options.num_nodes} is {options.processes} processes, but "
                f"Slurm started {tasks}; use srun --nodes={options.num_nodes} --ntasks-per-node={options.devices}"
            )
    elif options.num_nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise SpectralBenchError(
            f"--num-nodes {options.num_nodes}: start the command on every node by srun or torchrun, or with "
            "MASTER_ADDR, MASTER_PORT and NODE_RANK (0, 1, ...) in its environment"
        )


def require_shares(training: TrainingSpec, stages: Sequence[str], options: RuntimeOptions) -> None:
    """Refuse batches that cannot be cut into equal shares.

    Raises:
        SpectralBenchError: If the number of processes does not divide a stage's batch.
    """
    sizes = {"batch_size": training.batch_size}
    if "reconstruction" in stages:
        sizes["reconstruction_batch_size"] = training.reconstruction_batch_size
    parts = options.processes * training.accumulation
    for name, size in sizes.items():
        if size % parts:
            accumulated = f" and accumulation {training.accumulation}" if training.accumulation > 1 else ""
            raise SpectralBenchError(
                f"--devices {options.devices} --num-nodes {options.num_nodes}{accumulated} cut a step into {parts} "
                f"shares, which do not divide {name} {size}; name a multiple of {parts} with --train {name}="
            )


@contextlib.contextmanager
def together(options: RuntimeOptions, arguments: Sequence[str]) -> Iterator[None]:
    """Be one of the processes of a run inside the block; the first one of a node starts those that nobody else has.

    Args:
        options: Devices and nodes.
        arguments: Of the command, for the processes that are started.

    Raises:
        RunFailedError: If another process of this node has failed; the message is its own line.
    """
    if options.processes == 1:
        yield
        return
    if started_elsewhere():
        _end_with_parent()
        with process_group(options):
            yield
        return
    before = dict(os.environ)
    os.environ |= {
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": os.environ.get("MASTER_PORT", str(find_free_network_port())),
        "NODE_RANK": os.environ.get("NODE_RANK", "0"),
        "WORLD_SIZE": str(options.processes),
        "LOCAL_RANK": "0",
    }
    others = _Others(options.devices - 1, arguments)
    try:
        with others.watched(), process_group(options):
            yield
        others.wait()
    except SpectralBenchError:
        raise
    except Exception as error:
        # Most likely a connection that another process has taken along when it failed.
        if (failure := others.failure(_GRACE)) is not None:
            raise failure from error
        raise
    finally:
        others.end()
        os.environ.clear()
        os.environ.update(before)


class _Others:
    """The other processes of this node: the same command, silent, each with a rank of its own."""

    def __init__(self, count: int, arguments: Sequence[str]) -> None:
        self._said: list[IO[bytes]] = []
        self._running: list[subprocess.Popen[bytes]] = []
        for rank in range(1, count + 1):
            said = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `end`
            self._said.append(said)
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "spectral_tl_bench", *arguments],
                    env={**os.environ, "LOCAL_RANK": str(rank), _PARENT: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
            )

    def failure(self, seconds: float = 0.0) -> RunFailedError | None:
        """What the first process that failed has said; None where none has within some seconds."""
        until = time.monotonic() + seconds
        while True:
            for process, said in zip(self._running, self._said, strict=True):
                if process.poll():
                    said.seek(0)
                    lines = said.read().decode(errors="backslashreplace").splitlines()
                    line = lines[-1].removeprefix("spectral-bench: ") if lines else ""
                    error = RunFailedError(
                        line or f"another process of this run ended with status {process.returncode}"
                    )
                    error.exit_status = process.returncode if process.returncode > 0 else RunFailedError.exit_status
                    return error
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """End this process too where another fails and this one waits for it inside the block for good."""
        left = threading.Event()

        def watch() -> None:
            while not left.wait(_LOOK):
                if (failure := self.failure()) is not None:
                    if not left.wait(_GRACE):
                        os.write(2, f"spectral-bench: {failure}\n".encode())
                        self.end()
                        os._exit(failure.exit_status)
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            left.set()

    def wait(self) -> None:
        """Wait until all have ended; they have nothing left to do."""
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)

    def end(self) -> None:
        """End those that still run."""
        for how in (subprocess.Popen.terminate, subprocess.Popen.kill):
            for process in self._running:
                if process.poll() is None:
                    how(process)
            until = time.monotonic() + 5.0
            for process in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, until - time.monotonic()))
        for said in self._said:
            said.close()


def _end_with_parent() -> None:
    """End when the process that has started this one does, however that ends."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
