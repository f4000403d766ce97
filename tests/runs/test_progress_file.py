"""How far a run is, as its file says it to other processes."""

import json

import pytest

from spectral_tl_bench.runs import progress_file
from spectral_tl_bench.runs.progress_file import PROGRESS, ProgressFile, read_progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_file, "time", clock)
    return clock


def test_the_file_says_stage_step_and_time_left(tmp_path, clock):
    file = ProgressFile(tmp_path)
    file.show("reconstruction", 40, 100, later=200)
    assert read_progress(tmp_path).seconds_left is None
    clock.now += 10
    file.show("reconstruction", 60, 100, later=200)
    said = read_progress(tmp_path)
    # Half a second a step in this process, whatever an earlier one did.
    assert (said.stage, said.step, said.steps, said.seconds, said.seconds_left) == ("reconstruction", 60, 100, 10, 120)
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS]
    file.close()
    assert read_progress(tmp_path) is None
    file.close()


def test_it_is_written_at_most_once_a_second_and_at_every_new_stage(tmp_path, clock):
    file = ProgressFile(tmp_path)
    written = []
    for step in range(40):
        file.show("segmentation", step, 40)
        written.append(read_progress(tmp_path).step)
        clock.now += 0.1
    assert len(set(written)) == 4
    file.show("scoring", 0, 7)
    assert read_progress(tmp_path).stage == "scoring"


def test_a_file_that_cannot_be_written_costs_nothing(tmp_path):
    file = ProgressFile(tmp_path / "nothing")
    file.show("segmentation", 1, 2)
    file.close()


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"stage": 1}), "[" * 10_000, "\0"])
def test_what_is_no_progress_is_none(tmp_path, content):
    (tmp_path / PROGRESS).write_text(content)
    assert read_progress(tmp_path) is None


def test_a_run_says_how_far_it_is_while_it_goes_on_and_leaves_nothing(train, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        ProgressFile, "show", lambda self, stage, step, steps, later=0: said.append((stage, step, steps))
    )
    train(tmp_path, method="frozen", training={"segmentation_steps": 2})
    assert [s for s in said if s[0] == "segmentation"] == [
        ("segmentation", 0, 2),
        ("segmentation", 1, 2),
        ("segmentation", 2, 2),
    ]
    scored = [s for s in said if s[0] == "scoring"]
    done, (every,) = [step for _, step, _ in scored], {steps for _, _, steps in scored}
    # Tiles are scored some at a time, and all of them in the end.
    assert done == sorted(set(done))
    assert done[-1] == every
    assert not list(tmp_path.rglob(PROGRESS))
