"""Settings of a Slurm job, by the names that submitit gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from submitit import AutoExecutor, SlurmExecutor

from spectral_tl_bench.utils.errors import SpectralBenchError, UnknownNameError

_TIMEOUT = 480
_MAX_TIMEOUTS = 20

_OTHERWISE = {
    "cpus_per_task": "say it with --cpus",
    "gpus_per_node": "say it with --gpus",
    "nodes": "a run has one machine",
    "ntasks_per_node": "a run is one task",
    "tasks_per_node": "a run is one task",
}
_LISTS = ("setup", "teardown", "srun_args")
_NUMBERS = ("timeout_min", "mem_gb", "array_parallelism", "signal_delay_s", "max_num_timeout")


def parameters_of(settings: Mapping[str, str], *, cpus: int, gpus: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What submitit's ``AutoExecutor`` and its ``update_parameters`` are given.

    Args:
        settings: Texts by their names there, with or without the prefix ``slurm_``.
        cpus: CPU cores a job.
        gpus: GPUs a job.

    Raises:
        SpectralBenchError: If a setting is none of submitit's, is said otherwise here, or has a value of another kind.
    """
    if gpus != int(gpus):
        raise SpectralBenchError(f"--gpus {gpus:g}: Slurm gives whole GPUs; --engine ray can share one")
    shared = set(AutoExecutor._typed_parameters())
    own = SlurmExecutor._valid_parameters()
    values: dict[str, Any] = {}
    for given, text in settings.items():
        name = given.removeprefix("slurm_")
        name = {"time": "timeout_min", "job_name": "name"}.get(name, name)
        if name in _OTHERWISE:
            raise SpectralBenchError(f"--slurm {given}: {_OTHERWISE[name]}")
        if name not in shared | own | {"max_num_timeout"}:
            raise UnknownNameError("setting of --slurm", given, shared | own, "submitit's documentation lists them")
        values[name] = _value(name, text)
    limits = {"slurm_max_num_timeout": values.pop("max_num_timeout", _MAX_TIMEOUTS)}
    parameters = {
        "name": "spectral-bench",
        "timeout_min": _TIMEOUT,
        "cpus_per_task": cpus,
        **({"gpus_per_node": int(gpus)} if gpus else {}),
        **{name if name in shared else f"slurm_{name}": value for name, value in values.items()},
    }
    return limits, parameters


def _value(name: str, text: str) -> Any:
    """A setting's value of the kind that submitit wants."""
    if name in _NUMBERS:
        if not text.isdecimal() or not int(text):
            raise SpectralBenchError(
                f"--slurm {name}={text}: a whole number above 0 is wanted (minutes, gigabytes, ...)"
            )
        return int(text)
    if name in _LISTS:
        return [text]
    if name == "additional_parameters":
        try:
            mapping = yaml.safe_load(text)
        except yaml.YAMLError:
            mapping = None
        if not isinstance(mapping, dict):
            raise SpectralBenchError(f"--slurm {name}={text}: write it as {{reservation: NAME}}")
        return mapping
    if text in ("true", "false"):
        return text == "true"
    return text
