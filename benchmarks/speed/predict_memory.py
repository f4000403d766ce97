"""Peak memory and pixels per second of a map, by the scene's height.

    python benchmarks/speed/predict_memory.py                          # 10,000 x 10,000 x 13, a model of single pixels
    python benchmarks/speed/predict_memory.py --run runs/.../RUN --rows 96 320    # a run's own model

Every height runs in a process of its own, whose peak is read when it is done. The scene is random blocks, compressed in
tiles of 512 x 512 px as a mosaic usually is.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import nn

from spectral_tl_bench.datamodules.radiometry import SourceStatistics
from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020
from spectral_tl_bench.prediction.predict import map_scene
from spectral_tl_bench.prediction.restore import RestoredRun, restore_run
from spectral_tl_bench.prediction.scene import open_scene
from spectral_tl_bench.sensors import SENTINEL2

BLOCK = 512


def write_scene(path: Path, height: int, width: int) -> None:
    """Write a Sentinel-2 scene of random blocks."""
    rng = np.random.default_rng(0)
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 4_100_000, 10, 10)}
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band", "compress": "deflate"}
    bands = len(SENTINEL2.bands)
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype="uint16", **place, **layout
    ) as file:
        for top in range(0, height, BLOCK):
            coarse = rng.integers(200, 6000, (bands, BLOCK // 16, -(-width // 16)), dtype="uint16")
            rows = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, : height - top, :width]
            file.write(rows, window=rasterio.windows.Window(0, top, width, rows.shape[1]))


class PerPixel(nn.Module):
    """What costs next to nothing, so that reading, adding up and writing are what is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(len(SENTINEL2.bands), len(DFC2020.all_classes), 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolution(images)


def single_pixels() -> RestoredRun:
    """A run of 64 px windows whose model looks at single pixels."""
    from spectral_tl_bench.backbones import build_backbone
    from spectral_tl_bench.config.presets import preset
    from spectral_tl_bench.config.spec import RunSpec
    from spectral_tl_bench.methods import build_method
    from spectral_tl_bench.runs.adapter import Adapter
    from spectral_tl_bench.training.decoders import Segmenter
    from spectral_tl_bench.training.segmentation import Segmentation

    training = preset("quick").model_copy(update={"batch_size": 64})
    classes, bands = DFC2020.all_classes, len(SENTINEL2.bands)
    method = build_method("frozen")
    backbone = build_backbone("vit_micro", SENTINEL2)
    method.apply(backbone)
    task = Segmentation(Segmenter.of(backbone, len(classes), training), method, training, len(classes))
    task.segmenter = PerPixel()  # type: ignore[assignment]
    spec = RunSpec(
        protocol="none", protocol_digest="", dataset="dfc2020", data="", simulated=True, method="frozen",
        backbone="vit_micro", preset="quick", training=training,
    )  # fmt: skip
    adapter = Adapter(spec=spec, sensor=SENTINEL2, classes=classes, step=0, tile=(64, 64), pretrained=None)
    return RestoredRun(Path(), adapter, task.eval(), SourceStatistics(torch.full((bands,), 0.3), torch.ones(bands)))


def measure(folder: Path | None, scene: Path, out: Path) -> None:
    """Map one scene in this process and print what it took."""
    run = single_pixels() if folder is None else restore_run(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.monotonic()
    with open_scene(scene, SENTINEL2) as opened:
        size = f"{opened.height:6} x {opened.width}"
        pixels = opened.height * opened.width
        map_scene(run, opened, out, out.with_name("confidence.tif"), device="cpu")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - started
    print(  # noqa: T201
        f"{size}: {pixels / seconds:10,.0f} px/s, {seconds:6.0f} s, peak {peak:.2f} GiB ({before:.2f} before it began)",
        flush=True,
    )


def main() -> None:
    """Measure every height."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, help="a run on Sentinel-2")
    arguments.add_argument("--width", type=int, default=10_000)
    arguments.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000])
    arguments.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.scene is not None:
        measure(given.run, given.scene, given.scene.with_name("map.tif"))
        return
    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            scene = Path(folder) / "scene.tif"
            write_scene(scene, rows, given.width)
            again = ["--scene", str(scene), *(["--run", str(given.run)] if given.run else [])]
            subprocess.run([sys.executable, __file__, *again], check=True)


if __name__ == "__main__":
    main()
