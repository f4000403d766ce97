"""The boards that are part of the project say what the records beside them say."""

from pathlib import Path

from spectral_tl_bench.report.leaderboard import check
from spectral_tl_bench.report.run_collection import RunCollection

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"


def test_committed_boards_are_those_of_the_committed_records():
    built, wrong = check(RunCollection.below(LEADERBOARDS / "records"), LEADERBOARDS)
    assert wrong == ()
    assert built.skipped == ()
    assert built.boards
