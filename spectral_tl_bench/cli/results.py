"""What runs say: leaderboards, one run, two methods against one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_tl_bench.utils.errors import RecordError, RunFailedError, SpectralBenchError

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
    runs: Path, out: Path, console: Console, *, against: Sequence[str], check: bool, site: Path | None
) -> None:
    """Regenerate the leaderboards, or compare them with the records, and say what went in and what did not.

    Raises:
        SpectralBenchError: If ``check``, which writes nothing, comes with a ``site``.
        RunFailedError: If ``check`` finds a disagreement.
    """
    from spectral_tl_bench.report import leaderboard as boards
    from spectral_tl_bench.report.formatting import count
    from spectral_tl_bench.report.run_collection import Standings

    if check and site is not None:
        raise SpectralBenchError("--check writes nothing: leave --site out, or --check")
    standings = Standings.below(runs, against)
    if check:
        built, wrong = boards.check(standings, out)
    else:
        built, wrong = boards.build(standings, out), ()
    _left_out(built.skipped, console)
    console.print(boards.summary_line(built), highlight=False)
    for path in built.unsupported if not check else ():
        console.print(f"no record supports {path}; delete it", highlight=False, markup=False, soft_wrap=True)
    written = list(built.boards)
    if site is not None:
        from spectral_tl_bench.report.site import write_site

        written.append(write_site(standings, site).index)
    for line in wrong or (() if check else [f"written: {path}" for path in written]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if wrong:
        places = count(len(wrong), "place")
        raise RunFailedError(f"boards and records disagree in {places}; `spectral-bench leaderboard` makes them anew")
    if check:
        console.print("boards and records agree", highlight=False)


def find_run(name: str, runs: Path) -> Run:
    """Read the run of a folder, or the one below ``runs`` whose folder's name contains a text.

    Raises:
        RecordError: If there is none, or more than one.
    """
    from spectral_tl_bench.records import find_runs, read_run

    if Path(name).is_dir():
        return read_run(Path(name))
    found = [folder for folder in find_runs(runs) if name in folder.relative_to(runs).as_posix()]
    if len(found) != 1:
        what = f"{len(found)} runs below {runs} are called that" if found else f"no folder, nor a run below {runs}"
        raise RecordError(f"{name}: {what}; name a run's folder or its digest")
    return read_run(found[0])


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
    for found in do(summaries, first, second):
        _print(found, console)


def _print(found: Comparison, console: Console) -> None:
    from spectral_tl_bench.records.titles import SIMULATED
    from spectral_tl_bench.report.run_summary import comparison_table, verdict
    from spectral_tl_bench.report.tables import terminal_table

    first, second = found.names
    heading = f"{first} minus {second}, target mIoU"
    heading = f"{SIMULATED}: {heading}" if found.simulated else heading
    caption = "percent; p: paired t-test over seeds, from three on, corrected over the table (Holm)"
    console.print(terminal_table(comparison_table(found), heading, caption))
    console.print(verdict(found), highlight=False, markup=False, soft_wrap=True)


def report(names: Sequence[str], runs: Path | None, out: Path, console: Console) -> None:
    """Write the page of boards and runs and say what went in and what did not."""
    from spectral_tl_bench.report.formatting import count
    from spectral_tl_bench.report.site import build_site

    everything = Path("runs")
    chosen = [find_run(name, runs or everything).folder for name in names]
    built = build_site(out, runs if runs is not None or chosen else everything, chosen)
    _left_out(built.skipped, console)
    pages = f"{count(built.runs, 'run')}, {count(built.boards, 'board')}, {count(built.run_pages, 'page')} of runs"
    console.print(pages, highlight=False)
    console.print(f"written: {built.index}", highlight=False, markup=False, soft_wrap=True)
