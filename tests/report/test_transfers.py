import numpy as np
import pandas as pd
import pytest
from run_records import spec, write

from spectral_tl_bench.protocols import TRANSFERS, shipped_protocols
from spectral_tl_bench.records import read_run
from spectral_tl_bench.report.leaderboard import build
from spectral_tl_bench.report.transfers import over_transfers, percent


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
    runs = [read_run(path.parent) for path in sorted((tmp_path / "runs").rglob("run.json"))]
    (row,) = over_transfers(runs).to_dict("records")
    by_seed = [np.mean([percent(run) for run in runs if run.record.spec.seed == seed]) for seed in (0, 1)]
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(np.mean(by_seed))
    assert row["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    for name in TRANSFERS:
        own = [percent(run) for run in runs if run.record.spec.protocol == name]
        assert row[name] == pytest.approx(np.mean(own))


def test_only_what_ran_everywhere_is_averaged(tmp_path):
    root = tmp_path / "runs"
    write_everywhere(root, seeds=(0,), accuracy=0.6)
    write_everywhere(root, seeds=(1,), accuracy=0.9, protocols=TRANSFERS[:-1])
    write_everywhere(root, seeds=(0,), accuracy=0.9, protocols=TRANSFERS[1:], method="frozen", method_options={})
    build(root, tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "transfers.csv")
    assert list(zip(frame["method"], frame["seeds"], strict=True)) == [("lora", 1)]


def test_the_index_ranks_methods_over_the_transfers_and_keeps_simulated_ones_apart(tmp_path):
    root = tmp_path / "runs"
    write_everywhere(root, seeds=(0,), accuracy=0.6)
    write_everywhere(root, seeds=(0,), accuracy=0.9, method="frozen", method_options={})
    write_everywhere(root, seeds=(0,), accuracy=0.99, method="norm", method_options={}, simulated=True)
    build(root, tmp_path / "out")
    frame = pd.read_csv(tmp_path / "out" / "transfers.csv")
    assert list(frame["method"]) == ["frozen", "lora"]
    assert list(pd.read_csv(tmp_path / "out" / "simulated" / "transfers.csv")["method"]) == ["norm"]
    real, simulated = (tmp_path / "out" / "README.md").read_text().split("## Simulated tiles")
    assert real.index("| frozen |") < real.index("| lora |")
    assert "| norm |" not in real
    assert "| norm |" in simulated


def test_without_such_a_method_there_is_no_overview(tmp_path):
    write(tmp_path / "runs", spec())
    build(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out" / "transfers.csv").exists()
