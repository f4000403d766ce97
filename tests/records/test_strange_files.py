"""Runs folders that anybody may have filled: nothing hangs, fills the memory or moves the cursor."""

import os

import numpy as np
import pandas as pd
import pytest
from run_records import CLASSES, spec, write

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.records import ClassLegend, read_run, write_run
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.site import build_site
from spectral_tl_bench.report.site.assets import Assets
from spectral_tl_bench.report.site.run_files import run_files

BIDI = "\u202e\u2066\u200f"


@pytest.fixture
def runs(tmp_path):
    """A run to spoil, and one that stays sound."""
    for method in ("lora", "frozen"):
        write(tmp_path / "runs", spec(method=method))
    return tmp_path / "runs"


def left_out(runs):
    """The one line that names the spoiled run."""
    collection = RunCollection.below(runs)
    assert [run.spec.method_name for run in collection.runs] == ["frozen"]
    (line,) = collection.skipped
    assert str(spec().folder) in line
    return line


@pytest.mark.parametrize("name", ["run.json", "confusion.parquet"])
def test_a_pipe_is_not_opened(runs, name):
    path = runs / spec().folder / name
    path.unlink()
    os.mkfifo(path)
    assert "no ordinary file" in left_out(runs)


@pytest.mark.parametrize(("name", "size"), [("run.json", 300 * 2**20), ("confusion.parquet", 2 * 2**30)])
def test_a_large_file_is_refused_before_it_is_read(runs, name, size):
    with (runs / spec().folder / name).open("wb") as file:
        file.truncate(size)
    assert "MiB large" in left_out(runs)


def test_a_table_of_many_columns_is_refused_before_it_is_read(runs):
    path = runs / spec().folder / "confusion.parquet"
    frame = pd.read_parquet(path)
    wide = pd.DataFrame(np.zeros((len(frame), 500), dtype=np.int8), columns=[f"extra {n}" for n in range(500)])
    pd.concat([frame, wide], axis=1).to_parquet(path)
    assert "columns, which no run writes" in left_out(runs)


def test_pipes_among_the_pictures_and_tables_of_a_run_are_not_opened(runs, tmp_path):
    folder = runs / spec().folder
    (folder / "maps").mkdir()
    for name in ("maps/tile.png", "experts.png", "experts.csv", "table.tmp.png"):
        os.mkfifo(folder / name)
    (folder / "history.csv").unlink()
    os.mkfifo(folder / "history.csv")
    built = build_site(tmp_path / "site", runs)
    assert (built.runs, built.run_pages) == (2, 2)
    assert "history.csv is damaged" in built.skipped[0]


def test_whatever_a_history_holds_a_page_is_made(runs):
    folder = runs / spec().folder
    run = read_run(folder)
    # As if the run had written them.
    run.record.files.clear()
    rng = np.random.default_rng(0)
    words = ["step", "loss", "stage", "held_out_miou", "1", "-1e308", "1e308", "nan", "inf", "1e-320", "", "\x00", BIDI]
    words += ['"', '"a\nb"', "9" * 5_000, "1_0", "٣", "<b>", "\ud800", "x" * 200_000]
    for number in range(200):
        draws = (rng.integers(len(words), size=rng.integers(1, 6)) for _ in range(rng.integers(1, 12)))
        lines = [",".join(words[place] for place in draw) for draw in draws]
        text = "\n".join((["stage,step,loss,held_out_miou"] if number % 2 else []) + lines)
        (folder / "history.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
        run_files(run, Assets())


def test_escapes_and_marks_of_direction_reach_neither_terminal_nor_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    evil = f"a\x1b[2J\x1b]0;x\x07\x9b1m{BIDI}b"
    folder = write(tmp_path / f"runs{BIDI}", spec(method=evil), subdomains=(evil,))
    run = read_run(folder)
    legend = tuple(ClassLegend(name=evil + name, color=evil) for name in CLASSES)
    write_run(folder, run.record.model_copy(update={"title": evil, "classes": legend}), run.confusion)
    commands = [
        ["show", str(folder)],
        ["compare", evil, evil + "c"],
        ["leaderboard", "--out", str(tmp_path / f"out{BIDI}"), "--site", str(tmp_path / "site")],
        ["report", "--out", str(tmp_path / "page")],
    ]
    for command in commands:
        with pytest.raises(SystemExit):
            main([*command, "--runs", str(tmp_path / f"runs{BIDI}")])
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert text
        assert not set(text) & {"\x1b", "\x07", "\x9b", *BIDI}
    for page in [*tmp_path.glob("site/*.html"), *tmp_path.glob("page/*.html"), *tmp_path.glob("out*/**/*.md")]:
        assert not set(page.read_text()) & {"\x1b", "\x07", "\x9b", *BIDI}, page


@pytest.mark.parametrize("place", ["a file", "another page", "below a file"])
def test_a_bad_site_is_refused_before_anything_is_written(runs, tmp_path, capsys, place):
    site = tmp_path / "site"
    if place == "another page":
        site.mkdir()
        (site / "index.html").write_text("mine")
    else:
        site.write_text("mine")
    given = site / "deeper" if place == "below a file" else site
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", "--runs", str(runs), "--out", str(tmp_path / "out"), "--site", str(given)])
    assert done.value.code == 2
    assert "--site" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
