"""Maps of a run's target tiles, at its end or later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.utils.errors import CheckpointError

if TYPE_CHECKING:
    from spectral_tl_bench.runs.plan import Plan
    from spectral_tl_bench.utils.runtime import RuntimeOptions


def write(folder: Path, plan: Plan, count: int, options: RuntimeOptions, *, trust_code: bool = False) -> None:
    """Write maps of some target tiles into a finished run's folder and print where.

    Args:
        folder: The run's.
        plan: What was run.
        count: How many tiles.
        options: Device and console.
        trust_code: As for ``restore_run``.
    """
    from spectral_tl_bench.prediction.restore import restore_run
    from spectral_tl_bench.prediction.tile_maps import write_maps
    from spectral_tl_bench.records.run import MAPS
    from spectral_tl_bench.utils.runtime import pick_device

    run = restore_run(folder, plan.weights, trust_code=trust_code)
    files = write_maps(run, plan, count, pick_device(options.device))
    options.say(f"{len(files)} maps in {folder / MAPS}")


def write_later(folder: Path, count: int, options: RuntimeOptions, *, trust_code: bool) -> None:
    """Write maps of an earlier run; its inputs must be unchanged. Code is trusted as for ``restore_run``.

    Raises:
        CheckpointError: If the run keeps no model.
        SpectralBenchError: If an input is not what the run recorded.
    """
    from spectral_tl_bench.records.run_yaml import CONFIG
    from spectral_tl_bench.runs.method_runner import runner_of
    from spectral_tl_bench.runs.planning import plan
    from spectral_tl_bench.runs.requests import repeated

    ready = plan(repeated(folder / CONFIG, None, trust_code=trust_code))
    if not runner_of(type(ready.method)).keeps_model:
        raise CheckpointError(f"{ready.spec.method_name} keeps no model, only its scores; leave --maps out")
    write(folder, ready, count, options, trust_code=trust_code)
