import numpy as np
import pytest
from sklearn import metrics as reference

from spectral_tl_bench.records import metrics
from spectral_tl_bench.records.metrics import confusion_matrix


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
    confusion = confusion_matrix(truth, prediction, 5)
    assert metrics.mean_iou(confusion) == pytest.approx(reference.jaccard_score(truth, prediction, average="macro"))
    assert metrics.iou(confusion) == pytest.approx(reference.jaccard_score(truth, prediction, average=None))
    assert metrics.overall_accuracy(confusion) == pytest.approx(reference.accuracy_score(truth, prediction))
    assert metrics.mean_f1(confusion) == pytest.approx(reference.f1_score(truth, prediction, average="macro"))
    assert metrics.kappa(confusion) == pytest.approx(reference.cohen_kappa_score(truth, prediction))


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


def test_a_class_that_is_present_but_never_predicted_counts_as_zero():
    confusion = np.array([[4, 0], [4, 0]])
    assert metrics.iou(confusion).tolist() == [0.5, 0.0]
    assert metrics.mean_iou(confusion) == 0.25
    assert np.isnan(metrics.precision(confusion)[1])


def test_false_positives_on_a_present_class_lower_its_iou():
    # hits 6, truth 6, predicted 10: 6 / (6 + 10 - 6).
    assert metrics.iou(np.array([[6, 0], [4, 10]]))[0] == pytest.approx(0.6)


def test_an_empty_matrix_has_no_scores():
    empty = np.zeros((3, 3), dtype=np.int64)
    figures = (metrics.mean_iou, metrics.overall_accuracy, metrics.mean_f1, metrics.kappa, metrics.iou)
    assert all(np.isnan(figure(empty)).all() for figure in figures)


def test_kappa_is_undefined_for_a_single_class_and_zero_at_chance():
    assert np.isnan(metrics.kappa(np.array([[9, 0], [0, 0]])))
    assert metrics.kappa(np.array([[4, 4], [4, 4]])) == pytest.approx(0.0)


def test_a_stack_scores_like_its_members(labels):
    truth, prediction = labels
    stack = np.stack([confusion_matrix(t, p, 7) for t, p in zip(truth, prediction, strict=True)])
    for figure in (metrics.mean_iou, metrics.mean_f1, metrics.overall_accuracy, metrics.kappa, metrics.iou):
        assert np.array_equal(figure(stack), [figure(member) for member in stack], equal_nan=True)
    assert (metrics.without_absent_predictions(stack)[1] == metrics.without_absent_predictions(stack[1])).all()


@pytest.mark.parametrize("seed", range(20))
def test_scores_stay_in_range_and_ignore_the_order_of_classes(seed):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 50, size=(6, 6)) * rng.integers(0, 2, size=(6, 1))
    confusion[0, 0] += 1
    iou = metrics.iou(confusion)
    mean_iou = metrics.mean_iou(confusion)
    assert 0 <= np.nanmin(iou) <= mean_iou <= np.nanmax(iou) <= 1
    assert 0 <= mean_iou <= metrics.mean_f1(confusion) <= 1
    assert metrics.mean_iou(metrics.without_absent_predictions(confusion)) >= mean_iou
    order = rng.permutation(6)
    shuffled = confusion[np.ix_(order, order)]
    for figure in (metrics.mean_iou, metrics.mean_f1, metrics.overall_accuracy, metrics.kappa):
        assert figure(shuffled) == pytest.approx(figure(confusion), nan_ok=True)


@pytest.mark.parametrize("seed", range(20))
def test_scores_agree_with_scikit_learn_on_degenerate_matrices(seed):
    """Classes that occur only in truth, only in the prediction, or nowhere; sometimes a single class."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(rng.choice(6, rng.integers(1, 4), replace=False), 40)
    prediction = rng.choice(rng.choice(6, rng.integers(1, 4), replace=False), 40)
    confusion = confusion_matrix(truth, prediction, 6)
    there = np.unique(truth)
    expected = {"labels": there, "average": "macro", "zero_division": 0}
    assert metrics.mean_iou(confusion) == pytest.approx(reference.jaccard_score(truth, prediction, **expected))
    assert metrics.mean_f1(confusion) == pytest.approx(reference.f1_score(truth, prediction, **expected))
    assert metrics.overall_accuracy(confusion) == pytest.approx(reference.accuracy_score(truth, prediction))
    assert metrics.recall(confusion)[there] == pytest.approx(
        reference.recall_score(truth, prediction, labels=there, average=None, zero_division=0)
    )
    if len({*truth, *prediction}) > 1:
        assert metrics.kappa(confusion) == pytest.approx(reference.cohen_kappa_score(truth, prediction))
