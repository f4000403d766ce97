"""What a run leaves on disk, and reading and writing it safely.

A run's folder holds ``run.json`` (the record, written last: it marks the run as complete), ``run.yaml`` (repeats the
run), ``confusion.parquet`` (pixel counts per tile) and ``history.csv`` (the training curve). Counts are kept rather
than scores, so that any metric, split or interval can be computed later without the model. The record and the counts
of a run may also be part of a pack (:mod:`spectral_tl_bench.records.pack`); they are read and found alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from spectral_tl_bench.records.confusion import Part
from spectral_tl_bench.records.counts import Counts, check_counts, open_table, read_table
from spectral_tl_bench.records.pack import RECORDS_SUFFIX, open_pack, pack_of
from spectral_tl_bench.records.record import Run, RunRecord, parse_record, record_json, record_of
from spectral_tl_bench.records.run_yaml import CONFIG
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import inside, prepare_folder, read_regular_file, write_bytes
from spectral_tl_bench.utils.hashing import file_digest

RECORD, CONFUSION, HISTORY, MAPS = "run.json", "confusion.parquet", "history.csv", "maps"
WEIGHTS_SUFFIX = ".safetensors"
_MOST_BYTES = 16 * 2**20
"""Of a record; they have 4 KiB."""
_MOST_BYTES_OF_COUNTS = 2**30


def write_run(folder: Path, record: RunRecord, confusion: pd.DataFrame, history: pd.DataFrame | None = None) -> None:
    """Write a finished run.

    Args:
        folder: The run's folder. The record gets the checksums of the files that it holds.
        record: The record; written last.
        confusion: What :meth:`ConfusionTable.frame` returns.
        history: Training curve, one row a validation.

    Raises:
        RecordError: If the counts do not fit the record, or a file cannot be written.
    """
    import pyarrow as pa

    counts = Counts.of(pa.Table.from_pandas(confusion, preserve_index=False), folder / CONFUSION)
    _check(counts, record, folder / CONFUSION)
    prepare_folder(folder)
    # A record left by an earlier attempt must not vouch for the new counts while they are being written.
    (folder / RECORD).unlink(missing_ok=True)
    write_bytes(folder / CONFUSION, confusion.to_parquet(index=False))
    if history is not None:
        write_bytes(folder / HISTORY, history.to_csv(index=False, lineterminator="\n").encode())
    checksums = {"counts": counts.digest(), "files": _checksums(folder)}
    write_bytes(folder / RECORD, record_json(record.model_copy(update=checksums)).encode())


def checksum(path: Path) -> str:
    """Checksum of a file as records hold it."""
    return f"sha256:{file_digest(path, 64)}"


def _checksums(folder: Path) -> dict[str, str]:
    """Checksums of the training curve and the weights in a folder, by the names of their files."""
    kept = [path for path in sorted(folder.iterdir()) if path.name == HISTORY or path.suffix == WEIGHTS_SUFFIX]
    return {path.name: checksum(path) for path in kept if path.is_file() and not path.name.startswith(".")}


def _check(counts: Counts, record: RunRecord, path: Path) -> None:
    expected: dict[Part, int] = {"target": record.tiles.target, "held_out_source": record.tiles.held_out}
    check_counts(counts, len(record.classes), expected, record.spec.training.selection, path)


def _read_file(path: Path, most: int, missing: str) -> bytes:
    try:
        return read_regular_file(path, most)
    except FileNotFoundError as error:
        raise RecordError(f"{path.parent} has no {path.name}{missing}") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error


def read_run(folder: Path) -> Run:
    """Read a finished run from its folder or, where that holds no record, from the pack that covers the folder.

    Args:
        folder: The run's folder.

    Raises:
        RecordError: If the run is not complete, a file is damaged or not ours, or its parts contradict one another.
    """
    path = inside(folder, RECORD)
    if not os.path.lexists(path) and (packed := pack_of(folder)) is not None:
        record, counts, path = packed.read(folder)
    else:
        content = parse_record(_read_file(path, _MOST_BYTES, ": the run is not complete, run it again"), str(path))
        record = record_of(content, str(path), path.parent.absolute().name)
        path = inside(folder, CONFUSION)
        table = open_table(_read_file(path, _MOST_BYTES_OF_COUNTS, "; run it again"), path)
        counts = Counts.of(read_table(table, path), path)
    _check(counts, record, path)
    if counts.digest() != record.counts:
        raise RecordError(f"{path} is damaged: its checksum is not that of its record; run it again")
    return Run(folder=folder, record=record, table=counts)


def has_record(folder: Path) -> bool:
    """Whether a folder, or the pack that covers it, holds the record of a run; it may be damaged."""
    try:
        return (folder / RECORD).is_file() or pack_of(folder) is not None
    except RecordError:
        return False


def damaged_files(run: Run, names: Iterable[str] | None = None) -> list[str]:
    """Names of a run's files that are not as the run wrote them; files that were deleted are not damaged.

    Args:
        run: The run.
        names: Which files; None takes all that the record names.
    """
    checksums = run.record.files
    damaged = []
    for name in checksums.keys() & names if names is not None else checksums:
        path = inside(run.folder, name)
        if os.path.lexists(path) and (not path.is_file() or checksum(path) != checksums[name]):
            damaged.append(name)
    return sorted(damaged)


def find_runs(root: Path) -> list[Path]:
    """Return every folder below ``root`` that holds a run, complete or not, and those in packs, sorted.

    A pack that cannot be read is in the list as its file, which :func:`read_run` refuses with the reason.

    Raises:
        RecordError: If ``root`` is no folder.
    """
    wanted = {RECORD, CONFIG, CONFUSION}
    runs: set[Path] = set()
    if not root.is_dir():
        # A folder that exists in a pack alone.
        covering = pack_of(root)
        if covering is None:
            raise RecordError(f"there is no folder of runs {root}; `spectral-bench run` makes one")
        return sorted(folder for folder in covering.folders() if folder.is_relative_to(root))
    for place, folders, files in os.walk(root):
        # A run that replaces another is in a hidden folder until it is complete.
        if not wanted.isdisjoint([*folders, *files]) and not Path(place).name.startswith("."):
            runs.add(Path(place))
        for name in files:
            if name.endswith(RECORDS_SUFFIX):
                file = Path(place, name)
                try:
                    runs.update(open_pack(file).folders())
                except RecordError:
                    runs.add(file)
    return sorted(runs)
