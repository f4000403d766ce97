"""The training curve in TensorBoard's and Weights & Biases' own files."""

import sys

import pandas as pd
import pytest
from tiny_run import TINIEST

from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.training.loggers import LOGGERS, require_loggers
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.runtime import RuntimeOptions


@pytest.fixture(scope="module")
def logged(whuohs_root, two_cities, tmp_path_factory):
    """One run with every logger that is installed, offline."""
    for name in LOGGERS:
        pytest.importorskip(name, reason=f"{name} is not installed; pip install -e '.[test]'")
    out = tmp_path_factory.mktemp("logged")
    (asked,) = requests("lora", two_cities, root=whuohs_root, preset_name="quick", training=TINIEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(out / "wandb-of-the-user"))
        done = execute(plan(asked), out / "runs", RuntimeOptions(device="cpu", loggers=LOGGERS))
    return done.folder


def curve(folder):
    table = pd.read_csv(folder / "history.csv")
    return {int(step): float(loss) for step, loss in zip(table["step"], table["loss"], strict=True) if loss == loss}


def test_tensorboard_reads_the_same_curve(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    assert {e.step: e.value for e in events.Scalars("segmentation/loss")} == pytest.approx(curve(logged))
    assert [e.step for e in events.Scalars("segmentation/held_out_miou")] == [TINIEST["segmentation_steps"]]
    (said,) = events.Tensors("run/text_summary")
    assert b"SIMULATED" in said.tensor_proto.string_val[0]


def test_wandb_keeps_the_same_curve_and_sends_nothing(logged):
    (file,) = logged.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"SIMULATED: lora" in content
    assert content.count(b"segmentation/loss") >= TINIEST["segmentation_steps"]
    assert b"segmentation/held_out_miou" in content
    for loss in curve(logged).values():
        assert repr(loss).encode() in content


def test_a_logger_that_is_not_there_is_named_with_what_to_install(monkeypatch):
    with pytest.raises(SpectralBenchError, match="unknown --logger 'mlflow': tensorboard or wandb"):
        require_loggers(["mlflow"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpectralBenchError, match=r"pip install 'spectral-tl-bench\[wandb\]'"):
        require_loggers(["wandb"])
    assert "mlflow" not in sys.modules
