"""From the options of a command to an engine; what the chosen one would ignore is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from spectral_tl_bench.sweeps.engines.base import Engine
from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError

ENGINES = ("local", "ray", "slurm")

_BELONGS_TO = {
    "--jobs": ("local",),
    "--address": ("ray",),
    "--cpus": ("ray", "slurm"),
    "--gpus": ("ray", "slurm"),
    "--slurm": ("slurm",),
}


def _gpus(gpus: float | None, device: str) -> float:
    """GPUs a run: as asked for, else one where there is one here and it may be used."""
    import torch

    if gpus is None:
        return 1.0 if device != "cpu" and torch.cuda.is_available() else 0.0
    return gpus


def make_engine(
    name: str,
    out: Path,
    *,
    device: str,
    retries: int,
    jobs: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
    slurm: Mapping[str, str] | None = None,
) -> Engine:
    """The engine that options ask for, not started yet; None stands for what nobody said.

    Args:
        name: One of :data:`ENGINES`.
        out: Folder of all runs, where Slurm keeps its files.
        device: "auto", "cpu" or "cuda".
        retries: How often a run is started again whose worker was lost.
        jobs: Runs at a time on this machine; default 1.
        address: A running Ray cluster; by default one of this machine alone is started.
        cpus: CPU cores a run.
        gpus: GPUs a run; Ray shares one where this is a fraction.
        slurm: Settings of submitit's Slurm executor by name.

    Raises:
        SpectralBenchError: If the engine is not installed, or an option does not suit it.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES, f"--engine takes {', '.join(ENGINES)}")
    given = {"--jobs": jobs, "--address": address, "--cpus": cpus, "--gpus": gpus, "--slurm": slurm or None}
    for option, value in given.items():
        if value is not None and name not in _BELONGS_TO[option]:
            raise SpectralBenchError(f"{option} is for --engine {' or '.join(_BELONGS_TO[option])}; leave it out")
    try:
        if name == "ray":
            from spectral_tl_bench.sweeps.engines.ray import RayEngine

            return RayEngine(
                address or os.environ.get("RAY_ADDRESS"), cpus=cpus or 1, gpus=_gpus(gpus, device), retries=retries
            )
        if name == "slurm":
            from spectral_tl_bench.sweeps.engines.slurm import SlurmEngine

            return SlurmEngine(out, slurm or {}, cpus=cpus, gpus=_gpus(gpus, device), retries=retries)
    except ModuleNotFoundError as error:
        raise SpectralBenchError(
            f'--engine {name} needs {error.name}: pip install "spectral-tl-bench[{name}]"'
        ) from error
    from spectral_tl_bench.sweeps.engines.local import LocalEngine

    return LocalEngine(1 if jobs is None else jobs, retries)
