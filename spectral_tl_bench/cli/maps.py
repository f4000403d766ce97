"""Maps of a run's target tiles, as it ends or later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.utils.errors import CheckpointError

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.runs.planning import Plan


def write(folder: Path, plan: Plan, count: int, device: str, console: Console) -> None:
    """Write maps of some target tiles into a finished run's folder and say where.

    Args:
        folder: The run's.
        plan: What was run.
        count: How many tiles.
        device: "auto", "cpu" or "cuda".
        console: Gets the line.
    """
    from spectral_tl_bench.prediction.restore import restore_run
    from spectral_tl_bench.prediction.tile_maps import write_maps
    from spectral_tl_bench.records.run import MAPS
    from spectral_tl_bench.utils.distributed import pick_device

    files = write_maps(restore_run(folder, plan.weights), plan, count, pick_device(device))
    console.print(f"{len(files)} maps in {folder / MAPS}", highlight=False, soft_wrap=True)


def write_later(folder: Path, count: int, console: Console) -> None:
    """Write maps of a run that an earlier command made; its data must be what they were.

    Raises:
        CheckpointError: If it keeps no model.
        SpectralBenchError: If an input is not what the run recorded.
    """
    from spectral_tl_bench.methods import PixelModel
    from spectral_tl_bench.records.run_yaml import CONFIG
    from spectral_tl_bench.runs.planning import plan
    from spectral_tl_bench.runs.requests import repeated

    ready = plan(repeated(folder / CONFIG, None))
    if isinstance(ready.method, PixelModel):
        raise CheckpointError(f"{ready.spec.method_name} keeps no model, only its scores; leave --maps out")
    write(folder, ready, count, "auto", console)
