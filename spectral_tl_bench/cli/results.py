"""Results of runs: leaderboards, one run, the comparison of two methods, the page of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.utils.errors import RecordError, RunFailedError, SpectralBenchError
from spectral_tl_bench.utils.text import say

if TYPE_CHECKING:
    from rich.console import Console

    from spectral_tl_bench.records import Run
    from spectral_tl_bench.report.compare import Comparison


def _left_out(skipped: Sequence[str], console: Console) -> None:
    from rich.text import Text

    from spectral_tl_bench.report.formatting import plain

    for line in skipped:
        console.print(Text.assemble(("left out: ", "yellow"), plain(line)), highlight=False, soft_wrap=True)


def leaderboard(
    runs: Path,
    out: Path,
    console: Console,
    *,
    against: Sequence[str],
    check: bool,
    site: Path | None,
    pack: Path | None = None,
) -> None:
    """Regenerate the leaderboards, or compare them with the records, and say what went in and what did not.

    Args:
        runs: Folder of runs.
        out: Folder of leaderboards.
        console: Where to print.
        against: Methods that rows are compared with, besides the fixed comparator.
        check: Whether to compare only.
        site: Folder of the page; None writes none.
        pack: Folder of packed records that the runs are added to before; the boards then show all that it holds.

    Raises:
        SpectralBenchError: If ``check``, which writes nothing, comes with a ``site`` or a ``pack``.
        RunFailedError: If ``check`` finds a disagreement.
    """
    from spectral_tl_bench.report import leaderboard as boards
    from spectral_tl_bench.report.formatting import count
    from spectral_tl_bench.report.run_collection import RunCollection

    if check and (site is not None or pack is not None):
        option = "--site" if pack is None else "--pack"
        raise SpectralBenchError(f"--check writes nothing: leave {option} out, or --check")
    if not check:
        boards.check_folder(out)
    if site is not None:
        from spectral_tl_bench.report.site.build import check_folder

        check_folder(site, "--site")
    if pack is not None:
        runs = _packed(runs, pack, console)
    collection = RunCollection.below(runs, against)
    if check:
        built, wrong = boards.check(collection, out)
    else:
        built, wrong = boards.build(collection, out), ()
    _left_out(built.skipped, console)
    say(console, boards.summary_line(built))
    for path in built.unsupported if not check else ():
        say(console, f"no record supports {path}; delete it")
    written = list(built.boards)
    if site is not None:
        from spectral_tl_bench.report.site import write_site

        written.append(write_site(collection, site).index)
    for line in wrong or (() if check else [f"written: {path}" for path in written]):
        say(console, line)
    if wrong:
        places = count(len(wrong), "place")
        raise RunFailedError(f"boards and records disagree in {places}; `spectral-bench leaderboard` makes them anew")
    if check:
        say(console, "boards and records agree")


def _packed(runs: Path, pack: Path, console: Console) -> Path:
    """Add runs to the packed records in a folder, and return the folder."""
    from spectral_tl_bench.records.packing import pack_runs

    files, left_out = pack_runs(runs, pack)
    _left_out(left_out, console)
    for path in files:
        say(console, f"packed: {path}")
    return pack


def find_run(name: str, runs: Path) -> Run:
    """Read the run of a folder, or the one below ``runs`` whose folder's name contains a text.

    Raises:
        RecordError: If there is none, or more than one.
    """
    from spectral_tl_bench.records import find_runs, has_record, read_run

    if Path(name).is_dir() or has_record(Path(name)):
        return read_run(Path(name))
    matching = [folder for folder in find_runs(runs) if name in folder.relative_to(runs).as_posix()]
    if len(matching) != 1:
        what = (
            f"{len(matching)} runs below {runs} are called that" if matching else f"no folder, nor a run below {runs}"
        )
        raise RecordError(f"{name}: {what}; name a run's folder or its digest")
    return read_run(matching[0])


def show(name: str, runs: Path, console: Console, *, maps: int, trust_code: bool) -> None:
    """Print everything about one run, and write maps of so many of its target tiles."""
    from rich.text import Text

    from spectral_tl_bench.report.formatting import plain
    from spectral_tl_bench.report.run_summary import facts
    from spectral_tl_bench.report.tables import class_rendering, domain_rendering

    run = find_run(name, runs)
    console.print(domain_rendering(run))
    console.print(class_rendering(run, everything=True))
    for label, text in facts(run):
        console.print(Text.assemble((f"{label}: ", "bold"), plain(text)), highlight=False, soft_wrap=True)
    if maps:
        from spectral_tl_bench.cli.maps import write_later
        from spectral_tl_bench.utils.runtime import RuntimeOptions

        write_later(run.folder, maps, RuntimeOptions(console=console), trust_code=trust_code)


def compare(first: str, second: str, runs: Path, console: Console) -> None:
    """Print one method minus another on every protocol that both ran."""
    from spectral_tl_bench.report.compare import compare as do
    from spectral_tl_bench.report.summary import collect

    summaries, skipped = collect(runs)
    _left_out(skipped, console)
    for comparison in do(summaries, first, second):
        _print(comparison, console)


def _print(comparison: Comparison, console: Console) -> None:
    from spectral_tl_bench.records.titles import SIMULATED
    from spectral_tl_bench.report.run_summary import comparison_table, verdict
    from spectral_tl_bench.report.tables import terminal_table

    first, second = comparison.names
    heading = f"{first} minus {second}, target mIoU"
    heading = f"{SIMULATED}: {heading}" if comparison.simulated else heading
    caption = "percent; p: paired t-test over seeds, from three on, corrected over the table (Holm)"
    console.print(terminal_table(comparison_table(comparison), heading, caption))
    say(console, verdict(comparison))


def report(names: Sequence[str], runs: Path | None, out: Path, console: Console) -> None:
    """Write the page of boards and runs and say what went in and what did not."""
    from spectral_tl_bench.report.formatting import count
    from spectral_tl_bench.report.site import build_site
    from spectral_tl_bench.report.site.build import check_folder

    check_folder(out)
    everything = Path("runs")
    chosen = [find_run(name, runs or everything).folder for name in names]
    built = build_site(out, runs if runs is not None or chosen else everything, chosen)
    _left_out(built.skipped, console)
    pages = f"{count(built.runs, 'run')}, {count(built.boards, 'board')}, {count(built.run_pages, 'page')} of runs"
    say(console, pages)
    say(console, f"written: {built.index}")
