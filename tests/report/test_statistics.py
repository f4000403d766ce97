import numpy as np
import pytest
from run_records import counts, matrix, write

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.metrics import mean_iou
from spectral_tl_bench.records import ConfusionTable, read_run
from spectral_tl_bench.report.statistics import (
    TileMatrices,
    bootstrap_interval,
    cluster_weights,
    compare,
    spread,
)


def rng():
    return np.random.default_rng(0)


def tiles(accuracy, seed=0, number=40, subdomains=4):
    source = np.random.default_rng(seed)
    return TileMatrices(
        tiles=tuple(f"t{i:03d}" for i in range(number)),
        subdomains=tuple(f"d{i % subdomains}" for i in range(number)),
        stack=np.stack([matrix(source, accuracy) for _ in range(number)]),
    )


def test_spread_is_mean_and_sample_deviation():
    summary = spread([1.0, 2.0, 4.0])
    assert (summary.mean, summary.count) == (pytest.approx(7 / 3), 3)
    assert summary.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert np.isnan(spread([5.0]).deviation)


def test_tiles_carry_their_own_subdomain(tmp_path):
    table = ConfusionTable()
    table.add("best", "target", "z", "autumn", np.diag([1, 0, 0]))
    table.add("best", "target", "a", "spring", np.diag([0, 2, 0]))
    table.add("last", "target", "a", "spring", np.diag([0, 0, 9]))
    found = TileMatrices.of(read_run(write(tmp_path, confusion=table.frame())))
    assert (found.tiles, found.subdomains) == (("a", "z"), ("spring", "autumn"))
    assert found.stack[0].tolist() == np.diag([0, 2, 0]).tolist()


def test_bootstrap_draws_whole_subdomains_and_as_many_tiles_as_they_have():
    subdomains = ["a"] * 3 + ["b"] * 5
    weights = cluster_weights(subdomains, 500, rng())
    assert weights.shape == (500, 8)
    drawn_a, drawn_b = weights[:, :3].sum(axis=1) / 3, weights[:, 3:].sum(axis=1) / 5
    assert (drawn_a + drawn_b == 2).all()
    assert set(drawn_a) == {0, 1, 2}
    assert weights.mean() == pytest.approx(1.0, abs=0.05)


def test_one_subdomain_is_the_plain_bootstrap_over_tiles():
    weights = cluster_weights(["a"] * 6, 200, rng())
    assert (weights.sum(axis=1) == 6).all()
    assert len(np.unique(weights, axis=0)) > 100


def test_the_interval_holds_the_score_and_is_repeatable():
    runs = [tiles(0.7)]
    interval = bootstrap_interval(runs, rng())
    assert interval.low < mean_iou(runs[0].stack.sum(axis=0)) < interval.high
    assert bootstrap_interval(runs, rng()) == interval


def test_identical_tiles_leave_no_uncertainty():
    one = TileMatrices(("a", "b", "c"), ("x", "x", "y"), np.stack([np.array([[3, 1], [1, 3]])] * 3))
    interval = bootstrap_interval([one], rng())
    assert (interval.low, interval.high) == pytest.approx((0.6, 0.6))


def test_disagreeing_subdomains_widen_the_interval():
    even = tiles(0.7)
    stack = np.stack([matrix(np.random.default_rng(i), 0.9 if i % 4 < 2 else 0.5) for i in range(40)])
    uneven = TileMatrices(even.tiles, even.subdomains, stack)
    narrow, wide = (bootstrap_interval([run], rng()) for run in (even, uneven))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_seeds_are_averaged_under_the_same_draws():
    low, high = tiles(0.5), tiles(0.9)
    both = bootstrap_interval([low, high], rng())
    assert bootstrap_interval([low], rng()).high < both.low
    assert both.high < bootstrap_interval([high], rng()).low


def test_reference_scoring_enters_the_interval():
    stack = np.stack([np.array([[8, 2], [0, 0]])] * 4)
    run = TileMatrices(tuple("abcd"), tuple("xxyy"), stack)
    assert bootstrap_interval([run], rng()).high == pytest.approx(0.8)
    assert bootstrap_interval([run], rng(), scoring="reference").low == pytest.approx(1.0)


def test_a_method_does_not_differ_from_itself():
    same = compare([tiles(0.7)], [tiles(0.7)], rng())
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert (same.interval.low, same.interval.high) == (0.0, 0.0)


def test_a_clear_difference_is_found_with_its_sign():
    better = compare([tiles(0.75)], [tiles(0.6, seed=1)], rng())
    expected = mean_iou(tiles(0.75).stack.sum(axis=0)) - mean_iou(tiles(0.6, seed=1).stack.sum(axis=0))
    assert better.difference == pytest.approx(expected)
    assert better.interval.low < expected < better.interval.high
    assert better.interval.low > 0
    assert better.p_value < 0.01
    worse = compare([tiles(0.6, seed=1)], [tiles(0.75)], rng())
    assert worse.difference == pytest.approx(-expected)
    assert worse.p_value == better.p_value


def test_p_values_without_a_difference_are_spread_evenly():
    found = [
        compare([tiles(0.7, seed=2 * i)], [tiles(0.7, seed=2 * i + 1)], rng(), replicates=199).p_value
        for i in range(60)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(found) <= 0.05) <= 0.12


def test_runs_scored_on_different_tiles_are_not_compared():
    with pytest.raises(RecordError, match="different tiles"):
        compare([tiles(0.7)], [tiles(0.7, number=20)], rng())
    with pytest.raises(RecordError, match="different tiles"):
        bootstrap_interval([tiles(0.7), tiles(0.7, subdomains=2)], rng())
    with pytest.raises(RecordError, match="same seeds"):
        compare([tiles(0.7), tiles(0.6)], [tiles(0.7)], rng())


def test_the_bootstrap_of_a_recorded_run_brackets_its_table(tmp_path):
    run = read_run(write(tmp_path, confusion=counts(accuracy=0.6, tiles=10)))
    found = TileMatrices.of(run)
    interval = bootstrap_interval([found], rng())
    assert interval.low < mean_iou(found.stack.sum(axis=0)) < interval.high
