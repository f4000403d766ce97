"""``spectral-bench predict``: a run's model on a scene."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.utils import text
from spectral_tl_bench.utils.errors import DataError, RecordError

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.prediction.predict import Mapped
    from spectral_tl_bench.sensors.classes import LandClass

_PLAIN_LINES = 10


def predict(
    folder: Path,
    scene: Path,
    out: Path,
    console: Console,
    *,
    confidence: Path | None,
    bands: str | None,
    scale: float | None,
    offset: float | None,
    weights: str | None,
    device: str,
    without_crs: bool,
    trust_code: bool,
    force: bool,
) -> None:
    """Map a scene and say what is in the map.

    Args:
        folder: The run's folder.
        scene: The scene's file.
        out: Gets the map.
        console: Gets progress and the shares of the classes.
        confidence: Gets the confidence, if given.
        bands: The scene's bands in the sensor's order.
        scale: Stored value that means a reflectance of 1 in the scene.
        offset: What is added to the scene's stored values first.
        weights: Pretrained weights, where the run's own cannot be found.
        device: "auto", "cpu" or "cuda".
        without_crs: Accept a scene that lies nowhere.
        trust_code: Run Python files that the run names even if this user has not run them before.
        force: Replace files that are there.

    Raises:
        SpectralBenchError: If an input is wrong; nothing has been written then.
    """
    _check_outputs(scene, out, confidence, force)
    say = partial(text.say, console)
    from spectral_tl_bench.prediction.predict import map_scene
    from spectral_tl_bench.prediction.restore import restore_run
    from spectral_tl_bench.prediction.scene import open_scene
    from spectral_tl_bench.records.titles import heading

    run = restore_run(folder, weights, trust_code=trust_code)
    sensor = run.adapter.sensor
    opened = open_scene(
        scene,
        sensor,
        bands=bands,
        scale=scale,
        offset=offset,
        without_crs=without_crs,
        brightness=run.brightness,
        channels=run.adapter.channels,
        file_bands=run.adapter.file_bands,
    )
    with opened as source:
        say(f"{heading(run.adapter.spec)}: {source.width} x {source.height} px of {scene}")
        for note in source.notes:
            say(note)
        pixel = source.ground_sampling_distance()
        if pixel is not None and not 0.8 <= pixel / sensor.ground_sampling_distance <= 1.25:
            say(
                f"note: a pixel of the scene is {pixel:.3g} m, the run was trained on "
                f"{sensor.ground_sampling_distance:g} m"
            )
        with _watch(console) as watch:
            mapped = map_scene(run, source, out, confidence, device=device, progress=watch)
    say(_shares(mapped, run.adapter.classes))
    written = f"{out}" if confidence is None else f"{out} and {confidence}"
    count = sum(mapped.pixels) + mapped.without_data
    say(f"written: {written} in {mapped.seconds:.0f} s, {count / mapped.seconds:,.0f} px/s")


def _check_outputs(scene: Path, out: Path, confidence: Path | None, force: bool) -> None:
    """Refuse to write over the scene or, unasked, over anything.

    Raises:
        RecordError: If a file is in the way.
    """
    targets = [out] if confidence is None else [out, confidence]
    if len({path.resolve() for path in targets}) < len(targets):
        raise RecordError(f"the map and its confidence cannot both be {out}; give --confidence another name")
    for path in targets:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise DataError(f"{path} must end in .tif: maps are GeoTIFF files")
        if path.exists():
            if scene.exists() and path.samefile(scene):
                raise RecordError(f"{path} is the scene itself; write the map to another file")
            if not force:
                raise RecordError(f"{path} exists; pass --force to replace it")


def _shares(mapped: Mapped, classes: tuple[LandClass, ...]) -> str:
    """Shares of the classes in the map, largest first."""
    total = max(1, sum(mapped.pixels))
    present = sorted(((n, c.name) for n, c in zip(mapped.pixels, classes, strict=True) if n), reverse=True)
    parts = [f"{name} {n / total:.1%}" for n, name in present] or ["no pixel has data"]
    if mapped.without_data:
        parts.append(f"without data {mapped.without_data / (total + mapped.without_data):.1%} of the scene")
    return ", ".join(parts)


@contextlib.contextmanager
def _watch(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is and the time left: a bar, or a few plain lines where there is no terminal."""
    if not console.is_terminal:
        started, shown = time.monotonic(), 0

        def line(done: int, total: int) -> None:
            nonlocal shown
            tenth = _PLAIN_LINES * done // total
            if tenth > shown and done < total:
                shown = tenth
                left = (time.monotonic() - started) / done * (total - done)
                text.say(console, f"  {done}/{total} windows, {text.duration(left)} left")

        yield line
        return
    from rich import progress

    columns = (
        progress.TextColumn("windows"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("windows", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
