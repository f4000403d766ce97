"""spectral-bench data: simulate, check, index, download and compare archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_tl_bench.cli.console import console
from spectral_tl_bench.utils.validation import LARGEST_SEED

data_app = typer.Typer(help="Simulate, check, index, download and compare archives.", invoke_without_command=True)


@data_app.callback()
def _explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@data_app.command("simulate")
def data_simulate(
    dataset: Annotated[str, typer.Argument(help="whuohs, dfc2020, mts12 or all.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; with `all` one sub-folder each.")],
    seed: Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=LARGEST_SEED)] = 0,
    tile_size: Annotated[int | None, typer.Option(help="Side of a tile in pixels; default 64.", min=8)] = None,
    real_size: Annotated[bool, typer.Option("--real-size", help="Tiles as large as the archive's own.")] = False,
    real_counts: Annotated[bool, typer.Option("--real-counts", help="As many tiles as the archive has.")] = False,
    generation: Annotated[int, typer.Option(help="1, or 2: the same on every processor, with a drawn shift.")] = 1,
    draw: Annotated[int, typer.Option(help="Generation 2: number of the world.", min=0, max=LARGEST_SEED)] = 0,
    shift: Annotated[
        str, typer.Option(help="Generation 2: factors of parts of the shift, such as shares=0,phenology=2.")
    ] = "",
) -> None:
    """Write a simulated archive in the real archive's layout."""
    from spectral_tl_bench.cli import archive_commands

    archive_commands.simulate(
        dataset,
        folder,
        console(),
        tile_size=tile_size,
        real_size=real_size,
        real_counts=real_counts,
        world={"generation": generation, "seed": seed, "draw": draw},
        shift=shift,
    )


@data_app.command("check")
def data_check(
    dataset: Annotated[
        str, typer.Argument(help="A name from `spectral-bench datasets`, or your protocol's YAML file.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of the archive.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare an archive with what is published and look at every tile; exit status 1 when something is wrong."""
    from spectral_tl_bench.cli import archive_commands

    if not archive_commands.check(dataset, folder, console(), as_json=json_):
        raise typer.Exit(1)


@data_app.command("index")
def data_index(
    dataset: Annotated[
        str, typer.Argument(help="A name from `spectral-bench datasets`, or your protocol's YAML file.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of the archive.")],
    out: Annotated[Path | None, typer.Option(help="Copy the index to this GeoParquet file.")] = None,
) -> None:
    """Index an archive's tiles, so that every later run starts at once."""
    from spectral_tl_bench.cli import archive_commands

    archive_commands.index(dataset, folder, out, console())


@data_app.command("download")
def data_download(
    dataset: Annotated[str, typer.Argument(help="whuohs, dfc2020 or mts12.")],
    folder: Annotated[Path, typer.Argument(help="Folder to unpack into.")],
) -> None:
    """Download and unpack an archive; an interrupted download goes on where it stopped."""
    from spectral_tl_bench.cli import archive_commands

    archive_commands.download(dataset, folder, console())


@data_app.command("shift")
def data_shift(
    protocol: Annotated[str, typer.Argument(help="A protocol's name, or a YAML file of your own.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the archive; without it a simulated one.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = Path("shift"),
    seed: Annotated[int, typer.Option(help="Seed of the choice of pixels.", min=0, max=LARGEST_SEED)] = 0,
) -> None:
    """Measure and draw how far source and target are apart."""
    from spectral_tl_bench.cli import archive_commands

    archive_commands.shift(protocol, root, out, seed, console())


@data_app.command("card")
def data_card(
    protocol: Annotated[str, typer.Argument(help="A protocol's name, or a YAML file of your own.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the archive; without it a simulated one.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = Path("card"),
    seed: Annotated[int, typer.Option(help="Seed of the choice of tiles.", min=0, max=LARGEST_SEED)] = 0,
) -> None:
    """Compare statistics of a protocol's tiles with those of real tiles, as a table and a picture."""
    from spectral_tl_bench.cli import archive_commands

    archive_commands.card(protocol, root, out, seed, console())
