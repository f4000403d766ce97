"""Confusion counts as tiles are scored, kept so that an interrupted scoring goes on at the next tile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spectral_tl_bench.records import PARTS, Scored, Selection, TileKey
from spectral_tl_bench.records.metrics import Matrix
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.validation import parse_json

JOURNAL = "scores.jsonl"


class ScoreJournal:
    """A file of one line a tile. A process may die in the middle of a line; that tile is then scored again."""

    def __init__(self, path: Path, digest: str, num_classes: int) -> None:
        """Read what is there.

        Args:
            path: The file, in the run's folder.
            digest: Of the weights that are scored; counts of others are left out.
            num_classes: K.
        """
        self.path = path
        self.digest = digest
        self.num_classes = num_classes
        self.matrices: dict[tuple[Selection, TileKey], Matrix] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            digest, selection, part, tile, cells = parse_json(line)
            matrix = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
            for row, column, count in cells:
                matrix[row, column] = count
            if digest == self.digest and part in PARTS:
                self.matrices[selection, TileKey(part, tile)] = matrix
        except (ValueError, TypeError, IndexError, OverflowError):
            return

    def add(self, selection: Selection, key: TileKey, matrix: Matrix) -> None:
        """Keep a tile's K x K counts.

        Raises:
            RecordError: If they cannot be written.
        """
        rows, columns = np.nonzero(matrix)
        cells = [[int(i), int(j), int(matrix[i, j])] for i, j in zip(rows, columns, strict=True)]
        line = json.dumps([self.digest, selection, *key, cells])
        try:
            # A line break before it as well: whatever a dying process left behind ends there.
            with self.path.open("ab") as file:
                file.write(f"\n{line}\n".encode())
        except OSError as error:
            raise RecordError(f"cannot write {self.path}: {error.strerror}") from error
        self.matrices[selection, key] = matrix

    def done(self, selection: Selection) -> set[TileKey]:
        """Tiles that are scored."""
        return {key for which, key in self.matrices if which == selection}

    def of(self, selection: Selection) -> Iterator[Scored]:
        """Scored tiles with their counts, in the order in which they were scored."""
        for (which, key), matrix in self.matrices.items():
            if which == selection:
                yield key, matrix
