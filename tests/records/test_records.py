import json
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from run_records import CLASSES, counts, matrix, record, reseal, spec, write

from spectral_tl_bench.records import (
    ConfusionTable,
    Where,
    find_runs,
    matrices,
    prepare_folder,
    read_run,
    read_run_yaml,
    total,
    write_bytes,
    write_run,
    write_run_yaml,
)
from spectral_tl_bench.records.provenance import git_state, provenance
from spectral_tl_bench.records.run import checksum
from spectral_tl_bench.report.summary import Summary
from spectral_tl_bench.report.tables import protocol_table
from spectral_tl_bench.utils.errors import RecordError


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "runs")


def refusal(function, *arguments):
    """The one line that a call is refused with."""
    with pytest.raises(RecordError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_reads_back_as_it_was_written(folder):
    run = read_run(folder)
    written = {"counts": run.table.digest(), "files": {"history.csv": checksum(folder / "history.csv")}}
    assert run.record == record(spec(), provenance=run.record.provenance, **written)
    pd.testing.assert_frame_equal(run.confusion, counts(), check_dtype=False)
    assert sorted(p.name for p in folder.iterdir()) == ["confusion.parquet", "history.csv", "run.json", "run.yaml"]


def test_counts_are_exact_and_windows_of_a_tile_add_up():
    rng = np.random.default_rng(0)
    first, second, other = (matrix(rng, 0.5) for _ in range(3))
    table = ConfusionTable()
    table.add("best", "target", "a", "spring", first)
    table.add("best", "target", "a", "spring", second)
    table.add("best", "target", "b", "autumn", other)
    frame = table.frame()
    by_tile = matrices(frame, len(CLASSES), "tile")
    assert list(by_tile) == ["a", "b"]
    assert (by_tile["a"] == first + second).all()
    assert (matrices(frame, len(CLASSES), "subdomain")["autumn"] == other).all()
    assert (total(frame, len(CLASSES)) == first + second + other).all()


def test_the_table_does_not_alias_the_matrix_it_was_given():
    confusion = np.eye(2, dtype=np.int64)
    table = ConfusionTable()
    table.add("best", "target", "a", "x", confusion)
    confusion[:] = 9
    assert total(table.frame(), 2).tolist() == [[1, 0], [0, 1]]


def test_only_pairs_that_occur_are_stored_and_a_tile_without_pixels_is_kept():
    table = ConfusionTable()
    table.add("best", "target", "a", "x", np.diag([5, 0, 7]))
    table.add("best", "target", "empty", "x", np.zeros((3, 3), dtype=np.int64))
    frame = table.frame()
    assert len(frame) == 3
    assert set(frame["tile"]) == {"a", "empty"}
    assert total(frame, 3).tolist() == np.diag([5, 0, 7]).tolist()


def test_the_selected_step_is_read_by_default(tmp_path):
    confusion = counts(accuracy=0.9, last=0.3)
    run = read_run(write(tmp_path, confusion=confusion))
    assert set(run.counts()["selection"]) == {"best"}
    assert set(run.counts("held_out_source", "last")["part"]) == {"held_out_source"}
    assert total(run.counts(), 3).tolist() != total(run.counts("target", "last"), 3).tolist()


def test_an_incomplete_run_says_so(folder):
    (folder / "run.json").unlink()
    assert "not complete" in refusal(read_run, folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b"{", "not readable as JSON"),
        ("run.json", b"\xff\xfe", "not readable as JSON"),
        ("run.json", b"[]", "not the record of a run"),
        ("run.json", b'{"name": "another tool"}', "not the record of a run"),
        ("confusion.parquet", b"nonsense", "not readable as Parquet"),
        ("confusion.parquet", b"", "not readable as Parquet"),
    ],
)
def test_damaged_and_foreign_files_are_refused_in_one_line(folder, name, content, message):
    (folder / name).write_bytes(content)
    assert message in refusal(read_run, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"surprise": 1}, "surprise"),
        ({"title": None}, "title"),
        ({"peak_memory_mib": -1}, "peak_memory_mib"),
        ({"classes": [{"name": "water", "color": "#000000"}]}, "class ids 0 ... 2 where there are 1"),
        ({"classes": [{"name": "x", "color": "#000000"}] * 256}, "classes"),
        ({"spec": []}, "not the record of a run"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_that_does_not_follow_the_format_is_refused(folder, change, message):
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refusal(read_run, folder)
    if isinstance(change.get("spec", {}), dict):
        reseal(folder)
    assert message in refusal(read_run, folder)


def test_a_missing_or_reduced_table_of_counts_is_refused(folder):
    path = folder / "confusion.parquet"
    frame = pd.read_parquet(path)
    frame.drop(columns="tile").to_parquet(path)
    assert "lacks the columns tile" in refusal(read_run, folder)
    frame.assign(count=frame["count"] - 10_000).to_parquet(path)
    assert "counts of -" in refusal(read_run, folder)
    frame[frame["part"] != "target"].to_parquet(path)
    assert "no counts of target tiles" in refusal(read_run, folder)
    frame.assign(count=frame["count"] / 2).to_parquet(path)
    assert "whole numbers" in refusal(read_run, folder)
    path.unlink()
    assert "no confusion.parquet" in refusal(read_run, folder)


def test_counts_that_do_not_fit_the_record_are_not_written(tmp_path):
    frame = counts().assign(truth=7)
    assert "class ids 7 ... 7" in refusal(write_run, tmp_path / "run", record(), frame)
    assert not (tmp_path / "run").exists()


def test_a_write_that_fails_half_way_leaves_no_record_behind(folder):
    (folder / "history.csv").unlink()
    (folder / "history.csv").mkdir()
    assert "history.csv" in refusal(write_run, folder, record(), counts(accuracy=0.2), pd.DataFrame({"step": [1]}))
    assert "not complete" in refusal(read_run, folder)


def test_writing_again_replaces_the_run(folder):
    again = record(spec(), title="Again")
    write_run(folder, again, counts(accuracy=0.2))
    run = read_run(folder)
    assert run.record.title == "Again"
    pd.testing.assert_frame_equal(run.confusion, counts(accuracy=0.2), check_dtype=False)


def test_a_file_is_replaced_whole_with_ordinary_permissions_and_no_leftovers(tmp_path):
    path = tmp_path / "a.json"
    write_bytes(path, b"first, and longer")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_behind(tmp_path):
    (tmp_path / "a.json").mkdir()
    assert "cannot write" in refusal(write_bytes, tmp_path / "a.json", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_preparing_a_folder_makes_it_and_leaves_nothing(tmp_path):
    prepare_folder(tmp_path / "a" / "b")
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path):
    (tmp_path / "runs").write_text("a file")
    assert "in the way" in refusal(prepare_folder, tmp_path / "runs")
    assert "cannot write" in refusal(prepare_folder, tmp_path / "runs" / "deeper")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    assert "cannot write" in refusal(prepare_folder, tmp_path)
    tmp_path.chmod(0o755)


def test_runs_are_found_complete_or_not(tmp_path, folder):
    other = tmp_path / "runs" / "whu_region" / "t2s" / "started"
    other.mkdir(parents=True)
    write_run_yaml(other, spec(), {})
    assert find_runs(tmp_path / "runs") == sorted([folder, other])
    assert "there is no folder" in refusal(find_runs, tmp_path / "nowhere")


def test_run_yaml_repeats_the_specification_exactly(tmp_path):
    run = spec(
        method_options={"rate": 1e-5, "name": "1e-5", "on": True, "blocks": [1, 2], "none": None, "text": "a: b # c"},
        weights="sha256:12e4567",
        protocol="mine/größe",
    )
    where = Where(root="/data/über uns", weights="w.safetensors")
    write_run_yaml(tmp_path, run, where)
    assert read_run_yaml(tmp_path / "run.yaml") == (run, where)
    assert read_run_yaml(tmp_path / "run.yaml")[0].digest == run.digest


@pytest.mark.parametrize(
    ("section", "key"), [(None, "device"), ("spec", "lr"), ("where", "gpu")], ids=["top", "spec", "where"]
)
def test_run_yaml_with_an_unknown_key_is_refused_by_name(tmp_path, section, key):
    write_run_yaml(tmp_path, spec(), {})
    path = tmp_path / "run.yaml"
    content = yaml.safe_load(path.read_text())
    (content[section] if section else content)[key] = 1
    path.write_text(yaml.safe_dump(content))
    message = refusal(read_run_yaml, path)
    assert key in message
    assert str(path) in message


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: [", "spec: {}", "\t"])
def test_run_yaml_that_is_no_run_is_refused(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert str(path) in refusal(read_run_yaml, path)
    assert "cannot read" in refusal(read_run_yaml, tmp_path / "missing.yaml")


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_git_state_knows_changed_code_but_not_other_files(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init")
    assert git_state(package) == (None, None)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit, dirty = git_state(package)
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.json").write_text("{}")
    assert git_state(package) == (commit, False)
    (package / "new.py").write_text("")
    assert git_state(package) == (commit, True)


def test_a_copy_installed_inside_an_unrelated_checkout_has_no_git_state(tmp_path):
    (tmp_path / "tracked").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_state(package) == (None, None)


def test_provenance_says_what_ran():
    found = provenance(threads=3)
    assert found.threads == 3
    assert found.packages["numpy"] == np.__version__
    assert found.date.endswith("+00:00")
    assert found.cpu


KEYS_SUMMED = ("selection", "part", "subdomain")
WRITTEN_BEFORE = sorted(path.parent for path in (Path(__file__).parents[1] / "data" / "records").rglob("run.json"))


@pytest.mark.parametrize("folder", WRITTEN_BEFORE, ids=lambda folder: folder.name)
def test_records_written_before_score_as_they_did(folder):
    """Records are never made again: what was printed of this one when it was made must still come out."""
    run = read_run(folder)
    spec, _ = read_run_yaml(folder / "run.yaml")
    assert run.record.spec == spec
    printed = pd.read_csv(folder / "table.csv").drop(columns="data")
    table = protocol_table(run, per_class=True)[list(printed.columns)]
    pd.testing.assert_frame_equal(table, printed, check_dtype=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f["tile"] != "spring-3"], "11 target tiles by the best weights where the record says 12"),
        (lambda f: f[f["tile"] != "source-0"], "2 held out source tiles"),
        (lambda f: pd.concat([f, f.iloc[[0]]]), "rows are there twice"),
        (lambda f: pd.concat([f, f]), "rows are there twice"),
        (lambda f: f.assign(pixels=1199), "has more pixels counted than it has"),
        (lambda f: f.assign(count=f["count"].where(f["selection"] == "best", 3)), "different labels"),
        (lambda f: f.assign(pixels=f["pixels"] + (f.index == 0)), "more pixels"),
        (lambda f: f.assign(count=f["count"] * 2**40), "counts of"),
        (lambda f: f.assign(tile=f["tile"].where(f["tile"] != "source-0", "autumn-0")), "more than one part"),
        (lambda f: f.assign(subdomain=f["subdomain"].where(f.index != 0, "north")), "more than one subdomain"),
        (lambda f: f.assign(selection=f["selection"].replace("best", "oracle")), "'oracle' is not one of best, last"),
        (lambda f: f.assign(part=f["part"].replace("target", "source")), "'source' is not one of"),
        (lambda f: f[f["selection"] == "last"], "no counts of target tiles by the best weights"),
        (lambda f: f.assign(tile=f["tile"].where(f.index != 0)), "rows without a tile"),
        (lambda f: f.assign(truth=f["truth"] + 1), "class ids 1 ... 3"),
    ],
    ids=range(15),
)
def test_counts_that_contradict_their_record_are_refused_with_the_reason(folder, change, message):
    path = folder / "confusion.parquet"
    honest = pd.read_parquet(path).assign(pixels=1200)
    honest.to_parquet(path)
    reseal(folder)
    assert "pixels" in read_run(folder).confusion
    change(honest).to_parquet(path)
    assert message in refusal(read_run, folder)


@pytest.mark.parametrize("order", ["shuffled", "by prediction"])
def test_rows_may_come_in_any_order(folder, order):
    path = folder / "confusion.parquet"
    written = read_run(folder)
    frame = pd.read_parquet(path).assign(pixels=1200)
    frame = frame.sample(frac=1, random_state=0) if order == "shuffled" else frame.sort_values(["prediction", "count"])
    frame.to_parquet(path)
    reseal(folder)
    run = read_run(folder)
    pd.testing.assert_frame_equal(run.confusion, frame.reset_index(drop=True), check_dtype=False)
    assert len(run.counts("held_out_source", "last")) == len(written.counts("held_out_source", "last"))
    for by in ("tile", "subdomain", "part"):
        names, stack = run.table.stack(3, by, "target", "best")
        expected_names, expected = written.table.stack(3, by, "target", "best")
        assert names == expected_names
        np.testing.assert_array_equal(stack, expected)
    assert Summary.of(run).tiles == Summary.of(written).tiles
    pd.concat([frame, frame.iloc[[7]]]).to_parquet(path)
    assert "rows are there twice" in refusal(read_run, folder)


def test_counts_add_up_by_any_of_their_names(folder):
    table, frame = read_run(folder).table, counts()
    summed = table.sums(3, "selection", "part", "subdomain")
    assert summed.sum() == frame["count"].sum()
    for (selection, part, subdomain), rows in frame.groupby(["selection", "part", "subdomain"]):
        place = [
            table.names[key].index(name) for key, name in zip(KEYS_SUMMED, (selection, part, subdomain), strict=True)
        ]
        np.testing.assert_array_equal(summed[tuple(place)], total(rows, 3))


def test_a_record_whose_specification_was_changed_after_the_run_is_refused(folder):
    """The folder is named after what was run; a record that was edited to say something else does not fit it."""
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content["spec"]["simulated"] = True
    path.write_text(json.dumps(content))
    assert "contradicts its folder" in refusal(read_run, folder)


def test_counts_of_nested_and_endless_json_are_refused(folder):
    (folder / "run.json").write_text("[" * 100_000)
    assert "not readable as JSON" in refusal(read_run, folder)


def test_pixels_are_kept_where_every_tile_has_them():
    table = ConfusionTable()
    table.add("best", "target", "a", "x", np.diag([1, 2]), 4)
    assert table.frame()["pixels"].tolist() == [4, 4]
    table.add("best", "target", "b", "x", np.diag([1, 2]))
    assert "pixels" not in table.frame()
