"""What a board's page shows: tables, bars, heat map, charts and confusion matrices of every protocol on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from spectral_tl_bench.config.presets import WITHOUT_BACKBONE
from spectral_tl_bench.report.board import Board
from spectral_tl_bench.report.names import COMPARATOR, DIGITS_OF_WEIGHTS, REFERENCE_BASELINE
from spectral_tl_bench.report.published import published_rows
from spectral_tl_bench.report.site.charts import Chart, scatter
from spectral_tl_bench.report.site.table_cells import (
    NONE,
    Cell,
    Column,
    Table,
    assemble,
    barred,
    chances,
    confusion,
    number,
    numbers,
    ranges,
    scale,
    shaded,
    words,
)
from spectral_tl_bench.report.statistics import seeds_interval, source_to_target
from spectral_tl_bench.report.summary import Group

MOST_BARS = 40
"""Rows of the bars by sub-domain and of the heat map; the board itself has them all."""


@dataclass(frozen=True)
class Section:
    """One protocol, scored in one way.

    Attributes:
        anchor: Where it is on its page.
        heading: Its name.
        title: What it asks.
        remark: How it was scored, where that is not the usual way.
        board: Its rows.
        published: Figures published by others; None where there are none, and for simulated tiles.
        subdomains: Bars of the target score by sub-domain.
        classes: Heat map of the IoU by class.
        charts: Target against source, parameters and seconds.
        confusions: Confusion matrices of a few rows.
    """

    anchor: str
    heading: str
    title: str
    remark: str
    board: Table
    published: Table | None
    subdomains: Table
    classes: Table
    charts: tuple[Chart, ...]
    confusions: tuple[Table, ...]


def described(frame: pd.DataFrame, links: Mapping[str, str]) -> list[tuple[Column, list[Cell]]]:
    """Columns of what was run; methods link to the page of a run where there is one."""
    none = frame["backbone"] == WITHOUT_BACKBONE
    weights = frame["weights"].str.slice(0, DIGITS_OF_WEIGHTS)
    methods = [
        replace(cell, link=links.get(identity)) for cell, identity in zip(words(frame["row"]), frame["id"], strict=True)
    ]
    backbones = [
        Cell(NONE) if empty else words([f"{name} ({of})" if of else name])[0]
        for empty, name, of in zip(none, frame["backbone"], weights, strict=True)
    ]
    presets = [
        Cell(NONE) if name == "none" and not change else words([f"{name} ({change})" if change else name])[0]
        for name, change in zip(frame["preset"], frame["changes"], strict=True)
    ]
    return [
        (
            Column(
                "method",
                "name, options that differ from those of most rows of that method, and in brackets what else differs",
            ),
            methods,
        ),
        (Column("backbone", "pretrained model and the digest of its weights"), backbones),
        (Column("preset", "training settings, and where they differ from the preset"), presets),
    ]


def comparisons(
    frame: pd.DataFrame, against: Sequence[str], over_transfers: bool = False
) -> list[tuple[Column, list[Cell]]]:
    """Columns of differences to the comparators that rows could be compared with."""
    columns: list[tuple[Column, list[Cell]]] = []
    for name in against:
        if frame[f"vs_{name}"].isna().all():
            continue
        difference = numbers(frame[f"vs_{name}"], signed=True)
        interval = ranges(frame[f"vs_{name}_low"], frame[f"vs_{name}_high"])
        columns.append((Column(f"vs {name}", f"mean difference to {name} by seed", numeric=True), difference))
        columns.append((Column(f"95 % (vs {name})", "interval of that difference", numeric=True), interval))
        if over_transfers:
            signs = zip(frame[f"vs_{name}_agreeing"], frame[f"vs_{name}_seeds"], strict=True)
            cells = [number(agreeing if seeds else np.nan, 0) for agreeing, seeds in signs]
            columns.append((Column(f"signs (vs {name})", "transfers with the sign of the mean", numeric=True), cells))
        p_values = chances(frame[f"vs_{name}_p_holm"])
        columns.append((Column(f"p (vs {name})", "corrected over the table (Holm)", numeric=True), p_values))
    return columns


def _seconds(group: Group) -> float:
    """Mean seconds of all stages of a run."""
    return float(np.mean([sum(stage.seconds for stage in run.record.stages.values()) for run in group.runs]))


def _board_table(
    identifier: str, rows: pd.DataFrame, seconds: Sequence[float], against: Sequence[str], links: Mapping[str, str]
) -> Table:
    marks = ["▼ " if below == "yes" else "" for below in rows["below_yardstick"]]
    scored = [replace(c, text=mark + c.text) for mark, c in zip(marks, numbers(rows["miou"]), strict=True)]
    worst = [
        replace(cell, text=words([f"{cell.text} ({where})"])[0].text) if where else cell
        for cell, where in zip(numbers(rows["worst_miou"]), rows["worst_subdomain"], strict=True)
    ]
    trainable = rows["trainable_m"].where(rows["backbone"] != WITHOUT_BACKBONE)
    columns = [
        *described(rows, links)[:1],
        (Column("mIoU", f"all target tiles, mean over seeds; ▼ below {REFERENCE_BASELINE}", numeric=True), scored),
        (Column("± sd", "sample standard deviation over seeds", numeric=True), numbers(rows["sd"])),
        (Column("seeds", "how many", numeric=True), numbers(rows["seeds"], 0)),
        (
            Column("95 %", "t interval of the mean over seeds, from three on", numeric=True),
            ranges(rows["low"], rows["high"]),
        ),
        *comparisons(rows, against),
        (Column("sub-domains", "mean over the target's sub-domains", numeric=True), numbers(rows["subdomain_mean"])),
        (
            Column(
                "elsewhere", "95 % interval for other sub-domains and seeds, from five sub-domains on", numeric=True
            ),
            ranges(rows["elsewhere_low"], rows["elsewhere_high"]),
        ),
        (Column("worst", "lowest sub-domain", numeric=True), worst),
        (Column("source", "held-out source tiles", numeric=True), numbers(rows["source_miou"])),
        (Column("gap", "source minus target", numeric=True), numbers(rows["gap"])),
        (
            Column("robust", "effective robustness: points above what the source score explains", numeric=True),
            numbers(rows["effective_robustness"], signed=True),
        ),
        (Column("trainable (M)", "millions of parameters, without the decoder", numeric=True), numbers(trainable, 3)),
        (Column("seconds", "all stages, mean over seeds", numeric=True), numbers(seconds, 0)),
        *described(rows, links)[1:],
        (Column("id", "digest of everything but the seed"), words(rows["id"])),
    ]
    return assemble(identifier, columns, "mIoU in percent, best first")


def _published_table(identifier: str, protocol: str) -> Table | None:
    frame = published_rows(protocol)
    if frame is None:
        return None
    figures = [number(float(value)) if value != "-" else Cell(NONE, order="") for value in frame["mIoU"]]
    columns = [
        (Column("method"), words(frame["method"])),
        (Column("mIoU", numeric=True), figures),
        (Column("backbone"), words(frame["backbone"])),
        (Column("trainable (M)"), words(frame["trainable (M)"])),
    ]
    return assemble(identifier, columns)


def _subdomain_table(identifier: str, rows: pd.DataFrame, groups: Mapping[str, Group]) -> Table:
    chosen = [groups[identity] for identity in rows["id"]]
    names = sorted({name for group in chosen for name in group.subdomains()[0]})
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for group in chosen:
        there, values = group.subdomains()
        for name in names:
            own = values[:, there.index(name)] if name in there else np.array([np.nan])
            interval = seeds_interval(own.tolist())
            figures[name].append((float(own.mean()), interval.low, interval.high))
    most = scale(v for column in figures.values() for triple in column for v in triple)
    columns = [(Column("method"), words(rows["row"]))]
    for name in names:
        cells = [barred(*triple, most) for triple in figures[name]]
        columns.append((Column(words([name])[0].text, numeric=True), cells))
    caption = f"Target mIoU by sub-domain, mean over seeds; bars from 0 to {most:.0f} %, line: 95 % over seeds"
    return assemble(identifier, columns, caption)


def _class_table(identifier: str, rows: pd.DataFrame, details: pd.DataFrame) -> Table:
    chosen = details[(details["kind"] == "class") & details["id"].isin(rows["id"])]
    wide = chosen.pivot_table(index="id", columns="name", values="percent", aggfunc="first", sort=False, dropna=False)
    wide = wide.reindex(index=rows["id"])
    columns = [(Column("method"), words(rows["row"]))]
    for name in wide.columns:
        columns.append((Column(words([name])[0].text, numeric=True), [shaded(value) for value in wide[name]]))
    return assemble(identifier, columns, "IoU by class over all target tiles in percent, mean over seeds")


def _charts(rows: pd.DataFrame, seconds: Sequence[float]) -> tuple[Chart, ...]:
    target, source, names = rows["miou"].tolist(), rows["source_miou"].tolist(), rows["row"].tolist()
    fixed = [i for i, name in enumerate(names) if name in (COMPARATOR, REFERENCE_BASELINE)]
    line = source_to_target(source, target)
    fitted: list[tuple[float, float]] = []
    if line is not None:
        along = np.linspace(max(0.1, np.nanmin(source)), min(99.9, np.nanmax(source)), 60)
        fitted = list(zip(along.tolist(), line.expected(along).tolist(), strict=True))
    explained = "line: what rows have in common, fitted in logits" if fitted else "a line needs five rows"
    trainable = rows["trainable_m"].where(rows["backbone"] != WITHOUT_BACKBONE).tolist()
    y = "target mIoU (%)"
    return (
        scatter(
            "Target against held-out source",
            ("source mIoU (%)", y),
            source,
            target,
            names,
            line=fitted,
            note=f"Above the line: transfers better than its source score explains ({explained}).",
            first=fixed,
        ),
        scatter(
            "Accuracy against trainable parameters",
            ("trainable parameters (M)", y),
            trainable,
            target,
            names,
            logarithmic=True,
            note="Without the decoder; models without a backbone are left out.",
            first=fixed,
        ),
        scatter(
            "Accuracy against seconds",
            ("seconds", y),
            list(seconds),
            target,
            names,
            logarithmic=True,
            note="All stages of a run, mean over seeds. Seconds compare only where the hardware was the same.",
            first=fixed,
        ),
    )


def _confusions(identifier: str, rows: pd.DataFrame, groups: Mapping[str, Group]) -> tuple[Table, ...]:
    """Of the best row, the comparator and the reference baseline; counts of all seeds added up."""
    names = rows["row"].tolist()
    chosen = list(dict.fromkeys([names[0], *(n for n in (COMPARATOR, REFERENCE_BASELINE) if n in names)]))
    tables = []
    for place, name in enumerate(chosen):
        group = groups[rows["id"].iloc[names.index(name)]]
        matrix = np.sum([run.confusion for run in group.runs], axis=0)
        labels = [c.name for c in group.runs[0].record.classes]
        caption = f"{name}: rows are truth, in percent of their pixels over all target tiles and seeds"
        tables.append(confusion(f"{identifier}-confusion-{place}", matrix, labels, words([caption])[0].text))
    return tuple(tables)


def sections(board: Board, groups: Mapping[str, Group], links: Mapping[str, str]) -> list[Section]:
    """Lay out a board.

    Args:
        board: The board.
        groups: Its rows' runs by the id of the row.
        links: Pages of runs by the id of the row.
    """
    result = []
    for place, ((protocol, scoring), rows) in enumerate(board.rows.groupby(["protocol", "scoring"], sort=True)):
        identifier = f"p{place}"
        seconds = [_seconds(groups[identity]) for identity in rows["id"]]
        top = rows.head(MOST_BARS)
        result.append(
            Section(
                anchor=identifier,
                heading=words([protocol])[0].text,
                title=words([board.titles[str(protocol)]])[0].text,
                remark="" if scoring == "native" else f"{scoring} scoring: predictions of absent classes left out",
                board=_board_table(f"{identifier}-board", rows, seconds, board.against, links),
                published=None if board.simulated else _published_table(f"{identifier}-published", str(protocol)),
                subdomains=_subdomain_table(f"{identifier}-subdomains", top, groups),
                classes=_class_table(f"{identifier}-classes", top, board.details),
                charts=_charts(rows, seconds),
                confusions=_confusions(identifier, rows, groups),
            )
        )
    return result
