"""Pictures of samples, side by side in true colour, as label map and as prediction; and the axis of spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_tl_bench.protocols import LandClass
from spectral_tl_bench.sensors import Sensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BandGroups = list[tuple[str | None, np.ndarray]]

_GAP = 0.25


def band_positions(sensor: Sensor) -> tuple[np.ndarray, BandGroups]:
    """Where each channel stands on the x axis of a spectrum, and the channels of each date in order of wavelength.

    Returns:
        Wavelengths in nm, those of a later date beyond those of the earlier ones; and (date, channels) by date.
    """
    wavelength = np.array(sensor.wavelengths)
    dates = [band.date for band in sensor.bands]
    names = list(dict.fromkeys(dates))
    span = (1 + _GAP) * max(float(np.ptp(wavelength)), 1.0)
    offset = np.array([names.index(date) for date in dates]) * span if len(names) > 1 else 0.0
    groups: BandGroups = []
    for name in names:
        channels = np.flatnonzero([date == name for date in dates])
        groups.append((name, channels[np.argsort(wavelength[channels], kind="stable")]))
    return wavelength + offset, groups


def mark_dates(axes: Axes, position: np.ndarray, groups: BandGroups) -> None:
    """Label the dates under the axis and part them by lines; a single date keeps its scale of wavelengths."""
    if len(groups) == 1:
        return
    middles = [float(position[channels].mean()) for _, channels in groups]
    axes.set_xticks(middles, [str(date) for date, _ in groups])
    for (_, before), (_, after) in pairwise(groups):
        axes.axvline(0.5 * (position[before].max() + position[after].min()), color="0.8", linewidth=0.8)


def true_color(image: np.ndarray, sensor: Sensor, like: np.ndarray | None = None) -> np.ndarray:
    """Stretch the red, green and blue bands for display.

    Args:
        image: C x H x W reflectance.
        sensor: Names the bands shown.
        like: The image whose percentiles are taken, for pictures to be compared; by default the image itself.

    Returns:
        H x W x 3 in 0-1, stretched between the 2nd and 98th percentile of the three bands together, so that colours
        keep their ratio.
    """
    channels = list(sensor.rgb_indices)
    rgb = image[channels].transpose(1, 2, 0)
    low, high = np.percentile((image if like is None else like)[channels], (2, 98))
    return np.clip((rgb - low) / max(high - low, 1e-6), 0.0, 1.0)


def color_mask(mask: np.ndarray, classes: Sequence[LandClass]) -> np.ndarray:
    """Paint class ids (H x W) in the classes' colours (H x W x 3 in 0-1); ignored pixels are black."""
    from matplotlib.colors import to_rgb

    palette = np.zeros((256, 3))
    palette[: len(classes)] = [to_rgb(c.color) for c in classes]
    return palette[mask]


def plot_sample(
    sample: Mapping[str, Any],
    sensor: Sensor,
    classes: Sequence[LandClass],
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Draw a sample; see :meth:`spectral_tl_bench.datasets.base.TileDataset.plot`."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = [("Image", true_color(np.asarray(sample["image"]), sensor))]
    shown: set[int] = set()
    for key, title in (("mask", "Label"), ("prediction", "Prediction")):
        if key in sample:
            mask = np.asarray(sample[key])
            panels.append((title, color_mask(mask, classes)))
            shown |= set(np.unique(mask).tolist())
    figure = Figure(figsize=(4 * len(panels), 4.6), layout="constrained")
    for axes, (title, picture) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(picture)
        axes.axis("off")
        if show_titles:
            axes.set_title(title)
    handles = [Patch(color=c.color, label=c.name) for i, c in enumerate(classes) if i in shown]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure
