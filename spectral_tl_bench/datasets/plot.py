"""Pictures of samples, side by side in true colour, as label map and as prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.sensors.plotting import true_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
