"""What a run's page shows: facts, scores, and the files in its folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spectral_tl_bench.records import Run
from spectral_tl_bench.records.scores import headline
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.report.run_summary import facts
from spectral_tl_bench.report.site.assets import Assets
from spectral_tl_bench.report.site.run_files import RunFiles, run_files
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


@dataclass(frozen=True)
class RunPage:
    """What the page of one run shows.

    Attributes:
        facts: Labels and texts.
        domains: Every score by domain.
        subdomains: Bars of the headline score.
        classes: Scores by class.
        confusion: Of all target tiles.
        legend: Names and colours of the classes.
        files: What its folder holds.
    """

    facts: tuple[tuple[str, str], ...]
    domains: Table
    subdomains: Table
    classes: Table
    confusion: Table
    legend: tuple[tuple[str, str], ...]
    files: RunFiles


def run_page(run: Run, assets: Assets) -> RunPage:
    """Lay out one run.

    Args:
        run: The run.
        assets: Gets copies of its pictures.
    """
    names = [c.name for c in run.record.classes]
    _, stack = run.table.stack(run.num_classes, "subdomain", "target", run.selection)
    return RunPage(
        facts=tuple((label, plain(text)) for label, text in facts(run) if label != "folder"),
        domains=_frame_table("domains", protocol_table(run), "Percent, by the step that the run selects"),
        subdomains=_subdomains(run),
        classes=_frame_table("classes", class_table(run), "All target tiles"),
        confusion=confusion(
            "confusion", stack.sum(axis=0), names, "Rows are truth, in percent of their pixels over all target tiles"
        ),
        legend=tuple((plain(c.name), _color(c.color)) for c in run.record.classes),
        files=run_files(run, assets),
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
