import dataclasses

import numpy as np
import pytest
from sklearn import metrics as reference

from spectral_tl_bench import metrics
from spectral_tl_bench.metrics import Scores, confusion_matrix


@pytest.fixture
def labels():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, size=(2, 20, 20))
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, size=truth.shape))
    return truth, prediction


def test_rows_are_truth_and_columns_are_prediction():
    confusion = confusion_matrix(np.array([0, 0, 1]), np.array([1, 0, 1]), 2)
    assert confusion.tolist() == [[1, 1], [0, 1]]
    assert confusion.dtype == np.int64


def test_confusion_agrees_with_scikit_learn(labels):
    truth, prediction = labels
    expected = reference.confusion_matrix(truth.ravel(), prediction.ravel())
    assert (confusion_matrix(truth, prediction, 5) == expected).all()


def test_ignored_pixels_leave_whatever_was_predicted_there():
    truth = np.array([[0, 255], [1, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1], [0, 200]])
    assert confusion_matrix(truth, prediction, 2).tolist() == [[1, 0], [1, 0]]


def test_small_integer_types_do_not_overflow():
    truth = np.full(4, 23, dtype=np.uint8)
    assert confusion_matrix(truth, truth, 24)[23, 23] == 4


def test_nothing_counted_gives_an_empty_matrix():
    assert confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2)), 3).sum() == 0


@pytest.mark.parametrize(
    ("truth", "prediction"), [([0, 2], [0, 0]), ([0, 1], [0, 2]), ([-1, 1], [0, 0]), ([0], [0, 1])]
)
def test_ids_outside_the_classes_and_unequal_shapes_are_refused(truth, prediction):
    with pytest.raises(ValueError, match=r"truth|prediction"):
        confusion_matrix(np.array(truth), np.array(prediction), 2)


def test_scores_agree_with_scikit_learn(labels):
    truth, prediction = (values.ravel() for values in labels)
    scores = Scores.of(confusion_matrix(truth, prediction, 5))
    assert scores.mean_iou == pytest.approx(reference.jaccard_score(truth, prediction, average="macro"))
    assert scores.iou == pytest.approx(tuple(reference.jaccard_score(truth, prediction, average=None)))
    assert scores.overall_accuracy == pytest.approx(reference.accuracy_score(truth, prediction))
    assert scores.mean_f1 == pytest.approx(reference.f1_score(truth, prediction, average="macro"))
    assert scores.kappa == pytest.approx(reference.cohen_kappa_score(truth, prediction))
    assert scores.pixels == truth.size


def test_recall_and_precision_agree_with_scikit_learn(labels):
    truth, prediction = (values.ravel() for values in labels)
    confusion = confusion_matrix(truth, prediction, 5)
    assert metrics.recall(confusion) == pytest.approx(reference.recall_score(truth, prediction, average=None))
    assert metrics.precision(confusion) == pytest.approx(reference.precision_score(truth, prediction, average=None))


def test_a_class_absent_from_truth_has_no_iou_and_its_predictions_are_misses():
    # 8 of 10 pixels of class 0 are right and 2 are taken for class 2, which the target lacks.
    confusion = np.array([[8, 0, 2], [0, 5, 0], [0, 0, 0]])
    assert metrics.iou(confusion)[:2] == pytest.approx([0.8, 1.0])
    assert np.isnan(metrics.iou(confusion)[2])
    assert metrics.mean_iou(confusion) == pytest.approx(0.9)
    assert metrics.overall_accuracy(confusion) == pytest.approx(13 / 15)


def test_reference_scoring_drops_predictions_of_absent_classes_and_says_so():
    confusion = np.array([[8, 0, 2], [0, 5, 0], [0, 0, 0]])
    scores = Scores.of(confusion, "reference")
    assert scores.mean_iou == pytest.approx(1.0)
    assert (scores.pixels, scores.scoring) == (13, "reference")
    assert Scores.of(confusion).scoring == "native"


def test_a_class_that_is_present_but_never_predicted_counts_as_zero():
    confusion = np.array([[4, 0], [4, 0]])
    assert metrics.iou(confusion).tolist() == [0.5, 0.0]
    assert metrics.mean_iou(confusion) == 0.25
    assert np.isnan(metrics.precision(confusion)[1])


def test_false_positives_on_a_present_class_lower_its_iou():
    # hits 6, truth 6, predicted 10: 6 / (6 + 10 - 6).
    assert metrics.iou(np.array([[6, 0], [4, 10]]))[0] == pytest.approx(0.6)


def test_an_empty_matrix_has_no_scores():
    scores = Scores.of(np.zeros((3, 3), dtype=np.int64))
    undefined = [scores.mean_iou, scores.overall_accuracy, scores.mean_f1, scores.kappa, *scores.iou]
    assert np.isnan(undefined).all()
    assert scores.pixels == 0


def test_kappa_is_undefined_for_a_single_class_and_zero_at_chance():
    assert np.isnan(metrics.kappa(np.array([[9, 0], [0, 0]])))
    assert metrics.kappa(np.array([[4, 4], [4, 4]])) == pytest.approx(0.0)


def test_a_stack_scores_like_its_members(labels):
    truth, prediction = labels
    stack = np.stack([confusion_matrix(t, p, 7) for t, p in zip(truth, prediction, strict=True)])
    assert metrics.mean_ious(stack).tolist() == [metrics.mean_iou(member) for member in stack]
    assert np.array_equal(metrics.iou(stack)[1], metrics.iou(stack[1]), equal_nan=True)
    assert (metrics.without_absent_predictions(stack)[1] == metrics.without_absent_predictions(stack[1])).all()


@pytest.mark.parametrize("seed", range(20))
def test_scores_stay_in_range_and_ignore_the_order_of_classes(seed):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 50, size=(6, 6)) * rng.integers(0, 2, size=(6, 1))
    confusion[0, 0] += 1
    scores = Scores.of(confusion)
    present_iou = [value for value in scores.iou if not np.isnan(value)]
    assert 0 <= min(present_iou) <= scores.mean_iou <= max(present_iou) <= 1
    assert 0 <= scores.mean_iou <= scores.mean_f1 <= 1
    assert Scores.of(confusion, "reference").mean_iou >= scores.mean_iou
    order = rng.permutation(6)
    shuffled = dataclasses.asdict(Scores.of(confusion[np.ix_(order, order)]))
    for name in ("mean_iou", "overall_accuracy", "mean_f1", "kappa"):
        assert shuffled[name] == pytest.approx(getattr(scores, name), nan_ok=True)
