"""Confusion matrices and every score made from them.

A confusion matrix is int64, K x K, with a row per true class and a column per predicted class. Pixels whose label is
ignored are never counted; every other pixel is, whatever was predicted for it. Functions that return an array also take
a stack of matrices (... x K x K) and return one result per matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
Floats = NDArray[np.float64]
Scoring = Literal["native", "reference"]

IGNORE = 255


def confusion_matrix(truth: NDArray, prediction: NDArray, num_classes: int, ignore: int = IGNORE) -> Matrix:
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


def mean_ious(confusion: Matrix) -> Floats:
    """Mean IoU of every matrix of a stack; see :func:`mean_iou`."""
    return _mean_over_present(iou(confusion), confusion)


def mean_iou(confusion: Matrix) -> float:
    """Mean IoU over the classes present in the ground truth, NaN without a single counted pixel.

    A pixel predicted as an absent class is a miss of its true class; the absent class itself has no IoU to average.
    """
    return float(mean_ious(confusion))


def mean_f1(confusion: Matrix) -> float:
    """Mean F1 over the classes present in the ground truth."""
    return float(_mean_over_present(f1(confusion), confusion))


def overall_accuracy(confusion: Matrix) -> float:
    """Share of counted pixels that are right."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def kappa(confusion: Matrix) -> float:
    """Cohen's kappa; NaN where chance agreement is complete (one class only, in truth and prediction)."""
    hits, true, predicted = _counts(confusion)
    total = true.sum()
    if not total:
        return float("nan")
    by_chance = float((true / total) @ (predicted / total))
    if by_chance >= 1:
        return float("nan")
    return float((hits.sum() / total - by_chance) / (1 - by_chance))


def without_absent_predictions(confusion: Matrix) -> Matrix:
    """Zero the columns of classes that the ground truth lacks: pixels predicted as those leave the count.

    This is how figures published for these protocols were scored (``reference`` scoring). It flatters a model that
    predicts classes the target does not have, so it is never a headline.
    """
    return np.where(present(confusion)[..., None, :], confusion, 0)


@dataclass(frozen=True)
class Scores:
    """Every score of one confusion matrix, as fractions.

    Attributes:
        mean_iou: Mean IoU over classes present in the ground truth.
        overall_accuracy: Share of counted pixels that are right.
        mean_f1: Mean F1 over classes present in the ground truth.
        kappa: Cohen's kappa.
        iou: IoU per class, NaN for absent classes; length K.
        pixels: Counted pixels.
        scoring: "native", or "reference" when predictions of absent classes were left out.
    """

    mean_iou: float
    overall_accuracy: float
    mean_f1: float
    kappa: float
    iou: tuple[float, ...]
    pixels: int
    scoring: Scoring = "native"

    @classmethod
    def of(cls, confusion: Matrix, scoring: Scoring = "native") -> Scores:
        """Score a K x K matrix.

        Args:
            confusion: Rows are truth, columns prediction.
            scoring: "reference" leaves out predictions of classes that this matrix's ground truth lacks.
        """
        if scoring == "reference":
            confusion = without_absent_predictions(confusion)
        return cls(
            mean_iou=mean_iou(confusion),
            overall_accuracy=overall_accuracy(confusion),
            mean_f1=mean_f1(confusion),
            kappa=kappa(confusion),
            iou=tuple(float(value) for value in iou(confusion)),
            pixels=int(confusion.sum()),
            scoring=scoring,
        )
