"""Two processes that append records and regenerate the boards of one folder.

SPECTRAL_TL_BENCH_ROUNDS=200 lets them do so more often.
"""

import os
import sys
from multiprocessing import get_context

import pytest
import run_records

from spectral_tl_bench.records import find_runs, read_run
from spectral_tl_bench.report.leaderboard import build, check
from spectral_tl_bench.report.run_collection import RunCollection

ROUNDS = int(os.environ.get("SPECTRAL_TL_BENCH_ROUNDS", "12"))
METHODS = ("lora", "frozen")


def write_and_rank(root, method, confusion):
    """Write a record a round and regenerate the boards; ends with what went wrong as its status."""
    for number in range(ROUNDS):
        run_records.write(root / "runs", run_records.spec(method=method, seed=number), confusion)
        built = build(RunCollection.below(root / "runs"), root / "boards")
        # A record of the other process may be on its way; one that is there can be read.
        if any("not complete" not in line for line in built.skipped):
            sys.exit(1)


@pytest.mark.long
def test_records_stay_readable_and_boards_whole(tmp_path):
    processes = get_context("spawn")
    confusion = run_records.counts()
    started = [processes.Process(target=write_and_rank, args=(tmp_path, method, confusion)) for method in METHODS]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    methods = [read_run(folder).record.spec.method for folder in find_runs(tmp_path / "runs")]
    assert sorted(methods) == sorted([*METHODS] * ROUNDS)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    # Each process saw what was there at the time; from here on nobody writes.
    build(RunCollection.below(tmp_path / "runs"), tmp_path / "boards")
    built, wrong = check(RunCollection.below(tmp_path / "runs"), tmp_path / "boards")
    assert (built.runs, wrong) == (2 * ROUNDS, ())
