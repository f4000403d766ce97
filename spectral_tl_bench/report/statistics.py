"""What may be claimed from scores: how sure a mean is, and whether one method beats another.

A method's figure varies with the seed, and what it is worth elsewhere varies with the place. So seeds are what a mean
and a comparison are made over, and sub-domains or transfers are what "elsewhere" is made of. Tiles are neither: a test
that swaps tiles compares two trained models and finds differences between two seeds of one method.

Every value here is a score in percent. With too few values a figure is NaN, not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from spectral_tl_bench.records.metrics import Floats, Matrix, Scoring
from spectral_tl_bench.records.scores import headline

LEVEL = 0.95
LEAST_SEEDS = 3
"""Fewer say too little about how a method varies."""
LEAST_PLACES = 5
"""Sub-domains or transfers below which nothing is said about another one."""
LEAST_ROWS = 5
"""Rows of a transfer from which a line through them means something."""
_REPLICATES = 1000
_NAN = float("nan")


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound; NaN where there is none."""

    low: float = _NAN
    high: float = _NAN


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
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else _NAN
    return Spread(mean=float(np.mean(values)), deviation=deviation, count=len(values))


def spreads(values: Floats) -> tuple[list[float], list[float]]:
    """Means and deviations of many figures, each as :func:`spread` gives it.

    Args:
        values: Seeds x figures.
    """
    # A figure's seeds side by side in memory: numpy then adds them up in the order in which it adds up one figure's.
    by_figure = np.ascontiguousarray(values.T)
    several = len(values) > 1
    deviations = np.std(by_figure, axis=1, ddof=1) if several else np.full(len(by_figure), np.nan)
    return np.mean(by_figure, axis=1).tolist(), deviations.tolist()


def _around(mean: float, variance: float, freedom: float) -> Interval:
    """The t interval of a mean whose estimate has a variance."""
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * variance**0.5
    return Interval(mean - half, mean + half)


def seeds_interval(values: Sequence[float]) -> Interval:
    """T interval of the mean over seeds; from three seeds on.

    Args:
        values: One a seed.
    """
    found = spread(values)
    if found.count < LEAST_SEEDS or not found.deviation > 0:
        return Interval()
    return _around(found.mean, found.deviation**2 / found.count, found.count - 1)


def _two_sided(mean: float, variance: float, freedom: float) -> float:
    """P-value of a mean being 0."""
    return float(2 * special.stdtr(freedom, -abs(mean) / variance**0.5))


@dataclass(frozen=True)
class Paired:
    """First method minus second, by seed.

    Attributes:
        difference: Mean over the seeds that both have.
        interval: Its t interval; from three seeds on.
        p_value: Two-sided, of the paired t-test over seeds; from three seeds on.
        seeds: How many both have.
    """

    difference: float
    interval: Interval
    p_value: float
    seeds: int


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired:
    """Compare two methods on the seeds that both have.

    Args:
        first: Score by seed.
        second: The other's.
    """
    differences = np.array([first[seed] - second[seed] for seed in sorted(set(first) & set(second))])
    if not len(differences):
        return Paired(_NAN, Interval(), _NAN, 0)
    mean, seeds = float(differences.mean()), len(differences)
    # Differences that do not vary at all (a method that ignores its seed) say nothing about another seed.
    if seeds < LEAST_SEEDS or np.ptp(differences) < 1e-9:
        return Paired(mean, Interval(), _NAN, seeds)
    p_value = _two_sided(mean, float(differences.var(ddof=1)) / seeds, seeds - 1)
    return Paired(mean, seeds_interval(differences.tolist()), p_value, seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979); NaN is no test and stays NaN.

    Args:
        p_values: Of all comparisons that a reader sees at once.
    """
    values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    corrected = np.full(len(values), _NAN)
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return [float(value) for value in corrected]


def _crossed(values: Floats) -> tuple[float, float, float]:
    """Mean, variance of the mean and degrees of freedom, where rows and columns are both drawn at random.

    Two-way random effects without replication, whose variance is what resampling rows and columns together estimates;
    degrees of freedom by Satterthwaite (1946). A variance is never taken below that of the noisier of the two factors.
    """
    rows, columns = values.shape
    mean = values.mean()
    by_row, by_column = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    rest = values - mean - by_row[:, None] - by_column[None]
    freedom = np.array([rows - 1, columns - 1, (rows - 1) * (columns - 1)], dtype=float)
    squares = np.array([columns * (by_row**2).sum(), rows * (by_column**2).sum(), (rest**2).sum()]) / freedom
    whole = squares[0] + squares[1] - squares[2]
    noisier = int(squares[1] > squares[0])
    if whole > squares[noisier]:
        free = max(whole**2 / (squares**2 / freedom).sum(), min(rows, columns) - 1)
    else:
        whole, free = squares[noisier], freedom[noisier]
    return float(mean), float(whole / values.size), float(free)


def places_interval(values: Floats) -> Interval:
    """Interval of the mean over places not seen, by seeds and places alike; from three seeds and five places on.

    Args:
        values: Seeds x places: scores, or differences of scores, by seed and sub-domain or transfer.
    """
    rows, columns = values.shape
    if rows < LEAST_SEEDS or columns < LEAST_PLACES or np.isnan(values).any() or np.ptp(values) < 1e-9:
        return Interval()
    return _around(*_crossed(values))


def places_p_value(values: Floats) -> float:
    """P-value of the mean of differences, seeds x places, being 0; NaN where :func:`places_interval` is."""
    if np.isnan(places_interval(values).low):
        return _NAN
    return _two_sided(*_crossed(values))


def tiles_interval(stack: Matrix, subdomains: Sequence[str], scoring: Scoring = "native") -> Interval:
    """Percentile interval of one trained model's score under resampling of its tiles, each sub-domain's among its own.

    It says how the score depends on which tiles of *these* sub-domains were labelled, and nothing about another seed
    or another place.

    Args:
        stack: N x K x K, a matrix a tile.
        subdomains: Sub-domain of each tile.
        scoring: How to score.
    """
    rng = np.random.default_rng(0)
    names, members = np.unique(np.asarray(subdomains), return_inverse=True)
    weights = np.zeros((_REPLICATES, len(stack)))
    for number in range(len(names)):
        rows = np.flatnonzero(members == number)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=_REPLICATES)
    # Products of floats run on BLAS and are exact here: counts stay far below 2**53.
    pooled = (weights @ stack.reshape(len(stack), -1).astype(np.float64)).astype(np.int64)
    scores = headline(pooled.reshape(-1, *stack.shape[1:]), scoring)
    if np.isnan(scores).all():
        return Interval()
    low, high = np.nanpercentile(scores, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Line:
    """What target score goes with which source score, over all rows of a transfer; straight in logits."""

    slope: float
    intercept: float

    def expected(self, source: Floats) -> Floats:
        """Target scores in percent that the line gives for source scores in percent."""
        odds = np.exp(self.slope * _logit(source) + self.intercept)
        return 100 * odds / (1 + odds)


def _logit(percent: Floats) -> Floats:
    share = np.clip(np.asarray(percent, dtype=float) / 100, 1e-3, 1 - 1e-3)
    return np.log(share / (1 - share))


def source_to_target(source: Sequence[float], target: Sequence[float]) -> Line | None:
    """Fit what the rows of a transfer have in common (Taori et al., NeurIPS 2020, section 2).

    Args:
        source: Score of each row on held-out source tiles.
        target: Its score on target tiles.

    Returns:
        The line; None with fewer than five rows, or where all have the same source score.
    """
    x, y = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    known = ~(np.isnan(x) | np.isnan(y))
    if known.sum() < LEAST_ROWS or np.ptp(_logit(x[known])) < 1e-9:
        return None
    x, y = _logit(x[known]), _logit(y[known])
    # Least squares from the moments, as scipy.stats.linregress has it, whose import takes half a second.
    variance, covariance, _, _ = np.cov(x, y, bias=True).flat
    slope = covariance / variance
    return Line(float(slope), float(y.mean() - slope * x.mean()))


def effective_robustness(source: Sequence[float], target: Sequence[float]) -> list[float]:
    """How many points each row's target score lies above what its source score explains; NaN without a line."""
    line = source_to_target(source, target)
    if line is None:
        return [_NAN] * len(source)
    above = np.asarray(target, dtype=float) - line.expected(np.asarray(source, dtype=float))
    return [float(value) for value in above]
