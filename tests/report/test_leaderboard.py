import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from run_records import counts, spec, write

from spectral_tl_bench.config.presets import PRESETS, override
from spectral_tl_bench.config.protocols import TRANSFERS, shipped_protocols
from spectral_tl_bench.records import read_run
from spectral_tl_bench.report import leaderboard, summary
from spectral_tl_bench.report.board import make_board
from spectral_tl_bench.report.leaderboard import build, check
from spectral_tl_bench.report.names import labels
from spectral_tl_bench.report.pages import INDEX_HEADING
from spectral_tl_bench.report.published import PUBLISHED_MARK, PUBLISHED_NOTE, published, published_rows
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.summary import Summary, collect
from spectral_tl_bench.report.tables import protocol_table
from spectral_tl_bench.utils.errors import RecordError


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
    build(RunCollection.below(runs), tmp_path / "out")
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


def test_several_processes_read_runs_as_one_does(runs, tmp_path, monkeypatch):
    shutil.copytree(runs / spec().folder, runs / "copy" / spec().folder.name)
    (runs / spec(seed=1).folder / "run.json").unlink()
    alone = collect(runs)
    monkeypatch.setattr(summary, "RUNS_OF_A_PROCESS", 1)
    monkeypatch.setattr(summary, "_RUNS_AT_ONCE", 3)
    together = collect(runs)
    assert together[1] == alone[1]
    assert len(alone[1]) == 2
    for one, other in zip(together[0], alone[0], strict=True):
        np.testing.assert_array_equal(one.confusion, other.confusion)
        assert replace(one, confusion=None) == replace(other, confusion=None)


def test_pictures_that_other_processes_draw_are_the_same(runs, tmp_path, monkeypatch):
    collection = RunCollection.below(runs)
    build(collection, tmp_path / "alone")
    monkeypatch.setattr(leaderboard, "RUNS_OF_A_PROCESS", 1)
    build(collection, tmp_path / "together")
    names = [path.relative_to(tmp_path / "alone") for path in sorted((tmp_path / "alone").rglob("*.png"))]
    assert Path("whu_region.png") in names
    for name in names:
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_the_worst_subdomain_is_named(tmp_path):
    rng_low, rng_high = counts(0.5, subdomains=("north",)), counts(0.9, subdomains=("south",))
    both = pd.concat([rng_low, rng_high[rng_high["part"] == "target"]], ignore_index=True)
    frame = make_board([Summary.of(read_run(write(tmp_path, confusion=both)))]).rows
    assert frame.loc[0, "worst_subdomain"] == "north"
    assert frame.loc[0, "worst_miou"] < frame.loc[0, "miou"]


def test_simulated_runs_never_enter_a_real_board(runs, tmp_path):
    built = build(RunCollection.below(runs), tmp_path / "out")
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
    build(RunCollection.below(runs), tmp_path / "one")
    build(RunCollection.below(moved), tmp_path / "two")
    build(RunCollection.below(moved), tmp_path / "two")
    contents = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
        for name in ("one", "two")
    ]
    assert contents[0] == contents[1]
    names = {path.as_posix() for path in contents[0]}
    own = {"whu_region.csv", "whu_region.md", "whu_region.png", "details/whu_region.csv", "incomplete.csv"}
    assert names == own | {f"simulated/{name}" for name in own} | {"README.md"}


def test_damaged_runs_are_skipped_and_named_and_copies_count_once(runs, tmp_path):
    damaged = runs / spec(seed=1).folder
    (damaged / "run.json").write_text("{")
    unfinished = runs / spec(seed=2).folder
    (unfinished / "run.json").unlink()
    shutil.copytree(runs / spec().folder, runs / "zz-copy")
    built = build(RunCollection.below(runs), tmp_path / "out")
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
        build(RunCollection.below(runs), tmp_path / "out")
    with pytest.raises(RecordError, match="there is no folder of runs"):
        build(RunCollection.below(tmp_path / "nowhere"), tmp_path / "out")


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
    frame = make_board(collect(tmp_path / "runs")[0]).rows
    assert list(frame["seeds"]) == [1, 1]
    assert frame["id"].nunique() == 2


def test_changes_to_the_preset_are_shown(tmp_path):
    write(tmp_path / "runs", spec(training=override(PRESETS["quick"], {"batch_size": 2, "sampler": "class"})))
    frame = make_board(collect(tmp_path / "runs")[0]).rows
    assert frame.loc[0, "changes"] == "batch_size=2, sampler=class"


def test_reference_scored_rows_stand_in_a_table_of_their_own(tmp_path):
    reference = override(PRESETS["quick"], {"resolution": "resize", "scoring": "reference"})
    write(tmp_path / "runs", spec())
    write(tmp_path / "runs", spec(training=reference))
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "## whu_region/s2t\n" in page
    assert "## whu_region/s2t (reference scoring" in page


def test_the_page_names_options_only_where_rows_of_a_method_differ(tmp_path):
    write(tmp_path / "runs", spec())
    write(tmp_path / "runs", spec(method_options={"alpha": 16.0, "rank": 4}))
    write(tmp_path / "runs", spec(method="frozen", method_options={"depth": 1}))
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "| lora (rank=4) |" in page
    assert "| lora (rank=8) |" in page
    assert "depth" not in page
    assert "nan" not in page.lower()


def test_a_row_is_named_by_what_most_rows_of_its_method_do_not_have(tmp_path):
    for options in ({"alpha": 16.0, "rank": 8}, {"alpha": 16.0, "rank": 4}, {"alpha": 1.0, "rank": 8}):
        write(tmp_path, spec(method_options=options))
    assert sorted(labels([run.spec for run in collect(tmp_path)[0]])) == ["lora", "lora (alpha=1.0)", "lora (rank=4)"]


def test_the_index_lists_every_board(runs, tmp_path):
    write(runs, spec(protocol="my_own"))
    build(RunCollection.below(runs), tmp_path / "out")
    index = (tmp_path / "out" / "README.md").read_text()
    for name, path in (
        ("my_own", "my_own.md"),
        ("whu_region", "whu_region.md"),
        ("whu_region", "simulated/whu_region.md"),
    ):
        assert f"| [{name}]({path}) |" in index
        assert (tmp_path / "out" / path).is_file()


def test_a_readme_that_is_not_ours_is_never_overwritten(runs, tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(RecordError, match="stays as it is"):
        build(RunCollection.below(runs), tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert not (tmp_path / "whu_region.csv").exists()


def test_a_protocol_called_published_does_not_replace_the_published_figures(tmp_path):
    write(tmp_path / "runs", spec(protocol="published"))
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "out")
    assert not (tmp_path / "out" / "published.csv").exists()
    assert (tmp_path / "out" / "published_protocol.csv").exists()


def test_published_figures_stand_beside_ours_marked_with_their_caveats_and_enter_nothing(runs, tmp_path):
    build(RunCollection.below(runs), tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    (row,) = (line for line in page.split("## whu_region/t2s")[0].splitlines() if line.startswith("| HyperSIGMA"))
    assert row.startswith(f"| HyperSIGMA (full) {PUBLISHED_MARK} | ViT-L | - | - | - | 14.08 |")
    assert row.endswith("| 382.50 | - |")
    assert "not directly comparable" in page
    for name in ("whu_region.csv", "details/whu_region.csv"):
        assert "HyperSIGMA" not in (tmp_path / "out" / name).read_text()
    assert PUBLISHED_MARK not in (tmp_path / "out" / "simulated" / "whu_region.md").read_text()


def test_published_figures_are_complete_and_name_shipped_protocols():
    frame = published()
    assert len(frame) == 118
    assert frame["miou"].between(0, 100).all()
    assert published_rows("nowhere") is None
    assert set(frame["protocol"]) <= set(shipped_protocols())


def test_the_index_in_the_repository_carries_the_caveats_of_the_published_figures():
    index = (Path(__file__).parents[2] / "leaderboards" / "README.md").read_text(encoding="utf-8")
    assert index.startswith(INDEX_HEADING)
    assert index.endswith(PUBLISHED_NOTE)


def test_the_page_shows_what_each_protocol_asks_and_scores_by_subdomain_and_class(runs, tmp_path):
    build(RunCollection.below(runs), tmp_path / "out")
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "## whu_region/s2t\n\nSource to target.\n" in page
    assert "| method | autumn | spring |" in page
    assert "| method | water | forest | urban |" in page
    details = read(tmp_path / "out" / "details" / "whu_region.csv")
    own = protocol_table(read_run(runs / spec(protocol="whu_region/t2s").folder), per_class=True).set_index("domain")
    found = details[details["protocol"] == "whu_region/t2s"].set_index("name")["percent"]
    assert found["autumn"] == pytest.approx(own.loc["autumn", "mIoU"], abs=1e-4)
    assert found["water"] == pytest.approx(own.loc["all targets", "IoU water"], abs=1e-4)


def test_boards_that_agree_with_the_records_pass_and_others_are_named(runs, tmp_path):
    out = tmp_path / "out"
    build(RunCollection.below(runs), out)
    assert check(RunCollection.below(runs), out)[1] == ()
    page = out / "whu_region.csv"
    page.write_text(page.read_text().replace("lora", "mine"))
    (out / "whu_region.md").unlink()
    (out / "simulated" / "old.csv").write_text("a\n1\n")
    before = sorted(out.rglob("*"))
    wrong = check(RunCollection.below(runs), out)[1]
    assert len(wrong) == 3
    assert any("whu_region.csv differs" in line for line in wrong)
    assert any("whu_region.md is missing" in line for line in wrong)
    assert any("old.csv is supported by no record" in line for line in wrong)
    assert sorted(out.rglob("*")) == before


def test_a_new_run_makes_committed_boards_disagree(runs, tmp_path):
    build(RunCollection.below(runs), tmp_path / "out")
    write(runs, spec(seed=7), accuracy=0.2)
    assert any("whu_region.csv differs" in line for line in check(RunCollection.below(runs), tmp_path / "out")[1])


def test_what_is_not_incomplete_any_more_is_no_longer_listed(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    write(runs, spec(protocol=TRANSFERS[0]))
    build(RunCollection.below(runs), out)
    assert (out / "incomplete.csv").is_file()
    for protocol in TRANSFERS[1:]:
        write(runs, spec(protocol=protocol))
    build(RunCollection.below(runs), out)
    assert not (out / "incomplete.csv").exists()
    assert check(RunCollection.below(runs), out)[1] == ()


def test_one_bad_record_never_costs_the_other_boards(runs, tmp_path):
    bad = write(runs, spec(protocol="dfc_season/winter"))
    counted = pd.read_parquet(bad / "confusion.parquet")
    pd.concat([counted, counted]).to_parquet(bad / "confusion.parquet")
    built = build(RunCollection.below(runs), tmp_path / "out")
    assert [path.stem for path in built.boards] == ["whu_region", "whu_region"]
    (line,) = built.skipped
    assert "rows are there twice" in line


NASTY = "=1+1|<b>[x](y)*\x1b[31m\n\u202e"


def test_names_in_records_are_shown_and_never_carried_out(tmp_path):
    """Whoever makes a record chooses its names; a board is opened in a spreadsheet, a browser and a terminal."""
    write(tmp_path / "runs", spec(method=NASTY, method_options={"a": "=2"}), subdomains=(NASTY, "+plain", "@x"))
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.csv"):
        for row in pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy():
            cells = [cell for cell in row if not cell.replace(".", "").lstrip("-").isdigit()]
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells), row
    page = (tmp_path / "out" / "whu_region.md").read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "<b>" not in page
    assert "=1+1\\|&lt;b&gt;\\[x\\](y)\\*" in page
    widths = {line.replace("\\|", "").count("|") for line in page.splitlines() if "1+1" in line and line[:1] == "|"}
    headers = {line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("| method")}
    assert widths <= headers
