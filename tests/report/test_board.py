"""What a board says of its rows beside their scores."""

import numpy as np
import pytest
from run_records import spec, write
from scipy import stats

from spectral_tl_bench.config.presets import PRESETS
from spectral_tl_bench.report.board import make_board
from spectral_tl_bench.report.statistics import holm
from spectral_tl_bench.report.summary import collect

FROZEN = {"method": "frozen", "method_options": {}}
FOREST = {"method": "pixel_forest", "method_options": {}, "backbone": "none", "weights": "none", "preset": "none"}
FIVE = ("a", "b", "c", "d", "e")


@pytest.fixture
def board(tmp_path):
    """Write runs given as (changes, accuracy, seeds) and make their board."""

    def make(*rows, against=(), **levels):
        for changes, accuracy, seeds in rows:
            for seed in seeds:
                write(tmp_path, spec(seed=seed, **changes), accuracy=accuracy, **levels)
        return make_board(collect(tmp_path)[0], against)

    return make


def test_a_row_is_compared_with_frozen_by_seed(board, tmp_path):
    rows = board((FROZEN, 0.6, (0, 1, 2, 5)), ({}, 0.7, (0, 1, 2, 3))).rows.set_index("method")
    by_seed = {
        method: {r.spec.seed: r.miou for r in collect(tmp_path)[0] if r.spec.method == method}
        for method in ("lora", "frozen")
    }
    pairs = np.array([[by_seed["lora"][seed], by_seed["frozen"][seed]] for seed in (0, 1, 2)])
    expected = stats.ttest_rel(*pairs.T)
    row = rows.loc["lora"]
    assert row["vs_frozen"] == pytest.approx(np.subtract(*pairs.T).mean())
    assert row["vs_frozen_seeds"] == 3
    assert row["vs_frozen_p"] == pytest.approx(expected.pvalue)
    assert row["vs_frozen_low"] == pytest.approx(expected.confidence_interval().low)
    assert np.isnan(rows.loc["frozen", "vs_frozen"])


def test_two_seeds_have_a_difference_and_no_verdict(board):
    row = board((FROZEN, 0.6, (0, 1)), ({}, 0.7, (0, 1))).rows.set_index("method").loc["lora"]
    assert row["vs_frozen"] > 0
    assert np.isnan([row["vs_frozen_p"], row["low"], row["elsewhere_low"]]).all()
    assert row["seeds"] == 2


def test_p_values_are_corrected_over_the_whole_board(board):
    seeds = (0, 1, 2)
    rows = board(
        (FROZEN, 0.6, seeds),
        ({}, 0.62, seeds),
        ({"method": "norm"}, 0.65, seeds),
        (FROZEN | {"protocol": "whu_region/t2s"}, 0.5, seeds),
        ({"protocol": "whu_region/t2s"}, 0.52, seeds),
    ).rows
    assert rows["vs_frozen_p"].notna().sum() == 3
    assert rows["vs_frozen_p_holm"].dropna().tolist() == pytest.approx(holm(rows["vs_frozen_p"].dropna().tolist()))


def test_comparators_share_backbone_weights_and_training(board):
    seeds = (0, 1, 2)
    rows = board(
        (FROZEN, 0.6, seeds),
        (FROZEN | {"weights": "hub"}, 0.5, seeds),
        ({"weights": "hub"}, 0.7, seeds),
        ({"backbone": "vit_s_mae"}, 0.8, seeds),
    ).rows
    differences = rows.set_index(["method", "backbone", "weights"])["vs_frozen"]
    assert differences["lora", "vit_micro", "hub"] > 20
    assert np.isnan(differences["lora", "vit_s_mae", "none"])


def at_rate(rate):
    return {"training": PRESETS["quick"].model_copy(update={"learning_rate": rate})}


def test_a_method_with_a_learning_rate_of_its_own_is_compared(board):
    seeds = (0, 1, 2)
    rows = board((FROZEN, 0.6, seeds), (at_rate(0.008), 0.7, seeds)).rows.set_index("method")
    assert rows.loc["lora", "vs_frozen"] > 0


def test_a_comparator_with_the_same_learning_rate_goes_before_another(board):
    seeds = (0, 1, 2)
    rows = board(
        (FROZEN, 0.6, seeds), (FROZEN | at_rate(0.008), 0.8, seeds), (at_rate(0.008), 0.7, seeds)
    ).rows.set_index("method")
    assert rows.loc["lora", "vs_frozen"] < 0


def test_a_method_is_not_compared_with_one_that_trained_longer(board):
    seeds = (0, 1, 2)
    longer = {"training": PRESETS["quick"].model_copy(update={"segmentation_steps": 999})}
    rows = board((FROZEN | longer, 0.6, seeds), ({}, 0.7, seeds)).rows.set_index("method")
    assert np.isnan(rows.loc["lora", "vs_frozen"])


def test_runs_on_other_tiles_are_not_compared(board, tmp_path):
    for seed in (0, 1, 2):
        write(tmp_path, spec(seed=seed, **FROZEN), tiles=5)
    row = board(({}, 0.7, (0, 1, 2))).rows.set_index("method").loc["lora"]
    assert np.isnan(row["vs_frozen"])


def test_a_user_names_a_further_comparator(board):
    seeds = (0, 1, 2)
    made = board((FROZEN, 0.6, seeds), ({}, 0.7, seeds), ({"method": "norm"}, 0.65, seeds), against=["lora"])
    assert made.against == ("frozen", "lora")
    rows = made.rows.set_index("method")
    assert rows.loc["norm", "vs_lora"] < 0 < rows.loc["norm", "vs_frozen"]


def test_rows_below_the_pixel_forest_are_marked(board):
    made = board(({}, 0.7, (0,)), ({"method": "norm"}, 0.3, (0,)), (FOREST, 0.5, (0,)))
    marks = made.rows.set_index("method")["below_yardstick"]
    assert marks.to_dict() == {"lora": "no", "norm": "yes", "pixel_forest": ""}


def test_the_forest_is_compared_with_the_only_frozen_row_or_that_of_the_presets_own_backbone_pretrained(board):
    seeds = (0, 1, 2)
    rows = board((FROZEN, 0.6, seeds), (FOREST, 0.5, seeds)).rows.set_index("method")
    alone = rows.loc["pixel_forest", "vs_frozen"]
    assert alone < 0
    rows = board((FROZEN | {"weights": "hub"}, 0.7, seeds), (FROZEN | {"backbone": "vit_s_mae"}, 0.9, seeds)).rows
    by_row = rows.set_index("row")
    differences = by_row["miou"] - by_row.loc["pixel_forest", "miou"]
    assert by_row.loc["pixel_forest", "vs_frozen"] == pytest.approx(-differences["frozen"])
    rows = board((FROZEN | {"weights": "sha256:0123456789abcdef"}, 0.7, seeds)).rows.set_index("row")
    assert np.isnan(rows.loc["pixel_forest", "vs_frozen"])


def test_rows_of_one_method_have_names_of_their_own(board):
    pretrained = {"weights": "sha256:0123456789abcdef"}
    longer = {"training": PRESETS["quick"].model_copy(update={"segmentation_steps": 999})}
    other = {"backbone": "vit_s_mae"}
    own = {"weights": "sha256:fedcba9876543210", "weights_file": "mine"}
    alike = [{"weights": f"sha256:{digit * 16}", "weights_file": "same"} for digit in "01"]
    made = board(
        *((FROZEN | which, 0.6, (0,)) for which in (pretrained, {}, pretrained | longer, other, own, *alike)),
        ({}, 0.7, (0,)),
        (pretrained, 0.7, (0,)),
        (FOREST, 0.5, (0,)),
    )
    assert sorted(made.rows["row"]) == [
        "frozen",
        "frozen [segmentation_steps=999]",
        "frozen [vit_s_mae]",
        "frozen [weights=mine]",
        "frozen [weights=none]",
        "frozen [weights=sha256:0000000]",
        "frozen [weights=sha256:1111111]",
        "lora",
        "lora [weights=none]",
        "pixel_forest",
    ]
    assert set(made.details["row"]) == set(made.rows["row"])


def test_an_interval_for_elsewhere_needs_five_subdomains_and_three_seeds(board):
    rows = board(({}, 0.7, (0, 1, 2)), (FROZEN, 0.6, (0, 1)), subdomains=FIVE).rows.set_index("method")
    row = rows.loc["lora"]
    assert row["subdomains"] == 5
    assert row["elsewhere_low"] < row["subdomain_mean"] < row["elsewhere_high"]
    assert np.isnan(rows.loc["frozen", "elsewhere_low"])


def test_four_subdomains_are_shown_without_an_interval(board):
    row = board(({}, 0.7, (0, 1, 2)), subdomains=FIVE[:4]).rows.iloc[0]
    assert np.isnan(row["elsewhere_low"])
    assert row["worst_miou"] <= row["subdomain_mean"]


def test_effective_robustness_needs_five_rows_of_a_transfer(board):
    methods = ("lora", "frozen", "norm", "full", "bitfit")
    rows = board(*[({"method": m}, 0.4 + 0.08 * i, (0,)) for i, m in enumerate(methods)]).rows
    assert rows["effective_robustness"].notna().all()
    few = rows["effective_robustness"].abs().max()
    assert few < 30


def test_every_score_is_a_column(board):
    row = board(({}, 0.7, (0, 1))).rows.iloc[0]
    assert row["miou"] < row["mean_f1"]
    assert {"oa", "kappa"} <= set(row.index)


def test_seeds_are_listed(board):
    assert board(({}, 0.7, (0, 3))).rows.loc[0, "seed_list"] == "0 3"


def test_the_title_names_the_version_of_a_protocol_from_the_second_on(board):
    assert board(({"protocol_version": 2}, 0.7, (0,))).titles == {"whu_region/s2t": "Source to target (version 2)"}
    assert board(({"protocol": "whu_region/t2s"}, 0.7, (0,))).titles["whu_region/t2s"] == "Source to target"
