"""Scoring of a trained network: its last weights and its best ones, whatever an earlier process has scored already."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lightning
from torch import Tensor

from spectral_tl_bench import records
from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.runs.plan import Plan
from spectral_tl_bench.runs.progress_file import ProgressFile
from spectral_tl_bench.runs.score_journal import ScoreJournal
from spectral_tl_bench.training.fit import KeepBest, score
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils import distributed
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import restore


class Scoring:
    """Scores the held-out source and target tiles of a plan, tile by tile, into a journal."""

    def __init__(
        self,
        plan: Plan,
        data: ProtocolDataModule,
        journal: Path,
        pretrained: frozenset[int],
        progress: ProgressFile,
        options: RuntimeOptions,
    ) -> None:
        """Take what scoring needs.

        Args:
            plan: Of the run.
            data: Its tiles.
            journal: File of what is scored.
            pretrained: Identities of the parameters that weights leave out.
            progress: Where it says how far it is.
            options: Whether the process should end.
        """
        self.plan, self.data, self.pretrained = plan, data, pretrained
        self.journal = ScoreJournal(journal, plan.spec.digest, len(plan.dataset.classes))
        self.progress, self.interruption = progress, options.interruption

    def run(
        self, trainer: lightning.Trainer, task: Segmentation, last: dict[str, Tensor], best: KeepBest
    ) -> records.ConfusionTable:
        """Score the last weights and the best ones, apart from the tiles that an earlier process has scored.

        Raises:
            InterruptedRunError: If a signal asked the process to end; what is scored stays in the journal.
        """
        journal = self.journal
        same = best.step == task.steps
        weights: dict[records.Selection, dict[str, Tensor]] = {"last": last, "best": best.state}
        split = self.plan.split
        tiles = (len(split.held_out) + len(split.target)) * (1 if same else 2)
        scored = sum(len(journal.done(selection)) for selection in weights)
        for selection, state in weights.items():
            if selection == "best" and same:
                continue
            self.data.scored = distributed.broadcast(journal.done(selection))
            restore(task.segmenter, state, self.pretrained, f"the {selection} weights")

            def keep(tiles_scored: list[records.Scored], selection: records.Selection = selection) -> None:
                nonlocal scored
                scored += len(tiles_scored)
                if distributed.is_rank_zero():
                    for key, matrix in tiles_scored:
                        journal.add(selection, key, matrix)
                    self.progress.show("scoring", scored, tiles)
                self.interruption.adopt(*distributed.maxima(self.interruption.signal or 0))
                self.interruption.end_if_requested("scoring")

            task.on_scored = keep
            score(trainer, task, self.data)
        table = records.ConfusionTable()
        self._collect(table, journal.of("last"), "last")
        self._collect(table, journal.of("last" if same else "best"), "best")
        return table

    def _collect(
        self,
        table: records.ConfusionTable,
        scored: Iterable[records.Scored],
        selection: records.Selection,
    ) -> None:
        index, training = self.plan.dataset.index, self.plan.spec.training
        side = training.image_size if training.scoring == "reference" else None
        areas = dict(zip(index["tile"].astype(str), index["height"] * index["width"], strict=True))
        for key, matrix in scored:
            pixels = side**2 if side else int(areas[key.tile])
            table.add(selection, *key, self.plan.split.subdomains[key.tile], matrix, pixels)
