"""What a run's page shows: facts, scores, training curve, and every picture that its folder holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spectral_tl_bench.records import HISTORY, Run
from spectral_tl_bench.records.scores import headline
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.report.run_summary import facts
from spectral_tl_bench.report.site.assets import Assets, Picture
from spectral_tl_bench.report.site.charts import Chart, curve
from spectral_tl_bench.report.site.table_cells import (
    Cell,
    Column,
    Table,
    assemble,
    barred,
    confusion,
    numbers,
    scale,
    words,
)
from spectral_tl_bench.report.statistics import tiles_interval
from spectral_tl_bench.report.tables import class_table, protocol_table
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR
from spectral_tl_bench.utils.paths import leads_out

MOST_MAPS = 24
"""Maps on a page; the folder may hold one a tile."""
_MOST_PLACES = 600
"""Places of a training curve."""
_PICTURES = (("Reconstruction", "reconstruction.png"), ("Experts", "experts.png"))


@dataclass(frozen=True)
class RunPage:
    """What the page of one run shows.

    Attributes:
        facts: Labels and texts.
        domains: Every score by domain.
        subdomains: Bars of the headline score.
        classes: Scores by class.
        confusion: Of all target tiles.
        curves: Loss and held-out score by step.
        legend: Names and colours of the classes.
        maps: Pictures of tiles.
        more_maps: How many are not shown.
        pictures: Whatever else the run drew.
    """

    facts: tuple[tuple[str, str], ...]
    domains: Table
    subdomains: Table
    classes: Table
    confusion: Table
    curves: tuple[Chart, ...]
    legend: tuple[tuple[str, str], ...]
    maps: tuple[Picture, ...]
    more_maps: int
    pictures: tuple[Picture, ...]


def run_page(run: Run, assets: Assets) -> RunPage:
    """Lay out one run.

    Args:
        run: The run.
        assets: Gets copies of its pictures.
    """
    names = [c.name for c in run.record.classes]
    _, stack = run.table.stack(run.num_classes, "subdomain", "target", run.selection)
    found = [path for path in sorted((run.folder / "maps").glob("*.png")) if not leads_out(run.folder, path)]
    maps = [assets.picture(path, plain(path.stem)) for path in found[:MOST_MAPS]]
    own = [(heading, run.folder / name) for heading, name in _PICTURES]
    pictures = [assets.picture(path, heading) for heading, path in own if not leads_out(run.folder, path)]
    return RunPage(
        facts=tuple((label, plain(text)) for label, text in facts(run) if label != "folder"),
        domains=_frame_table("domains", protocol_table(run), "Percent, by the step that the run selects"),
        subdomains=_subdomains(run),
        classes=_frame_table("classes", class_table(run), "All target tiles"),
        confusion=confusion(
            "confusion", stack.sum(axis=0), names, "Rows are truth, in percent of their pixels over all target tiles"
        ),
        curves=() if leads_out(run.folder, run.folder / HISTORY) else _curves(run.folder / HISTORY),
        legend=tuple((plain(c.name), _color(c.color)) for c in run.record.classes),
        maps=tuple(picture for picture in maps if picture is not None),
        more_maps=max(0, len(found) - MOST_MAPS),
        pictures=tuple(picture for picture in pictures if picture is not None),
    )


def _color(text: str) -> str:
    """A class's colour, grey where the record does not say one."""
    return text if re.fullmatch(r"#[0-9a-fA-F]{6}", text) else "#888888"


def _frame_table(identifier: str, frame: pd.DataFrame, caption: str) -> Table:
    columns: list[tuple[Column, list[Cell]]] = []
    for name in frame.columns:
        values = frame[name]
        if not pd.api.types.is_numeric_dtype(values.dtype):
            columns.append((Column(plain(str(name))), words(values)))
        else:
            decimals = 0 if pd.api.types.is_integer_dtype(values.dtype) else 2
            columns.append((Column(plain(str(name)), numeric=True), numbers(values, decimals)))
    return assemble(identifier, columns, caption)


def _subdomains(run: Run) -> Table:
    """Bars of the target sub-domains, with what other tiles of the same sub-domains might have given."""
    scoring = run.record.spec.training.scoring
    tiles, stack = run.table.stack(run.num_classes, "tile", "target", run.selection)
    pairs = run.counts()[["tile", "subdomain"]].drop_duplicates()
    place = dict(zip(pairs["tile"].astype(str), pairs["subdomain"].astype(str), strict=True))
    of_tile = np.array([place[tile] for tile in tiles])
    names = sorted(set(of_tile.tolist()))
    figures = []
    for name in names:
        own = stack[of_tile == name]
        interval = tiles_interval(own, [name] * len(own), scoring)
        figures.append((float(headline(own.sum(axis=0), scoring)), interval.low, interval.high))
    most = scale(value for triple in figures for value in triple)
    cells = [barred(*triple, most) for triple in figures]
    counts = [Cell(str(int((of_tile == name).sum()))) for name in names]
    columns = [(Column("sub-domain"), words(names)), (Column("mIoU", numeric=True), cells), (Column("tiles"), counts)]
    caption = (
        f"Target mIoU; bars from 0 to {most:.0f} %. Intervals: these tiles only, nothing about another seed or place"
    )
    return assemble("subdomains", columns, caption)


def _curves(path: Path) -> tuple[Chart, ...]:
    """Training curves; none where there is no history that can be read."""
    try:
        history = pd.read_csv(path)
    except (OSError, ValueError):
        return ()
    if "step" not in history:
        return ()
    if "stage" not in history:
        history["stage"] = "segmentation"
    drawn = []
    wanted = (("loss", "loss", 1, TARGET_COLOR), ("held_out_miou", "held-out source mIoU (%)", 100, SOURCE_COLOR))
    for stage, rows in history.groupby("stage", sort=False):
        for column, label, factor, color in wanted:
            if column not in rows:
                continue
            values = rows[["step", column]].apply(pd.to_numeric, errors="coerce").dropna()
            values = values.iloc[:: max(1, len(values) // _MOST_PLACES)]
            if len(values):
                y = (factor * values[column]).tolist()
                title = plain(f"{stage}: {label.partition(' (')[0]}")
                drawn.append(curve(title, ("step", label), values["step"].tolist(), y, color))
    return tuple(drawn)
