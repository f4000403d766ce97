"""Two methods against one another, from records."""

import numpy as np
import pytest
from run_records import spec, write
from scipy import stats

from spectral_tl_bench.config.presets import PRESETS
from spectral_tl_bench.config.protocols import TRANSFERS
from spectral_tl_bench.report.compare import compare
from spectral_tl_bench.report.run_summary import comparison_table, verdict
from spectral_tl_bench.report.summary import collect
from spectral_tl_bench.report.transfers import over_transfers
from spectral_tl_bench.utils.errors import RecordError

FROZEN = {"method": "frozen", "method_options": {}}


@pytest.fixture
def runs(tmp_path):
    """Write rows given as (changes, accuracy, seeds, protocols) and read them."""

    def make(*rows):
        for changes, accuracy, seeds, protocols in rows:
            for protocol in protocols:
                for seed in seeds:
                    write(tmp_path, spec(protocol=protocol, seed=seed, **changes), accuracy=accuracy)
        return collect(tmp_path)[0]

    return make


def test_methods_are_compared_by_seed_wherever_both_ran(runs):
    found = runs(({}, 0.7, (0, 1, 2), TRANSFERS[:2]), (FROZEN, 0.6, (0, 1, 2, 3), TRANSFERS[1:3]))
    (comparison,) = compare(found, "lora", "frozen")
    (row,) = comparison.table.to_dict("records")
    by_seed = [
        [r.miou for r in found if (r.spec.method, r.spec.protocol) == (m, TRANSFERS[1])][:3] for m in ("lora", "frozen")
    ]
    expected = stats.ttest_rel(*by_seed)
    assert (row["protocol"], row["seeds"]) == (TRANSFERS[1], 3)
    assert row["difference"] == pytest.approx(np.subtract(*by_seed).mean())
    # Means of other seeds beside their difference on common ones would contradict it.
    assert [row["first"], row["second"]] == pytest.approx(np.mean(by_seed, axis=1))
    assert row["p_value"] == row["p_holm"] == pytest.approx(expected.pvalue)
    assert "not both ran on every one" in verdict(comparison)


def test_over_all_transfers_there_is_a_verdict_from_three_seeds_on(runs):
    found = runs(({}, 0.7, (0, 1, 2), TRANSFERS), (FROZEN, 0.6, (0, 1, 2), TRANSFERS))
    (comparison,) = compare(found, "lora", "frozen")
    (whole,) = comparison.over_transfers.values()
    assert whole.agreeing == 8
    assert "same sign in 8 of 8" in verdict(comparison)
    assert "(3 seeds)" in verdict(comparison)
    two = [run for run in found if run.spec.seed < 2]
    assert "a verdict needs 3" in verdict(compare(two, "lora", "frozen")[0])


def test_rows_are_found_by_their_name_with_options_and_by_id(runs):
    other = {"method_options": {"alpha": 16.0, "rank": 4}}
    found = runs(({}, 0.7, (0,), TRANSFERS[:1]), (other, 0.6, (0,), TRANSFERS[:1]))
    (by_label,) = compare(found, "lora (rank=4)", "lora (rank=8)")
    ids = [run.identity for run in sorted(found, key=lambda run: run.spec.method_options["rank"])]
    (by_id,) = compare(found, *ids)
    assert by_label.table["difference"].iloc[0] < 0
    assert by_id.table.equals(by_label.table)


def test_ids_of_the_overview_compare_what_differs_in_anything_over_all_transfers(runs):
    trained = {"weights": "sha256:0123456789abcdef"}
    found = runs((trained, 0.7, (0, 1, 2), TRANSFERS), ({}, 0.6, (0, 1, 2), TRANSFERS))
    overview, _ = over_transfers(found)
    by_weights = dict(zip(overview["weights"], overview["id"], strict=True))
    none = by_weights.pop("none")
    (other,) = by_weights.values()
    (comparison,) = compare(found, other, none)
    means = overview.set_index("id")["mean"]
    (whole,) = comparison.over_transfers.values()
    assert whole.mean == pytest.approx(means[other] - means[none])
    assert (whole.seeds, len(comparison.table)) == (3, 8)


def test_each_backbone_and_its_weights_have_a_verdict_of_their_own(runs):
    rows = [
        (method | which, accuracy, (0, 1, 2), TRANSFERS)
        for which in ({}, {"weights": "sha256:0123456789abcdef"}, {"backbone": "vit_s_mae"})
        for method, accuracy in (({}, 0.7), (FROZEN, 0.6))
    ]
    (comparison,) = compare(runs(*rows), "lora", "frozen")
    assert len(comparison.table) == 3 * 8
    assert sorted(comparison.over_transfers) == [
        ("vit_micro", "none"),
        ("vit_micro", "sha256:0123456789abcdef"),
        ("vit_s_mae", "none"),
    ]
    lines = verdict(comparison).splitlines()
    assert len(lines) == 3
    assert any("vit_micro (sha256:0123456): lora minus frozen" in line for line in lines)
    assert {"backbone", "weights"} <= set(comparison_table(comparison).columns)


def test_of_rows_with_one_backbone_that_differ_in_something_else_none_stands_for_the_others(runs):
    longer = {"training": PRESETS["quick"].model_copy(update={"segmentation_steps": 999})}
    rows = [
        (method | which, accuracy, (0, 1, 2), TRANSFERS)
        for which in ({}, longer, {"backbone": "spectral_mae_micro"})
        for method, accuracy in (({}, 0.7), (FROZEN, 0.6))
    ]
    (comparison,) = compare(runs(*rows), "lora", "frozen")
    assert len(comparison.table) == 3 * 8
    assert list(comparison.over_transfers) == [("spectral_mae_micro", "none")]
    assert set(comparison_table(comparison)["backbone"]) == {"vit_micro", "spectral_mae_micro"}


def test_a_row_is_found_by_its_title_on_a_board(runs):
    small = {"backbone": "vit_s_mae"}
    found = runs(({}, 0.7, (0,), TRANSFERS[:1]), (FROZEN, 0.65, (0,), TRANSFERS[:1]), (small, 0.6, (0,), TRANSFERS[:1]))
    (comparison,) = compare(found, "lora [vit_s_mae]", "frozen")
    assert comparison.table["difference"].iloc[0] < 0


def test_real_and_simulated_runs_are_never_compared(runs):
    rows = runs(({"simulated": True, "data": "s"}, 0.9, (0,), TRANSFERS[:1]), (FROZEN, 0.6, (0,), TRANSFERS[:1]))
    with pytest.raises(RecordError, match="in common"):
        compare(rows, "lora", "frozen")


def test_what_never_ran_is_named_with_what_did(runs):
    with pytest.raises(RecordError, match="no run of norm; there are: lora"):
        compare(runs(({}, 0.7, (0,), TRANSFERS[:1])), "lora", "norm")


def test_the_table_has_signs_and_dashes(runs):
    found = runs(({}, 0.7, (0, 1), TRANSFERS[:1]), (FROZEN, 0.6, (0, 1), TRANSFERS[:1]))
    (row,) = comparison_table(compare(found, "lora", "frozen")[0]).to_dict("records")
    assert row["difference"].startswith("+")
    assert (row["95 %"], row["p"]) == ("-", "-")
