"""The statistics keep what they promise: against scipy and statsmodels, and under simulated truths."""

import numpy as np
import pytest
from run_records import matrix
from scipy import stats
from sklearn.linear_model import LinearRegression
from statsmodels.stats.multitest import multipletests

from spectral_tl_bench.records.scores import headline
from spectral_tl_bench.report.statistics import (
    Interval,
    effective_robustness,
    holm,
    paired,
    places_interval,
    places_p_value,
    seeds_interval,
    source_to_target,
    spread,
    spreads,
    tiles_interval,
)

DRAWS = 1500


def by_seed(values):
    return dict(enumerate(values))


def test_one_seed_has_no_deviation_and_few_have_no_interval():
    assert np.isnan(spread([40.0]).deviation)
    assert spread([40.0, 42.0]).deviation == pytest.approx(np.sqrt(2))
    assert np.isnan(seeds_interval([40.0, 42.0]).low)


@pytest.mark.parametrize("seeds", [1, 2, 5, 40])
def test_many_figures_are_summarised_to_the_last_bit_as_one_is(seeds):
    values = np.random.default_rng(seeds).uniform(0, 100, (seeds, 7))
    values[0, 3] = np.nan
    one_by_one = [spread(column) for column in values.T.tolist()]
    expected = ([one.mean for one in one_by_one], [one.deviation for one in one_by_one])
    np.testing.assert_array_equal(spreads(values), expected)


def test_the_interval_over_seeds_is_scipys():
    values = [15.4, 14.5, 15.4, 16.0, 15.1]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert seeds_interval(values) == Interval(pytest.approx(expected.low), pytest.approx(expected.high))


def test_a_paired_comparison_is_scipys_on_the_seeds_both_have():
    first, second = {0: 15.0, 1: 16.5, 2: 15.2, 7: 99.0}, {0: 14.0, 1: 15.0, 2: 14.9, 3: 0.0}
    found = paired(first, second)
    expected = stats.ttest_rel([15.0, 16.5, 15.2], [14.0, 15.0, 14.9])
    assert found.seeds == 3
    assert found.difference == pytest.approx((1.0 + 1.5 + 0.3) / 3)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval.low == pytest.approx(expected.confidence_interval().low)


def test_two_seeds_give_a_difference_and_no_verdict_and_no_common_seed_gives_nothing():
    found = paired({0: 15.0, 1: 16.0}, {0: 14.0, 1: 14.0})
    assert (found.difference, found.seeds) == (1.5, 2)
    assert np.isnan([found.p_value, found.interval.low]).all()
    assert np.isnan(paired({0: 1.0}, {1: 1.0}).difference)


def test_a_method_that_ignores_its_seed_is_not_certain():
    found = paired(by_seed([15.0] * 5), by_seed([14.0] * 5))
    assert found.difference == 1.0
    assert np.isnan([found.p_value, found.interval.high]).all()


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_statsmodels_and_leaves_out_what_was_not_tested(seed):
    rng = np.random.default_rng(seed)
    values = rng.random(rng.integers(1, 12)) ** 3
    expected = multipletests(values, method="holm")[1]
    assert holm(values.tolist()) == pytest.approx(expected.tolist())
    assert holm([float("nan"), *values])[1:] == pytest.approx(expected.tolist())
    assert np.isnan(holm([float("nan")]))


def trained(rng, accuracy, seeds=5, noise=0.03):
    """Scores of a method by seed: each seed's model has an accuracy of its own and predicts a few tiles."""
    result = {}
    for seed in range(seeds):
        level = float(np.clip(accuracy + noise * rng.standard_normal(), 0.05, 0.95))
        result[seed] = float(headline(sum(matrix(rng, level, pixels=300) for _ in range(6))))
    return result


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_method_seldom_beats_itself(seeds):
    """A true null with seed noise: two sets of runs of one method. A test over tiles rejects every other one."""
    rng = np.random.default_rng(seeds)
    rejected = [paired(trained(rng, 0.6, seeds), trained(rng, 0.6, seeds)).p_value < 0.05 for _ in range(600)]
    assert 0.02 < np.mean(rejected) < 0.08


def test_over_a_board_a_method_seldom_beats_itself_even_once():
    """Twenty rows that are all the comparator: corrected, some row wins in at most 8 % of the boards."""
    rng = np.random.default_rng(1)
    boards = []
    for _ in range(500):
        scores = 40 + rng.standard_normal((21, 5))
        p_values = holm([paired(by_seed(row), by_seed(scores[0])).p_value for row in scores[1:]])
        boards.append(min(p_values) < 0.05)
    assert np.mean(boards) < 0.08


def test_a_real_difference_is_found():
    rng = np.random.default_rng(2)
    found = [paired(trained(rng, 0.7), trained(rng, 0.55)).p_value < 0.05 for _ in range(100)]
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_over_seeds_covers_what_it_says(seeds):
    rng = np.random.default_rng(seeds)
    inside = []
    for _ in range(DRAWS):
        found = seeds_interval((40 + rng.standard_normal(seeds)).tolist())
        inside.append(found.low <= 40 <= found.high)
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize("places", [5, 8])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("by_place", "by_seeds"), [(5.0, 1.0), (2.0, 1.0), (2.0, 0.0), (0.5, 2.0)])
def test_the_interval_over_places_covers_another_place_and_seed(places, seeds, by_place, by_seeds):
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(DRAWS):
        values = 40 + by_place * rng.standard_normal(places) + by_seeds * rng.standard_normal((seeds, 1))
        found = places_interval(values + rng.standard_normal((seeds, places)))
        inside.append(found.low <= 40 <= found.high)
    assert 0.92 < np.mean(inside) < 0.98


def test_over_places_a_method_seldom_beats_itself():
    rng = np.random.default_rng(3)
    rejected = []
    for _ in range(DRAWS):
        differences = 2 * rng.standard_normal(8) + rng.standard_normal((5, 8)) + 0.5 * rng.standard_normal((5, 1))
        rejected.append(places_p_value(differences) < 0.05)
    assert np.mean(rejected) < 0.08


def test_the_interval_over_places_is_as_wide_as_resampling_both_says():
    """Second opinion: seeds and transfers drawn with replacement, together (Owen, 2007)."""
    rng = np.random.default_rng(4)
    values = 5 * rng.standard_normal(40) + 2 * rng.standard_normal((30, 1)) + rng.standard_normal((30, 40))
    means = [values[rng.integers(30, size=30)][:, rng.integers(40, size=40)].mean() for _ in range(3000)]
    found = places_interval(values)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(means), rel=0.1)


@pytest.mark.parametrize("shape", [(2, 8), (5, 4), (1, 8), (5, 1)])
def test_few_seeds_or_places_say_nothing_about_another(shape):
    assert np.isnan(places_interval(np.random.default_rng(0).random(shape)).low)
    assert np.isnan(places_p_value(np.random.default_rng(0).random(shape)))


def test_a_place_without_a_score_leaves_no_interval():
    values = np.random.default_rng(0).random((5, 8))
    values[2, 3] = np.nan
    assert np.isnan(places_interval(values).low)


def test_the_interval_over_tiles_holds_the_score_and_narrows_with_more_tiles():
    rng = np.random.default_rng(5)
    widths = []
    for tiles in (10, 200):
        levels = rng.normal(0.6, 0.1, tiles).clip(0.2, 0.9)
        stack = np.stack([matrix(rng, level) for level in levels])
        found = tiles_interval(stack, ["a", "b"] * (tiles // 2))
        assert found.low < headline(stack.sum(axis=0)) < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2
    assert np.isnan(tiles_interval(np.zeros((3, 2, 2), dtype=np.int64), ["a"] * 3).low)


def test_effective_robustness_is_the_residual_of_a_line_in_logits():
    rng = np.random.default_rng(6)
    source = rng.uniform(20, 70, 12)
    target = source * 0.5 + rng.normal(0, 2, 12)

    def logit(percent):
        return np.log(percent / (100 - percent))

    line = LinearRegression().fit(logit(source)[:, None], logit(target))
    expected = 100 * stats.logistic.cdf(line.predict(logit(source)[:, None]))
    assert effective_robustness(source, target) == pytest.approx(target - expected)


def test_the_line_is_scipys_to_the_last_bit():
    source, target = np.random.default_rng(0).uniform(5, 95, (2, 12))
    expected = stats.linregress(*(np.log(share / (1 - share)) for share in (source / 100, target / 100)))
    line = source_to_target(source, target)
    assert (line.slope, line.intercept) == (expected.slope, expected.intercept)


def test_what_travels_better_than_the_others_has_a_positive_residual():
    source, target = [30.0, 40.0, 50.0, 60.0, 45.0], [15.0, 20.0, 25.0, 30.0, 35.0]
    above = effective_robustness(source, target)
    assert np.argmax(above) == 4
    assert above[4] > 5


def test_a_line_needs_five_rows_that_differ():
    assert source_to_target([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]) is None
    assert source_to_target([2.0] * 6, [1.0] * 6) is None
    assert np.isnan(effective_robustness([1.0, 2.0, 3.0, 4.0, float("nan")], [1.0] * 5)).all()
