"""Maps of scenes of any size: windows that overlap, weighted by Hann's window, in memory that their height bounds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_tl_bench.datamodules.windows import offsets
from spectral_tl_bench.prediction.rasters import ClassMap, ConfidenceMap, Place, code_table
from spectral_tl_bench.prediction.restore import RestoredRun
from spectral_tl_bench.prediction.scene import Scene
from spectral_tl_bench.utils.files import exclusive_file
from spectral_tl_bench.utils.runtime import pick_device

Progress = Callable[[int, int], None]
"""Told how many windows are done, and how many there are."""


@dataclass(frozen=True)
class Mapped:
    """What was mapped.

    Attributes:
        pixels: Pixels of each class, in the order of the run's classes.
        without_data: Pixels without data.
        seconds: How long it took.
    """

    pixels: tuple[int, ...]
    without_data: int
    seconds: float


def hann(size: int) -> Tensor:
    """Hann's window of ``size`` pixels, sampled at their middles: positive, and adding up to 1 at half overlap.

    Its use on overlapping windows: Pielawski & Wählby, PLOS ONE 15(3):e0229839 (2020).
    """
    return torch.sin(torch.pi * (torch.arange(size) + 0.5) / size).square()


def total_weight(length: int, size: int, starts: list[int]) -> Tensor:
    """Sum of the weights that each of ``length`` pixels gets along one axis."""
    total = torch.zeros(max(length, size))
    for start in starts:
        total[start : start + size] += hann(size)
    return total[:length]


class _Strip:
    """The rows under the current row of windows; every row of the scene is read once."""

    def __init__(self, scene: Scene, rows: int) -> None:
        self.scene = scene
        self.rows = min(rows, scene.height)
        self.top = 0
        self.pixels, self.valid = scene.read(0, self.rows)

    def move_to(self, top: int) -> None:
        """Let go of the rows above ``top`` and read as many below."""
        new = top - self.top
        if new == 0:
            return
        kept = max(0, self.rows - new)
        pixels, valid = self.scene.read(top + kept, self.rows - kept)
        self.pixels = np.concatenate([self.pixels[:, self.rows - kept :], pixels], axis=1)
        self.valid = np.concatenate([self.valid[self.rows - kept :], valid])
        self.top = top


def predict_scene(
    run: RestoredRun,
    scene: Scene,
    classes: ClassMap,
    confidence: ConfidenceMap | None,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> Mapped:
    """Map a scene.

    Windows are as large as the run scores them and lie half their side apart, the last ones flush with the scene's
    edge; what lies beyond the edge is not made up: a scene smaller than a window is filled up with the mean. Their
    logits, weighted, add up before the decision, as they do in the run's own scoring. Windows without any data are
    passed over, and pixels without data get none in the map.

    Args:
        run: The model.
        scene: What to map.
        classes: Gets the classes' codes.
        confidence: Gets the softmax of the decision, if given.
        device: Where the model runs.
        progress: Told of every row of windows.

    Returns:
        What was mapped.
    """
    started = time.monotonic()
    height, width = run.window
    tops, lefts = offsets(scene.height, height, height // 2), offsets(scene.width, width, width // 2)
    weights = torch.outer(hann(height), hann(width)).to(device)
    row_weight = total_weight(scene.height, height, tops)
    column_weight = total_weight(scene.width, width, lefts).to(device)
    codes = code_table(run.adapter.classes)
    counts = np.zeros(len(codes), dtype=np.int64)
    strip = _Strip(scene, height)
    without_data = 0
    with run.predicting(device):
        sums = torch.zeros(len(codes), height, max(width, scene.width), device=device)
        for number, top in enumerate(tops):
            strip.move_to(top)
            for left, logits in _windows(run, strip, lefts, scene, device):
                sums[:, :, left : left + width] += logits * weights
            rows = (tops[number + 1] if number + 1 < len(tops) else scene.height) - top
            finished = sums[:, :rows, : scene.width]
            best = finished.max(dim=0)
            ids, valid = best.indices.cpu().numpy(), strip.valid[:rows]
            counts += np.bincount(ids[valid], minlength=len(codes))
            without_data += int((~valid).sum())
            classes.write(np.where(valid, codes[ids], classes.nodata))
            if confidence is not None:
                # The softmax of the weighted mean of the logits.
                share = (row_weight[top : top + rows, None].to(device) * column_weight).clamp_min(1e-12)
                chance = ((finished - best.values) / share).exp().sum(dim=0).reciprocal()
                confidence.write_shares(chance.cpu().numpy(), valid)
            sums = torch.cat([sums[:, rows:], torch.zeros_like(sums[:, :rows])], dim=1)
            progress((number + 1) * len(lefts), len(tops) * len(lefts))
    return Mapped(tuple(counts.tolist()), without_data, time.monotonic() - started)


def _windows(
    run: RestoredRun, strip: _Strip, lefts: list[int], scene: Scene, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """Logits, K x h x w, of the windows of a row that hold any data, with the column where each starts."""
    height, width = run.window
    some = [left for left in lefts if strip.valid[:, left : left + width].any()]
    batch = run.adapter.spec.training.batch_size
    for i in range(0, len(some), batch):
        chosen = some[i : i + batch]
        stored = np.stack([strip.pixels[:, :, left : left + width] for left in chosen])
        images = run.normalise(torch.from_numpy(stored).to(device), scene.scale)
        pad = (0, width - images.shape[-1], 0, height - images.shape[-2])
        if any(pad):
            images = F.pad(images, pad)
        yield from zip(chosen, run.task.window_logits(images), strict=True)


def map_scene(
    run: RestoredRun,
    scene: Scene,
    out: Path,
    confidence: Path | None = None,
    *,
    device: str = "auto",
    progress: Progress = lambda done, total: None,
) -> Mapped:
    """Map a scene into GeoTIFF files, which appear when they are complete.

    Args:
        run: The model.
        scene: What to map.
        out: Gets the classes.
        confidence: Gets the confidence, if given.
        device: "auto", "cpu" or "cuda".
        progress: Told of every row of windows.

    Raises:
        DataError: If the scene cannot be read.
        RecordError: If a file cannot be written.
    """
    place = Place.of(scene.source)
    with contextlib.ExitStack() as stack:
        for path in filter(None, (out, confidence)):
            stack.enter_context(exclusive_file(path))
        classes = stack.enter_context(ClassMap(out, place, run))
        shares = None if confidence is None else stack.enter_context(ConfidenceMap(confidence, place, run))
        return predict_scene(run, scene, classes, shares, pick_device(device), progress)
