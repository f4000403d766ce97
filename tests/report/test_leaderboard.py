import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_records import counts, spec, write

from spectral_tl_bench.errors import RecordError
from spectral_tl_bench.presets import PRESETS, override
from spectral_tl_bench.protocols import shipped_protocols
from spectral_tl_bench.records import read_run
from spectral_tl_bench.report.leaderboard import board, build, collect
from spectral_tl_bench.report.pages import INDEX_HEADING, PUBLISHED_NOTE, labels, published, published_table
from spectral_tl_bench.report.tables import protocol_table


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    for seed in (0, 1, 2):
        write(root, spec(seed=seed), accuracy=0.8)
        write(root, spec(seed=seed, method="frozen", method_options={}), accuracy=0.6)
    write(root, spec(protocol="whu_region/t2s"), accuracy=0.5)
    write(root, spec(simulated=True, data="simulated"), accuracy=0.99)
    return root


def read(path):
    return pd.read_csv(path, keep_default_na=True)


def test_seeds_are_averaged_into_one_row(runs, tmp_path):
    build(runs, tmp_path / "out")
    frame = read(tmp_path / "out" / "whu_region.csv")
    assert list(frame["method"]) == ["lora", "frozen", "lora"]
    assert list(frame["seeds"]) == [3, 3, 1]
    own = [protocol_table(read_run(runs / spec(seed=seed).folder)).set_index("domain")["mIoU"] for seed in (0, 1, 2)]
    row = frame.iloc[0]
    assert row["miou"] == pytest.approx(np.mean([table["all targets"] for table in own]), abs=1e-4)
    assert row["sd"] == pytest.approx(np.std([table["all targets"] for table in own], ddof=1), abs=1e-4)
    assert row["source_miou"] == pytest.approx(np.mean([table["held-out source"] for table in own]), abs=1e-4)
    assert row["gap"] == pytest.approx(row["source_miou"] - row["miou"], abs=2e-4)
    assert row["low"] < row["miou"] < row["high"]
    assert row["trainable_m"] == pytest.approx(0.04)


def test_the_worst_subdomain_is_named(tmp_path):
    rng_low, rng_high = counts(0.5, subdomains=("north",)), counts(0.9, subdomains=("south",))
    both = pd.concat([rng_low, rng_high[rng_high["part"] == "target"]], ignore_index=True)
    frame = board([read_run(write(tmp_path, confusion=both))])
    assert frame.loc[0, "worst_subdomain"] == "north"
    assert frame.loc[0, "worst_miou"] < frame.loc[0, "miou"]


def test_simulated_runs_never_enter_a_real_board(runs, tmp_path):
    built = build(runs, tmp_path / "out")
    assert built.runs == 8
    assert [p.relative_to(tmp_path / "out").as_posix() for p in built.boards] == [
        "whu_region.csv",
        "simulated/whu_region.csv",
    ]
    real, simulated = (read(path) for path in built.boards)
    assert set(real["data"]) == {"real"}
    assert set(simulated["data"]) == {"simulated"}
    assert real["miou"].max() < 90 < simulated["miou"].min()
    page = (tmp_path / "out" / "simulated" / "whu_region.md").read_text()
    assert page.startswith("# SIMULATED")
    assert "Published by others" not in page


def test_the_same_records_give_the_same_bytes(runs, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs, moved)
    build(runs, tmp_path / "one")
    build(moved, tmp_path / "two")
    build(moved, tmp_path / "two")
    contents = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
        for name in ("one", "two")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7


def test_damaged_runs_are_skipped_and_named_and_copies_count_once(runs, tmp_path):
    damaged = runs / spec(seed=1).folder
    (damaged / "run.json").write_text("{")
    unfinished = runs / spec(seed=2).folder
    (unfinished / "run.json").unlink()
    shutil.copytree(runs / spec().folder, runs / "zz-copy")
    built = build(runs, tmp_path / "out")
    assert built.runs == 6
    assert len(built.skipped) == 3
    for folder in (damaged, unfinished, runs / "zz-copy"):
        assert any(str(folder) in line and "\n" not in line for line in built.skipped)
    frame = read(tmp_path / "out" / "whu_region.csv")
    assert frame.loc[frame["method"] == "lora", "seeds"].tolist() == [1, 1]


def test_no_complete_run_is_an_error_that_says_why(runs, tmp_path):
    for path in runs.rglob("run.json"):
        path.unlink()
    with pytest.raises(RecordError, match="no complete run"):
        build(runs, tmp_path / "out")
    with pytest.raises(RecordError, match="there is no folder of runs"):
        build(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"method_options": {"alpha": 16.0, "rank": 4}},
        {"training": override(PRESETS["quick"], {"batch_size": 2})},
        {"data": "other"},
        {"protocol_digest": "other"},
        {"weights": "hub"},
        {"backbone": "vit_s_mae"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_runs_that_differ_in_more_than_their_seed_are_never_averaged(tmp_path, change):
    write(tmp_path / "runs", spec())
    write(tmp_path / "runs", spec(seed=1, **change))
    frame = board(collect(tmp_path / "runs")[0])
    assert list(frame["seeds"]) == [1, 1]
    assert frame["id"].nunique() == 2


def test_changes_to_the_preset_are_shown(tmp_path):
    write(tmp_path / "runs", spec(training=override(PRESETS["quick"], {"batch_size": 2, "sampler": "class"})))
    frame = board(collect(tmp_path / "runs")[0])
    assert frame.loc[0, "changes"] == "batch_size=2, sampler=class"


def test_each_row_is_tested_against_the_best_of_its_protocol(runs, tmp_path):
    build(runs, tmp_path / "out")
    frame = read(tmp_path / "out" / "whu_region.csv")
    assert frame["p_vs_best"].isna().tolist() == [True, False, True]
    assert frame.loc[1, "p_vs_best"] < 0.01


def test_rows_without_a_common_seed_or_common_tiles_have_no_p_value(tmp_path):
    write(tmp_path / "runs", spec(), accuracy=0.9)
    write(tmp_path / "runs", spec(method="frozen", seed=5), accuracy=0.6)
    write(tmp_path / "runs", spec(method="full"), accuracy=0.5, tiles=3)
    assert board(collect(tmp_path / "runs")[0])["p_vs_best"].isna().all()


def test_reference_scored_rows_stand_in_a_table_of_their_own(tmp_path):
    reference = override(PRESETS["quick"], {"resolution": "resize", "scoring": "reference"})
    write(tmp_path / "runs", spec())
    write(tmp_path / "runs", spec(training=reference))
    build(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "## whu_region/s2t\n" in page
    assert "## whu_region/s2t (reference scoring" in page


def test_the_page_names_options_only_where_rows_of_a_method_differ(tmp_path):
    write(tmp_path / "runs", spec())
    write(tmp_path / "runs", spec(method_options={"alpha": 16.0, "rank": 4}))
    write(tmp_path / "runs", spec(method="frozen", method_options={"depth": 1}))
    build(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "lora (rank=4)" in page
    assert "lora (rank=8)" in page
    assert "depth" not in page
    assert "nan" not in page.lower()


def test_a_row_is_named_by_what_most_rows_of_its_method_do_not_have(tmp_path):
    for options in ({"alpha": 16.0, "rank": 8}, {"alpha": 16.0, "rank": 4}, {"alpha": 1.0, "rank": 8}):
        write(tmp_path, spec(method_options=options))
    frame = board(collect(tmp_path)[0])
    assert sorted(labels(frame)) == ["lora", "lora (alpha=1.0)", "lora (rank=4)"]


def test_the_index_lists_every_board(runs, tmp_path):
    write(runs, spec(protocol="my_own"))
    build(runs, tmp_path / "out")
    index = (tmp_path / "out" / "README.md").read_text()
    for link in ("(my_own.md)", "(whu_region.md)", "(simulated/whu_region.md)"):
        assert link in index
        assert (tmp_path / "out" / link.strip("()")).is_file()


def test_a_readme_that_is_not_ours_is_never_overwritten(runs, tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(RecordError, match="stays as it is"):
        build(runs, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert not (tmp_path / "whu_region.csv").exists()


def test_a_protocol_called_published_does_not_replace_the_published_figures(tmp_path):
    write(tmp_path / "runs", spec(protocol="published"))
    build(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out" / "published.csv").exists()
    assert (tmp_path / "out" / "published_protocol.csv").exists()


def test_published_figures_stand_apart_with_their_caveats(runs, tmp_path):
    build(runs, tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    ours, theirs = page.split("## Published by others")
    assert "HyperSIGMA" not in ours
    assert "| HyperSIGMA | ViT-L | full | 382.50 | 14.08 | 14.13 |" in theirs
    assert "not directly comparable" in theirs
    assert "SpectralX" not in set(read(tmp_path / "out" / "whu_region.csv")["method"])


def test_published_figures_are_complete_and_name_shipped_protocols():
    frame = published()
    assert len(frame) == 118
    assert frame["miou"].between(0, 100).all()
    assert published_table("nowhere") is None
    assert set(frame["protocol"]) <= set(shipped_protocols())


def test_the_index_in_the_repository_carries_the_caveats_of_the_published_figures():
    index = (Path(__file__).parents[2] / "leaderboards" / "README.md").read_text(encoding="utf-8")
    assert index.startswith(INDEX_HEADING)
    assert index.endswith(PUBLISHED_NOTE)
