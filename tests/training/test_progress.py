"""What the person who waits is told."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from spectral_tl_bench.training.base import AdaptationTask
from spectral_tl_bench.training.progress import StageProgress


class Task(AdaptationTask):
    """A stage of eight steps, some of which are done."""

    steps = 8
    step = 0

    def __init__(self):
        pass

    steps_done = 0

    def ends_step(self, batch_idx):
        return True

    def at(self, step):
        self.__dict__["step"] = step
        return self


def trainer(**metrics):
    return SimpleNamespace(callback_metrics={name: torch.tensor(value) for name, value in metrics.items()})


@pytest.fixture
def lines():
    """Two validations of a stage of eight steps, as Lightning calls them: the step ends before its validation."""
    console = Console(file=io.StringIO(), width=120)
    progress = StageProgress(console, "stage 1/1 segmentation", "balance")
    progress.on_train_start(trainer(), Task())
    seen = {}
    for step in range(1, 9):
        progress.on_train_batch_end(trainer(loss=2.0, **seen), Task().at(step), None, None, step - 1)
        if step % 4 == 0:
            seen = {"held_out_miou": step / 100}
            progress.on_validation_end(trainer(loss=2.0, **seen), Task().at(step))
    return console.file.getvalue().splitlines()


def test_a_validation_is_shown_once_made_and_in_percent(lines):
    assert "  stage 1/1 segmentation: step 4/8, held-out mIoU 4.00 %" in lines
    assert lines[-1] == "  stage 1/1 segmentation: step 8/8, held-out mIoU 8.00 %"


def test_no_line_repeats_an_earlier_validation(lines):
    assert sum("held-out" in line for line in lines) == 2
    assert sum("loss 2.000" in line for line in lines) == 4


def test_the_bar_shows_the_validation_just_made():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    progress = StageProgress(console, "stage", "balance")
    progress.on_train_start(trainer(), Task())
    progress.on_validation_end(trainer(loss=1.0, held_out_miou=0.1234), Task().at(3))
    assert progress.bar.tasks[0].fields["figures"] == "loss 1.000, held-out mIoU 12.34 %"
    progress.on_train_end(trainer(), Task().at(3))
    assert progress.bar is not None
    progress.on_train_end(trainer(), Task().at(8))
    assert progress.bar is None
