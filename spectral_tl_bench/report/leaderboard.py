"""Leaderboards: every complete run below a folder, averaged over seeds, one board per protocol file.

Boards are a function of the records: the same records give the same bytes. Runs on simulated tiles get boards of their
own, in a folder of their own, and figures published by others are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.records import prepare_folder, write_bytes
from spectral_tl_bench.report.board import Board, comparators, make_board
from spectral_tl_bench.report.cells import count, to_csv
from spectral_tl_bench.report.pages import INDEX_HEADING, board_page, index_page
from spectral_tl_bench.report.plots import leaderboard_png
from spectral_tl_bench.report.robustness_plot import robustness_png
from spectral_tl_bench.report.summary import Summary, collect
from spectral_tl_bench.report.transfers import over_transfers

SIMULATED_FOLDER, DETAILS_FOLDER = "simulated", "details"
TRANSFERS, INCOMPLETE = "transfers", "incomplete"
_RESERVED = ("published", "readme", SIMULATED_FOLDER, DETAILS_FOLDER, TRANSFERS, INCOMPLETE)
_DECIMALS = 4


@dataclass(frozen=True)
class Built:
    """What :func:`build` or :func:`check` did.

    Attributes:
        boards: CSV files of the boards.
        runs: How many runs they are made from.
        skipped: One line per run folder that was left out, and why.
        unsupported: Boards in the folder that no record supports.
    """

    boards: tuple[Path, ...]
    runs: int
    skipped: tuple[str, ...]
    unsupported: tuple[Path, ...]


def _boards(runs: Iterable[Summary], against: Sequence[str]) -> dict[tuple[bool, str], Board]:
    """Boards by (simulated, name)."""
    groups: dict[tuple[bool, str], list[Summary]] = {}
    for run in runs:
        group = run.spec.protocol_folder.parts[0]
        name = f"{group}_protocol" if group.lower() in _RESERVED else group
        groups.setdefault((run.spec.simulated, name), []).append(run)
    return {key: make_board(members, against) for key, members in sorted(groups.items())}


def _content(runs: Sequence[Summary], against: Sequence[str], pictures: bool) -> dict[Path, bytes]:
    """Every file of the leaderboards by its path in their folder."""
    files: dict[Path, bytes] = {}
    boards = _boards(runs, against)
    for (simulated, name), board in boards.items():
        folder = Path(SIMULATED_FOLDER) if simulated else Path()
        files[folder / f"{name}.csv"] = to_csv(board.rows, _DECIMALS)
        files[folder / f"{name}.md"] = board_page(board, name).encode()
        files[folder / DETAILS_FOLDER / f"{name}.csv"] = to_csv(board.details, _DECIMALS)
        if pictures:
            files[folder / f"{name}.png"] = leaderboard_png(board.rows, name)
            if board.rows["effective_robustness"].notna().any():
                files[folder / DETAILS_FOLDER / f"{name}.png"] = robustness_png(board.rows, name)
    overviews: dict[bool, tuple[pd.DataFrame, pd.DataFrame]] = {}
    for simulated in sorted({run.spec.simulated for run in runs}):
        folder = Path(SIMULATED_FOLDER) if simulated else Path()
        overviews[simulated] = over_transfers((run for run in runs if run.spec.simulated == simulated), against)
        for name, frame in zip((TRANSFERS, INCOMPLETE), overviews[simulated], strict=True):
            if not frame.empty:
                files[folder / f"{name}.csv"] = to_csv(frame, _DECIMALS)
    files[Path("README.md")] = index_page(boards, overviews, comparators(against)).encode()
    return files


def _read(runs_root: Path, against: Sequence[str]) -> tuple[list[Summary], list[str]]:
    runs, skipped = collect(runs_root)
    if not runs:
        reasons = f" ({'; '.join(skipped)})" if skipped else ""
        raise RecordError(f"no complete run below {runs_root}{reasons}; `spectral-bench run` makes one")
    known = {run.spec.method_name for run in runs} | {run.identity for run in runs}
    for name in against:
        if name not in known and name.partition(" (")[0] not in known:
            raise RecordError(f"--against {name}: no run of it below {runs_root}")
    return runs, skipped


def _unsupported(out: Path, files: Iterable[Path]) -> tuple[Path, ...]:
    """Tables in the places of boards that are none of ``files``."""
    folders = [Path(), Path(DETAILS_FOLDER), Path(SIMULATED_FOLDER), Path(SIMULATED_FOLDER, DETAILS_FOLDER)]
    known = {*files, Path("published.csv")}
    found = [path.relative_to(out) for folder in folders for path in (out / folder).glob("*.csv")]
    return tuple(out / path for path in sorted(found) if path not in known)


def _built(out: Path, files: Iterable[Path], runs: Sequence[Summary], skipped: Sequence[str]) -> Built:
    extra = {DETAILS_FOLDER, TRANSFERS, INCOMPLETE}
    boards = [p for p in files if p.suffix == ".csv" and p.parent.name != DETAILS_FOLDER and p.stem not in extra]
    return Built(tuple(out / path for path in boards), len(runs), tuple(skipped), _unsupported(out, files))


def build(runs_root: Path, out: Path, against: Sequence[str] = ()) -> Built:
    """Write the boards of every complete run below a folder.

    For each protocol file a CSV, a page in Markdown and a plot, in ``out`` or, for simulated tiles, in
    ``out/simulated``; beside them, in ``details``, scores by sub-domain and class and a plot of effective robustness;
    ``transfers.csv`` for what ran on every transfer with the same seeds and ``incomplete.csv`` for what did not; and
    ``out/README.md``, which lists the boards and shows the means over the transfers.

    Args:
        runs_root: Folder of runs.
        out: Folder of leaderboards.
        against: Methods that the rows are compared with, besides the fixed comparator.

    Raises:
        RecordError: If there is no complete run, ``out`` cannot be written, or nothing ran of what to compare with.
    """
    runs, skipped = _read(runs_root, against)
    index = out / "README.md"
    if index.exists() and not index.read_text(encoding="utf-8", errors="replace").startswith(INDEX_HEADING):
        raise RecordError(
            f"{index} is not an index of leaderboards and stays as it is; choose another folder with --out"
        )
    files = _content(runs, against, pictures=True)
    for folder in sorted({(out / path).parent for path in files}):
        prepare_folder(folder)
    for path, content in files.items():
        write_bytes(out / path, content)
    return _built(out, files, runs, skipped)


def check(runs_root: Path, out: Path, against: Sequence[str] = ()) -> tuple[Built, tuple[str, ...]]:
    """Compare the boards of a folder with what the records say; nothing is written.

    Pictures are not compared: another version of matplotlib draws other bytes.

    Args:
        runs_root: Folder of runs.
        out: Folder of leaderboards.
        against: As they were built with.

    Returns:
        What :func:`build` would report, and one line per disagreement.

    Raises:
        RecordError: As :func:`build` does.
    """
    runs, skipped = _read(runs_root, against)
    files = _content(runs, against, pictures=False)
    built = _built(out, files, runs, skipped)
    wrong = []
    for path, content in files.items():
        there = out / path
        if not there.is_file():
            wrong.append(f"{there} is missing")
        elif there.read_bytes() != content:
            wrong.append(f"{there} differs from what the records say")
    wrong += [f"{path} is supported by no record" for path in built.unsupported]
    return built, tuple(wrong)


def summary_line(built: Built) -> str:
    """``8 runs, 2 leaderboards``."""
    return f"{count(built.runs, 'run')}, {count(len(built.boards), 'leaderboard')}"
