"""What a sweep shows: lines where there is no terminal, and a table with them where there is one."""

import io
import itertools
import re

import pytest
from rich.console import Console

from spectral_tl_bench.runs.progress_file import PROGRESS, Progress
from spectral_tl_bench.sweeps.engines.base import Outcome
from spectral_tl_bench.sweeps.live_table import SweepView, seconds_left

LABELS = {"p/a": "lora on p", "p/b": "[bold]frozen[/bold] on p", "p/c": "vpt on p", "p/d": "full on p"}


def underway(seconds, left, stage="segmentation"):
    return Progress(stage=stage, step=3, steps=10, seconds=seconds, seconds_left=left)


def say(out, key, progress):
    (out / key).mkdir(parents=True, exist_ok=True)
    (out / key / PROGRESS).write_text(progress.model_dump_json())


@pytest.fixture
def view(tmp_path):
    def make(labels=LABELS, width=100):
        seconds = itertools.count()
        console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
        return SweepView(console, labels, tmp_path, clock=lambda: next(seconds) // 2 * 10)

    return make


def shown(view):
    view.console.print(view.table())
    return view.console.file.getvalue()


def test_the_table_has_counts_runs_under_way_and_reasons_of_failures(view, tmp_path):
    one = view()
    say(tmp_path, "p/b", underway(30, 70))
    one.ended("p/a", Outcome("done", "target mIoU 1.00 %", 100.0))
    one.ended("p/c", Outcome("failed", "it [red]does[/red] not work", 1.0))
    text = shown(one)
    assert "2 of 4 ended, 1 failed, 1 under way, 1 to begin, about 3 min left in all" in text
    assert re.search(r"\[bold\]frozen\[/bold\] on p +segmentation +3/10 +70 s", text)
    assert "failed: vpt on p: it [red]does[/red] not work" in text


def test_without_a_terminal_there_is_a_line_a_run(view):
    one = view()
    with one:
        one.ended("p/a", Outcome("done", "target mIoU 1.00 %", 12.3))
        one.ended("p/b", Outcome("failed", "no", 1.0, host="node7"))
        one.ended("p/c", Outcome("in use", "...", 1.0))
    assert one.console.file.getvalue().splitlines() == [
        "[1/4] lora on p: target mIoU 1.00 %, 12 s",
        "[2/4] [bold]frozen[/bold] on p: FAILED on node7: no",
        "[3/4] vpt on p: left to another process, which is at it",
    ]
    assert (one.failed, one.ended_runs) == (["[bold]frozen[/bold] on p"], 3)


def test_what_a_killed_process_said_long_ago_is_not_under_way(view, tmp_path):
    say(tmp_path, "p/a", underway(30, 70))
    one = view()
    assert "0 under way, 4 to begin" in shown(one)
    say(tmp_path, "p/a", underway(31, 69))
    assert "1 under way, 3 to begin" in shown(one)


def test_many_runs_under_way_leave_room_for_the_rest(view, tmp_path):
    labels = {f"p/{i}": f"method{i}" for i in range(200)}
    one = view(labels)
    for key in list(labels)[:50]:
        say(tmp_path, key, underway(1, 9))
    text = shown(one)
    assert "50 under way, 150 to begin" in text
    assert "and 38 more" in text
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize(
    ("finished", "running", "waiting", "expected"),
    [
        ([], [], 4, None),
        ([], [underway(1, None)], 4, None),
        ([10, 20], [], 4, 60),
        ([10, 20], [underway(5, 10), underway(12, None)], 4, (10 + 3 + 60) / 2),
        ([], [underway(10, 90), underway(10, 90)], 2, (180 + 200) / 2),
        ([10], [underway(5, 500), underway(5, 5)], 1, 500),
    ],
)
def test_time_left_in_all(finished, running, waiting, expected):
    assert seconds_left(finished, running, waiting) == (None if expected is None else pytest.approx(expected))
