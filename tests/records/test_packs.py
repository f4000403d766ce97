"""Packed records are read, found and shown as folders of runs are."""

import gzip
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from run_records import counts, spec, write

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.records import find_runs, has_record, read_run
from spectral_tl_bench.records.packing import pack_runs
from spectral_tl_bench.report.leaderboard import build, check
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.site import build_site
from spectral_tl_bench.utils.errors import RecordError


def some_runs(root):
    for seed in (0, 1):
        write(root, spec(seed=seed), counts(seed=seed).assign(pixels=1200))
        write(root, spec(seed=seed, method="frozen", protocol="dfc_season/winter"))
        # Models without a backbone do not record pixels.
        write(root, spec(seed=seed, method="pixel_forest", backbone="none"))
    return root


@pytest.fixture
def packed(tmp_path):
    """Folders of runs, and the same packed."""
    runs = some_runs(tmp_path / "runs")
    written, left_out = pack_runs(runs, tmp_path / "packed")
    assert left_out == ()
    assert sorted(path.name for path in written) == [
        "dfc_season.parquet",
        "dfc_season.runs.jsonl.gz",
        "whu_region.parquet",
        "whu_region.runs.jsonl.gz",
    ]
    return runs, tmp_path / "packed"


def test_packed_runs_are_found_and_read_as_they_were(packed):
    runs, pack = packed
    folders = find_runs(pack)
    assert [f.relative_to(pack) for f in folders] == [f.relative_to(runs) for f in find_runs(runs)]
    for folder in folders:
        found, expected = read_run(folder), read_run(runs / folder.relative_to(pack))
        assert found.record == expected.record
        pd.testing.assert_frame_equal(found.confusion, expected.confusion)
    assert find_runs(pack / "dfc_season") == [f for f in folders if "dfc_season" in f.parts]
    assert has_record(folders[0])
    assert not has_record(folders[0].with_name("another"))
    with pytest.raises(RecordError, match="no folder of runs"):
        find_runs(pack / "dfc_season" / "spring")


def test_the_same_runs_give_the_same_bytes_packed_again_or_not(packed, tmp_path):
    runs, pack = packed
    before = {path.name: path.read_bytes() for path in pack.iterdir()}
    pack_runs(runs, tmp_path / "again")
    pack_runs(pack, tmp_path / "from the pack")
    pack_runs(pack, pack)
    for folder in (pack, tmp_path / "again", tmp_path / "from the pack"):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_new_runs_join_those_of_a_pack_and_a_folder_stands_before_a_packed_run(packed):
    _, pack = packed
    write(pack, spec(seed=7), accuracy=0.9)
    again = write(pack, spec(seed=0), accuracy=0.2)
    newer = read_run(again).confusion
    assert len(find_runs(pack)) == 7
    pack_runs(pack, pack)
    shutil.rmtree(pack / "whu_region")
    assert len(find_runs(pack)) == 7
    pd.testing.assert_frame_equal(read_run(again).confusion, newer)


def test_boards_and_pages_of_packed_runs_are_those_of_folders(packed, tmp_path):
    runs, pack = packed
    build(RunCollection.below(runs), tmp_path / "boards")
    assert check(RunCollection.below(pack), tmp_path / "boards")[1] == ()
    for place, name in ((runs, "a"), (pack, "b")):
        build_site(tmp_path / name, place)
    for page in (tmp_path / "b").glob("board-*.html"):
        assert page.read_bytes() == (tmp_path / "a" / page.name).read_bytes()


@pytest.mark.parametrize("suffix", [".runs.jsonl.gz", ".parquet"])
@pytest.mark.parametrize("damage", ["cut short", "empty", "a folder", "a pipe", "gone", "text"])
def test_a_damaged_pack_is_named_once_and_the_others_are_read(packed, suffix, damage):
    _, pack = packed
    path = pack / f"whu_region{suffix}"
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage != "gone":
        path.write_bytes({"cut short": content[:-9], "empty": b"", "text": b"text"}[damage])
    runs = RunCollection.below(pack)
    assert len(runs.runs) == 2
    if damage in ("gone", "a folder") and suffix != ".parquet":
        assert runs.skipped == ()
    else:
        (line,) = runs.skipped if suffix != ".parquet" else set(runs.skipped)
        assert f"whu_region{suffix}" in line
        assert any(word in line for word in ("is damaged", "cannot read", "not readable"))


def lines(pack):
    text = gzip.decompress((pack / "whu_region.runs.jsonl.gz").read_bytes())
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line["record"].update(title="Another"), "its checksum does not fit"),
        (lambda line: line["record"]["spec"].update(seed=5), "contradicts its folder"),
        (lambda line: line["record"].update(counts="sha256:0"), "its checksum does not fit"),
        (lambda line: line.update(record=[]), "not the record of a run"),
    ],
    ids=["title", "seed", "counts", "list"],
)
def test_a_packed_record_that_was_changed_is_left_out_alone(packed, change, message):
    _, pack = packed
    content = lines(pack)
    change(content[0])
    text = "".join(json.dumps(line) + "\n" for line in content)
    (pack / "whu_region.runs.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    runs = RunCollection.below(pack)
    assert (len(runs.runs), len(runs.skipped)) == (5, 1)
    assert message in runs.skipped[0]


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "s2t\0", "", 3])
def test_a_pack_that_names_folders_elsewhere_is_refused(packed, folder):
    _, pack = packed
    content = [{**line, "folder": folder} for line in lines(pack)[:1]]
    text = "".join(json.dumps(line) + "\n" for line in content)
    (pack / "whu_region.runs.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (skipped,) = RunCollection.below(pack).skipped
    assert "whu_region" in skipped


def test_a_pack_that_unpacks_without_end_is_refused(packed, monkeypatch):
    _, pack = packed
    monkeypatch.setattr("spectral_tl_bench.records.pack._MOST_BYTES", 2**20)
    (pack / "whu_region.runs.jsonl.gz").write_bytes(gzip.compress(bytes(2**21)))
    (skipped,) = RunCollection.below(pack).skipped
    assert "too large" in skipped


def test_a_run_whose_counts_a_pack_lost_is_left_out_alone(packed, tmp_path):
    """As when a process ends between writing the counts and the records."""
    runs, pack = packed
    shutil.rmtree(runs / spec(seed=1).folder)
    pack_runs(runs, tmp_path / "fewer")
    shutil.copy(tmp_path / "fewer" / "whu_region.parquet", pack)
    collection = RunCollection.below(pack)
    assert (len(collection.runs), len(collection.skipped)) == (5, 1)
    assert spec(seed=1).folder.name in collection.skipped[0]


def test_a_command_packs_runs_and_makes_the_boards_of_all(packed, tmp_path, capsys):
    _, pack = packed
    write(tmp_path / "mine", spec(method="rein"))
    places = ["--runs", str(tmp_path / "mine"), "--out", str(tmp_path / "boards")]
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", *places, "--pack", str(pack)])
    assert not done.value.code
    printed = capsys.readouterr().out
    assert f"packed: {pack / 'whu_region.parquet'}" in printed
    assert "7 runs, 2 leaderboards" in printed
    board = pd.read_csv(tmp_path / "boards" / "whu_region.csv")
    assert set(board["method"]) == {"lora", "pixel_forest", "rein"}
    assert np.isfinite(board["miou"]).all()
    with pytest.raises(SystemExit) as done:
        main(["leaderboard", *places, "--pack", str(pack), "--check"])
    assert done.value.code == 2
    assert "leave --pack out" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["show", str(pack / spec().folder)])
    assert not done.value.code
