"""What every picture here shares: PNG files, the colours of source and target, true colour, the wavelength axis."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from spectral_tl_bench.sensors import Sensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE_COLOR, TARGET_COLOR = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito (2008), which stay apart under every kind of colour blindness."""

BandGroups = list[tuple[str | None, np.ndarray]]

_GAP = 0.25


def png(figure: Figure, dots_per_inch: int = 150) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    figure.set_dpi(dots_per_inch)
    layout = figure.get_layout_engine()
    if layout is not None:
        # Laid out once: saving a figure with an engine draws everything twice.
        layout.execute(figure)
        figure.set_layout_engine(None)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


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
