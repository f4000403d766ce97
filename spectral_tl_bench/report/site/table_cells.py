"""Tables of the page: what a cell shows, what it sorts by, and how it is coloured. Nothing here is HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from spectral_tl_bench.report.formatting import as_text
from spectral_tl_bench.sensors.plotting import TARGET_COLOR

NONE = "-"
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Bar:
    """A bar within a cell; places along it in percent of its width.

    Attributes:
        value: Where it ends.
        low: Where its interval begins; None without one.
        high: Where that ends.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is read.
        order: What it sorts by where that is not the text; empty where a figure is missing.
        link: A page, relative to the one that the cell is on.
        style: Colours as CSS, made here alone and never of a record's text.
        bar: A bar behind the figure.
    """

    text: str
    order: str | None = None
    link: str | None = None
    style: str | None = None
    bar: Bar | None = None


@dataclass(frozen=True)
class Column:
    """One column: its heading, what that means, whether it holds figures, and whether long text goes on below."""

    label: str
    meaning: str = ""
    numeric: bool = False
    wrapped: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        identifier: Its id in the page.
        columns: From the left.
        rows: From the top; as many cells as columns.
        caption: What it shows.
    """

    identifier: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...] = field(default=())
    caption: str = ""


def words(values: Iterable[object]) -> list[Cell]:
    """Cells of text."""
    return [Cell(as_text(value)) for value in values]


def number(value: float, decimals: int = 2, signed: bool = False) -> Cell:
    """A figure that sorts as one; missing figures sort below all others."""
    if pd.isna(value):
        return Cell(NONE, order="")
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    return Cell(text, order=f"{value:.6g}")


def numbers(values: Iterable[float], decimals: int = 2, signed: bool = False) -> list[Cell]:
    """Cells of figures."""
    return [number(value, decimals, signed) for value in values]


def ranges(lows: Iterable[float], highs: Iterable[float]) -> list[Cell]:
    """Cells of intervals, sorted by their lower ends."""
    return [
        Cell(NONE, order="") if pd.isna(low) else Cell(f"{low:.2f} to {high:.2f}", order=f"{low:.6g}")
        for low, high in zip(lows, highs, strict=True)
    ]


def chances(values: Iterable[float]) -> list[Cell]:
    """Cells of p-values."""
    return [
        Cell(NONE, order="") if pd.isna(p) else Cell("< 0.001" if p < 0.001 else f"{p:.3f}", order=f"{p:.6g}")
        for p in values
    ]


def assemble(identifier: str, columns: Sequence[tuple[Column, Sequence[Cell]]], caption: str = "") -> Table:
    """Put columns of cells together.

    Args:
        identifier: The table's id.
        columns: Each with its cells, equally many.
        caption: What the table shows.
    """
    rows = tuple(zip(*(cells for _, cells in columns), strict=True)) if columns else ()
    return Table(identifier, tuple(column for column, _ in columns), rows, caption)


def _shade(share: float) -> str:
    """White for 0, the colour of targets for 1; text that stays readable on it."""
    strong = tuple(int(TARGET_COLOR[i : i + 2], 16) for i in (1, 3, 5))
    share = min(max(share, 0.0), 1.0) ** 0.8
    red, green, blue = (round(w + share * (s - w)) for w, s in zip(_WHITE, strong, strict=True))
    # Relative luminance, roughly: dark text until the ground is too dark for it.
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return f"background:#{red:02x}{green:02x}{blue:02x};color:{'#1b2330' if light > 125 else '#ffffff'}"


def shaded(value: float, most: float = 100.0, decimals: int = 1) -> Cell:
    """A figure in a heat map that goes from 0 to ``most``."""
    cell = number(value, decimals)
    return cell if pd.isna(value) else replace(cell, style=_shade(value / most if most else 0.0))


def scale(values: Iterable[float]) -> float:
    """Where bars end: the next whole ten above all values, in percent."""
    known = [value for value in values if not np.isnan(value)]
    return float(min(100.0, 10.0 * np.ceil(max([*known, 1.0]) / 10)))


def barred(value: float, low: float, high: float, most: float) -> Cell:
    """A figure with its bar and, where there is one, its interval, on a scale from 0 to ``most``."""
    cell = number(value, 1)
    if pd.isna(value):
        return cell

    def place(score: float) -> float:
        return round(100 * float(np.clip(score / most, 0, 1)), 2)

    known = not pd.isna(low)
    bar = Bar(place(value), place(low) if known else None, place(high) if known else None)
    text = f"{cell.text} ({low:.1f} to {high:.1f})" if known else cell.text
    return replace(cell, text=text, bar=bar)


def confusion(identifier: str, matrix: np.ndarray, names: Sequence[str], caption: str) -> Table:
    """A confusion matrix, each row of truth in percent of its pixels.

    Args:
        identifier: The table's id.
        matrix: K x K, rows are truth.
        names: Of the classes.
        caption: What it shows.
    """
    totals = matrix.sum(axis=1)
    columns = [
        Column("truth \\ prediction"),
        *(Column(name, numeric=True) for name in names),
        Column("pixels", numeric=True),
    ]
    rows = []
    for name, counts, total in zip(names, matrix, totals, strict=True):
        shares = [100 * count / total if total else float("nan") for count in counts]
        rows.append((Cell(as_text(name)), *(shaded(share) for share in shares), number(float(total), 0)))
    return Table(identifier, tuple(columns), tuple(rows), caption)
