"""Building the page: which runs, which pages, and writing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_tl_bench.records import find_runs, prepare_folder, read_run, write_bytes
from spectral_tl_bench.records.titles import SIMULATED, heading
from spectral_tl_bench.report.board import Board, comparators
from spectral_tl_bench.report.formatting import plain
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.site.assets import FOLDER, Assets, script, styles
from spectral_tl_bench.report.site.boards import comparisons, described, sections
from spectral_tl_bench.report.site.runs import run_page
from spectral_tl_bench.report.site.table_cells import Cell, Column, Table, assemble, number, numbers, words
from spectral_tl_bench.report.summary import Summary, grouped
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import check_writable
from spectral_tl_bench.utils.hashing import text_digest

MOST_RUN_PAGES = 200
"""Runs below a folder that get a page each; of more, only those that are named."""
INDEX, OTHER_INDEX = "index.html", "simulated.html"
_MADE_BY = b'<meta name="generator" content="spectral-bench report">'


@dataclass(frozen=True)
class Built:
    """What :func:`build_site` did.

    Attributes:
        index: The page to open.
        runs: How many runs the boards are made from.
        boards: How many boards there are.
        run_pages: How many runs have a page.
        skipped: One line per run folder that was left out, and why.
    """

    index: Path
    runs: int
    boards: int
    run_pages: int
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Page:
    """A page before it is laid out: its template and what that shows."""

    template: str
    values: dict[str, Any]
    simulated: bool
    sortable: bool = True


def build_site(out: Path, runs_root: Path | None = None, chosen: Sequence[Path] = ()) -> Built:
    """Write the pages of boards and runs; see :func:`write_site`.

    Args:
        out: Folder of the page.
        runs_root: Folder of runs; all of them enter the boards. None: the chosen ones alone do.
        chosen: Folders of runs that get a page each. Without any, every run gets one unless there are more than 200.

    Raises:
        RecordError: If there is no complete run, a chosen one cannot be read, or ``out`` cannot be written.
    """
    folders = [] if runs_root is None else find_runs(runs_root)
    there = {folder.resolve() for folder in folders} if chosen else set()
    folders += [folder for folder in chosen if folder.resolve() not in there]
    where = "among the runs named" if runs_root is None else f"below {runs_root}"
    return write_site(RunCollection.read(folders, where), out, chosen)


def write_site(collection: RunCollection, out: Path, chosen: Sequence[Path] = ()) -> Built:
    """Write the pages of boards and runs.

    Args:
        collection: The runs that enter the boards.
        out: Folder of the page. What an earlier build left there and nothing needs any more goes.
        chosen: Folders of runs that get a page each. Without any, every run gets one unless there are more than 200.

    Raises:
        RecordError: If a chosen run cannot be read, or ``out`` cannot be written.
    """
    check_folder(out)
    digests = {read_run(folder).record.spec.digest for folder in chosen}
    if not chosen and len(collection.runs) <= MOST_RUN_PAGES:
        digests = {run.spec.digest for run in collection.runs}
    with_page = [run for run in collection.runs if run.spec.digest in digests]
    assets = Assets()
    pages: dict[str, _Page] = {}
    problems = list(collection.skipped)
    homes = {kind: INDEX if kind == collection.kinds[0] else OTHER_INDEX for kind in collection.kinds}
    for simulated in collection.kinds:
        own = [run for run in with_page if run.spec.simulated == simulated]
        made = _boards(collection, own, simulated, homes[simulated])
        pages |= {name: page for name, (page, _) in made.items()}
        for run in own:
            pages[_run_file(run)] = page = _run_page(run, assets, homes[simulated])
            problems += page.values["files"].problems
        values = {
            "title": f"{SIMULATED}: leaderboards" if simulated else "Leaderboards",
            "trail": [],
            "here": "overview",
            "boards": _board_list({name: (group, board) for name, (page, (group, board)) in made.items()}),
            "other": _other(simulated, homes),
            "runs": _run_list(own) if own else None,
            "many": 0 if own else len(collection.of_kind(simulated)),
            "skipped": [plain(line) for line in problems],
            **_overviews(*collection.overviews[simulated], comparators(collection.against)),
        }
        pages[homes[simulated]] = _Page("index.html", values, simulated)
    _write(out, pages, assets)
    return Built(out / INDEX, len(collection.runs), len(collection.boards), len(with_page), tuple(problems))


def _file_name(text: str) -> str:
    """A name for a file, whatever a record calls something."""
    safe = re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:60]
    return safe if safe == text else f"{safe}-{text_digest(text, 8)}"


def _run_file(run: Summary) -> str:
    return f"run-{run.spec.digest}.html"


def _boards(
    collection: RunCollection, with_page: Iterable[Summary], simulated: bool, home: str
) -> dict[str, tuple[_Page, tuple[str, Board]]]:
    """Boards by the file of their page, one a protocol file."""
    links: dict[str, str] = {}
    for run in with_page:
        links.setdefault(run.identity, _run_file(run))
    made = {}
    for (kind, group), board in collection.boards.items():
        if kind != simulated:
            continue
        rows = {row.identity: row for row in grouped(collection.members[kind, group])}
        shown = sections(board, rows, links)
        title = plain(f"{SIMULATED}: {group}" if simulated else group)
        values = {"title": title, "trail": [("overview", home)], "here": plain(group), "sections": shown}
        name = f"{'simulated-' if simulated else ''}board-{_file_name(group)}.html"
        made[name] = _Page("board.html", values, simulated), (group, board)
    return made


def _run_page(run: Summary, assets: Assets, home: str) -> _Page:
    values = {
        "title": plain(heading(run.spec)),
        "trail": [("overview", home)],
        "here": "run",
        **vars(run_page(read_run(run.folder), assets)),
    }
    return _Page("run.html", values, run.spec.simulated)


def _board_list(boards: dict[str, tuple[str, Board]]) -> Table:
    frames = [board.rows for _, board in boards.values()]
    links = [Cell(plain(group), link=name) for name, (group, _) in boards.items()]
    columns = [
        (Column("board"), links),
        (Column("protocols", numeric=True), [number(frame["protocol"].nunique(), 0) for frame in frames]),
        (Column("rows", numeric=True), [number(len(frame), 0) for frame in frames]),
        (Column("runs", numeric=True), [number(int(frame["seeds"].sum()), 0) for frame in frames]),
    ]
    return assemble("boards-list", columns)


def _other(simulated: bool, homes: dict[bool, str]) -> tuple[str, str] | None:
    if len(homes) < 2:
        return None
    return ("Boards of real archives", homes[False]) if simulated else ("Boards of SIMULATED tiles", homes[True])


def _run_list(runs: Sequence[Summary]) -> Table:
    frame = pd.DataFrame([(run.spec.method_name, run.spec.protocol, run.spec.backbone) for run in runs])
    links = [Cell(cell.text, link=_run_file(run)) for cell, run in zip(words(frame[0]), runs, strict=True)]
    columns = [
        (Column("method"), links),
        (Column("protocol"), words(frame[1])),
        (Column("mIoU", numeric=True), numbers([run.miou for run in runs])),
        (Column("source", numeric=True), numbers([run.source for run in runs])),
        (Column("seed", numeric=True), [number(run.spec.seed, 0) for run in runs]),
        (Column("backbone"), words(frame[2])),
        (Column("digest"), words([run.spec.digest for run in runs])),
    ]
    return assemble("runs-list", columns, "Target and held-out source mIoU in percent; a single run is no verdict")


def _overviews(frame: pd.DataFrame, lacking: pd.DataFrame, against: Sequence[str]) -> dict[str, Table | None]:
    """The means over all transfers, and what lacks some of them."""
    overview = incomplete = None
    if not frame.empty:
        transfers = [str(name) for name in frame.columns if "/" in str(name)]
        columns = [
            *described(frame, {})[:1],
            (Column("mean", numeric=True), numbers(frame["mean"])),
            (Column("± sd", numeric=True), numbers(frame["sd"])),
            (Column("seeds", numeric=True), numbers(frame["seeds"], 0)),
            *comparisons(frame, against, over_transfers=True),
            *((Column(name, numeric=True), numbers(frame[name])) for name in transfers),
            (Column("source", numeric=True), numbers(frame["source_mean"])),
            *described(frame, {})[1:],
        ]
        overview = assemble("transfers", columns, "Target mIoU in percent, best first")
    if not lacking.empty:
        columns = [*described(lacking, {}), (Column("missing", wrapped=True), words(lacking["missing"]))]
        incomplete = assemble("incomplete", columns)
    return {"overview": overview, "incomplete": incomplete}


def check_folder(out: Path, option: str = "--out") -> None:
    """Check that pages can be written into a folder, and change nothing.

    Args:
        out: The folder.
        option: What names another one, for the message.

    Raises:
        RecordError: If they cannot, or it holds an index of another origin.
    """
    index = out / INDEX
    if index.exists() and not (index.is_file() and _MADE_BY in index.read_bytes()):
        raise RecordError(
            f"{index} was not made by `spectral-bench report` and stays; choose another folder with {option}"
        )
    check_writable(out, option)


def _write(out: Path, pages: dict[str, _Page], assets: Assets) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("spectral_tl_bench.report.site"), autoescape=True, undefined=StrictUndefined
    )
    sheets = [assets.add(style, ".css") for style in styles()]
    code = assets.add(script(), ".js")
    content = dict(assets.content)
    for name, page in pages.items():
        shared = {"simulated": page.simulated, "styles": sheets, "script": code if page.sortable else None}
        text = environment.get_template(page.template).render(**page.values, **shared)
        # Whatever a name holds: nothing that moves a cursor or changes the direction of writing.
        lines = (line if line.isprintable() else plain(line) for line in text.split("\n"))
        content[name] = "\n".join(lines).encode()
    for folder in (out, out / FOLDER):
        prepare_folder(folder)
    # The index last: it is there only when all that it leads to is.
    for name in sorted(content, key=lambda name: (name == INDEX, name)):
        write_bytes(out / name, content[name])
    _clear(out, content)


def _clear(out: Path, content: Iterable[str]) -> None:
    """Remove what an earlier build left and this one does not need; nothing else."""
    wanted = {out / name for name in content}
    for path in sorted(out.glob("*.html")):
        if path not in wanted and _MADE_BY in path.read_bytes():
            path.unlink()
    for path in sorted((out / FOLDER).iterdir()):
        if path not in wanted and re.fullmatch(r"[0-9a-f]{16}\.(png|css|js)", path.name):
            path.unlink()
