"""The picture of a realism card: each statistic of each domain against the range of real tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spectral_tl_bench.datasets.realism import DOMAIN_STATISTICS, REFERENCE, SHIFT_STATISTICS, RealismCard
from spectral_tl_bench.datasets.shift import ALL_TARGETS, SOURCE
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REAL = "0.82"


def draw_card(card: RealismCard) -> Figure:
    """Draw a card: one line of dots for each statistic, a grey bar from the smallest to the largest real value.

    Args:
        card: What was measured.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels = DOMAIN_STATISTICS | SHIFT_STATISTICS
    figure = Figure(figsize=(11.0, 0.42 * len(labels) + 1.6), layout="constrained")
    domains = card.table.drop(index=ALL_TARGETS, errors="ignore")
    panels = np.ravel(figure.subplots(len(labels), 1, squeeze=False))
    for axes, (name, label) in zip(panels, labels.items(), strict=True):
        real = REFERENCE[name].dropna()
        values = domains[name].dropna()
        axes.axvspan(real.min(), real.max(), color=_REAL, linewidth=0)
        colors = [SOURCE_COLOR if domain == SOURCE else TARGET_COLOR for domain in values.index]
        axes.scatter(values, np.zeros(len(values)), c=colors, s=22, alpha=0.8, linewidths=0, zorder=3)
        axes.set_xlim(0, 1.08 * max([real.max(), *values]))
        axes.set_yticks([0], [label], fontsize=8)
        axes.tick_params(axis="x", labelsize=7, length=2, pad=1)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    handles = [
        Line2D([], [], color=SOURCE_COLOR, marker="o", linestyle="", label=SOURCE),
        Line2D([], [], color=TARGET_COLOR, marker="o", linestyle="", label="target sub-domains"),
        Patch(color=_REAL, label="range of three domains of real tiles"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    heading = f"{card.title} ({card.protocol})"
    figure.suptitle(f"{'SIMULATED: ' if card.simulated else ''}{heading}", fontsize=11, x=0.01, ha="left")
    return figure
