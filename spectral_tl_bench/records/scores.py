"""Scores: what a confusion matrix is worth, by name. Tables, boards and comparisons show what is registered here.

A module-level :class:`Score` in a file of ``records/`` is registered; another package names one under the entry-point
group ``spectral_tl_bench.scores``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from spectral_tl_bench.records import metrics
from spectral_tl_bench.records.metrics import Floats, Matrix, Scoring
from spectral_tl_bench.utils.built_in import USUAL_ORDER
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.registry import SCORES


@dataclass(frozen=True)
class Score:
    """One figure of a confusion matrix; higher is better.

    Attributes:
        name: What it is called in files: a column of CSV.
        label: What it is called in tables for people.
        of: Takes matrices, ... x K x K with rows of truth, and returns one fraction a matrix, NaN where undefined.
        reference: The same in ``reference`` scoring, where that is more than ``of`` without predictions of absent
            classes.
        order: Position in lists, tables and boards.
    """

    name: str
    label: str
    of: Callable[[Matrix], Floats]
    reference: Callable[[Matrix], Floats] | None = None
    order: int = USUAL_ORDER


HEADLINE = Score("miou", "mIoU", metrics.mean_iou, metrics.reference_mean_iou, order=0)
"""The score that selects models, ranks boards and is compared."""

OVERALL_ACCURACY = Score("oa", "OA", metrics.overall_accuracy, order=1)
MEAN_F1 = Score("mean_f1", "mean F1", metrics.mean_f1, metrics.reference_mean_f1, order=1)
KAPPA = Score("kappa", "kappa", metrics.kappa, order=1)


@cache
def scores() -> tuple[Score, ...]:
    """Every score, the headline first, then this package's, then those of other packages by name.

    A plugin that cannot be imported is named in a warning and left out.

    Raises:
        SpectralBenchError: If another package's entry is no score, or takes a name that is taken.
    """
    usable, problems = SCORES.usable()
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    found: dict[str, Score] = {}
    for name in usable:
        score = SCORES.load(name)
        if not isinstance(score, Score):
            raise SpectralBenchError(
                f"{name} is registered as a score but is not a spectral_tl_bench.records.scores.Score"
            )
        if found.setdefault(score.name, score) != score:
            raise SpectralBenchError(f"score {score.name!r} of {name} is already there; give it another name")
    return tuple(found.values())


def evaluate(score: Score, confusion: Matrix, scoring: Scoring = "native") -> Floats:
    """Return a score of matrices in percent.

    Args:
        score: Which.
        confusion: ... x K x K, rows are truth.
        scoring: "reference" leaves out predictions of classes that each matrix's ground truth lacks.

    Returns:
        Shape ..., NaN where the score is undefined.
    """
    if scoring == "native":
        return 100 * score.of(confusion)
    if score.reference is not None:
        return 100 * score.reference(confusion)
    return 100 * score.of(metrics.without_absent_predictions(confusion))


def headline(confusion: Matrix, scoring: Scoring = "native") -> Floats:
    """Return the headline score of matrices in percent; see :func:`evaluate`."""
    return evaluate(HEADLINE, confusion, scoring)


def per_class_iou(confusion: Matrix, scoring: Scoring = "native") -> Floats:
    """Return the IoU of every class in percent, ... x K; NaN for classes that the ground truth lacks."""
    return 100 * (metrics.reference_iou if scoring == "reference" else metrics.iou)(confusion)
