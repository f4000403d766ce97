"""What a run makes of a few target tiles: predictions and errors as GeoTIFF maps, and a picture of each tile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rasterio
import torch
from rasterio.errors import RasterioError
from rasterio.windows import Window

from spectral_tl_bench import records
from spectral_tl_bench.datasets.plot import color_mask
from spectral_tl_bench.prediction.rasters import ClassMap, GeoTiff, Place, code_table, rgba, run_tags
from spectral_tl_bench.records.titles import heading
from spectral_tl_bench.sensors.classes import IGNORE_INDEX
from spectral_tl_bench.sensors.plotting import png, true_color
from spectral_tl_bench.training.sample_images import spread

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from spectral_tl_bench.prediction.restore import RestoredRun
    from spectral_tl_bench.runs.plan import Plan


UNLABELLED, RIGHT, WRONG = range(3)
"""Values of a map of errors; 0 is its no-data value."""

_ERROR_COLORS = {RIGHT: "#e8e8e8", WRONG: "#d7191c"}
_BLACK = "#000000"


class TileMap(NamedTuple):
    """A tile as a run sees it.

    Attributes:
        tile: Its name.
        subdomain: Its sub-domain.
        image: C x H x W reflectance.
        truth: H x W class ids, 255 = unlabelled.
        prediction: H x W class ids.
    """

    tile: str
    subdomain: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    @property
    def has_data(self) -> np.ndarray:
        """H x W, whether a pixel has data."""
        found: np.ndarray = (self.image != 0).any(axis=0)
        return found

    @property
    def error(self) -> np.ndarray:
        """H x W, :data:`UNLABELLED`, :data:`RIGHT` or :data:`WRONG`."""
        judged = np.where(self.prediction == self.truth, RIGHT, WRONG)
        return np.where(self.truth == IGNORE_INDEX, UNLABELLED, judged).astype(np.uint8)


def write_maps(run: RestoredRun, plan: Plan, count: int, device: torch.device) -> list[Path]:
    """Write maps and a picture of some target tiles, of all sub-domains alike, into the run's folder ``maps``.

    Args:
        run: The model; predicts as it was scored.
        plan: The run's data.
        count: How many tiles.
        device: Where the model runs.

    Returns:
        The files, three a tile.

    Raises:
        RecordError: If one cannot be written.
    """
    index, split = plan.dataset.index, plan.split
    names = index["tile"].astype(str)
    folder = records.inside(run.folder, records.MAPS)
    records.prepare_folder(folder)
    written = []
    for position in spread(split.target, [split.subdomains[names.iloc[p]] for p in split.target], count):
        tile = predict_tile(run, plan, position, device)
        stem = tile.tile.replace("/", "-")
        place = _place(index.iloc[position], *tile.truth.shape)
        paths = [folder / f"{stem}{ending}" for ending in ("-prediction.tif", "-error.tif", ".png")]
        with ClassMap(paths[0], place, run) as classes:
            classes.write(np.where(tile.has_data, code_table(run.adapter.classes)[tile.prediction], classes.nodata))
        colors = {value: rgba(color) for value, color in _ERROR_COLORS.items()}
        tags = run_tags(run.adapter.spec) | {f"CLASS_{RIGHT}": "right", f"CLASS_{WRONG}": "wrong"}
        with GeoTiff(paths[1], place, np.uint8, UNLABELLED, tags=tags, colors=colors) as errors:
            errors.write(tile.error)
        records.write_bytes(paths[2], png(plot_tile(tile, run, heading(run.adapter.spec))))
        written += paths
    return written


def predict_tile(run: RestoredRun, plan: Plan, position: int, device: torch.device) -> TileMap:
    """Predict a tile as the run scored it.

    Args:
        run: The model.
        plan: The run's data.
        position: Row of the index.
        device: Where the model runs.
    """
    sample = plan.dataset.read_stored(position)
    crossing = plan.dataset.crossing
    seen = None if crossing is None else crossing.seen
    with run.predicting(device), run.task.backbone.seeing(seen):
        image = run.normalise(sample["image"].to(device)[None], plan.dataset.sensor.scale, seen)[0]
        (prediction,) = run.task.predict_tiles([{"image": image}])
    return TileMap(
        tile=sample["tile"],
        subdomain=plan.split.subdomains[sample["tile"]],
        image=plan.dataset.to_reflectance(sample["image"]).numpy(),
        truth=sample["mask"].numpy(),
        prediction=prediction.cpu().numpy(),
    )


def _place(row: pd.Series, height: int, width: int) -> Place:
    """Where a tile lies, as far as its file says; not every format that archives come in can."""
    try:
        with rasterio.open(row["image"]) as source:
            place = Place.of(source)
            if row.get("part") is None:
                return place
            top, left = row["part"][:2]
            window = Window(left, top, width, height)  # type: ignore[no-untyped-call, unused-ignore]
            return Place(height, width, source.crs, source.window_transform(window))
    except RasterioError:
        return Place(height, width)


def plot_tile(tile: TileMap, run: RestoredRun, title: str) -> Figure:
    """Draw a tile in true colour, its labels, the prediction and the errors, side by side.

    Args:
        tile: What to draw.
        run: Names and colours the classes.
        title: What ran on what.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    classes = run.adapter.classes
    labelled = tile.truth != IGNORE_INDEX
    share = f"{(tile.error == RIGHT).sum() / labelled.sum():.1%} right" if labelled.any() else "no labels"
    palette = np.array([to_rgb(_BLACK), *(to_rgb(_ERROR_COLORS[value]) for value in (RIGHT, WRONG))])
    panels = (
        ("true colour", true_color(tile.image, run.adapter.sensor)),
        ("labels", color_mask(tile.truth, classes)),
        ("prediction", color_mask(np.where(tile.has_data, tile.prediction, IGNORE_INDEX), classes)),
        (f"errors: {share}", palette[tile.error]),
    )
    shown = set(np.unique(tile.truth).tolist()) | set(np.unique(tile.prediction).tolist())
    handles = [Patch(color=c.color, label=c.name) for i, c in enumerate(classes) if i in shown]
    handles += [Patch(color=_ERROR_COLORS[RIGHT], label="right"), Patch(color=_ERROR_COLORS[WRONG], label="wrong")]
    if not labelled.all():
        handles.append(Patch(color=_BLACK, label="no label or no data"))
    columns = 6
    rows = -(-len(handles) // columns)
    figure = Figure(figsize=(13, 4.1 + 0.2 * rows), layout="constrained")
    for axes, (name, picture) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.axis("off")
        axes.set_title(name, fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    figure.suptitle(f"{title}\n{tile.tile}, {tile.subdomain}", fontsize=11)
    return figure
