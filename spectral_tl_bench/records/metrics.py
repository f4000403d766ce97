"""Confusion matrices and the figures made from them.

A confusion matrix is int64, K x K, with a row per true class and a column per predicted class. Pixels whose label is
ignored are never counted; every other pixel is, whatever was predicted for it. Every function takes one matrix or a
stack of them (... x K x K) and returns one result per matrix; :mod:`spectral_tl_bench.records.scores` names some.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spectral_tl_bench.sensors.classes import IGNORE_INDEX

Matrix = NDArray[np.int64]
Floats = NDArray[np.float64]
Scoring = Literal["native", "reference"]


def confusion_matrix(truth: NDArray, prediction: NDArray, num_classes: int, ignore: int = IGNORE_INDEX) -> Matrix:
    """Count the pixels of every pair of true and predicted class.

    Args:
        truth: Class ids, any shape.
        prediction: Class ids, the same shape.
        num_classes: K.
        ignore: Id in ``truth`` of pixels that are left out.

    Returns:
        The K x K matrix.

    Raises:
        ValueError: If the shapes differ, or an id of a counted pixel is outside 0 ... K-1.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape} but prediction is {prediction.shape}")
    counted = truth != ignore
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for what, ids in (("truth", rows), ("prediction", columns)):
        if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
            raise ValueError(f"{what} has class ids {ids.min()} ... {ids.max()} where there are {num_classes} classes")
    return np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def present(confusion: Matrix) -> NDArray[np.bool_]:
    """Return which of the K classes occur in the ground truth."""
    return confusion.sum(axis=-1) > 0


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _counts(confusion: Matrix) -> tuple[Floats, Floats, Floats]:
    """True positives, ground-truth pixels and predicted pixels per class."""
    counts = confusion.astype(np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def iou(confusion: Matrix) -> Floats:
    """Intersection over union per class, NaN for classes that the ground truth lacks."""
    hits, true, predicted = _counts(confusion)
    return np.where(true > 0, _divide(hits, true + predicted - hits), np.nan)


def f1(confusion: Matrix) -> Floats:
    """F1 (Dice) per class, NaN for classes that the ground truth lacks."""
    hits, true, predicted = _counts(confusion)
    return np.where(true > 0, _divide(2 * hits, true + predicted), np.nan)


def recall(confusion: Matrix) -> Floats:
    """Producer's accuracy per class, NaN for classes that the ground truth lacks."""
    hits, true, _ = _counts(confusion)
    return _divide(hits, true)


def precision(confusion: Matrix) -> Floats:
    """User's accuracy per class, NaN for classes that were never predicted."""
    hits, _, predicted = _counts(confusion)
    return _divide(hits, predicted)


def _mean_over_present(values: Floats, confusion: Matrix) -> Floats:
    chosen = present(confusion)
    return _divide(np.where(chosen, values, 0.0).sum(axis=-1), chosen.sum(axis=-1).astype(np.float64))


def mean_iou(confusion: Matrix) -> Floats:
    """Mean IoU over the classes present in the ground truth, NaN without a single counted pixel.

    A pixel predicted as an absent class is a miss of its true class; the absent class itself has no IoU to average.
    """
    return _mean_over_present(iou(confusion), confusion)


def mean_f1(confusion: Matrix) -> Floats:
    """Mean F1 over the classes present in the ground truth."""
    return _mean_over_present(f1(confusion), confusion)


def overall_accuracy(confusion: Matrix) -> Floats:
    """Share of counted pixels that are right."""
    hits, true, _ = _counts(confusion)
    return _divide(hits.sum(axis=-1), true.sum(axis=-1))


def kappa(confusion: Matrix) -> Floats:
    """Cohen's kappa; NaN where chance agreement is complete (one class only, in truth and prediction)."""
    hits, true, predicted = _counts(confusion)
    total = true.sum(axis=-1)
    observed = _divide(hits.sum(axis=-1), total)
    by_chance = _divide((true * predicted).sum(axis=-1), total**2)
    return _divide(observed - by_chance, 1 - by_chance)


def without_absent_predictions(confusion: Matrix) -> Matrix:
    """Zero the columns of classes that the ground truth lacks: pixels predicted as those leave the count.

    This is how figures published for these protocols were scored (``reference`` scoring), overall accuracy and kappa
    included. It flatters a model that predicts classes the target does not have, so it is never a headline.
    """
    kept: Matrix = np.where(present(confusion)[..., None, :], confusion, 0)
    return kept


def reference_iou(confusion: Matrix) -> Floats:
    """IoU per class in ``reference`` scoring.

    A class whose pixels are all predicted as absent classes is undefined, NaN, unless pixels of others are predicted as
    it; then it is 0.
    """
    hits, true, predicted = _counts(without_absent_predictions(confusion))
    return _divide(hits, true + predicted - hits)


def reference_f1(confusion: Matrix) -> Floats:
    """F1 per class in ``reference`` scoring, NaN as in :func:`reference_iou`."""
    hits, true, predicted = _counts(without_absent_predictions(confusion))
    return _divide(2 * hits, true + predicted)


def reference_mean_iou(confusion: Matrix) -> Floats:
    """Mean IoU in ``reference`` scoring over the classes where it is defined."""
    return _mean_where_defined(reference_iou(confusion))


def reference_mean_f1(confusion: Matrix) -> Floats:
    """Mean F1 in ``reference`` scoring over the classes where it is defined."""
    return _mean_where_defined(reference_f1(confusion))


def _mean_where_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
