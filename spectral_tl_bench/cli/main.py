"""spectral-bench: the command line. Thin and quick to start: a command imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from spectral_tl_bench.cli.console import console
from spectral_tl_bench.cli.data import data_app
from spectral_tl_bench.cli.failure import failure
from spectral_tl_bench.cli.pretrain import pretrain
from spectral_tl_bench.cli.train import TrustCode, assignments, predict, run, sweep
from spectral_tl_bench.utils.errors import EndedByTheFirstError, SpectralBenchError
from spectral_tl_bench.utils.interruption import ending_on_sigterm

app = typer.Typer(
    name="spectral-bench",
    help=(
        "Does your way of adapting a foundation model to a multispectral or hyperspectral sensor still work in a "
        "region or season it has not seen?\n\nStart with: spectral-bench run --method spectralx --protocol whu_region"
    ),
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data", rich_help_panel=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        from spectral_tl_bench import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    # Taken off before Typer sees it, so that it may stand anywhere; here it is explained.
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(run)
app.command()(pretrain)
app.command()(predict)
app.command()(sweep)


@app.command()
def methods(
    params: Annotated[
        bool, typer.Option("--params", help="Count each method's parameters instead of listing its options.")
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(help="With --params: a name from `spectral-bench backbones`; default vit_micro.")
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(
            help="With --params: ohs (default), sentinel2, mts12, or the protocol file of your own tiles.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="With --params: whose decoder; default quick for vit_micro, else standard.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="With --params: count this method alone; a name, or file.py:ClassName.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --method: one of its options, name=value; may be repeated.")
    ] = None,
    gradients: Annotated[
        bool | None,
        typer.Option(
            help="With --params: measure who receives a gradient. Default: only where that takes seconds; on a ViT-L "
            "it takes minutes and 10 GB of memory.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="With --params: print the counts as JSON.")] = False,
) -> None:
    """List the methods with their options, or with the parameters that they allocate and train."""
    if not params:
        if any(value is not None for value in (backbone, sensor, preset, method, set_, gradients)) or json_:
            raise SpectralBenchError("the options of `spectral-bench methods` belong to --params; add it")
        from spectral_tl_bench.cli import listings

        console().print(listings.methods())
        return
    from spectral_tl_bench.cli import commands

    commands.parameters(
        "vit_micro" if backbone is None else backbone,
        "ohs" if sensor is None else sensor,
        console(),
        preset_name=preset,
        method=method,
        options=assignments(set_ or [], "--set"),
        gradients=gradients,
        as_json=json_,
    )


@app.command()
def protocols() -> None:
    """List the protocols: what trains, what tests."""
    from spectral_tl_bench.cli import listings

    console().print(listings.protocols())


@app.command()
def backbones() -> None:
    """List the backbones."""
    from spectral_tl_bench.cli import listings

    console().print(listings.backbones())


@app.command()
def datasets() -> None:
    """List the archives that can be read."""
    from spectral_tl_bench.cli import listings

    console().print(listings.datasets())


@app.command()
def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table, as in docs/settings.md.")
    ] = False,
) -> None:
    """List the training settings that --train changes, with their values in each preset."""
    from spectral_tl_bench.cli import listings

    if markdown:
        typer.echo(listings.settings_markdown(), nl=False)
    else:
        console().print(listings.settings())


@app.command()
def leaderboard(
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="Folder for the CSV and Markdown files.")] = Path("leaderboards"),
    against: Annotated[
        list[str] | None,
        typer.Option(help="Compare every row with this method too, besides frozen; may be repeated."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 where boards and records disagree.")
    ] = False,
    site: Annotated[
        Path | None, typer.Option(help="Write the page of `report` into this folder too; records are read once.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            help="First add the records of --runs to the packed records in this folder, two files for each board, as "
            "in leaderboards/records; the boards then show all of them."
        ),
    ] = None,
) -> None:
    """Regenerate the leaderboards from the records of runs."""
    from spectral_tl_bench.cli import results

    results.leaderboard(runs, out, console(), against=against or [], check=check, site=site, pack=pack)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a part of its name such as its digest.")],
    runs: Annotated[Path, typer.Option(help="Folder of all runs, where a name is looked for.")] = Path("runs"),
    maps: Annotated[
        int, typer.Option(help="Write maps and pictures of so many target tiles into the run's folder maps/.", min=0)
    ] = 0,
    trust_code: TrustCode = False,
) -> None:
    """Show one run: scores by domain and class, and what made them."""
    from spectral_tl_bench.cli import results

    results.show(run, runs, console(), maps=maps, trust_code=trust_code)


@app.command()
def compare(
    first: Annotated[
        str, typer.Argument(help="A method, a row's name on a board, or an id from a board or the overview.")
    ],
    second: Annotated[str, typer.Argument(help="What it is compared with.")],
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
) -> None:
    """Compare two methods by seed on every protocol that both ran."""
    from spectral_tl_bench.cli import results

    results.compare(first, second, runs, console())


@app.command()
def report(
    run: Annotated[
        list[str] | None, typer.Argument(help="Runs that get a page: folders, or parts of their names.")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of all runs, for the boards. Default: runs; with RUN, the boards show those alone."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("site"),
) -> None:
    """Write a page of boards and runs that opens from a file, offline."""
    from spectral_tl_bench.cli import results

    results.report(run or [], runs, out, console())


@lru_cache
def command_line() -> Any:
    """Every command with its options, put together once a process."""
    return typer.main.get_command(app)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments, wherever it stands; what follows ``--`` is no option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + arguments[end:], len(kept) < end


_PATHS = ("--out", "--root", "--runs", "--pack", "--weights", "--stage1", "--init", "--config")


def _require_paths(arguments: list[str]) -> None:
    """Refuse empty paths, as of a variable that a script did not set: they would mean the current folder."""
    for number, option in enumerate(arguments):
        name, equals, value = option.partition("=")
        if name in _PATHS and not value and (equals or arguments[number + 1 : number + 2] == [""]):
            raise SpectralBenchError(f"{name} has an empty value; give it one, or leave it out")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line: exit status 0 done, 1 failed run, 2 wrong usage or bad input.

    Args:
        arguments: What follows the command's name; None takes this process's.
    """
    # Pixels of tiles without a geotransform are expected here; GDAL's complaint would bury the one line that matters.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # Nor are notices of torch's own to those who write training loops; its errors stay.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The name of a file may hold what the terminal's encoding lacks.
            stream.reconfigure(errors="backslashreplace")
    given, debug = _without_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            if not debug:
                # What libraries tell those who call them is not for the person at the terminal. Filters set stand.
                warnings.simplefilter("ignore", append=True)
            _require_paths(given)
            # Until a run listens itself, and writes a checkpoint first.
            with ending_on_sigterm():
                status = command_line().main(given, prog_name="spectral-bench", standalone_mode=False)
    except Exception as error:  # noqa: BLE001  # the last place that can make one line of it
        if debug:
            traceback.print_exception(error)
        message, status = failure(error)
        if not isinstance(error, EndedByTheFirstError):
            typer.echo(f"spectral-bench: {message}", err=True)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
