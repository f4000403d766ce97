"""What a run leaves on disk, and reading and writing it safely.

A run's folder holds ``run.json`` (the record, written last: it marks the run as complete), ``run.yaml`` (repeats the
run), ``confusion.parquet`` (pixel counts per tile) and ``history.csv`` (the training curve). Counts are kept rather
than scores, so that any metric, split or interval can be computed later without the model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records.confusion import KEYS, Part, Selection
from spectral_tl_bench.records.counts import MOST_CLASSES, MOST_ROWS, Counts, check_counts
from spectral_tl_bench.records.provenance import Provenance
from spectral_tl_bench.records.run_yaml import CONFIG
from spectral_tl_bench.utils.errors import RecordError, first_problem
from spectral_tl_bench.utils.files import inside, prepare_folder, write_bytes
from spectral_tl_bench.utils.registry import short_name
from spectral_tl_bench.utils.validation import Value, parse_json

if TYPE_CHECKING:
    import pyarrow.parquet as pq

FORMAT: Literal[1] = 1
"""Version of the record's format; raised when an older reader could not read it."""

RECORD, CONFUSION, HISTORY, MAPS = "run.json", "confusion.parquet", "history.csv", "maps"


class ClassLegend(Value):
    """A class's name and its colour as ``#rrggbb``, in the order of class ids."""

    name: str
    color: str


class GuessErrors(Value):
    """Mean squared errors on the same hidden patches: of the model, and of two guesses that anybody could make.

    Attributes:
        model: Of masked reconstruction.
        mean_of_visible: Of the mean spectrum of the image's visible patches.
        nearest_visible: Of the nearest visible patch.
    """

    model: float = Field(ge=0)
    mean_of_visible: float = Field(ge=0)
    nearest_visible: float = Field(ge=0)


class ReconstructionErrors(Value):
    """How well masked reconstruction does on held-out source tiles, in the units of what it restores.

    Attributes:
        pixels: Errors over all pixels of hidden patches.
        spectra: Errors of the mean spectra of hidden patches.
    """

    pixels: GuessErrors
    spectra: GuessErrors


class StageRecord(Value):
    """What a stage took and, of masked reconstruction, how well it does.

    Attributes:
        steps: Optimiser steps.
        seconds: Wall-clock seconds.
        errors: Of masked reconstruction; None of other stages, and in records from before they were kept.
    """

    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    errors: ReconstructionErrors | None = None


class ParameterCounts(Value):
    """Numbers of parameters.

    Attributes:
        allocated: All of them.
        trainable: Those with ``requires_grad``.
        gradient_receiving: Those that in fact received a gradient.
    """

    allocated: int = Field(ge=0)
    trainable: int = Field(ge=0)
    gradient_receiving: int = Field(ge=0)


class TileCounts(Value):
    """How many tiles trained, were held out of the source, and tested; how many of the source took no part.

    The latter are the margin around held-out tiles, none in records from before there was one.
    """

    train: int = Field(ge=0)
    held_out: int = Field(ge=0)
    target: int = Field(ge=0)
    margin: int = Field(default=0, ge=0)


class Selected(Value):
    """Steps of segmentation that were scored: the best on held-out source tiles, and the last."""

    best_step: int = Field(ge=0)
    last_step: int = Field(ge=0)


class RunRecord(Value):
    """Everything about a finished run except its pixel counts.

    Attributes:
        format: Version of this format.
        spec: What was run.
        title: The protocol's title.
        split_origin: Who drew an in-domain split: "authors", or "blocked" for this package's own; None for a transfer.
        held_out_rule: How source tiles were held out: "cells" with a margin around them, or "blocks" without, as in
            records from before there was another rule.
        classes: Classes in the order of their ids.
        provenance: Software, hardware, time.
        stages: Steps and seconds by stage.
        peak_memory_mib: Peak memory in MiB, of the accelerator if one was used, else of the process.
        parameters: Counts of the adapted backbone, without the segmentation decoder.
        parameters_with_decoder: Counts of the whole segmenter.
        selected: The scored steps.
        tiles: Numbers of tiles.
    """

    format: Literal[1] = FORMAT
    spec: RunSpec
    title: str
    split_origin: str | None = None
    held_out_rule: Literal["cells", "blocks"] = "blocks"
    classes: tuple[ClassLegend, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    provenance: Provenance
    stages: dict[str, StageRecord]
    peak_memory_mib: float | None = Field(default=None, ge=0)
    parameters: ParameterCounts
    parameters_with_decoder: ParameterCounts
    selected: Selected
    tiles: TileCounts

    @property
    def simulated(self) -> bool:
        """Whether the tiles were simulated; such a run never enters a real leaderboard."""
        return self.spec.simulated


@dataclass(frozen=True)
class Run:
    """A finished run as read from its folder."""

    folder: Path
    record: RunRecord
    table: Counts

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Pixel counts, as :meth:`ConfusionTable.frame` returns them."""
        return self.table.frame()

    @property
    def selection(self) -> Selection:
        """The step that the run selects."""
        return self.record.spec.training.selection

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.record.classes)

    def counts(self, part: Part = "target", selection: Selection | None = None) -> pd.DataFrame:
        """Return the rows of one part, by default as predicted by the step that the run selects."""
        return self.confusion[self.table.rows(part, selection or self.selection)]


def write_run(folder: Path, record: RunRecord, confusion: pd.DataFrame, history: pd.DataFrame | None = None) -> None:
    """Write a finished run.

    Args:
        folder: The run's folder.
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
    write_bytes(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def _check(counts: Counts, record: RunRecord, path: Path) -> None:
    expected: dict[Part, int] = {"target": record.tiles.target, "held_out_source": record.tiles.held_out}
    check_counts(counts, len(record.classes), expected, record.spec.training.selection, path)


def _first_digest(spec: dict[str, Any]) -> str:
    """A specification's digest as the first records have it: of everything in it, defaults included."""
    if spec.get("method_source") is not None:
        spec = {**spec, "method": short_name(str(spec["method"]))}
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _check_digest(folder: Path, spec: RunSpec, content: dict[str, Any]) -> None:
    """Refuse a record whose folder is named after another specification: one of the two has been changed."""
    named = re.search(r"-s\d+-([0-9a-f]{10})$", folder.name)
    if named and named[1] != (digest := spec.digest) and named[1] != _first_digest(content):
        raise RecordError(
            f"{folder / RECORD} contradicts its folder: its specification has digest {digest}; run it again"
        )


def _read_record(path: Path) -> RunRecord:
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordError(f"{path.parent} has no {RECORD}: the run is not complete, run it again") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(content, dict) or "format" not in content or not isinstance(content.get("spec"), dict):
        raise RecordError(f"{path} is not the record of a run")
    if content["format"] != FORMAT:
        raise RecordError(f"{path} has format {content['format']}, this version reads {FORMAT}; update the package")
    try:
        record = RunRecord.model_validate(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {first_problem(error)}") from error
    _check_digest(path.parent.absolute(), record.spec, content["spec"])
    return record


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, read_dictionary=list(KEYS))
    except KeyError:  # a column is missing, which the table's reader says better
        return pq.ParquetFile(path)


def _read_counts(path: Path) -> Counts:
    import pyarrow as pa

    try:
        # Names as categories: there are thousands of rows of a few names each.
        with _opened(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise RecordError(f"{path} claims {file.metadata.num_rows} rows, which no run writes")
            table = file.read(use_threads=False)
    except FileNotFoundError as error:
        raise RecordError(f"{path.parent} has no {CONFUSION}; run it again") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecordError(f"{path} is not readable as Parquet; run it again") from error
    return Counts.of(table, path)


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Args:
        folder: The run's folder.

    Raises:
        RecordError: If the run is not complete, a file is damaged or not ours, or its parts contradict one another.
    """
    record = _read_record(inside(folder, RECORD))
    counts = _read_counts(inside(folder, CONFUSION))
    _check(counts, record, folder / CONFUSION)
    return Run(folder=folder, record=record, table=counts)


def find_runs(root: Path) -> list[Path]:
    """Return every folder below ``root`` that holds a run, complete or not, sorted.

    Raises:
        RecordError: If ``root`` is no folder.
    """
    if not root.is_dir():
        raise RecordError(f"there is no folder of runs {root}; `spectral-bench run` makes one")
    wanted = {RECORD, CONFIG, CONFUSION}
    found = [Path(folder) for folder, folders, files in os.walk(root) if not wanted.isdisjoint([*folders, *files])]
    # A run that replaces another stands in a hidden folder until it is complete.
    return sorted(path for path in found if not path.name.startswith("."))
