"""The record of a run as a value, and as JSON that carries its own checksum."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, ValidationError

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records.confusion import Part, Selection
from spectral_tl_bench.records.counts import MOST_CLASSES, Counts
from spectral_tl_bench.records.provenance import Provenance
from spectral_tl_bench.utils.errors import RecordError, first_problem
from spectral_tl_bench.utils.hashing import json_digest
from spectral_tl_bench.utils.validation import Value, parse_json

FORMAT: Literal[1] = 1
"""Version of the record's format; raised when an older reader could not read it."""
CHECKSUM = "checksum"
"""Key of the record's own checksum, the last of the file."""


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
        errors: Of masked reconstruction; None of other stages.
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
    """How many tiles trained, were held out of the source, tested, and lay in the margin around held-out tiles."""

    train: int = Field(ge=0)
    held_out: int = Field(ge=0)
    target: int = Field(ge=0)
    margin: int = Field(ge=0)


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
        held_out_rule: How source tiles were held out: "cells" with a margin around them, or "blocks" without.
        classes: Classes in the order of their ids.
        provenance: Software, hardware, time.
        stages: Steps and seconds by stage.
        peak_memory_mib: Peak memory in MiB, of the accelerator if one was used, else of the process.
        parameters: Counts of the adapted backbone, without the segmentation decoder.
        parameters_with_decoder: Counts of the whole segmenter.
        selected: The scored steps.
        tiles: Numbers of tiles.
        counts: Checksum of the pixel counts; empty until they are written.
        files: Checksums of the other files that the run wrote, by name.
    """

    format: Literal[1] = FORMAT
    spec: RunSpec
    title: str
    split_origin: str | None = None
    held_out_rule: Literal["cells", "blocks"]
    classes: tuple[ClassLegend, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    provenance: Provenance
    stages: dict[str, StageRecord]
    peak_memory_mib: float | None = Field(default=None, ge=0)
    parameters: ParameterCounts
    parameters_with_decoder: ParameterCounts
    selected: Selected
    tiles: TileCounts
    counts: str = ""
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the tiles were simulated; such a run never enters a real leaderboard."""
        return self.spec.simulated


@dataclass(frozen=True)
class Run:
    """A finished run as read from its folder or from a pack.

    Attributes:
        folder: The run's folder. A run that is in a pack alone has the folder that it would have there.
        record: The record.
        table: The pixel counts.
    """

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


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a record with its checksum, which covers everything else in whatever layout."""
    unsealed = {key: value for key, value in content.items() if key != CHECKSUM}
    return {**unsealed, CHECKSUM: f"sha256:{json_digest(unsealed, 64)}"}


def record_json(record: RunRecord, indent: int | None = 2) -> str:
    """Return a record as JSON with its checksum; on one line without ``indent``."""
    return json.dumps(sealed(record.model_dump(mode="json")), indent=indent, ensure_ascii=False)


def parse_record(text: bytes, place: str) -> Any:
    """Parse the JSON of a record, which :func:`record_of` then validates.

    Args:
        text: The JSON.
        place: Where it was, for messages.

    Raises:
        RecordError: If it is no JSON.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise RecordError(f"{place} is not readable as JSON: {error}") from error


def record_of(content: Any, place: str, folder: str) -> RunRecord:
    """Validate the content of a record.

    Args:
        content: What :func:`record_json` wrote, parsed.
        place: Where it was, for messages.
        folder: Name of the run's folder, which ends with the digest of the specification.

    Raises:
        RecordError: If it is no record, of another format, damaged, or of another run than its folder's name says.
    """
    if not isinstance(content, dict) or "format" not in content or not isinstance(content.get("spec"), dict):
        raise RecordError(f"{place} is not the record of a run")
    if content["format"] != FORMAT:
        raise RecordError(f"{place} has format {content['format']}, this version reads {FORMAT}; update the package")
    try:
        record = RunRecord.model_validate({key: value for key, value in content.items() if key != CHECKSUM})
    except ValidationError as error:
        raise RecordError(f"{place}: {first_problem(error)}") from error
    named = re.search(r"-s\d+-([0-9a-f]{10})$", folder)
    if named and named[1] != (digest := record.spec.digest):
        raise RecordError(f"{place} contradicts its folder: its specification has digest {digest}; run it again")
    if content.get(CHECKSUM) != sealed(content)[CHECKSUM]:
        raise RecordError(f"{place} is damaged: its checksum does not fit what it holds; run it again")
    return record
