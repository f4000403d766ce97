import numpy as np
import pandas as pd
import pytest
from run_records import spec, write

from spectral_tl_bench.config.protocols import TRANSFERS, shipped_protocols
from spectral_tl_bench.report.leaderboard import build
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.summary import collect
from spectral_tl_bench.report.transfers import over_transfers


def write_everywhere(root, *, seeds, accuracy, protocols=None, **changes):
    for name in protocols or TRANSFERS:
        group = name.partition("/")[0]
        for seed in seeds:
            write(
                root, spec(protocol=name, dataset=group, data=f"tiles-{group}", seed=seed, **changes), accuracy=accuracy
            )


def test_all_eight_transfers_count_and_no_in_domain_reference():
    assert len(set(TRANSFERS)) == 8
    assert set(TRANSFERS) <= set(shipped_protocols())
    assert not any("indomain" in name for name in TRANSFERS)


def test_a_method_is_averaged_over_transfers_and_then_seeds(tmp_path):
    write_everywhere(tmp_path / "runs", seeds=(0, 1), accuracy=0.8)
    runs, _ = collect(tmp_path / "runs")
    complete, lacking = over_transfers(runs)
    (row,) = complete.to_dict("records")
    assert lacking.empty
    by_seed = [np.mean([run.miou for run in runs if run.spec.seed == seed]) for seed in (0, 1)]
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(np.mean(by_seed))
    assert row["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    for name in TRANSFERS:
        own = [run.miou for run in runs if run.spec.protocol == name]
        assert row[name] == pytest.approx(np.mean(own))


def test_only_what_ran_everywhere_with_the_same_seeds_is_averaged_and_the_rest_is_named(tmp_path):
    root = tmp_path / "runs"
    write_everywhere(root, seeds=(0, 1), accuracy=0.6)
    write_everywhere(root, seeds=(0,), accuracy=0.9, method="frozen", method_options={})
    write_everywhere(root, seeds=(1,), accuracy=0.9, protocols=TRANSFERS[:-1], method="frozen", method_options={})
    write_everywhere(root, seeds=(0,), accuracy=0.9, protocols=TRANSFERS[1:], method="norm", method_options={})
    build(RunCollection.below(root), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "transfers.csv")
    assert list(zip(frame["method"], frame["seeds"], strict=True)) == [("lora", 2)]
    lacking = pd.read_csv(tmp_path / "out" / "incomplete.csv").set_index("method")["missing"]
    assert lacking["frozen"] == f"{TRANSFERS[-1]}: seed 1"
    assert lacking["norm"] == f"{TRANSFERS[0]}: every seed"
    index = (tmp_path / "out" / "README.md").read_text()
    assert f"| {TRANSFERS[-1]}: seed 1 |" in index


def test_a_ninth_protocol_with_a_slash_does_not_empty_the_overview(tmp_path):
    write_everywhere(tmp_path, seeds=(0,), accuracy=0.6)
    write(tmp_path, spec(protocol="mine/north"))
    assert len(over_transfers(collect(tmp_path)[0])[0]) == 1


def test_differences_over_transfers_are_paired_and_counted_by_sign(tmp_path):
    write_everywhere(tmp_path, seeds=(0, 1, 2), accuracy=0.6, method="frozen", method_options={})
    write_everywhere(tmp_path, seeds=(0, 1, 2), accuracy=0.8, protocols=TRANSFERS[1:])
    write_everywhere(tmp_path, seeds=(0, 1, 2), accuracy=0.5, protocols=TRANSFERS[:1])
    runs, _ = collect(tmp_path)
    frame = over_transfers(runs)[0].set_index("method")
    scores = {
        method: np.array([[r.miou for r in runs if (r.spec.method, r.spec.protocol) == (method, n)] for n in TRANSFERS])
        for method in ("lora", "frozen")
    }
    row = frame.loc["lora"]
    assert row["vs_frozen"] == pytest.approx((scores["lora"] - scores["frozen"]).mean())
    assert (row["vs_frozen_agreeing"], row["vs_frozen_seeds"]) == (7, 3)
    assert row["vs_frozen_low"] < row["vs_frozen"] < row["vs_frozen_high"]
    assert row["vs_frozen_p"] == row["vs_frozen_p_holm"] < 0.05
    assert np.isnan(frame.loc["frozen", "vs_frozen"])


def test_the_index_ranks_methods_over_the_transfers_and_keeps_simulated_ones_apart(tmp_path):
    root = tmp_path / "runs"
    write_everywhere(root, seeds=(0,), accuracy=0.6)
    write_everywhere(root, seeds=(0,), accuracy=0.9, method="frozen", method_options={})
    write_everywhere(root, seeds=(0,), accuracy=0.99, method="norm", method_options={}, simulated=True)
    build(RunCollection.below(root), tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "transfers.csv")
    assert list(frame["method"]) == ["frozen", "lora"]
    assert list(pd.read_csv(tmp_path / "out" / "simulated" / "transfers.csv")["method"]) == ["norm"]
    real, simulated = (tmp_path / "out" / "README.md").read_text().split("## Simulated tiles")
    assert real.index("| frozen |") < real.index("| lora |")
    assert "| norm |" not in real
    assert "| norm |" in simulated


def test_without_such_a_method_there_is_no_overview(tmp_path):
    write(tmp_path / "runs", spec())
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "out")
    assert not (tmp_path / "out" / "transfers.csv").exists()
