"""Leaderboards: every complete run below a folder, averaged over seeds, one board per protocol file.

Boards are a function of the records: the same records give the same bytes. Runs on simulated tiles get boards of their
own, in a folder of their own, and figures published by others are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spectral_tl_bench.records import prepare_folder, write_bytes
from spectral_tl_bench.report.board import comparators
from spectral_tl_bench.report.formatting import count, to_csv
from spectral_tl_bench.report.pages import INDEX_HEADING, board_page, index_page
from spectral_tl_bench.report.plots import leaderboard_png
from spectral_tl_bench.report.robustness_plot import robustness_png
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.summary import RUNS_OF_A_PROCESS
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import check_writable
from spectral_tl_bench.utils.parallel import parallel_map

SIMULATED_FOLDER, DETAILS_FOLDER = "simulated", "details"
TRANSFERS_TABLE, INCOMPLETE_TABLE = "transfers", "incomplete"
_RESERVED = ("published", "readme", SIMULATED_FOLDER, DETAILS_FOLDER, TRANSFERS_TABLE, INCOMPLETE_TABLE)
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


def _folder(simulated: bool) -> Path:
    return Path(SIMULATED_FOLDER) if simulated else Path()


def _names(collection: RunCollection) -> dict[tuple[bool, str], str]:
    """What the files of each board are called."""
    return {key: f"{key[1]}_protocol" if key[1].lower() in _RESERVED else key[1] for key in collection.boards}


_Picture = tuple[Callable[[pd.DataFrame, str], bytes], pd.DataFrame, str]


def _draw(picture: _Picture) -> bytes:
    draw, rows, name = picture
    return draw(rows, name)


def _pictures(collection: RunCollection) -> dict[Path, _Picture]:
    """What is to be drawn, by its path in the folder of the leaderboards."""
    found: dict[Path, _Picture] = {}
    names = _names(collection)
    for key, board in collection.boards.items():
        folder, name = _folder(key[0]), names[key]
        found[folder / f"{name}.png"] = leaderboard_png, board.rows, name
        if board.rows["effective_robustness"].notna().any():
            found[folder / DETAILS_FOLDER / f"{name}.png"] = robustness_png, board.rows, name
    return found


def _tables(collection: RunCollection) -> dict[Path, bytes]:
    """Every file of the leaderboards but the pictures, by its path in their folder."""
    files: dict[Path, bytes] = {}
    names = _names(collection)
    for key, board in collection.boards.items():
        folder, name = _folder(key[0]), names[key]
        files[folder / f"{name}.csv"] = to_csv(board.rows, _DECIMALS)
        files[folder / f"{name}.md"] = board_page(board, name).encode()
        files[folder / DETAILS_FOLDER / f"{name}.csv"] = to_csv(board.details, _DECIMALS)
    for simulated, overview in collection.overviews.items():
        for name, frame in zip((TRANSFERS_TABLE, INCOMPLETE_TABLE), overview, strict=True):
            if not frame.empty:
                files[_folder(simulated) / f"{name}.csv"] = to_csv(frame, _DECIMALS)
    boards = {(simulated, names[simulated, group]): board for (simulated, group), board in collection.boards.items()}
    files[Path("README.md")] = index_page(boards, collection.overviews, comparators(collection.against)).encode()
    return files


def _unsupported(out: Path, files: Iterable[Path]) -> tuple[Path, ...]:
    """Tables in the places of boards that are none of ``files``."""
    folders = [Path(), Path(DETAILS_FOLDER), Path(SIMULATED_FOLDER), Path(SIMULATED_FOLDER, DETAILS_FOLDER)]
    known = {*files, Path("published.csv")}
    found = [path.relative_to(out) for folder in folders for path in (out / folder).glob("*.csv")]
    return tuple(out / path for path in sorted(found) if path not in known)


def _built(out: Path, files: Iterable[Path], collection: RunCollection) -> Built:
    extra = {DETAILS_FOLDER, TRANSFERS_TABLE, INCOMPLETE_TABLE}
    boards = [p for p in files if p.suffix == ".csv" and p.parent.name != DETAILS_FOLDER and p.stem not in extra]
    return Built(
        tuple(out / path for path in boards), len(collection.runs), collection.skipped, _unsupported(out, files)
    )


def check_folder(out: Path) -> None:
    """Check that boards can be written into a folder, and change nothing.

    Raises:
        RecordError: If they cannot, or its README.md is not an index of leaderboards.
    """
    index = out / "README.md"
    if index.exists() and not index.read_text(encoding="utf-8", errors="replace").startswith(INDEX_HEADING):
        raise RecordError(
            f"{index} is not an index of leaderboards and stays as it is; choose another folder with --out"
        )
    check_writable(out)


def build(collection: RunCollection, out: Path) -> Built:
    """Write boards.

    For each protocol file a CSV, a page in Markdown and a plot, in ``out`` or, for simulated tiles, in
    ``out/simulated``; beside them, in ``details``, scores by sub-domain and class and a plot of effective robustness;
    ``transfers.csv`` for what ran on every transfer with the same seeds, ``incomplete.csv`` for what did not, removed
    where there is nothing of the kind, and ``out/README.md``, which lists the boards and shows the means over the
    transfers.

    Args:
        collection: The runs.
        out: Folder of leaderboards.

    Raises:
        RecordError: If ``out`` cannot be written.
    """
    check_folder(out)
    pictures = _pictures(collection)
    # Begun first: of many runs other processes draw while this one writes tables.
    drawn = parallel_map(_draw, list(pictures.values()), len(collection.runs) // RUNS_OF_A_PROCESS)
    files = _tables(collection)
    files |= zip(pictures, drawn, strict=True)
    for folder in sorted({(out / path).parent for path in files}):
        prepare_folder(folder)
    for path, content in files.items():
        write_bytes(out / path, content)
    for simulated in collection.overviews:
        lacking = _folder(simulated) / f"{INCOMPLETE_TABLE}.csv"
        if lacking not in files:
            # What was incomplete is not any more.
            (out / lacking).unlink(missing_ok=True)
    return _built(out, files, collection)


def check(collection: RunCollection, out: Path) -> tuple[Built, tuple[str, ...]]:
    """Compare the boards of a folder with what the records say; nothing is written.

    Pictures are not compared: another version of matplotlib draws other bytes.

    Args:
        collection: The runs, compared with what the boards were built with.
        out: Folder of leaderboards.

    Returns:
        What :func:`build` would report, and one line per disagreement.
    """
    files = _tables(collection)
    built = _built(out, files, collection)
    wrong = []
    for path, content in files.items():
        there = out / path
        if not there.is_file():
            wrong.append(f"{there} is missing")
        elif there.read_bytes() != content:
            wrong.append(f"{there} differs from what the records say")
    wrong += [f"{path} is supported by no record; delete it if its runs are gone" for path in built.unsupported]
    return built, tuple(wrong)


def summary_line(built: Built) -> str:
    """``8 runs, 2 leaderboards``."""
    return f"{count(built.runs, 'run')}, {count(len(built.boards), 'leaderboard')}"
