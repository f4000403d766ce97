"""Writing packs; see :mod:`spectral_tl_bench.records.pack`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spectral_tl_bench.records.confusion import COUNTS, KEYS, PIXELS
from spectral_tl_bench.records.pack import COUNTS_SUFFIX, FOLDERS, RECORDS_SUFFIX
from spectral_tl_bench.records.record import Run, record_json
from spectral_tl_bench.records.run import find_runs, read_run
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import prepare_folder, replacing, write_bytes

_COMPRESSION_LEVEL = 9
_KINDS = {"truth": pa.int16(), "prediction": pa.int16(), "count": pa.int64(), PIXELS: pa.int64()}
_COLUMNS: list[Any] = [*((key, pa.string()) for key in KEYS), *((name, _KINDS[name]) for name in (*COUNTS, PIXELS))]


def pack_runs(runs: Path, out: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Pack the runs below a folder, and those that are in the packs of ``out`` already: a pack for each protocol file.

    Where both have a run, that below ``runs`` is taken, and from a folder before one from a pack.

    Args:
        runs: Folder of runs. Nothing in it is deleted.
        out: Folder of the packs.

    Returns:
        The files that were written, and a line for each run that is left out: incomplete or damaged.

    Raises:
        RecordError: If there is no folder ``runs``, no complete run in it, or ``out`` cannot be written.
    """
    folders = find_runs(runs)
    if out.is_dir():
        folders += [folder for folder in find_runs(out) if folder not in set(folders)]
    groups: dict[str, dict[str, Path]] = {}
    skipped = []
    # Packed ones last: a folder is newer.
    for folder in sorted(folders, key=lambda path: not path.is_dir()):
        try:
            place = read_run(folder).record.spec.folder
        except RecordError as error:
            skipped.append(str(error))
            continue
        group = groups.setdefault(place.parts[0], {})
        group.setdefault(place.relative_to(place.parts[0]).as_posix(), folder)
    if not groups:
        raise RecordError(f"no complete run below {runs}; `spectral-bench run` makes one")
    prepare_folder(out)
    written = [path for name, members in sorted(groups.items()) for path in write_pack(out / name, members)]
    return tuple(written), tuple(skipped)


def write_pack(folder: Path, runs: Mapping[str, Path]) -> tuple[Path, Path]:
    """Write the pack that stands for a folder; the same runs give the same bytes.

    The counts are written first: should the process end in between, the records of before still find theirs.

    Args:
        folder: ``.../GROUP``.
        runs: Where each run is read from, by its folder below that.

    Returns:
        The files of records and of counts.

    Raises:
        RecordError: If a run cannot be read or a file cannot be written.
    """
    names = sorted(runs)
    schema = pa.schema(_COLUMNS, {FOLDERS: json.dumps(names, ensure_ascii=False).encode()})
    lines = []
    counts = Path(f"{folder}{COUNTS_SUFFIX}")
    with replacing(counts) as temporary:
        options: dict[str, Any] = {"compression": "zstd", "compression_level": _COMPRESSION_LEVEL}
        with pq.ParquetWriter(temporary, schema, **options) as writer:
            for name in names:
                run = read_run(runs[name])
                writer.write_table(_arrow(run, schema), row_group_size=max(1, len(run.confusion)))
                lines.append(f'{{"folder": {json.dumps(name)}, "record": {record_json(run.record, indent=None)}}}\n')
    records = Path(f"{folder}{RECORDS_SUFFIX}")
    write_bytes(records, gzip.compress("".join(lines).encode(), 9, mtime=0))
    return records, counts


def _arrow(run: Run, schema: pa.Schema) -> pa.Table:
    frame = run.confusion
    frame = frame if PIXELS in frame else frame.assign(**{PIXELS: None})
    return pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata(schema.metadata)
