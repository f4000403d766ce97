"""``run --dry-run``: what a run would do and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from spectral_tl_bench.records import has_record
from spectral_tl_bench.records.run_yaml import run_yaml
from spectral_tl_bench.records.titles import labels_used
from spectral_tl_bench.runs.estimate import Estimate
from spectral_tl_bench.runs.method_runner import runner_of
from spectral_tl_bench.utils.text import duration, say

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from spectral_tl_bench.runs.plan import Plan


def describe(plan: Plan, out: Path, device: torch.device, console: Console) -> None:
    """Print a run's specification, its tiles, memory, time and folder; nothing is trained or written.

    Args:
        plan: The run, its inputs opened.
        out: Folder of all runs.
        device: Where it would run.
        console: Gets it.
    """
    folder = out / plan.spec.folder
    say(console, run_yaml(plan.spec, plan.request.where.absolute()).rstrip())
    split = plan.split
    labels = plan.spec.labels
    share = "" if labels is None else f" ({labels_used(labels)}, {labels.pixels:,} px)"
    margin = f" with a margin of {len(split.margin)} around them" if len(split.margin) else ""
    held_out = f"{len(split.held_out)} held out{margin}"
    say(console, f"tiles: {len(split.training)} train{share}, {held_out}, {len(split.target)} target")
    cost = runner_of(type(plan.method)).estimate(plan, device)
    if cost is not None:
        console.print(_costs(cost, device))
        if cost.memory_mib > cost.free_mib:
            say(
                console,
                f"that is more than the {cost.free_mib / 1024:.1f} GiB free here: lower --train batch_size or "
                "image_size, or take a smaller --backbone",
            )
    state = "with a complete record" if has_record(folder) else "unfinished: it would go on"
    say(console, f"folder: {folder}, {state if folder.exists() or has_record(folder) else 'new'}")


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
        table.add_row(
            stage.stage,
            f"{stage.steps:,}",
            f"{stage.operations / 1e9:,.0f}",
            f"{stage.memory_mib / 1024:.1f}",
            seconds,
            duration(stage.seconds),
        )
    table.add_row("scoring", f"{cost.scored_windows:,} windows", "", "", "", duration(cost.scoring_seconds))
    return table
