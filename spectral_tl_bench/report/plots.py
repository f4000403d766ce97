"""The plot of a leaderboard: what each method loses from source to target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from spectral_tl_bench.records.titles import SIMULATED
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINK = "#c9ced6"
_SHOWN = 40
"""Rows of a panel, the best ones; the page has them all."""
_MARKER = 7
"""Diameter of a marker in points."""


def _row_labels(rows: pd.DataFrame) -> list[str]:
    # Matplotlib sets text between dollars as mathematics.
    return [plain(name).replace("$", r"\$") for name in rows["row"]]


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw one protocol: a line per method from the held-out source to the target."""
    heights = list(range(len(rows)))
    axes.hlines(heights, rows["miou"], rows["source_miou"], color=_LINK, linewidth=2.5, zorder=1)
    over_seeds = "target, 95 % interval over seeds"
    axes.hlines(heights, rows["low"], rows["high"], color=TARGET_COLOR, linewidth=1, zorder=2, label=over_seeds)
    axes.errorbar(
        rows["miou"],
        heights,
        xerr=rows["sd"].fillna(0.0),
        fmt="o",
        color=TARGET_COLOR,
        markersize=_MARKER,
        elinewidth=4,
        zorder=3,
        label="target, mean ± sd over seeds",
    )
    axes.scatter(
        rows["source_miou"],
        heights,
        s=_MARKER**2,
        facecolor="white",
        edgecolor=SOURCE_COLOR,
        linewidth=1.8,
        zorder=4,
        label="held-out source",
    )
    # Left of everything in its line: the source may well lie left of the target.
    leftmost = pd.concat([rows["low"], rows["miou"] - rows["sd"].fillna(0.0), rows["source_miou"]], axis=1).min(axis=1)
    for height, left, value in zip(heights, leftmost, rows["miou"], strict=True):
        if pd.notna(value):
            axes.annotate(
                f"{value:.1f}",
                (left, height),
                xytext=(-8, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=TARGET_COLOR,
                fontsize=9,
            )
    axes.set_yticks(heights, _row_labels(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color="#eceff3")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def plot_leaderboard(frame: pd.DataFrame, name: str) -> Figure:
    """Draw a board, a panel per protocol and scoring, best method on top.

    Args:
        frame: Rows of a :class:`spectral_tl_bench.report.board.Board`.
        name: Name of the board.

    Returns:
        The figure; mIoU in percent along x.
    """
    from matplotlib.figure import Figure

    panels = [(key, rows.head(_SHOWN)) for key, rows in frame.groupby(["protocol", "scoring"], sort=True)]
    # Inches: a line per method, and per panel the room of its heading.
    heights = [0.3 * len(rows) + 0.55 for _, rows in panels]
    figure = Figure(figsize=(8, sum(heights) + 1.3), layout="constrained", dpi=150)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, ((protocol, scoring), rows) in zip(grid[:, 0], panels, strict=True):
        _panel(axes, rows)
        remark = "" if scoring == "native" else f" ({scoring} scoring)"
        axes.set_title(f"{protocol}{remark}", loc="left", fontsize=10, fontweight="bold")
    grid[-1, 0].set_xlabel("mIoU (%)")
    # Room for the figures left of the leftmost mark, in inches as they are.
    right = grid[-1, 0].get_xlim()[1]
    grid[-1, 0].set_xlim(left=-0.06 * right, right=right)
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    simulated = bool((frame["data"] == "simulated").any())
    figure.suptitle(f"{SIMULATED}: {name}" if simulated else name, fontsize=12)
    return figure


def leaderboard_png(frame: pd.DataFrame, name: str) -> bytes:
    """Draw a board as PNG; the same board gives the same bytes."""
    return png(plot_leaderboard(frame, name))
