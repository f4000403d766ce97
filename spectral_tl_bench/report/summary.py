"""What boards need of each run: a few figures, so that thousands of records fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.records import Run, RunRecord, find_runs, read_run
from spectral_tl_bench.records.confusion import Part, Selection
from spectral_tl_bench.records.metrics import Matrix
from spectral_tl_bench.records.scores import HEADLINE, evaluate, headline, per_class_iou, scores
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.parallel import parallel_map

RUNS_OF_A_PROCESS = 500
"""Fewer are read, and drawn, sooner than another process has started."""
_RUNS_AT_ONCE = 50


@dataclass(frozen=True)
class Summary:
    """Figures of one run in percent, at the step that it selects unless said otherwise.

    Attributes:
        folder: Where it was read from.
        record: The run's record.
        confusion: K x K counts over all target tiles, rows are truth.
        scores: Every registered score over all target tiles, by its name.
        source: The headline score on held-out source tiles.
        last: The headline score over all target tiles by the last weights.
        subdomains: The headline score of every target sub-domain, sorted by name.
        classes: IoU of every class over all target tiles, by its name.
        tiles: Digest of the target's tiles and labels: two runs are compared only where it is the same.
        identity: Digest of everything but the seed.
    """

    folder: Path
    record: RunRecord
    confusion: Matrix
    scores: dict[str, float]
    source: float
    last: float
    subdomains: dict[str, float]
    classes: dict[str, float]
    tiles: str
    identity: str

    @property
    def spec(self) -> RunSpec:
        """What was run."""
        return self.record.spec

    @property
    def miou(self) -> float:
        """The headline score over all target tiles."""
        return self.scores[HEADLINE.name]

    @classmethod
    def of(cls, run: Run) -> Summary:
        """Score a run."""
        scoring = run.record.spec.training.scoring
        names, stack = run.table.stack(run.num_classes, "subdomain", "target", run.selection)
        target = stack.sum(axis=0)
        pooled = _pooled(run, ("held_out_source", run.selection), ("target", "last"))
        # In one call, which takes longer than a matrix does.
        source, last, *figures = headline(np.concatenate([pooled, stack]), scoring).tolist()
        legend = [c.name for c in run.record.classes]
        return cls(
            folder=run.folder,
            record=run.record,
            confusion=target,
            scores={score.name: float(evaluate(score, target, scoring)) for score in scores()},
            source=source,
            last=last,
            subdomains=dict(zip(names, figures, strict=True)),
            classes=dict(zip(legend, per_class_iou(target, scoring).tolist(), strict=True)),
            tiles=_tiles(run),
            identity=same_but_seed(run.record.spec),
        )


def _pooled(run: Run, *wanted: tuple[Part, Selection]) -> list[Matrix]:
    """All counts of each part as one matrix; of zeros where there are none."""
    summed, names = run.table.sums(run.num_classes, "part", "selection"), run.table.names
    nothing = np.zeros_like(summed[0, 0])
    return [
        summed[names["part"].index(part), names["selection"].index(selection)]
        if part in names["part"] and selection in names["selection"]
        else nothing
        for part, selection in wanted
    ]


def _tiles(run: Run) -> str:
    """Digest of the names, sub-domains and labels of the target tiles."""
    table, names = run.table, run.table.names["tile"]
    chosen = table.stretches("target", run.selection)
    subdomains = np.full(len(names), -1)
    subdomains[table.codes["tile"][chosen]] = table.codes["subdomain"][chosen]
    there = subdomains >= 0
    # Counts of the other tiles go to a last row, which is dropped.
    places = np.where(chosen, table.codes["tile"], len(names))
    labels = table.labels(places, len(names) + 1, run.num_classes)[:-1][there]
    digest = hashlib.sha256(labels.astype(np.int64).tobytes())
    named = [table.names["subdomain"][code] for code in subdomains[there]]
    digest.update("\0".join([*(names[tile] for tile in np.flatnonzero(there)), *named]).encode())
    return digest.hexdigest()[:16]


def same_but_seed(spec: RunSpec) -> str:
    """Digest of a specification without its seed: runs that share it are averaged."""
    return spec.model_copy(update={"seed": 0}).digest


def collect(runs_root: Path) -> tuple[list[Summary], list[str]]:
    """Read every run below a folder.

    Args:
        runs_root: The folder.

    Returns:
        The runs in the order of their paths, and a line per folder left out: incomplete, damaged, contradicting
        itself, or a copy.

    Raises:
        RecordError: If ``runs_root`` is no folder.
    """
    return read_summaries(find_runs(runs_root))


def read_summaries(folders: Iterable[Path]) -> tuple[list[Summary], list[str]]:
    """Read runs, as :func:`collect` does, from folders that are known."""
    found: list[Summary] = []
    skipped: list[str] = []
    seen: dict[tuple[str, int], Path] = {}
    for run in _each(list(folders)):
        if isinstance(run, str):
            skipped.append(run)
            continue
        first = seen.setdefault((run.identity, run.spec.seed), run.folder)
        if first != run.folder:
            skipped.append(f"{run.folder} is the same run as {first} and counts once")
        else:
            found.append(run)
    return found, skipped


def _each(folders: Sequence[Path]) -> Iterator[Summary | str]:
    """Runs, or why they cannot be read, in the order of their folders; of many, several processes read a part each."""
    return parallel_map(_summary, folders, len(folders) // RUNS_OF_A_PROCESS, _RUNS_AT_ONCE)


def _summary(folder: Path) -> Summary | str:
    try:
        return Summary.of(read_run(folder))
    except RecordError as error:
        return str(error)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone: one row of a board.

    Attributes:
        runs: Sorted by seed.
    """

    runs: tuple[Summary, ...]

    @property
    def spec(self) -> RunSpec:
        """What was run, with the first of the seeds."""
        return self.runs[0].spec

    @property
    def identity(self) -> str:
        """Digest of everything but the seed."""
        return self.runs[0].identity

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(run.spec.seed for run in self.runs)

    @property
    def by_seed(self) -> dict[int, float]:
        """The headline score over all target tiles by seed."""
        return {run.spec.seed: run.miou for run in self.runs}

    @property
    def miou(self) -> float:
        """Mean of the headline score over seeds."""
        return float(np.mean([run.miou for run in self.runs]))

    def subdomains(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of the target sub-domains and the headline scores, seeds x sub-domains."""
        names = tuple(sorted({name for run in self.runs for name in run.subdomains}))
        return names, np.array([[run.subdomains.get(name, np.nan) for name in names] for run in self.runs])


def grouped(runs: Iterable[Summary]) -> list[Group]:
    """Put runs together that differ in their seed alone, in the order of their identity."""
    groups: dict[str, list[Summary]] = {}
    for run in runs:
        groups.setdefault(run.identity, []).append(run)
    ordered = sorted(groups.items())
    return [Group(tuple(sorted(members, key=lambda run: run.spec.seed))) for _, members in ordered]
