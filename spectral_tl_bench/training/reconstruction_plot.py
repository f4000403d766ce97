"""The picture of masked reconstruction: what was hidden, what came back, and the spectra of a few pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spectral_tl_bench.records import ReconstructionErrors
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.plotting import band_positions, mark_dates, true_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's blue, vermilion and bluish green: told apart by every kind of colour vision.
_PIXELS = (("dark", "#0072B2"), ("middling", "#D55E00"), ("bright", "#009E73"))
_QUANTILES = (0.1, 0.5, 0.9)
_HIDDEN = 0.55
_DENSE = 20
_NAME = 32


@dataclass(frozen=True)
class Reconstruction:
    """A window of a tile and what came back of it.

    Attributes:
        tile: Name of the tile.
        subdomain: Its sub-domain.
        image: C x H x W reflectance.
        restored: C x H x W reflectance; only hidden pixels differ from ``image``.
        hidden: H x W, True where the pixels were hidden.
        errors: Over the hidden patches, of the model and of two guesses.
    """

    tile: str
    subdomain: str
    image: np.ndarray
    restored: np.ndarray
    hidden: np.ndarray
    errors: ReconstructionErrors


def pixels_shown(example: Reconstruction) -> list[tuple[int, int]]:
    """Rows and columns of three hidden pixels: a dark, a middling and a bright one."""
    rows, columns = np.nonzero(example.hidden)
    order = np.argsort(example.image[:, rows, columns].mean(axis=0), kind="stable")
    chosen = [order[round(quantile * (len(order) - 1))] for quantile in _QUANTILES]
    return [(int(rows[i]), int(columns[i])) for i in chosen]


def plot_reconstruction(examples: Sequence[Reconstruction], sensor: Sensor, heading: str, caption: str) -> Figure:
    """Draw a row a window: input, masked, reconstructed, and spectra of three hidden pixels.

    Args:
        examples: The windows.
        sensor: Names the bands shown as red, green and blue, and places the others.
        heading: What ran on what.
        caption: How the picture was made.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    heights = (2.5 * len(examples) + 1.0, 0.5)
    figure = Figure(figsize=(12, sum(heights)), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=heights)
    panels, below = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    grid = panels.subplots(len(examples), 4, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1, 1.8]})
    for number, (example, row) in enumerate(zip(examples, grid, strict=True)):
        pixels = pixels_shown(example)
        _draw_images(row[:3], example, sensor, pixels)
        _draw_spectra(row[3], example, sensor, pixels)
        if number == 0:
            for axes, title in zip(row, ("input", "masked", "reconstructed", "spectra of hidden pixels"), strict=True):
                axes.set_title(title, fontsize=11)
        found = example.errors.spectra
        row[0].set_ylabel(
            f"{example.subdomain}\n{example.tile[-_NAME:]}\nerror {found.model:.2f}, guesses "
            f"{found.mean_of_visible:.2f}, {found.nearest_visible:.2f}",
            fontsize=8,
        )
    dated = any(band.date is not None for band in sensor.bands)
    grid[-1, 3].set_xlabel("date; within a date, wavelength" if dated else "wavelength (nm)", fontsize=9)
    handles = [
        *(Line2D([], [], color=color, linewidth=2, label=f"{name[0]}: a {name} pixel") for name, color in _PIXELS),
        Line2D([], [], color="0.2", label="input"),
        Line2D([], [], color="0.2", linestyle="--", label="reconstructed"),
    ]
    panels.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    panels.suptitle(f"{heading}: masked reconstruction", fontsize=12, x=0.01, ha="left")
    below.text(0.01, 0.5, textwrap.fill(caption, 175), fontsize=8, color="0.3", va="center")
    return figure


def _draw_images(row: Sequence[Axes], example: Reconstruction, sensor: Sensor, pixels: list[tuple[int, int]]) -> None:
    color = true_color(example.image, sensor)
    masked = np.where(example.hidden[..., None], _HIDDEN, color)
    restored = true_color(example.restored, sensor, like=example.image)
    for axes, picture in zip(row, (color, masked, restored), strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for axes in (row[0], row[2]):
        for (name, hue), (y, x) in zip(_PIXELS, pixels, strict=True):
            axes.scatter([x], [y], s=120, facecolor="white", edgecolor=hue, linewidth=1.8, clip_on=False)
            axes.text(x, y, name[0], ha="center", va="center_baseline", fontsize=8, color="black")


def _draw_spectra(axes: Axes, example: Reconstruction, sensor: Sensor, pixels: list[tuple[int, int]]) -> None:
    position, groups = band_positions(sensor)
    marker = "" if max(len(channels) for _, channels in groups) > _DENSE else "."
    for (_, color), (y, x) in zip(_PIXELS, pixels, strict=True):
        for image, style in ((example.image, "-"), (example.restored, "--")):
            for _, channels in groups:
                axes.plot(position[channels], image[channels, y, x], style, color=color, linewidth=1.3, marker=marker)
    mark_dates(axes, position, groups)
    axes.set_ylabel("reflectance", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
