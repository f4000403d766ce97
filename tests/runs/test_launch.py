"""Which devices a run may ask for, and how its batches are shared."""

import pytest
import torch

from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.runs import launch
from spectral_tl_bench.runs.pixels import PixelRunner
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.runtime import STRATEGIES, RuntimeOptions

QUICK = preset("quick")


def test_a_batch_is_cut_into_equal_shares_or_refused():
    launch.require_shares(QUICK, ["reconstruction", "segmentation"], RuntimeOptions(device="cpu", devices=4))
    launch.require_shares(
        override(QUICK, {"reconstruction_batch_size": 9}), ["segmentation"], RuntimeOptions(device="cpu", devices=2)
    )
    with pytest.raises(SpectralBenchError, match="3 shares, which do not divide batch_size 8; name a multiple of 3"):
        launch.require_shares(QUICK, ["segmentation"], RuntimeOptions(device="cpu", devices=3))
    with pytest.raises(SpectralBenchError, match="--num-nodes 2 and accumulation 4 cut a step into 16 shares"):
        launch.require_shares(
            override(QUICK, {"accumulation": 4}), ["segmentation"], RuntimeOptions(device="cpu", devices=2, num_nodes=2)
        )


@pytest.mark.parametrize(
    ("hardware", "environment", "message"),
    [
        (RuntimeOptions(strategy="fsdp"), {}, "unknown --strategy 'fsdp'"),
        (RuntimeOptions(devices=2), {}, "there is no GPU here"),
        (RuntimeOptions(device="cpu", devices=2, num_nodes=2), {}, "MASTER_ADDR"),
        (
            RuntimeOptions(device="cpu", devices=2),
            {"SLURM_NTASKS": "3", "SLURM_JOB_NAME": "x"},
            "Slurm started 3; use srun",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_with_what_to_do(monkeypatch, hardware, environment, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SpectralBenchError, match=message):
        launch.require_usable(hardware)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_device_needs_nothing(strategy):
    launch.require_usable(RuntimeOptions(strategy=strategy))
    PixelRunner().require_executable(None, RuntimeOptions(), maps=0)


def test_pixel_models_take_one_process():
    with pytest.raises(SpectralBenchError, match="leave --devices"):
        PixelRunner().require_executable(None, RuntimeOptions(device="cpu", devices=2), maps=0)


@pytest.mark.parametrize(
    ("environment", "another", "elsewhere"),
    [
        ({}, False, False),
        ({"LOCAL_RANK": "0"}, False, True),
        ({"LOCAL_RANK": "1"}, True, True),
        ({"LOCAL_RANK": "0", "RANK": "4"}, True, True),
        ({"NODE_RANK": "1"}, True, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "x"}, False, True),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "x"}, True, True),
    ],
)
def test_the_environment_tells_which_process_this_is(monkeypatch, environment, another, elsewhere):
    for name in ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launch.is_another(), launch.started_elsewhere()) == (another, elsewhere)
