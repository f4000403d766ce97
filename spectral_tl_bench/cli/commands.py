"""What the commands do, apart from parsing arguments."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from spectral_tl_bench.cli import maps as maps_of_a_run
from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.utils.errors import SpectralBenchError

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.datasets.base import TileDataset
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
    from spectral_tl_bench.utils.distributed import Hardware

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
    from spectral_tl_bench.records.titles import heading
    from spectral_tl_bench.report.tables import render
    from spectral_tl_bench.runs.planning import Plan, plan
    from spectral_tl_bench.runs.runner import execute
    from spectral_tl_bench.training.loggers import require_loggers
    from spectral_tl_bench.utils import distributed
    from spectral_tl_bench.utils.distributed import pick_device

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
            plans = distributed.in_turn(lambda: planned() if early is None else early)
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

    from spectral_tl_bench.backbones import backbone_entry, build_backbone
    from spectral_tl_bench.methods import build_method
    from spectral_tl_bench.runs import parameter_counts
    from spectral_tl_bench.utils.registry import short_name

    if options and method is None:
        raise SpectralBenchError("--set changes an option of one method; name it with --method")
    known, classes = parameter_counts.sensor_and_classes(sensor)
    usual = "quick" if backbone_entry(backbone).small else "standard"
    name = usual if preset_name is None else preset_name
    training = preset(name)
    size = parameter_counts.backbone_size(backbone, known)
    names = [method] if method is not None else adapting_methods(console)
    chosen = {n: build_method(n, dict(options)) for n in names}
    measured = size <= parameter_counts.SMALL if gradients is None else gradients
    pretrained = build_backbone(backbone, known) if measured else None
    counts = [
        parameter_counts.account(short_name(n), chosen[n], backbone, known, training, classes, pretrained)
        for n in track(chosen, "counting", console=console, transient=True, disable=as_json)
    ]
    if as_json:
        print(parameter_counts.as_json(counts))  # noqa: T201  # for a program: a console would break the lines
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
    from spectral_tl_bench.sweeps.engines.options import make_engine
    from spectral_tl_bench.sweeps.suite import find_suite
    from spectral_tl_bench.sweeps.sweep import sweep as do

    chosen = make_engine(engine, out, device=device, **options)
    do(find_suite(suite), root, out, console, engine=chosen, device=device, checkpoint_minutes=checkpoint_minutes)


def adapting_methods(console: Console) -> list[str]:
    """Names of the methods that adapt a backbone; says of each that cannot be imported what is wrong with it."""
    from spectral_tl_bench.methods import method_names
    from spectral_tl_bench.utils.registry import METHODS

    for problem in METHODS.usable()[1]:
        console.print(Text.assemble(("left out: ", "yellow"), problem), soft_wrap=True)
    return method_names()
