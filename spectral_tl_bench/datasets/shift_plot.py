"""The picture of a shift: spectra of each class in source and target, and the class shares below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from spectral_tl_bench.datasets.shift import ALL_TARGETS, SOURCE, ShiftReport
from spectral_tl_bench.sensors.plotting import SOURCE_COLOR, TARGET_COLOR, band_positions, mark_dates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's blue and vermilion: told apart by every kind of colour vision.
_COLORS = {SOURCE: SOURCE_COLOR, ALL_TARGETS: TARGET_COLOR}
_DENSE = 20


def draw_shift(report: ShiftReport) -> Figure:
    """Draw a report.

    One panel a class: median reflectance and interquartile range against wavelength, in the source and in all targets
    together; dates of a multi-date sensor stand side by side. Below, the class shares.

    Args:
        report: What was measured.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    shown = [c.name for c in report.classes if (report.spectra["class"] == c.name).any()]
    dates = list(dict.fromkeys(band.date for band in report.sensor.bands))
    columns = min(len(shown), 4 if len(dates) > 1 or len(shown) <= 8 else 6)
    rows = math.ceil(len(shown) / columns)
    width = 16.0
    heights = (2.1 * rows + 1.0, 3.4)
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=heights)
    _draw_spectra(figure.add_subfigure(halves[0]), report, shown, rows, columns)
    _draw_priors(figure.add_subfigure(halves[1]), report)
    return figure


def _draw_spectra(figure: SubFigure, report: ShiftReport, shown: list[str], rows: int, columns: int) -> None:
    from matplotlib.lines import Line2D

    position, groups = band_positions(report.sensor)
    mean = report.table.query("target == @ALL_TARGETS").groupby("class")["distance"].mean()
    panels = np.ravel(figure.subplots(rows, columns, sharex=True, squeeze=False))
    for axes, name in zip(panels, shown, strict=False):
        for domain, color in _COLORS.items():
            rows_of = report.spectra[(report.spectra["class"] == name) & (report.spectra["domain"] == domain)]
            if not rows_of.empty:
                _draw_class(axes, rows_of[["q25", "median", "q75"]].to_numpy().T, position, groups, color)
        distance = f"{mean[name]:.3f}" if name in mean.index else "one side only"
        axes.set_title(f"{name}  ({distance})", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.5)
        mark_dates(axes, position, groups)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
        above = panels[list(panels).index(axes) - columns]
        above.tick_params(labelbottom=True)
    handles = [Line2D([], [], color=color, label=domain) for domain, color in _COLORS.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
    heading = f"{report.title} ({report.protocol})"
    figure.suptitle(
        f"{'SIMULATED: ' if report.simulated else ''}{heading}: median and interquartile range; "
        "in brackets the mean Wasserstein distance over bands",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    figure.supylabel("reflectance", fontsize=10)
    figure.supxlabel("wavelength, nm" if len(groups) == 1 else "date; within a date, wavelength", fontsize=10)


def _draw_class(
    axes: Axes,
    quartiles: np.ndarray,
    position: np.ndarray,
    groups: list[tuple[str | None, np.ndarray]],
    color: str,
) -> None:
    low, median, high = quartiles
    marker = "" if max(len(channels) for _, channels in groups) > _DENSE else "."
    for _, channels in groups:
        x = position[channels]
        axes.fill_between(x, low[channels], high[channels], color=color, alpha=0.2, linewidth=0)
        axes.plot(x, median[channels], color=color, linewidth=1.4, marker=marker, markersize=4)


def _draw_priors(figure: SubFigure, report: ShiftReport) -> None:
    axes = figure.subplots()
    names = [c.name for c in report.classes]
    ticks = np.arange(len(names))
    for side, (domain, color) in enumerate(_COLORS.items()):
        shares = report.priors[report.priors["domain"] == domain]["share"].to_numpy()
        axes.bar(ticks + 0.4 * (side - 0.5), 100 * shares, width=0.38, color=color)
    bits = float(report.divergence.set_index("target")["jensen_shannon"][ALL_TARGETS])
    axes.set_title(f"Class shares; Jensen-Shannon divergence {bits:.3f} bits", fontsize=11, loc="left")
    axes.set_xticks(ticks, names, rotation=30 if len(names) > 10 else 0, ha="right" if len(names) > 10 else "center")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("% of labelled pixels")
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
