"""Leaderboards: every complete run below a folder, averaged over seeds, one board per protocol file.

Boards are a function of the records: the same records give the same bytes. Runs on simulated tiles get boards of their
own, in a folder of their own, and figures published by others stand in a section of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.records import Run, find_runs, prepare_folder, read_run, write_bytes
from spectral_tl_bench.records.confusion import matrices
from spectral_tl_bench.report.pages import INDEX_HEADING, board_page, index_page
from spectral_tl_bench.report.plots import leaderboard_png
from spectral_tl_bench.report.statistics import TileMatrices, bootstrap_interval, compare, spread
from spectral_tl_bench.report.tables import assignments, changes
from spectral_tl_bench.report.transfers import over_transfers, percent
from spectral_tl_bench.scores import headline
from spectral_tl_bench.spec import RunSpec

SIMULATED_FOLDER = "simulated"
TRANSFERS = "transfers"
_RESERVED = ("published", "readme", SIMULATED_FOLDER, TRANSFERS)
_SEED = 0


@dataclass(frozen=True)
class Built:
    """What :func:`build` did.

    Attributes:
        boards: CSV files written.
        runs: How many runs they are made from.
        skipped: One line per run folder that was left out, and why.
    """

    boards: tuple[Path, ...]
    runs: int
    skipped: tuple[str, ...]


def same_but_seed(spec: RunSpec) -> str:
    """Digest of a specification without its seed: runs that share it are averaged."""
    return spec.model_copy(update={"seed": 0}).digest


def collect(runs_root: Path) -> tuple[list[Run], list[str]]:
    """Read every run below a folder.

    Args:
        runs_root: The folder.

    Returns:
        The runs in the order of their paths, and a line per folder left out: incomplete, damaged, or a copy.

    Raises:
        RecordError: If ``runs_root`` is no folder.
    """
    runs: list[Run] = []
    skipped: list[str] = []
    seen: dict[str, Path] = {}
    for folder in find_runs(runs_root):
        try:
            run = read_run(folder)
        except RecordError as error:
            skipped.append(str(error))
            continue
        first = seen.setdefault(run.record.spec.digest, folder)
        if first != folder:
            skipped.append(f"{folder} is the same run as {first} and counts once")
        else:
            runs.append(run)
    return runs, skipped


def _row(runs: Sequence[Run]) -> dict[str, Any]:
    """One row of a board, from runs that differ in their seed alone; scores in percent."""
    spec, classes = runs[0].record.spec, runs[0].num_classes
    scoring = spec.training.scoring
    target = spread([percent(run) for run in runs])
    source = spread([percent(run, "held_out_source") for run in runs])
    interval = bootstrap_interval([TileMatrices.of(run) for run in runs], np.random.default_rng(_SEED), scoring)
    subdomains = pd.DataFrame(
        [
            {n: float(headline(m, scoring)) for n, m in matrices(run.counts(), classes, "subdomain").items()}
            for run in runs
        ]
    ).mean()
    worst = subdomains.dropna().sort_index()
    return {
        "data": "simulated" if spec.simulated else "real",
        "protocol": spec.protocol,
        "method": spec.method_name,
        "options": assignments(spec.method_options),
        "backbone": spec.backbone,
        "weights": spec.weights,
        "preset": spec.preset,
        "changes": changes(spec),
        "scoring": scoring,
        "selection": spec.training.selection,
        "seeds": target.count,
        "miou": target.mean,
        "sd": target.deviation,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "p_vs_best": np.nan,
        "worst_subdomain": str(worst.idxmin()) if len(worst) else "",
        "worst_miou": worst.min() if len(worst) else np.nan,
        "source_miou": source.mean,
        "gap": source.mean - target.mean,
        "last_miou": spread([percent(run, selection="last") for run in runs]).mean,
        "trainable_m": runs[0].record.parameters.trainable / 1e6,
        "trainable_with_decoder_m": runs[0].record.parameters_with_decoder.trainable / 1e6,
        "id": same_but_seed(spec),
    }


def _p_value(best: Sequence[Run], other: Sequence[Run]) -> float:
    """P-value of the paired test on the seeds both have; NaN where nothing can be paired."""
    by_seed = [{run.record.spec.seed: run for run in runs} for runs in (best, other)]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    if not seeds or best[0].record.classes != other[0].record.classes:
        return float("nan")
    first, second = ([TileMatrices.of(runs[seed]) for seed in seeds] for runs in by_seed)
    try:
        rng = np.random.default_rng(_SEED)
        return compare(first, second, rng, best[0].record.spec.training.scoring).p_value
    except RecordError:  # scored on different tiles
        return float("nan")


def board(runs: Iterable[Run]) -> pd.DataFrame:
    """Make the rows of one board.

    Args:
        runs: Runs on one protocol file, all simulated or none.

    Returns:
        A row per specification (seeds averaged), sorted by protocol, scoring and falling mIoU; scores in percent.
        ``p_vs_best`` compares with the best row of the same protocol and scoring.
    """
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.record.spec.seed):
        groups.setdefault(same_but_seed(run.record.spec), []).append(run)
    frame = pd.DataFrame([_row(group) for group in groups.values()])
    frame = frame.sort_values(["protocol", "scoring", "miou", "id"], ascending=[True, True, False, True])
    frame = frame.reset_index(drop=True)
    for _, rows in frame.groupby(["protocol", "scoring"], sort=True):
        best = groups[str(rows["id"].iloc[0])]
        for position, identity in rows["id"].iloc[1:].items():
            frame.loc[position, "p_vs_best"] = _p_value(best, groups[str(identity)])
    return frame


def _check_index(path: Path) -> None:
    """Refuse to write the index over a README that is not one of ours."""
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(INDEX_HEADING):
        raise RecordError(
            f"{path} is not an index of leaderboards and stays as it is; choose another folder with --out"
        )


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n").encode()


def build(runs_root: Path, out: Path) -> Built:
    """Write the boards of every complete run below a folder.

    For each protocol file: a CSV, a page in Markdown and a plot, in ``out`` or, for simulated tiles, in
    ``out/simulated``; there ``transfers.csv``, if a method ran on every transfer; and ``out/README.md``, which lists
    the boards and shows the means over the transfers.

    Args:
        runs_root: Folder of runs.
        out: Folder of leaderboards.

    Raises:
        RecordError: If there is no complete run, or ``out`` cannot be written.
    """
    runs, skipped = collect(runs_root)
    if not runs:
        reasons = f" ({'; '.join(skipped)})" if skipped else ""
        raise RecordError(f"no complete run below {runs_root}{reasons}; `spectral-bench run` makes one")
    index = out / "README.md"
    _check_index(index)
    groups: dict[tuple[bool, str], list[Run]] = {}
    for run in runs:
        group = run.record.spec.folder.parts[0]
        name = f"{group}_protocol" if group.lower() in _RESERVED else group
        groups.setdefault((run.record.simulated, name), []).append(run)
    frames = {}
    boards = []
    for (simulated, name), members in sorted(groups.items()):
        folder = out / SIMULATED_FOLDER if simulated else out
        prepare_folder(folder)
        frame = board(members)
        frames[simulated, name] = frame
        write_bytes(folder / f"{name}.csv", _csv(frame))
        write_bytes(folder / f"{name}.png", leaderboard_png(frame, name))
        write_bytes(folder / f"{name}.md", board_page(frame, name).encode())
        boards.append(folder / f"{name}.csv")
    overviews = {}
    for simulated in sorted({run.record.simulated for run in runs}):
        overviews[simulated] = over_transfers(run for run in runs if run.record.simulated == simulated)
        if not overviews[simulated].empty:
            folder = out / SIMULATED_FOLDER if simulated else out
            write_bytes(folder / f"{TRANSFERS}.csv", _csv(overviews[simulated]))
    write_bytes(index, index_page(frames, overviews).encode())
    return Built(boards=tuple(boards), runs=len(runs), skipped=tuple(skipped))
