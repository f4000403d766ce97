import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from run_records import spec, write

from spectral_tl_bench.config.presets import PRESETS, override
from spectral_tl_bench.records import ConfusionTable, read_run
from spectral_tl_bench.report.tables import protocol_table, render, title, to_markdown, write_table


def hand_worked():
    """Two sub-domains of two and one tiles, and one source tile, with scores that can be checked by hand."""
    table = ConfusionTable()
    table.add("best", "target", "b1", "spring", np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    table.add("best", "target", "b2", "spring", np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    table.add("best", "target", "a1", "autumn", np.array([[0, 0, 0], [0, 5, 5], [0, 0, 0]]))
    table.add("best", "held_out_source", "s", "summer", np.diag([5, 5, 5]))
    # The last weights are right everywhere.
    table.add("last", "target", "b1", "spring", np.diag([10, 10, 0]))
    table.add("last", "target", "b2", "spring", np.diag([10, 10, 0]))
    table.add("last", "target", "a1", "autumn", np.diag([0, 10, 0]))
    table.add("last", "held_out_source", "s", "summer", np.diag([5, 5, 5]))
    return table.frame()


@pytest.fixture
def run(tmp_path):
    return read_run(write(tmp_path, confusion=hand_worked()))


def test_rows_are_sorted_subdomains_then_all_worst_source_and_gap(run):
    frame = protocol_table(run)
    expected = ["autumn", "spring", "all targets", "worst (autumn)", "held-out source", "gap to source"]
    assert list(frame["domain"]) == expected
    assert frame["tiles"].tolist()[:5] == [1, 2, 3, 1, 1]
    assert frame["tiles"].isna().tolist()[5]


def test_scores_are_those_worked_out_by_hand(run):
    frame = protocol_table(run).set_index("domain")
    # autumn: only class 1 is present, 5 of 10 right. spring: IoU 16/20 and 20/24.
    assert frame.loc["autumn", "mIoU"] == pytest.approx(50.0)
    assert frame.loc["spring", "mIoU"] == pytest.approx(100 * (16 / 20 + 20 / 24) / 2)
    # all: class 0 16/20; class 1: 25 hits, 30 true, 29 predicted.
    everything = 100 * (16 / 20 + 25 / 34) / 2
    assert frame.loc["all targets", "mIoU"] == pytest.approx(everything)
    assert frame.loc["all targets", "OA"] == pytest.approx(100 * 41 / 50)
    assert frame.loc["worst (autumn)", "mIoU"] == pytest.approx(50.0)
    assert frame.loc["gap to source", "mIoU"] == pytest.approx(100 - everything)


def test_per_class_iou_is_named_and_undefined_for_absent_classes(run):
    frame = protocol_table(run, per_class=True).set_index("domain")
    assert frame.loc["autumn", "IoU forest"] == pytest.approx(50.0)
    assert np.isnan(frame.loc["autumn", "IoU water"])


def test_another_selection_can_be_asked_for(run):
    frame = protocol_table(run, selection="last").set_index("domain")
    assert frame.loc["all targets", "mIoU"] == pytest.approx(100.0)
    assert frame.loc["held-out source", "mIoU"] == pytest.approx(100.0)


def test_reference_scoring_is_used_where_the_run_says_so_and_labelled(tmp_path):
    training = override(PRESETS["quick"], {"resolution": "resize", "scoring": "reference"})
    run = read_run(write(tmp_path, spec(training=training), confusion=hand_worked()))
    assert protocol_table(run).set_index("domain").loc["autumn", "mIoU"] == pytest.approx(100.0)
    assert "reference scoring" in title(run)


def test_a_subdomain_without_counted_pixels_is_shown_and_is_not_the_worst(tmp_path):
    table = ConfusionTable()
    table.add("best", "target", "a", "empty", np.zeros((3, 3), dtype=np.int64))
    table.add("best", "target", "b", "full", np.diag([1, 1, 1]))
    frame = protocol_table(read_run(write(tmp_path, confusion=table.frame())))
    assert "worst (full)" in list(frame["domain"])
    assert np.isnan(frame.set_index("domain").loc["empty", "mIoU"])


def printed(run):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(run))
    return console.export_text()


def test_the_terminal_table_shows_two_decimals_and_a_dash_for_undefined(run):
    text = printed(run)
    assert "lora on whu_region/s2t (vit_micro, quick, seed 0)" in text
    assert "81.67" in text
    assert "nan" not in text.lower()


def test_a_simulated_run_says_so_first_everywhere(tmp_path):
    run = read_run(write(tmp_path, spec(simulated=True)))
    assert title(run).startswith("SIMULATED")
    assert printed(run).strip().startswith("SIMULATED")
    write_table(run, run.folder)
    assert (run.folder / "table.md").read_text().startswith("# SIMULATED")
    assert set(pd.read_csv(run.folder / "table.csv")["data"]) == {"simulated"}


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    run = read_run(write(tmp_path, subdomains=("[red]north[/red]", "a|b")))
    assert "[red]north[/red]" in printed(run)
    assert "a\\|b" in to_markdown(protocol_table(run))


def test_the_csv_has_full_precision_and_the_markdown_two_decimals(run):
    write_table(run, run.folder)
    frame = pd.read_csv(run.folder / "table.csv").set_index("domain")
    assert frame.loc["spring", "mIoU"] == pytest.approx(100 * (16 / 20 + 20 / 24) / 2, rel=1e-12)
    assert "IoU forest" in frame.columns
    text = (run.folder / "table.md").read_text()
    assert "| spring | 2 | 81.67 |" in text
    assert "nan" not in text.lower()
