"""The runs that boards and pages are made from, read and scored once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from spectral_tl_bench.records import find_runs
from spectral_tl_bench.report.board import Board, make_board
from spectral_tl_bench.report.summary import Summary, read_summaries
from spectral_tl_bench.report.transfers import over_transfers
from spectral_tl_bench.utils.errors import RecordError


@dataclass(frozen=True)
class RunCollection:
    """Complete runs, real and simulated ones never together.

    Attributes:
        runs: The runs, in the order of their paths.
        skipped: One line per run folder that was left out, and why.
        against: Methods that rows are compared with, besides the fixed comparator.
    """

    runs: tuple[Summary, ...]
    skipped: tuple[str, ...]
    against: tuple[str, ...] = ()

    @classmethod
    def read(cls, folders: Iterable[Path], where: str, against: Sequence[str] = ()) -> RunCollection:
        """Read runs.

        Args:
            folders: Their folders.
            where: What a person calls these, for messages.
            against: Methods that rows are compared with, besides the fixed comparator.

        Raises:
            RecordError: If none of them is complete, or nothing ran of what to compare with.
        """
        runs, skipped = read_summaries(folders)
        if not runs:
            reasons = f" ({'; '.join(skipped)})" if skipped else ""
            raise RecordError(f"no complete run {where}{reasons}; `spectral-bench run` makes one")
        known = {run.spec.method_name for run in runs} | {run.identity for run in runs}
        for name in against:
            if name not in known and name.partition(" (")[0] not in known:
                raise RecordError(f"--against {name}: no run of it {where}")
        return cls(tuple(runs), tuple(skipped), tuple(against))

    @classmethod
    def below(cls, root: Path, against: Sequence[str] = ()) -> RunCollection:
        """Read every run below a folder; raises what :meth:`read` does, and where there is no such folder."""
        return cls.read(find_runs(root), f"below {root}", against)

    @cached_property
    def kinds(self) -> tuple[bool, ...]:
        """Whether simulated: False where there are real runs, then True where there are simulated ones."""
        return tuple(sorted({run.spec.simulated for run in self.runs}))

    def of_kind(self, simulated: bool) -> list[Summary]:
        """Runs on simulated tiles, or those on real ones."""
        return [run for run in self.runs if run.spec.simulated == simulated]

    @cached_property
    def members(self) -> dict[tuple[bool, str], list[Summary]]:
        """Runs by (simulated, protocol file), sorted."""
        found: dict[tuple[bool, str], list[Summary]] = {}
        for run in self.runs:
            found.setdefault((run.spec.simulated, run.spec.protocol_folder.parts[0]), []).append(run)
        return dict(sorted(found.items()))

    @cached_property
    def boards(self) -> dict[tuple[bool, str], Board]:
        """Boards by (simulated, protocol file), sorted."""
        return {key: make_board(runs, self.against) for key, runs in self.members.items()}

    @cached_property
    def overviews(self) -> dict[bool, tuple[pd.DataFrame, pd.DataFrame]]:
        """What :func:`~spectral_tl_bench.report.transfers.over_transfers` says, by simulated."""
        return {simulated: over_transfers(self.of_kind(simulated), self.against) for simulated in self.kinds}
