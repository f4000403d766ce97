"""The picture of expert usage: which experts the tokens of source and targets are sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spectral_tl_bench.records.titles import HELD_OUT
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EVEN = "#7a828e"
_WIDTH = 0.38


def plot_experts(usage: pd.DataFrame, heading: str) -> Figure:
    """Draw a column a tap, a row for each layer and attribute.

    Args:
        usage: Columns domain (the held-out source and each target sub-domain), tap, layer, attribute, expert (all from
            1 where they are numbers) and choices, how many of a token's kept experts it was, over all tokens.
        heading: What ran on what.

    Returns:
        The figure: bars for held-out source and all targets, dots for the target sub-domains.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    taps, experts = sorted(usage["tap"].unique()), sorted(usage["expert"].unique())
    kinds = list(usage[["layer", "attribute"]].drop_duplicates().itertuples(index=False, name=None))
    figure = Figure(figsize=(2.6 * len(taps) + 1.2, 1.9 * len(kinds) + 1.4), layout="constrained")
    grid = figure.subplots(len(kinds), len(taps), sharex=True, sharey=True, squeeze=False)
    for (layer, attribute), row in zip(kinds, grid, strict=True):
        for tap, axes in zip(taps, row, strict=True):
            here = (usage["tap"] == tap) & (usage["layer"] == layer) & (usage["attribute"] == attribute)
            _panel(axes, usage[here], experts)
        row[0].set_ylabel(f"{layer}, {attribute}\n% of choices", fontsize=9)
    for tap, axes in zip(taps, grid[0], strict=True):
        axes.set_title(f"tap {tap}", fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel("expert", fontsize=9)
    handles = [
        Patch(color=SOURCE_COLOR, label=HELD_OUT),
        Patch(color=TARGET_COLOR, label="all targets"),
        Line2D(
            [], [], linestyle="", marker="o", markersize=4, color="white", markeredgecolor="black", label="a target"
        ),
        Line2D([], [], linestyle=":", color=_EVEN, label="all experts alike"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.suptitle(f"{heading}: expert usage", fontsize=12, x=0.01, ha="left")
    return figure


def shares(usage: pd.DataFrame, experts: list[int]) -> np.ndarray:
    """Percent of all choices that fell on each expert."""
    choices = usage.groupby("expert")["choices"].sum().reindex(experts, fill_value=0).to_numpy(dtype=float)
    return 100 * choices / max(choices.sum(), 1)


def _panel(axes: Axes, usage: pd.DataFrame, experts: list[int]) -> None:
    places = np.arange(len(experts))
    of_source = usage["domain"] == HELD_OUT
    for side, (rows, color) in enumerate(((usage[of_source], SOURCE_COLOR), (usage[~of_source], TARGET_COLOR))):
        axes.bar(places + (side - 0.5) * _WIDTH, shares(rows, experts), width=_WIDTH, color=color)
    for _, rows in usage[~of_source].groupby("domain"):
        axes.plot(
            places + 0.5 * _WIDTH,
            shares(rows, experts),
            linestyle="",
            marker="o",
            markersize=3.5,
            color="white",
            markeredgecolor="black",
            markeredgewidth=0.7,
            clip_on=False,
        )
    axes.axhline(100 / len(experts), color=_EVEN, linestyle=":", linewidth=1.2)
    axes.set_xticks(places, [str(expert) for expert in experts])
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
