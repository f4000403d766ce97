import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from run_records import spec, write

from spectral_tl_bench.records import metrics, read_run, scores
from spectral_tl_bench.records.scores import HEADLINE, Score, evaluate, per_class_iou
from spectral_tl_bench.report.tables import protocol_table
from spectral_tl_bench.utils.errors import SpectralBenchError


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Install another package's scores."""

    def do(**entries):
        module = ModuleType("other_scores")
        vars(module).update(entries)
        monkeypatch.setitem(sys.modules, "other_scores", module)
        info = tmp_path / "other_scores-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-scores\nVersion: 1.0\n")
        lines = [f"{name} = other_scores:{name}\n" for name in entries]
        (info / "entry_points.txt").write_text("".join([f"[{scores.SCORES.group}]\n", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        scores.scores.cache_clear()

    yield do
    monkeypatch.undo()
    scores.scores.cache_clear()


def test_reference_scoring_drops_predictions_of_absent_classes():
    confusion = np.array([[8, 0, 2], [0, 5, 0], [0, 0, 0]])
    assert evaluate(HEADLINE, confusion, "reference") == pytest.approx(100.0)
    assert evaluate(HEADLINE, confusion) == pytest.approx(90.0)
    assert per_class_iou(confusion)[0] == pytest.approx(80.0)
    assert per_class_iou(confusion, "reference")[0] == pytest.approx(100.0)


def test_reference_scoring_gives_a_class_wholly_predicted_as_absent_ones_0():
    confusion = np.array([[6, 2, 0], [0, 0, 4], [0, 0, 0]])
    assert per_class_iou(confusion, "reference")[:2].tolist() == [75.0, 0.0]
    assert np.isnan(per_class_iou(confusion, "reference")[2])
    assert evaluate(HEADLINE, np.stack([confusion, np.eye(3, dtype=int)]), "reference").tolist() == [37.5, 100.0]


def test_a_class_wholly_predicted_as_absent_ones_leaves_the_mean_as_in_the_released_function():
    confusion = np.array([[85, 15, 0, 0], [15, 85, 0, 0], [0, 0, 0, 60], [0, 0, 0, 0]])
    figures = {score.name: float(evaluate(score, confusion, "reference")) for score in scores.scores()}
    assert figures["miou"] == pytest.approx(73.9, abs=0.05)
    assert (figures["oa"], figures["kappa"]) == (pytest.approx(85.0), pytest.approx(70.0))
    assert np.isnan(per_class_iou(confusion, "reference")[2:]).all()
    # Natively these 60 pixels are misses and their class counts as 0.
    assert evaluate(HEADLINE, confusion) == pytest.approx(73.91 * 2 / 3, abs=0.01)


def test_pixels_predicted_as_absent_classes_leave_accuracy_and_kappa_too():
    confusion = np.array([[6, 2, 0], [0, 0, 4], [0, 0, 0]])
    figures = {score.name: float(evaluate(score, confusion, "reference")) for score in scores.scores()}
    # The second class has lost all its pixels, but two of the first are predicted as it: it is 0.
    assert (figures["miou"], figures["oa"]) == (pytest.approx(37.5), pytest.approx(75.0))


def test_every_score_is_undefined_for_nothing_and_perfect_for_everything_right():
    for score in scores.scores():
        assert np.isnan(evaluate(score, np.zeros((3, 3), dtype=np.int64)))
        assert evaluate(score, np.diag([4, 5, 6])) == pytest.approx(100.0)


def test_another_packages_score_is_a_column_of_every_table(register, tmp_path):
    register(worst_class=Score("worst_class", "worst class", lambda m: np.nanmin(metrics.iou(m), axis=-1)))
    frame = protocol_table(read_run(write(tmp_path, spec())))
    assert list(frame.columns) == ["domain", "tiles", "mIoU", "OA", "mean F1", "kappa", "worst class"]
    assert (frame.loc[frame["domain"] == "all targets", "worst class"] < frame["mIoU"].max()).all()
    assert pd.notna(frame["worst class"]).all()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("broken", "nothing", "broken is registered as a score"),
        ("another", Score("miou", "mine", metrics.kappa), "already there"),
    ],
)
def test_what_is_no_score_or_takes_a_name_that_is_taken_is_refused(register, name, value, problem):
    register(**{name: value})
    with pytest.raises(SpectralBenchError, match=problem):
        scores.scores()


def test_a_score_that_cannot_be_had_is_named_and_the_others_stand(register):
    register(miou=Score("miou", "mine", metrics.kappa))
    with pytest.warns(UserWarning, match="score 'miou' is defined twice"):
        found = scores.scores()
    assert [score.name for score in found] == ["oa", "mean_f1", "kappa"]
