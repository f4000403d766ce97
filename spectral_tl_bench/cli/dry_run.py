"""``run --dry-run``: what a run would do and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from spectral_tl_bench.methods import Method
from spectral_tl_bench.records import RECORD
from spectral_tl_bench.records.config import run_yaml
from spectral_tl_bench.runs.estimate import Estimate, estimate

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from spectral_tl_bench.runs.planning import Plan

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def describe(plan: Plan, out: Path, device: torch.device, console: Console) -> None:
    """Print a run's specification, its tiles, memory, time and folder; nothing is trained or written.

    Args:
        plan: The run, its inputs opened.
        out: Folder of all runs.
        device: Where it would run.
        console: Gets it.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    folder = out / plan.spec.folder
    say(run_yaml(plan.spec, plan.request.where.absolute()).rstrip())
    split = plan.split
    labelled = plan.spec.training.label_fraction
    share = "" if labelled == 1 else f" (labels of {100 * labelled:g} % of them)"
    margin = f" with a margin of {len(split.margin)} around them" if len(split.margin) else ""
    say(
        f"tiles: {len(split.training)} train{share}, {len(split.held_out)} held out{margin}, {len(split.target)} target"
    )
    if isinstance(plan.method, Method):
        cost = estimate(plan, plan.method, device)
        console.print(_costs(cost, device))
        if cost.memory_mib > cost.free_mib:
            say(
                f"that is more than the {cost.free_mib / 1024:.1f} GiB free here: lower --train batch_size or "
                "image_size, or take a smaller --backbone"
            )
    state = "with a complete record" if (folder / RECORD).is_file() else "unfinished: it would go on"
    say(f"folder: {folder}, {state if folder.exists() else 'new'}")


def _costs(cost: Estimate, device: torch.device) -> Table:
    whole = "time unknown, for want of memory" if cost.seconds is None else f"about {duration(cost.seconds)}"
    table = Table(
        title=f"on this {device.type}: {whole}, {cost.memory_mib / 1024:.1f} GiB",
        caption="GFLOP, GiB, seconds: of one step on random images. Reading tiles and libraries' memory come on top.",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("part", "steps", "GFLOP", "GiB", "s a step", "in all"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for stage in cost.stages:
        seconds = "-" if stage.step_seconds is None else f"{stage.step_seconds:.3g}"
        whole = "-" if stage.seconds is None else duration(stage.seconds)
        table.add_row(
            stage.stage,
            f"{stage.steps:,}",
            f"{stage.operations / 1e9:,.0f}",
            f"{stage.memory_mib / 1024:.1f}",
            seconds,
            whole,
        )
    scoring = "-" if cost.scoring_seconds is None else duration(cost.scoring_seconds)
    table.add_row("scoring", f"{cost.scored_windows:,} windows", "", "", "", scoring)
    return table


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> duration(42), duration(600), duration(9000), duration(200_000)
    ('42 s', '10 min', '2.5 h', '2.3 days')
    """
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} days"
