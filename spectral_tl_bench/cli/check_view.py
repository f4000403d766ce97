"""A check's report as a person reads it in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spectral_tl_bench.datasets.check import CheckReport
from spectral_tl_bench.datasets.io.listing import Problem

_SHOWN = 20


def render(report: CheckReport) -> RenderableType:
    """Lay out a report: verdict first, then problems, notes, numbers of tiles, classes and bands."""
    number = len(report.problems)
    verdict = "ok" if report.ok else f"{number} problem{'s' if number > 1 else ''}"
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{report.dataset}: {verdict}", "bold green" if report.ok else "bold red"),
            f"  {report.tiles} usable tiles in {report.root}, pixels of {report.tiles_read} read",
        )
    ]
    parts += _listed(report.problems, "", "red")
    parts += [Text(f"  note: {note}", style="yellow") for note in report.notes]
    parts += _listed(report.left_out, "left out: ", "yellow")
    parts += [_counts(report), _labels(report), _bands(report)]
    return Group(*parts)


def _listed(problems: Sequence[Problem], before: str, style: str) -> list[Text]:
    lines = [Text(f"  {before}{problem.message}", style=style) for problem in problems[:_SHOWN]]
    more = len(problems) - len(lines)
    return [*lines, Text(f"  and {more} more", style=style)] if more else lines


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _counts(report: CheckReport) -> Table:
    table = _table("Tiles", "", "found", "published")
    for count in report.counts:
        published = "" if count.published is None else str(count.published)
        differs = count.published is not None and count.found != count.published
        table.add_row(Text(count.what), str(count.found), published, style="yellow" if differs else None)
    return table


def _labels(report: CheckReport) -> Table:
    total = sum(label.pixels for label in report.labels) or 1
    table = _table("Labels", "class", "code", "pixels", "share")
    for label in report.labels:
        name = Text(label.name) if label.name is not None else Text("ignored", style="dim")
        table.add_row(name, str(label.code), str(label.pixels), f"{100 * label.pixels / total:.2f} %")
    return table


def _bands(report: CheckReport) -> Table:
    title = f"Reflectance ({100 * report.nodata_share:.2f} % of pixels without data)"
    table = _table(title, "band", "min", "max", "mean", "std")
    for band in report.bands:
        table.add_row(Text(band.band), *(f"{v:.4f}" for v in (band.minimum, band.maximum, band.mean, band.std)))
    return table
