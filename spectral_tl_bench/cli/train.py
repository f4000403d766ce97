"""spectral-bench run, sweep and predict: whatever trains a model or uses one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_tl_bench.cli.console import console
from spectral_tl_bench.sweeps.engines.base import RETRIES
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.runtime import CHECKPOINT_MINUTES, RuntimeOptions
from spectral_tl_bench.utils.validation import LARGEST_SEED

RunsFolder = Annotated[Path, typer.Option(help="Folder for all runs.")]
CheckpointMinutes = Annotated[
    float, typer.Option(help="Minutes from one checkpoint to the next; a killed run goes on from the last.", min=0)
]

AcrossVersions = Annotated[
    bool,
    typer.Option("--resume-across-versions", help="Resume what other versions of the software began; it is recorded."),
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run Python files that the run names and that you have not run before.")
]


def assignments(pairs: list[str], option: str) -> dict[str, str]:
    """Split ``name=value`` arguments."""
    result = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise SpectralBenchError(f"{option} {pair!r}: write it as name=value")
        result[name.strip()] = value.strip()
    return result


def run(
    method: Annotated[
        str | None, typer.Option(help="A name from `spectral-bench methods`, or file.py:ClassName.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="group/member, group or all from `spectral-bench protocols`, or a YAML file of your own."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the archive. Without it a simulated archive is used and named so.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="quick, standard or reference. Default: standard for real data on a GPU, else quick."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A name from `spectral-bench backbones`.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights: embedded, hub, none (random), or a .pth or .safetensors file. Default: embedded "
            "where the backbone has them, else hub."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random choice; default 0.", min=0, max=LARGEST_SEED)
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the method, name=value; may be repeated.")
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            "--train",
            help="A training setting, such as image_size=128 or segmentation_steps=500; may be repeated. "
            "`spectral-bench settings` lists all.",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="Draw training tiles: uniform, domain (balanced) or class (square-root balanced)."),
    ] = None,
    label_fraction: Annotated[
        float | None, typer.Option(help="Share of the source training tiles whose labels may be used.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Arithmetic of training and scoring: 32-true or bf16-mixed; a preset's is 32-true."),
    ] = None,
    stage1: Annotated[
        Path | None, typer.Option(help="stage1.safetensors of an earlier run to start from, instead of training it.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="run.yaml of an earlier run to repeat exactly.")] = None,
    trust_code: TrustCode = False,
    out: RunsFolder = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; does not enter the record's hash.")] = "auto",
    devices: Annotated[
        int, typer.Option(help="Devices of each node, each with a process of its own that takes its share.", min=1)
    ] = 1,
    num_nodes: Annotated[int, typer.Option(help="Nodes; see docs/operations.md.", min=1)] = 1,
    strategy: Annotated[
        str, typer.Option(help="How several devices share a run: auto, or ddp where every parameter is always used.")
    ] = "auto",
    workers: Annotated[
        int, typer.Option(help="Processes that read tiles, for each device; changes the speed only.", min=0)
    ] = 0,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            help="Also log to tensorboard or wandb, in the run's folder; may be repeated. CSV is always there."
        ),
    ] = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    resume_across_versions: AcrossVersions = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run again even if a complete record exists; it stays until then.")
    ] = False,
    maps: Annotated[
        int, typer.Option(help="Write maps and pictures of so many target tiles into the run's folder maps/.", min=0)
    ] = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the complete specification, tile counts, memory and time, and train and write nothing.",
        ),
    ] = False,
) -> None:
    """Train a method on a protocol's source domain and score it on every target domain."""
    from spectral_tl_bench.cli import commands
    from spectral_tl_bench.runs.requests import repeated, requests

    options = assignments(set_ or [], "--set")
    training = assignments(train or [], "--train")
    named = {"sampler": sampler, "label_fraction": label_fraction, "precision": precision}
    training |= {name: str(value) for name, value in named.items() if value is not None}
    if config is not None:
        given = {
            "--method": method,
            "--protocol": protocol,
            "--preset": preset,
            "--backbone": backbone,
            "--weights": weights,
            "--seed": seed,
            "--set": set_,
            "--train": train,
            "--sampler": sampler,
            "--label-fraction": label_fraction,
            "--precision": precision,
            "--stage1": stage1,
        }
        for option in (name for name, value in given.items() if value is not None):
            raise SpectralBenchError(f"--config repeats a run as it was: leave {option} out")
        wanted = [repeated(config, root, trust_code=trust_code)]
    elif trust_code:
        raise SpectralBenchError("--trust-code is for --config: code that you name yourself runs; leave it out")
    else:
        wanted = requests(
            method,
            protocol,
            root=root,
            preset_name=preset,
            backbone=backbone,
            weights=weights,
            seed=seed or 0,
            options=options,
            training=training,
            stage1=stage1,
        )
    runtime = RuntimeOptions(
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        workers=workers,
        checkpoint_minutes=checkpoint_minutes,
        loggers=tuple(dict.fromkeys(logger or ())),
        resume_across_versions=resume_across_versions,
        force=force,
        console=console(),
    )
    default_preset = preset is None and config is None
    commands.run(wanted, out, runtime, preset_is_default=default_preset, maps=maps, dry=dry_run)


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    scene: Annotated[Path, typer.Argument(help="A raster of the run's sensor, of any size.", metavar="SCENE.TIF")],
    out: Annotated[Path, typer.Argument(help="Gets the map, a GeoTIFF of class codes.", metavar="OUT.TIF")],
    confidence: Annotated[
        Path | None, typer.Option(help="Also write how sure each pixel is, in percent, to this GeoTIFF.")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="The scene's bands in the sensor's order, by number or name: 2,3,4,8 or 3-34 or B02,B03."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Stored value that means a reflectance of 1; default the file's, else the run's."),
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="What is added to stored values first; default the file's, else the run's.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained weights of the run, where they have moved: a file, hub or embedded.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    without_crs: Annotated[
        bool, typer.Option("--without-crs", help="Accept a scene that does not say where it lies.")
    ] = False,
    trust_code: TrustCode = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Map the classes of a whole scene with a run's model; memory does not depend on the scene's height."""
    from spectral_tl_bench.cli.predict import predict as map_scene

    map_scene(
        run,
        scene,
        out,
        console(),
        confidence=confidence,
        bands=bands,
        scale=scale,
        offset=offset,
        weights=weights,
        device=device,
        without_crs=without_crs,
        trust_code=trust_code,
        force=force,
    )


def sweep(
    suite: Annotated[
        str, typer.Argument(help="A shipped suite, or a YAML file of methods, protocols and seeds; see docs/runs.md.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the archives. Without it simulated archives are used and named so.")
    ] = None,
    out: RunsFolder = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; ray; slurm. docs/operations.md explains them.")
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(help="local: runs at a time, which share the CPU cores evenly; default 1.", min=1),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="ray: a running cluster; default this machine alone, or RAY_ADDRESS.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(help="ray, slurm: CPU cores a run; default 1.", min=1)] = None,
    gpus: Annotated[
        float | None,
        typer.Option(help="ray, slurm: GPUs a run; default 1 where this machine has one, else 0.", min=0),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            help="slurm: a setting as submitit calls it, name=value, such as timeout_min=480, partition=gpu or "
            "array_parallelism=8; may be repeated.",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often a run is started again whose worker was lost.", min=0)
    ] = RETRIES,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    resume_across_versions: AcrossVersions = False,
) -> None:
    """Do every run of a suite that has no record yet; one that fails does not end the others."""
    from spectral_tl_bench.cli import commands

    commands.sweep(
        suite,
        root,
        out,
        RuntimeOptions(
            device=device,
            checkpoint_minutes=checkpoint_minutes,
            resume_across_versions=resume_across_versions,
            console=console(),
        ),
        engine,
        jobs=jobs,
        address=address,
        cpus=cpus,
        gpus=gpus,
        slurm=assignments(slurm or [], "--slurm"),
        retries=retries,
    )
