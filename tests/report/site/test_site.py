import html
import re

import numpy as np
import pandas as pd
import pytest
from run_records import counts, record, spec, write

from spectral_tl_bench.records import ClassLegend, TileCounts, write_run
from spectral_tl_bench.report.leaderboard import build
from spectral_tl_bench.report.published import published_rows
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.site import build_site, write_site
from spectral_tl_bench.report.site.build import MOST_RUN_PAGES
from spectral_tl_bench.utils.errors import RecordError

HOSTILE = "<script>alert(1)</script>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes((0, 0, 0, 13)) + b"IHDR" + bytes((0, 0, 3, 0, 0, 0, 1, 0))
"""The beginning of a picture of 768 x 256 pixels."""


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def some_runs(root, simulated=False, seeds=3):
    for level, method in enumerate(("frozen", "lora", "rein", "ssf", "pixel_forest")):
        for seed in range(seeds):
            backbone = {"backbone": "none"} if method == "pixel_forest" else {}
            run_spec = spec(method=method, seed=seed, simulated=simulated, **backbone)
            write(root, run_spec, accuracy=0.5 + 0.05 * level, source=0.7 + 0.04 * level)
    return root


def page(folder, name="index.html"):
    return (folder / name).read_text(encoding="utf-8")


def cells(text, table):
    """Rows of a table of a page, each by heading."""
    found = re.search(rf'<table id="{table}".*?</table>', text, re.DOTALL)[0]
    plain = [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in found.split("<tr>")[1:]
    ]
    return [dict(zip(plain[0], row, strict=True)) for row in plain[1:]]


def test_the_same_records_give_the_same_bytes(tmp_path):
    runs = some_runs(tmp_path / "runs")
    build_site(tmp_path / "first", runs)
    build_site(tmp_path / "second", runs)
    assert files(tmp_path / "first") == files(tmp_path / "second")


def test_every_link_and_every_file_that_a_page_names_is_there(tmp_path):
    runs = some_runs(tmp_path / "runs")
    some_runs(runs, simulated=True, seeds=1)
    build_site(tmp_path / "site", runs)
    there = files(tmp_path / "site")
    for name in there:
        if name.endswith(".html"):
            named = re.findall(r'(?:href|src)="([^"#]+)', page(tmp_path / "site", name))
            assert {link for link in named if link != "data:,"} <= set(there), name


def test_the_page_of_standings_is_that_of_their_runs_and_shows_what_they_are_compared_with(tmp_path):
    runs = some_runs(tmp_path / "runs")
    build_site(tmp_path / "site", runs)
    write_site(RunCollection.below(runs), tmp_path / "same")
    for path in sorted((tmp_path / "site").rglob("*.*")):
        assert (tmp_path / "same" / path.relative_to(tmp_path / "site")).read_bytes() == path.read_bytes()
    write_site(RunCollection.below(runs, ["lora"]), tmp_path / "compared")
    name = "board-whu_region.html"
    assert "vs lora" not in page(tmp_path / "site", name)
    assert "vs lora" in page(tmp_path / "compared", name)


def test_a_board_shows_what_the_leaderboard_says(tmp_path):
    runs = some_runs(tmp_path / "runs")
    build_site(tmp_path / "site", runs)
    build(RunCollection.below(runs), tmp_path / "boards")
    board = pd.read_csv(tmp_path / "boards" / "whu_region.csv")
    text = page(tmp_path / "site", "board-whu_region.html")
    rows = cells(text, "p0-board")
    assert [row["method"] for row in rows] == board["row"].tolist()
    shown = [float(row["mIoU"].removeprefix("▼ ")) for row in rows]
    np.testing.assert_allclose(shown, board["miou"], atol=0.006)
    assert float(rows[0]["vs frozen"]) == pytest.approx(board["vs_frozen"].iloc[0], abs=0.006)
    assert [row["mIoU"].startswith("▼") for row in rows] == (board["below_yardstick"] == "yes").tolist()


def test_simulated_and_real_figures_are_on_pages_of_their_own(tmp_path):
    runs = some_runs(tmp_path / "runs")
    some_runs(runs, simulated=True, seeds=1)
    built = build_site(tmp_path / "site", runs)
    assert built.boards == 2
    banner = 'class="banner"'
    for name in files(tmp_path / "site"):
        if name.startswith("simulated"):
            assert banner in page(tmp_path / "site", name)
        elif name.endswith(".html") and not name.startswith("run-"):
            assert banner not in page(tmp_path / "site", name)
    assert 'href="simulated.html"' in page(tmp_path / "site")
    simulated = {f"run-{spec(method='lora', simulated=True).digest}.html"}
    assert all(banner in page(tmp_path / "site", name) for name in simulated)


def test_a_page_of_simulated_runs_alone_says_so_first(tmp_path):
    build_site(tmp_path / "site", some_runs(tmp_path / "runs", simulated=True, seeds=1))
    assert "SIMULATED" in page(tmp_path / "site").partition("<header>")[0].partition("<body>")[2]
    assert not (tmp_path / "site" / "simulated.html").exists()


def test_figures_published_by_others_stand_apart_beside_real_boards_alone(tmp_path):
    for simulated in (False, True):
        write(tmp_path / "runs", spec(simulated=simulated))
    build_site(tmp_path / "site", tmp_path / "runs")
    rows = cells(page(tmp_path / "site", "board-whu_region.html"), "p0-published")
    theirs = published_rows("whu_region/s2t")
    assert [row["method"] for row in rows] == theirs["method"].tolist()
    assert [float(row["mIoU"]) for row in rows] == theirs["mIoU"].astype(float).tolist()
    assert "p0-published" not in page(tmp_path / "site", "simulated-board-whu_region.html")


def hostile_run(root):
    run_spec = spec(method_options={HOSTILE: HOSTILE, "rank": 8})
    folder = root / run_spec.folder
    confusion = counts(subdomains=(HOSTILE, "</table>"), tiles=2)
    legend = tuple(
        ClassLegend(name=HOSTILE + str(i), color="red;background:url(https://example.org)") for i in range(3)
    )
    tiles = TileCounts(train=20, held_out=3, target=4, margin=0)
    write_run(
        folder, record(run_spec, tiles=tiles, classes=legend, title=HOSTILE), confusion, pd.DataFrame({"step": [1]})
    )
    (folder / "maps").mkdir()
    (folder / "maps" / '"><img onerror=alert(1)>.png').write_bytes(PNG)
    return folder


def test_whatever_a_record_calls_something_is_only_a_name(tmp_path):
    hostile_run(tmp_path / "runs")
    build_site(tmp_path / "site", tmp_path / "runs")
    shown = ""
    for name, content in files(tmp_path / "site").items():
        if name.endswith(".html"):
            text = content.decode()
            shown += text
            assert HOSTILE not in text
            assert "example.org" not in text
            assert not re.sub(r'<script src="assets/\w+\.js"></script>', "", text).count("<script")
            assert "<img onerror" not in text
    assert html.escape(HOSTILE) in shown


def test_a_run_shows_the_pictures_that_its_folder_holds_and_its_legend(tmp_path):
    folder = write(tmp_path / "runs")
    (folder / "maps").mkdir()
    (folder / "maps" / "tile-1.png").write_bytes(PNG + b"map")
    (folder / "maps" / "tile-2.png").write_bytes(b"no picture")
    (folder / "reconstruction.png").write_bytes(PNG + b"windows")
    build_site(tmp_path / "site", tmp_path / "runs")
    text = page(tmp_path / "site", f"run-{spec().digest}.html")
    pictures = re.findall(r'<img loading="lazy" src="([^"]+)"', text)
    assert [(tmp_path / "site" / name).read_bytes() for name in pictures] == [PNG + b"map", PNG + b"windows"]
    assert "tile-1" in text
    assert "tile-2" not in text
    assert text.count('width="768" height="256"') == 2
    assert "background:#102030" in text
    assert "Experts" not in text


def test_whatever_a_third_party_method_drew_or_listed_is_on_the_page_of_its_run(tmp_path):
    folder = write(tmp_path / "runs", spec(method="mine.py:Mine", method_source="12ab"))
    (folder / "band_weights.png").write_bytes(PNG + b"weights")
    (folder / "gates.csv").write_text(f"layer,{HOSTILE}\n1,0.25\n2\n3,\x1b[2J\u202e4,surplus\n")
    (folder / "wide.csv").write_text(",".join(map(str, range(100_000))) + "\n")
    (folder / "long.csv").write_text("step\n" + "1\n" * 5_000)
    (folder / "notes.txt").write_text("not shown")
    build_site(tmp_path / "site", tmp_path / "runs")
    (name,) = (tmp_path / "site").glob("run-*.html")
    text = name.read_text()
    assert "<h2>Band weights</h2>" in text
    assert "<h2>Gates</h2>" in text
    assert cells(text, "diagnostics-0") == [
        {"layer": "1", html.escape(HOSTILE): "0.25"},
        {"layer": "2", html.escape(HOSTILE): ""},
        {"layer": "3", html.escape(HOSTILE): "[2J4"},
    ]
    assert len(cells(text, "diagnostics-1")) == 100
    assert text.count("the run&#39;s folder has more") == 2
    assert "not shown" not in text
    assert len(text) < 200_000


def test_named_runs_alone_get_pages_and_without_a_folder_alone_enter_the_boards(tmp_path):
    runs = some_runs(tmp_path / "runs", seeds=1)
    chosen = runs / spec(method="lora").folder
    everything = build_site(tmp_path / "site", runs, [chosen])
    assert (everything.runs, everything.run_pages) == (5, 1)
    alone = build_site(tmp_path / "site", None, [chosen])
    assert (alone.runs, alone.run_pages) == (1, 1)
    assert "rein" not in page(tmp_path / "site", "board-whu_region.html")


def test_too_many_runs_get_no_page_each(tmp_path, monkeypatch):
    monkeypatch.setattr("spectral_tl_bench.report.site.build.MOST_RUN_PAGES", 2)
    assert MOST_RUN_PAGES > 100
    built = build_site(tmp_path / "site", some_runs(tmp_path / "runs", seeds=1))
    assert built.run_pages == 0
    assert "too many for a page each" in page(tmp_path / "site")


def test_what_an_earlier_build_left_goes_and_nothing_else(tmp_path):
    site = tmp_path / "site"
    build_site(site, some_runs(tmp_path / "runs", seeds=1))
    (site / "mine.html").write_text("mine")
    (site / "assets" / "mine.png").write_bytes(PNG)
    write(tmp_path / "other")
    build_site(site, tmp_path / "other")
    build_site(tmp_path / "fresh", tmp_path / "other")
    assert set(files(site)) == {*files(tmp_path / "fresh"), "mine.html", "assets/mine.png"}


def test_a_page_that_is_not_ours_stays(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("my home page")
    write(tmp_path / "runs")
    with pytest.raises(RecordError, match="--out"):
        build_site(site, tmp_path / "runs")
    assert (site / "index.html").read_text() == "my home page"


def test_no_runs_is_one_clear_line(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(RecordError, match="no complete run"):
        build_site(tmp_path / "site", tmp_path / "runs")


def test_damaged_runs_are_named_and_left_out(tmp_path):
    runs = some_runs(tmp_path / "runs", seeds=1)
    (runs / spec(method="lora").folder / "confusion.parquet").write_bytes(b"not parquet")
    built = build_site(tmp_path / "site", runs)
    assert built.runs == 4
    assert "is not readable as Parquet" in page(tmp_path / "site")
