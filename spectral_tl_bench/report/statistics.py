"""How sure a figure is: spread over seeds, intervals over target tiles, and a paired test between two methods.

mIoU is no mean over tiles, so both resampling schemes work on counts: they draw or swap tiles, pool the confusion
matrices, and score the pool. Neighbouring tiles resemble one another and a protocol has few sub-domains, so intervals
and p-values tend to promise too much; read them as a guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.metrics import Floats, Matrix, Scoring, mean_iou, without_absent_predictions
from spectral_tl_bench.records import Run
from spectral_tl_bench.records.confusion import Part, Selection, matrices

REPLICATES = 1000


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``count`` values; the deviation of a single value is NaN."""

    mean: float
    deviation: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Summarise one figure of several seeds.

    Args:
        values: At least one value.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Spread(mean=float(np.mean(values)), deviation=deviation, count=len(values))


@dataclass(frozen=True)
class TileMatrices:
    """Confusion matrices per tile, sorted by tile.

    Attributes:
        tiles: Names of N tiles.
        subdomains: Their sub-domains.
        stack: N x K x K.
    """

    tiles: tuple[str, ...]
    subdomains: tuple[str, ...]
    stack: Matrix

    @classmethod
    def of(cls, run: Run, part: Part = "target", selection: Selection | None = None) -> TileMatrices:
        """Take the counts of a run, by default of its target tiles at the step that it selects."""
        counts = run.counts(part, selection)
        by_tile = matrices(counts, run.num_classes, "tile")
        subdomain = dict(zip(counts["tile"].astype(str), counts["subdomain"].astype(str), strict=True))
        return cls(
            tiles=tuple(by_tile),
            subdomains=tuple(subdomain[tile] for tile in by_tile),
            stack=np.stack(list(by_tile.values())),
        )


def _pool(weights: Floats, stack: Matrix) -> Matrix:
    """Sums (R x K x K) of N matrices under each of R weightings (R x N, whole numbers)."""
    classes = stack.shape[-1]
    # Products of floats run on BLAS and are exact here: counts stay far below 2**53.
    product = weights @ stack.reshape(len(stack), -1).astype(np.float64)
    return product.astype(np.int64).reshape(-1, classes, classes)


def _score(pooled: Matrix, scoring: Scoring) -> Floats:
    """Mean IoU of each matrix of a stack."""
    return mean_iou(without_absent_predictions(pooled) if scoring == "reference" else pooled)


def _same_tiles(runs: Sequence[TileMatrices]) -> TileMatrices:
    first = runs[0]
    for other in runs[1:]:
        if (other.tiles, other.subdomains) != (first.tiles, first.subdomains):
            raise RecordError("these runs were scored on different tiles and cannot be compared tile by tile")
    return first


def cluster_weights(subdomains: Sequence[str], replicates: int, rng: np.random.Generator) -> Floats:
    """Draw bootstrap samples in two stages: sub-domains with replacement, then tiles within each drawn one.

    With one sub-domain this is the plain bootstrap over its tiles.

    Args:
        subdomains: Sub-domain of each of N tiles.
        replicates: R.
        rng: Source of randomness.

    Returns:
        R x N: how often each tile is in each sample.
    """
    names, members = np.unique(np.asarray(subdomains), return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    weights = np.zeros((replicates, len(subdomains)))
    for number in range(len(names)):
        rows = np.flatnonzero(members == number)
        # Drawing a sub-domain m times means m independent samples of its tiles, which is one of m times the size.
        weights[:, rows] = rng.multinomial(drawn[:, number] * len(rows), np.full(len(rows), 1 / len(rows)))
    return weights


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound."""

    low: float
    high: float


def _percentiles(values: Floats, level: float) -> Interval:
    if np.isnan(values).all():
        return Interval(float("nan"), float("nan"))
    low, high = np.nanpercentile(values, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high))


def bootstrap_interval(
    runs: Sequence[TileMatrices],
    rng: np.random.Generator,
    scoring: Scoring = "native",
    replicates: int = REPLICATES,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of the mean IoU, averaged over seeds, under resampling of the target tiles.

    Args:
        runs: One method's runs, one per seed, scored on the same tiles; every replicate uses one draw for all.
        rng: Source of randomness.
        scoring: How to score.
        replicates: Bootstrap samples.
        level: Coverage aimed at.

    Raises:
        RecordError: If the runs were scored on different tiles.
    """
    weights = cluster_weights(_same_tiles(runs).subdomains, replicates, rng)
    return _percentiles(np.mean([_score(_pool(weights, run.stack), scoring) for run in runs], axis=0), level)


@dataclass(frozen=True)
class Comparison:
    """First method minus second, in mean IoU averaged over seeds.

    Attributes:
        difference: The observed difference.
        interval: 95 % interval by the paired bootstrap: both methods see the same draws of tiles.
        p_value: Two-sided, by permutation: under the null hypothesis it does not matter which of the two methods made
            a tile's predictions, so they are swapped tile by tile.
    """

    difference: float
    interval: Interval
    p_value: float


def compare(
    first: Sequence[TileMatrices],
    second: Sequence[TileMatrices],
    rng: np.random.Generator,
    scoring: Scoring = "native",
    replicates: int = REPLICATES,
) -> Comparison:
    """Paired test between two methods scored on the same target tiles.

    Args:
        first: Runs of one method, one per seed.
        second: Runs of the other with the same seeds in the same order.
        rng: Source of randomness.
        scoring: How to score.
        replicates: Bootstrap samples, and permutations.

    Raises:
        RecordError: If the tiles or the numbers of seeds differ.
    """
    if len(first) != len(second):
        raise RecordError(f"a paired test needs the same seeds of both methods, not {len(first)} and {len(second)}")
    tiles = _same_tiles([*first, *second])

    weights = cluster_weights(tiles.subdomains, replicates, rng)
    keep = rng.integers(0, 2, size=(replicates, len(tiles.tiles))).astype(np.float64)
    observed, resampled, permuted = [], [], []
    for one, two in zip(first, second, strict=True):
        whole_one, whole_two = one.stack.sum(axis=0), two.stack.sum(axis=0)
        kept_one, kept_two = _pool(keep, one.stack), _pool(keep, two.stack)
        swapped_one, swapped_two = whole_two - kept_two, whole_one - kept_one
        observed.append(_score(whole_one, scoring) - _score(whole_two, scoring))
        permuted.append(_score(kept_one + swapped_one, scoring) - _score(kept_two + swapped_two, scoring))
        resampled.append(_score(_pool(weights, one.stack), scoring) - _score(_pool(weights, two.stack), scoring))
    difference = float(np.mean(observed))
    # The observed labelling is one of the permutations, hence the 1; the tolerance is for sums in another order.
    extreme = int(np.sum(np.abs(np.mean(permuted, axis=0)) >= abs(difference) - 1e-12))
    return Comparison(difference, _percentiles(np.mean(resampled, axis=0), 0.95), (1 + extreme) / (1 + replicates))
