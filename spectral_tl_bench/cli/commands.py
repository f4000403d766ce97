"""The commands, without the parsing of arguments."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from spectral_tl_bench.cli import maps as maps_of_a_run
from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.utils.errors import SpectralBenchError

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.datasets.base import TileDataset
    from spectral_tl_bench.runs.plan import Request
    from spectral_tl_bench.utils.runtime import RuntimeOptions


def run(
    requests: Sequence[Request],
    out: Path,
    options: RuntimeOptions,
    *,
    preset_is_default: bool,
    maps: int = 0,
    dry: bool = False,
) -> None:
    """Do one run or several and print a table for each.

    Args:
        requests: What to run.
        out: Folder of all runs.
        options: How to execute them; the console gets progress and tables.
        preset_is_default: Whether the user named no preset, so that a line tells which one was taken.
        maps: Target tiles of each run to write maps of.
        dry: Describe the runs instead of doing them.
    """
    from spectral_tl_bench.runs import launch

    secondary = options.processes > 1 and launch.is_another()
    if secondary:
        options = replace(options, console=None)
    console = options.output
    first = requests[0]
    if first.where.root is None:
        words = (
            ("SIMULATED data", "bold yellow"),
            ": no --root was given, so this runs on the embedded simulated archive; its figures say nothing about a "
            "real sensor.",
        )
        console.print(Text.assemble(*words), soft_wrap=True)
    elif preset_is_default and first.choices.preset == "quick":
        options.say("no GPU here: preset quick (--preset standard for the full size)")

    from spectral_tl_bench.cli.dry_run import describe
    from spectral_tl_bench.records import prepare_folder
    from spectral_tl_bench.records.titles import heading
    from spectral_tl_bench.report.tables import render
    from spectral_tl_bench.runs.method_runner import runner_of
    from spectral_tl_bench.runs.plan import Plan
    from spectral_tl_bench.runs.planning import plan
    from spectral_tl_bench.runs.runner import execute
    from spectral_tl_bench.training.loggers import require_loggers
    from spectral_tl_bench.utils import distributed
    from spectral_tl_bench.utils.files import remove_empty_folders
    from spectral_tl_bench.utils.runtime import RuntimeOptions, pick_device

    device = pick_device(options.device)
    launch.require_usable(options)
    require_loggers(options.loggers)

    def prepare() -> list[Plan]:
        # Every input is opened before anything is written or trains: a mistake in the last protocol shows at once.
        opened: dict[tuple[str, Path], TileDataset] = {}
        plans = [plan(request, opened) for request in requests]
        for note in dict.fromkeys(note for ready in plans for note in (*ready.dataset.notes, *ready.notes)):
            options.say(f"note: {note}")
        for ready in plans:
            runner_of(type(ready.method)).require_executable(ready, options, maps)
        if not dry:
            if not out.exists():
                existing = next(folder for folder in out.absolute().parents if folder.exists())
                stack.callback(remove_empty_folders, out.absolute(), existing)
            prepare_folder(out)
        return plans

    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*geotransform.*")
        # Before this process starts others. Where srun or torchrun has started them: one after the other.
        early = None if secondary or launch.started_elsewhere() else prepare()
        with launch.together(RuntimeOptions() if dry else options, sys.argv[1:]):
            plans = distributed.rank_zero_first(lambda: prepare() if early is None else early)
            for number, ready in enumerate(plans, start=1):
                options.say(f"[{number}/{len(plans)}] {heading(ready.spec)}")
                if dry:
                    describe(ready, out, device, console)
                    continue
                result = execute(ready, out, options)
                if secondary:
                    continue
                console.print(render(result))
                options.say(f"written to {result.folder}")
                if maps:
                    maps_of_a_run.write(result.folder, ready, maps, options)


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
    suite: str, root: Path | None, out: Path, options: RuntimeOptions, engine: str, **engine_options: Any
) -> None:
    """Do every run of a suite that has no record yet."""
    from spectral_tl_bench.sweeps.engines.options import make_engine
    from spectral_tl_bench.sweeps.suite import find_suite
    from spectral_tl_bench.sweeps.sweep import sweep as do

    chosen = make_engine(engine, out, device=options.device, **engine_options)
    do(find_suite(suite), root, out, chosen, options)


def adapting_methods(console: Console) -> list[str]:
    """Names of the methods that adapt a backbone; prints why others cannot be imported."""
    from spectral_tl_bench.methods import method_names
    from spectral_tl_bench.utils.registry import METHODS

    for problem in METHODS.usable()[1]:
        console.print(Text.assemble(("left out: ", "yellow"), problem), soft_wrap=True)
    return method_names()
