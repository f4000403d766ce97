"""What the commands do, apart from parsing arguments."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from spectral_tl_bench.cli import maps as maps_of_a_run
from spectral_tl_bench.errors import SpectralBenchError
from spectral_tl_bench.presets import DEFAULT_BACKBONE, preset
from spectral_tl_bench.protocols import load_protocols, protocols_about, protocols_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.protocols import ProtocolFile
    from spectral_tl_bench.runs.requests import Request


def run(
    requests: Sequence[Request],
    console: Console,
    *,
    preset_is_default: bool,
    out: Path,
    device: str,
    devices: int,
    num_nodes: int,
    strategy: str,
    loggers: tuple[str, ...],
    maps: int = 0,
    dry: bool = False,
    **means: Any,
) -> None:
    """Do one run or several and print a table for each.

    Args:
        requests: What to run.
        console: Gets progress and tables.
        preset_is_default: Whether nobody named the preset, so that it is said which one was taken.
        out: Folder of all runs.
        device: "auto", "cpu" or "cuda".
        devices: On each node.
        num_nodes: Nodes.
        strategy: How several processes share a run.
        loggers: Get the training curve too.
        maps: Target tiles of each run to write maps of.
        dry: Say what would be done instead of doing it.
        means: What else :func:`~spectral_tl_bench.runs.runner.execute` takes.
    """
    from spectral_tl_bench.runs import launch
    from spectral_tl_bench.tasks.processes import Hardware

    hardware = Hardware(device, devices, num_nodes, strategy)
    another = hardware.processes > 1 and launch.is_another()
    if another:
        console = type(console)(quiet=True)
    first = requests[0]
    if first.where.root is None:
        said = (
            ("SIMULATED data", "bold yellow"),
            ": no --root was given, so this runs on the embedded simulated archive; its figures say nothing about a "
            "real sensor.",
        )
        console.print(Text.assemble(*said), soft_wrap=True)
    elif preset_is_default and first.choices.preset == "quick":
        console.print("no GPU here: preset quick (--preset standard for the full size)", highlight=False)

    from spectral_tl_bench.cli.dry_run import describe
    from spectral_tl_bench.methods import PixelModel
    from spectral_tl_bench.records import prepare_folder
    from spectral_tl_bench.report.tables import heading, render
    from spectral_tl_bench.runs.loggers import require_loggers
    from spectral_tl_bench.runs.planning import Plan, plan
    from spectral_tl_bench.runs.predict import pick_device
    from spectral_tl_bench.runs.runner import execute
    from spectral_tl_bench.tasks import processes

    picked = pick_device(device)
    launch.require_usable(hardware)
    require_loggers(loggers)

    def planned() -> list[Plan]:
        # Every input is opened before anything trains: a mistake in the last protocol shows at once.
        if not dry:
            prepare_folder(out)
        opened: dict[tuple[str, Path], TileDataset] = {}
        plans = [plan(request, opened) for request in requests]
        for note in dict.fromkeys(note for ready in plans for note in (*ready.dataset.notes, *ready.notes)):
            console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
        for ready in plans:
            if isinstance(ready.method, PixelModel):
                launch.require_no_network(hardware, maps)
            else:
                launch.require_shares(ready.spec.training, ready.method.stages, hardware)
        return plans

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*geotransform.*")
        # Before other processes start, unless somebody else has started them: then one after the other.
        early = None if another or launch.started_elsewhere() else planned()
        with launch.together(Hardware() if dry else hardware, sys.argv[1:]):
            plans = processes.in_turn(lambda: planned() if early is None else early)
            for number, ready in enumerate(plans, start=1):
                console.print(
                    f"[{number}/{len(plans)}] {heading(ready.spec)}",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
                if dry:
                    describe(ready, out, picked, console)
                    continue
                done = execute(
                    ready,
                    out,
                    console,
                    device=device,
                    devices=devices,
                    num_nodes=num_nodes,
                    strategy=strategy,
                    loggers=loggers,
                    **means,
                )
                if another:
                    continue
                console.print(render(done))
                console.print(f"written to {done.folder}", highlight=False, soft_wrap=True)
                if maps:
                    maps_of_a_run.write(done.folder, ready, maps, device, console)


def parameters(
    backbone: str,
    sensor: str,
    console: Console,
    *,
    preset_name: str | None,
    method: str | None,
    options: dict[str, str],
    gradients: bool | None,
    as_json: bool,
) -> None:
    """Count the parameters of one method or of all, and print them."""
    from rich.progress import track

    from spectral_tl_bench.backbones import build_backbone
    from spectral_tl_bench.methods import build_method
    from spectral_tl_bench.plugins import short_name
    from spectral_tl_bench.runs import accounting

    if options and method is None:
        raise SpectralBenchError("--set changes an option of one method; name it with --method")
    known, classes = accounting.sensor_and_classes(sensor)
    usual = next((name for name, its in DEFAULT_BACKBONE.items() if its == backbone), "standard")
    name = usual if preset_name is None else preset_name
    training = preset(name)
    size = accounting.backbone_size(backbone, known)
    names = [method] if method is not None else adapting_methods(console)
    chosen = {n: build_method(n, dict(options)) for n in names}
    measured = size <= accounting.SMALL if gradients is None else gradients
    pretrained = build_backbone(backbone, known) if measured else None
    counts = [
        accounting.account(short_name(n), chosen[n], backbone, known, training, classes, pretrained)
        for n in track(chosen, "counting", console=console, transient=True, disable=as_json)
    ]
    if as_json:
        print(accounting.as_json(counts))  # noqa: T201  # for a program: a console would break the lines
        return
    from spectral_tl_bench.cli import listings

    details = f"{backbone}, {known.name} with {len(known.bands)} bands, decoder of preset {name} for {classes} classes"
    console.print(listings.parameters(counts, details))


def sweep(
    suite: str,
    root: Path | None,
    console: Console,
    *,
    out: Path,
    device: str,
    checkpoint_minutes: float,
    engine: str,
    **options: Any,
) -> None:
    """Do every run of a suite that has no record yet; the options are those of the engine."""
    from spectral_tl_bench.runs.engines.options import make_engine
    from spectral_tl_bench.runs.suite import find_suite
    from spectral_tl_bench.runs.sweep import sweep as do

    chosen = make_engine(engine, out, device=device, **options)
    do(find_suite(suite), root, out, console, engine=chosen, device=device, checkpoint_minutes=checkpoint_minutes)


def adapting_methods(console: Console) -> list[str]:
    """Names of the methods that adapt a backbone; says of each that cannot be imported what is wrong with it."""
    from spectral_tl_bench.methods import method_names
    from spectral_tl_bench.plugins import METHODS

    for problem in METHODS.usable()[1]:
        console.print(Text.assemble(("left out: ", "yellow"), problem), soft_wrap=True)
    return method_names()


def simulate(
    dataset: str,
    folder: Path,
    console: Console,
    *,
    seed: int,
    tile_size: int | None,
    real_size: bool,
    real_counts: bool,
) -> None:
    """Write one simulated archive, or all of them."""
    from rich.progress import Progress

    from spectral_tl_bench.simulation import ARCHIVES, DEFAULT_TILE_SIZE, simulate_archive

    if real_size and tile_size is not None:
        raise SpectralBenchError("--tile-size and --real-size exclude one another")
    names = list(ARCHIVES) if dataset == "all" else [dataset]
    for name in names:
        target = folder / name if dataset == "all" else folder
        with Progress(console=console, transient=True) as bar:
            simulate_archive(
                name,
                target,
                seed=seed,
                tile_size="real" if real_size else tile_size or DEFAULT_TILE_SIZE,
                tiles="real" if real_counts else 1.0,
                progress=partial(_advance, bar, bar.add_task(f"simulating {name}")),
            )
        console.print(f"SIMULATED {name} archive written to {target}", highlight=False)


def _advance(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _described(name: str) -> str | ProtocolFile:
    """A dataset's name, or the protocol file that describes a user's own tiles."""
    from spectral_tl_bench.protocols import read_protocol_file
    from spectral_tl_bench.runs.requests import protocol_file

    path = protocol_file(name)
    if name == "tiles":
        raise SpectralBenchError("your own tiles are described by their protocol file: give its path instead of tiles")
    return name if path is None else read_protocol_file(path)


def check(dataset: str, folder: Path, console: Console, *, as_json: bool) -> bool:
    """Check an archive and print the report; return whether all is well."""
    from spectral_tl_bench.cli.check_view import render
    from spectral_tl_bench.datamodules.soundness import examine
    from spectral_tl_bench.datasets.check import check_archive

    described = _described(dataset)
    report = check_archive(described, folder)
    if report.ok:
        shipped = isinstance(described, str)
        meant = protocols_about(described) if isinstance(described, str) else protocols_of(described)
        problems, notes = examine(meant, folder, all_must_run=not shipped)
        report = report.model_copy(update={"problems": tuple(problems), "notes": (*report.notes, *notes)})
    if as_json:
        print(report.model_dump_json(indent=2))  # noqa: T201  # for a program: a console would break the lines
    else:
        console.print(render(report))
    return report.ok


def index(dataset: str, folder: Path, out: Path | None, console: Console) -> None:
    """Index an archive and, if asked, copy the index to a GeoParquet file."""
    from spectral_tl_bench.datasets import dataset_class, open_dataset
    from spectral_tl_bench.records import write_bytes

    described = _described(dataset)
    opened = dataset_class(described)(folder) if isinstance(described, str) else open_dataset(described, folder)
    if out is not None:
        buffer = io.BytesIO()
        parts = {"part": opened.index["part"].map(str)} if "part" in opened.index else {}
        opened.index.assign(**parts).to_parquet(buffer)
        write_bytes(out, buffer.getvalue())
        console.print(f"written: {out}", highlight=False)
    opened.contents(range(len(opened)))
    console.print(f"{len(opened)} tiles of {opened.name} indexed", highlight=False)


def download(dataset: str, folder: Path, console: Console) -> None:
    """Download an archive and make sure that its tiles are found."""
    from torchgeo.datasets import DatasetNotFoundError

    from spectral_tl_bench.datasets import dataset_class
    from spectral_tl_bench.datasets.download import REPOSITORY
    from spectral_tl_bench.datasets.download import download as fetch
    from spectral_tl_bench.datasets.files import raise_first

    fetch(dataset, folder)
    try:
        opened = dataset_class(dataset)(folder, strict=False)
    except DatasetNotFoundError as error:
        raise SpectralBenchError(
            f"what {REPOSITORY} holds for {dataset} was put under {folder}, but none of it is a tile as "
            "docs/archives.md describes them; sort the files by hand"
        ) from error
    for note in opened.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    raise_first(opened.problems)
    console.print(
        f"{dataset} is ready in {folder}: {len(opened)} tiles; look at every one with: "
        f"spectral-bench data check {dataset} {folder}",
        highlight=False,
        soft_wrap=True,
    )


def shift(protocol: str, root: Path | None, out: Path, seed: int, console: Console) -> None:
    """Measure and draw the shift of each protocol meant."""
    import numpy as np

    from spectral_tl_bench.datasets import open_dataset
    from spectral_tl_bench.datasets.crossing import crossed
    from spectral_tl_bench.datasets.shift import measure_shift, render
    from spectral_tl_bench.datasets.shift_plot import draw_shift
    from spectral_tl_bench.plotting import png
    from spectral_tl_bench.records import prepare_folder, write_bytes
    from spectral_tl_bench.runs.planning import archive_root

    prepare_folder(out)
    for meant in load_protocols(protocol):
        dataset = open_dataset(meant.file, archive_root(meant.file.dataset, root))
        target = np.flatnonzero(meant.transfer.target.select(dataset.index)).tolist()
        report = measure_shift(crossed(dataset, meant, target), meant, seed=seed)
        console.print(render(report))
        name = meant.name.replace("/", "-")
        write_bytes(out / f"{name}.csv", report.table.to_csv(index=False, lineterminator="\n").encode())
        write_bytes(out / f"{name}.png", png(draw_shift(report), dots_per_inch=110))
        console.print(f"written: {out / name}.csv and .png", highlight=False)
