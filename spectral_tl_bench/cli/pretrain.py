"""spectral-bench pretrain: weights from unlabelled images of several sensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_tl_bench.cli.console import console
from spectral_tl_bench.cli.train import AcrossVersions, CheckpointMinutes, assignments
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.runtime import CHECKPOINT_MINUTES, RuntimeOptions
from spectral_tl_bench.utils.validation import LARGEST_SEED


def pretrain(
    backbone: Annotated[
        str | None, typer.Argument(help="A name from `spectral-bench backbones`; --config names one too.")
    ] = None,
    archive: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=DIR: whuohs, dfc2020 or mts12, or the protocol file of own tiles, and its folder; may be "
            "repeated. Without any, fresh simulated archives of all three sensors."
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="Of the archive that this is about, see the source tiles alone; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The .safetensors file to write.")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Start from the blocks of a masked autoencoder: a file, or a backbone's name, as vit_b_mae."),
    ] = None,
    simulated: Annotated[
        list[str] | None, typer.Option(help="Without --archive: simulate this archive; may be repeated.")
    ] = None,
    simulated_seed: Annotated[
        int | None, typer.Option(help="Draws the simulated archives; 1 or more, default 1.", min=0, max=LARGEST_SEED)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="quick or standard; default quick for the small backbones.")
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="A training setting, such as reconstruction_steps=2000 or mask_ratio=0.8; may be repeated. "
            "`spectral-bench settings` lists all."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random choice; default 0.", min=0, max=LARGEST_SEED)
    ] = None,
    config: Annotated[str | None, typer.Option(help="A shipped recipe, or a YAML file; see docs/pretrain.md.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read tiles; changes the speed only.", min=0)] = 0,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    resume_across_versions: AcrossVersions = False,
    half: Annotated[
        bool, typer.Option("--half", help="Write half precision: half as large, single again when it is read.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace weights that are there.")] = False,
) -> None:
    """Pretrain a backbone by masked reconstruction, one sensor a batch; the weights say which tiles they have seen."""
    if out is None:
        raise SpectralBenchError("pretrain needs --out weights.safetensors")
    if backbone is None and config is None:
        raise SpectralBenchError("pretrain needs a BACKBONE from `spectral-bench backbones`, or --config with a recipe")
    if archive and (simulated or simulated_seed is not None):
        raise SpectralBenchError("--simulated is for pretraining without --archive; leave one of them out")
    named = [(name, Path(folder)) for name, folder in (_pair(text) for text in archive or [])]
    given = {
        "backbone": backbone,
        "protocols": protocol,
        "init": init,
        "simulated": simulated,
        "simulated_seed": simulated_seed,
        "preset": preset,
        "train": assignments(train or [], "--train"),
        "seed": seed,
    }

    from rich.text import Text

    from spectral_tl_bench.backbones import backbone_entry
    from spectral_tl_bench.pretraining.archives import simulated_archive
    from spectral_tl_bench.pretraining.planning import Asked, announce, plan
    from spectral_tl_bench.pretraining.recipes import recipe
    from spectral_tl_bench.pretraining.run import check_name
    from spectral_tl_bench.pretraining.run import pretrain as train_and_write
    from spectral_tl_bench.utils.runtime import pick_device

    wanted = recipe(config, {name: value for name, value in given.items() if value is not None})
    pick_device(device)
    check_name(out)
    backbone_entry(wanted.backbone)
    to = console()
    if not named:
        said = ": no --archive was given, so archives are simulated that no run is tested on"
        to.print(Text.assemble(("SIMULATED data", "bold yellow"), said), soft_wrap=True)
        sizes = wanted.simulated_tile_size, wanted.simulated_tiles
        named = [(name, simulated_archive(name, wanted.simulated_seed, *sizes)) for name in wanted.simulated]
    ready = plan(
        Asked(
            backbone=wanted.backbone,
            archives=tuple(named),
            protocols=wanted.protocols,
            preset=wanted.preset,
            training=wanted.train,
            init=wanted.init,
            seed=wanted.seed,
        )
    )
    announce(ready, to)
    options = RuntimeOptions(
        device=device,
        workers=workers,
        checkpoint_minutes=checkpoint_minutes,
        resume_across_versions=resume_across_versions,
        force=force,
        console=to,
    )
    options.say(f"written to {train_and_write(ready, out, options, half=half)}")


def _pair(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not separator or not name or not folder:
        raise SpectralBenchError(f"--archive {text!r}: write it as NAME=DIR")
    return name, folder
