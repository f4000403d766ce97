"""The plot of effective robustness: target against source, and the line that all rows of a transfer share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spectral_tl_bench.records.titles import SIMULATED
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.report.statistics import source_to_target
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 2
_LABELLED = 24
"""Rows of a panel that are named; more would not fit beside it."""


def spread_out(heights: np.ndarray, gap: float) -> np.ndarray:
    """Space values at least ``gap`` from one another; their order and mean stay.

    >>> spread_out(np.array([1.0, 1.0, 5.0]), 1.0).round(2).tolist()
    [0.5, 1.5, 5.0]
    """
    order = np.argsort(heights, kind="stable")
    clusters: list[tuple[float, int]] = []
    for height in heights[order]:
        clusters.append((float(height), 1))
        while len(clusters) > 1:
            (low, below), (high, above) = clusters[-2:]
            if high - low >= gap * (below + above) / 2:
                break
            clusters[-2:] = [((low * below + high * above) / (below + above), below + above)]
    places = [middle + gap * (i - (size - 1) / 2) for middle, size in clusters for i in range(size)]
    result = np.empty(len(heights))
    result[order] = places
    return result


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    from matplotlib.collections import LineCollection

    source, target = rows["source_miou"].to_numpy(), rows["miou"].to_numpy()
    axes.scatter(source, target, s=36, color=TARGET_COLOR, zorder=3)
    line = source_to_target(source.tolist(), target.tolist())
    low, high = np.nanmin(source), np.nanmax(source)
    room = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    if line is not None:
        x = np.linspace(max(0.1, low - room), min(99.9, high + room), 100)
        axes.plot(x, line.expected(x), color=SOURCE_COLOR, linewidth=1.2, zorder=2)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    left, right = axes.get_xlim()
    # Names stand in a column beside the panel, where no marker is, each with a thin line to its point.
    named = rows.dropna(subset=["source_miou", "miou"]).head(_LABELLED)
    places = (named["miou"].to_numpy() - bottom) / (top - bottom)
    heights = spread_out(places, 1 / 17)
    across = (named["source_miou"].to_numpy() - left) / (right - left)
    links = [[(x, y), (1.03, height)] for x, y, height in zip(across, places, heights, strict=True)]
    lines = LineCollection(links, color="#c9ced6", linewidth=0.6, zorder=1, clip_on=False, transform=axes.transAxes)
    axes.add_collection(lines, autolim=False)
    for name, height in zip(named["row"], heights, strict=True):
        text = plain(str(name)).replace("$", r"\$")
        axes.text(1.04, height, text, transform=axes.transAxes, va="center", fontsize=7)
    axes.set_xlabel("held-out source mIoU (%)", fontsize=8)
    axes.set_ylabel("target mIoU (%)", fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def plot_robustness(frame: pd.DataFrame, name: str) -> Figure:
    """Draw target against source, a panel per protocol and scoring.

    Args:
        frame: Rows of a :class:`spectral_tl_bench.report.board.Board`.
        name: Name of the board.
    """
    from matplotlib.figure import Figure

    panels = list(frame.groupby(["protocol", "scoring"], sort=True))
    lines = math.ceil(len(panels) / _COLUMNS)
    figure = Figure(figsize=(11, 3.6 * lines + 0.6), layout="constrained", dpi=150)
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, ((protocol, scoring), rows) in zip(grid.flat, panels, strict=False):
        _panel(axes, rows)
        remark = "" if scoring == "native" else f" ({scoring} scoring)"
        axes.set_title(f"{protocol}{remark}", loc="left", fontsize=9, fontweight="bold")
    note = "line: what all rows have in common; above it: transfers better than its source score explains"
    figure.supxlabel(note, fontsize=8)
    figure.suptitle(f"{SIMULATED}: {name}" if (frame["data"] == "simulated").any() else name, fontsize=11)
    return figure


def robustness_png(frame: pd.DataFrame, name: str) -> bytes:
    """Draw a board's effective robustness as PNG; the same board gives the same bytes."""
    return png(plot_robustness(frame, name))
