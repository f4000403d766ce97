"""Charts as coordinates: the template draws them as SVG, without a renderer, and every name is escaped there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_tl_bench.report.formatting import as_text
from spectral_tl_bench.report.robustness_plot import spread_out
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR

WIDTH, HEIGHT = 480, 330
"""Of the drawing, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 128, 12, 44
_LABELLED = 18
"""Points that get a name beside the chart; every point has it as a tooltip."""
_LABEL_GAP = 14.0


@dataclass(frozen=True)
class Point:
    """A marker: place, name beside the chart with its height (None without), tooltip."""

    x: float
    y: float
    name: str
    tooltip: str
    label_y: float | None


@dataclass(frozen=True)
class Path:
    """A line through places, ``x,y`` each with blanks between, in a colour."""

    points: str
    color: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what it is called."""

    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart, all places in units of the drawing."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    paths: tuple[Path, ...]
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    color: str = TARGET_COLOR


@dataclass(frozen=True)
class Axis:
    """From values to places along one axis.

    Attributes:
        low: Value at its beginning.
        high: Value at its end.
        first: Place of the beginning.
        last: Place of the end.
        logarithmic: Whether equal steps are equal factors. Values of 0 then stand at the beginning.
        whole: Whether it has whole values only.
    """

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False
    whole: bool = False

    @classmethod
    def over(cls, values: Iterable[float], first: float, last: float, logarithmic: bool = False) -> Axis:
        """Choose bounds with a little room around all values."""
        known = [v for v in values if math.isfinite(v) and (v > 0 or not logarithmic)]
        if not known:
            return cls(0.5 if logarithmic else 0.0, 2.0 if logarithmic else 1.0, first, last, logarithmic)
        low, high = min(known), max(known)
        if logarithmic:
            room = max((high / low) ** 0.08, 1.25)
            return cls(low / room**2, high * room, first, last, True)
        room = 0.07 * (high - low) or max(abs(high) * 0.1, 1.0)
        return cls(low - room, high + room, first, last, whole=all(value == round(value) for value in known))

    def place(self, value: float) -> float:
        """Where a value stands."""
        if self.logarithmic:
            if value <= 0:
                return round(self.first, 2)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 2)

    def ticks(self, with_zero: bool = False) -> tuple[Tick, ...]:
        """Round values along the axis."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        if self.logarithmic:
            wide = self.high / self.low > 100
            locator = LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0))
            values = [float(v) for v in locator.tick_values(self.low, self.high) if self.low < v < self.high]
        else:
            values = [
                float(v)
                for v in MaxNLocator(5, integer=self.whole).tick_values(self.low, self.high)
                if self.low <= v <= self.high
            ]
        found = [Tick(self.place(value), f"{value:,.6g}") for value in values]
        return (Tick(round(self.first, 2), "0"), *found) if with_zero else tuple(found)


def scatter(
    title: str,
    labels: tuple[str, str],
    x: Sequence[float],
    y: Sequence[float],
    names: Sequence[str],
    *,
    logarithmic: bool = False,
    line: Sequence[tuple[float, float]] = (),
    note: str = "",
    first: Sequence[int] = (),
) -> Chart:
    """Draw rows of a board as points.

    Args:
        title: What the chart shows.
        labels: Of the axes, x first.
        x: A value a row; with NaN a row is left out.
        y: Likewise.
        names: Of the rows.
        logarithmic: Whether x is drawn so.
        line: Places of a line through the chart, in values.
        note: Stands below.
        first: Rows that get a name before others do, where there is room for some only.
    """
    known = [i for i in range(len(x)) if math.isfinite(x[i]) and math.isfinite(y[i])]
    along = Axis.over([x[i] for i in known], _LEFT, WIDTH - _RIGHT, logarithmic)
    up = Axis.over([y[i] for i in known], HEIGHT - _BOTTOM, _TOP)
    ranked = [i for i in first if i in known] + [i for i in known if i not in first]
    named = sorted(ranked[:_LABELLED])
    heights = spread_out(np.array([up.place(y[i]) for i in named]), _LABEL_GAP) if named else np.array([])
    low, high = _TOP + 4.0, HEIGHT - 8.0
    if len(heights):
        heights = heights + max(0.0, low - heights.min())
        heights = heights - max(0.0, heights.max() - high)
    label = dict(zip(named, (round(float(h), 2) for h in heights), strict=True))
    points = tuple(
        Point(
            along.place(x[i]),
            up.place(y[i]),
            as_text(names[i]),
            f"{as_text(names[i])}: {labels[0]} {x[i]:,.4g}, {labels[1]} {y[i]:.2f}",
            label.get(i),
        )
        for i in known
    )
    inside = [(a, b) for a, b in line if up.low <= b <= up.high and along.low <= a <= along.high]
    zero = logarithmic and any(x[i] <= 0 for i in known)
    return Chart(
        title,
        *labels,
        along.ticks(with_zero=zero),
        up.ticks(),
        points,
        (_path(along, up, inside, SOURCE_COLOR),) if len(inside) > 1 else (),
        note,
    )


def curve(title: str, labels: tuple[str, str], x: Sequence[float], y: Sequence[float], color: str) -> Chart:
    """Draw a curve, such as the loss by step; with few places it has markers."""
    known = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    along = Axis.over([a for a, _ in known], _LEFT, WIDTH - 16)
    up = Axis.over([b for _, b in known], HEIGHT - _BOTTOM, _TOP)
    marked = known if len(known) <= 20 else []
    points = tuple(
        Point(along.place(a), up.place(b), "", f"{labels[0]} {a:,.6g}, {labels[1]} {b:.4g}", None) for a, b in marked
    )
    paths = (_path(along, up, known, color),) if len(known) > 1 else ()
    return Chart(title, *labels, along.ticks(), up.ticks(), points, paths, right=WIDTH - 16, color=color)


def _path(along: Axis, up: Axis, values: Iterable[tuple[float, float]], color: str) -> Path:
    return Path(" ".join(f"{along.place(a):g},{up.place(b):g}" for a, b in values), color)
