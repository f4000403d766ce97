"""One bit of a record's files is flipped: the scores are those of before, or the run is left out and named."""

import os

import numpy as np
import pytest
from run_records import counts, spec, write

from spectral_tl_bench.records import damaged_files, find_runs, read_run
from spectral_tl_bench.records.packing import pack_runs
from spectral_tl_bench.report.leaderboard import build
from spectral_tl_bench.report.run_collection import RunCollection
from spectral_tl_bench.report.site import build_site
from spectral_tl_bench.report.summary import collect
from spectral_tl_bench.utils.errors import RecordError


@pytest.fixture
def runs(tmp_path):
    """A run to damage, and one that stays sound."""
    write(tmp_path / "runs", spec(), counts(tiles=2))
    write(tmp_path / "runs", spec(method="frozen"), counts(tiles=2))
    return tmp_path / "runs"


def flipped(path, rng, times):
    """Yield as often, with another bit of the file flipped each time; restore it at the end."""
    content = path.read_bytes()
    for bit in rng.integers(8 * len(content), size=times):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        yield
    path.write_bytes(content)


def outcome(folder, expected):
    """Read a damaged run: whether it is accepted, which only one that is as it was may be."""
    try:
        run = read_run(folder)
    except RecordError as refusal:
        message = str(refusal)
    else:
        message = ""
    if message:
        assert "\n" not in message
        return False
    assert run.record == expected.record
    assert (run.table.names, run.table.pixels) == (expected.table.names, None)
    for array in ("lengths", "truth", "prediction", "count"):
        assert np.array_equal(getattr(run.table, array), getattr(expected.table, array))
    assert all(np.array_equal(run.table.codes[key], codes) for key, codes in expected.table.codes.items())
    return True


@pytest.mark.parametrize(("name", "times"), [("run.json", 400), ("confusion.parquet", 400)])
def test_no_flipped_bit_in_a_folder_gives_another_score(runs, name, times):
    folder = runs / spec().folder
    expected = read_run(folder)
    accepted = sum(outcome(folder, expected) for _ in flipped(folder / name, np.random.default_rng(0), times))
    assert accepted < 0.75 * times


@pytest.mark.parametrize(("suffix", "times"), [(".runs.jsonl.gz", 60), (".parquet", 140)])
def test_no_flipped_bit_in_a_pack_gives_another_score(runs, tmp_path, suffix, times):
    pack = tmp_path / "packed"
    pack_runs(runs, pack)
    expected = {folder: read_run(folder) for folder in find_runs(pack)}
    path = pack / f"whu_region{suffix}"
    for number, _ in enumerate(flipped(path, np.random.default_rng(1), times)):
        # An open pack is kept as long as its files have the same times and sizes.
        os.utime(path, (number, number))
        for folder in find_runs(pack):
            outcome(folder, expected.get(folder))


def test_a_flipped_bit_ends_no_command_and_its_run_is_named_in_one_line(runs, tmp_path):
    rng = np.random.default_rng(2)
    for number, name in enumerate(("run.json", "confusion.parquet")):
        path = runs / spec(seed=number).folder / name
        write(runs, spec(seed=number), counts(tiles=2))
        damaged = bytearray(path.read_bytes())
        # In the part that holds names and counts.
        damaged[len(damaged) // 3] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
    collection = RunCollection.below(runs)
    assert [run.spec.method_name for run in collection.runs] == ["frozen"]
    assert [str(spec(seed=number).folder) in line for number, line in enumerate(sorted(collection.skipped))]
    assert len(collection.skipped) == 2
    assert build(collection, tmp_path / "boards").runs == 1
    assert len(build_site(tmp_path / "site", runs).skipped) == 2
    summaries, skipped = collect(runs)
    assert (len(summaries), len(skipped)) == (1, 2)


def test_a_damaged_training_curve_is_named_and_not_drawn(runs, tmp_path):
    path = runs / spec().folder / "history.csv"
    assert "<h2>Training</h2>" in page(runs, tmp_path / "before")
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.7"))
    assert damaged_files(read_run(path.parent)) == ["history.csv"]
    assert "<h2>Training</h2>" not in page(runs, tmp_path / "after")
    assert "history.csv is damaged" in (tmp_path / "after" / "index.html").read_text()


def page(runs, site):
    assert build_site(site, runs).runs == 2
    return (site / f"run-{spec().digest}.html").read_text()


def test_boards_are_made_of_what_is_sound(runs, tmp_path):
    path = runs / spec().folder / "run.json"
    path.write_bytes(path.read_bytes().replace(b"water", b"wader"))
    built = build(RunCollection.below(runs), tmp_path / "boards")
    assert built.runs == 1
    assert "its checksum does not fit" in built.skipped[0]
