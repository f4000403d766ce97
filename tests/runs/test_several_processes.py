"""Runs that two processes share: the figures of one, written once, and one line whoever fails."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from spectral_tl_bench.records import find_runs, read_run

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("several_processes")]

# Without batch norms, behind which biases have no gradient but rounding, which AdamW makes as large as any other.
DECODER = """
from torch import nn

class Tokens(nn.Module):
    def __init__(self, backbone, num_classes, training):
        super().__init__()
        self.drop = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(backbone.width, num_classes, 1)

    def forward(self, features):
        return self.classifier(self.drop(features[-1]))
"""
BROKEN = """
import os
from dataclasses import dataclass
from spectral_tl_bench.methods import Method

@dataclass
class Broken(Method):
    def adapt(self, backbone):
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad = name.endswith("bias")

    def extra_loss(self, backbone):
        if os.environ.get("LOCAL_RANK") == "1":
            raise RuntimeError("only here")
"""
SETTINGS = {"segmentation_steps": 6, "validations": 3, "image_size": 16, "batch_size": 4, "augmentation": "true"}


@pytest.fixture
def command(whuohs_root, two_cities, tmp_path):
    (tmp_path / "decoder.py").write_text(DECODER)
    (tmp_path / "broken.py").write_text(BROKEN)

    def make(out, *options, method="lora"):
        train = [f"--train={name}={value}" for name, value in SETTINGS.items()]
        return [
            *(sys.executable, "-m", "spectral_tl_bench", "run", "--device=cpu", "--preset=quick"),
            *(f"--method={method}", f"--protocol={two_cities}", f"--root={whuohs_root}", f"--out={tmp_path / out}"),
            *("--train=decoder=decoder.py:Tokens", *train, *options),
        ]

    return make


def start(arguments, folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        arguments, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_count_as_one_does_however_they_are_interrupted(command, tmp_path):
    one = start(command("one"), tmp_path)
    assert one.wait(200) == 0, one.communicate()
    two = start(command("two", "--devices=2", "--checkpoint-minutes=0"), tmp_path)
    until = time.monotonic() + 200
    while not list(tmp_path.glob("two/**/checkpoint-*3.pt")):
        assert two.poll() is None, two.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    two.send_signal(signal.SIGTERM)
    out, err = two.communicate(timeout=100)
    assert (two.returncode, len(err.splitlines())) == (128 + signal.SIGTERM, 1), err
    assert err.startswith("spectral-bench: stopped by SIGTERM (segmentation, step ")
    again = start(command("two", "--devices=2"), tmp_path)
    out, err = again.communicate(timeout=200)
    assert (again.returncode, err) == (0, "")
    assert sum("resumes at step" in line for line in out.splitlines()) == 1
    (first,), (second,) = find_runs(tmp_path / "one"), find_runs(tmp_path / "two")
    assert pd.read_parquet(first / "confusion.parquet").equals(pd.read_parquet(second / "confusion.parquet"))
    pd.testing.assert_frame_equal(pd.read_csv(first / "history.csv"), pd.read_csv(second / "history.csv"), rtol=1e-4)
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    provenance = read_run(second).record.provenance
    assert (provenance.devices, provenance.num_nodes, provenance.strategy) == (2, 1, "auto")
    assert second.name == first.name


def test_full_shared_memory_is_said_in_one_line_and_nothing_written_is_lost(command, tmp_path):
    """In a namespace of its own, where /dev/shm holds less than a few batches."""
    small = 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"'
    apart = ["unshare", "-Urm", "sh", "-c", small, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of his own")
    run = start([*apart, *command("shm", "--workers=2", "--checkpoint-minutes=0")], tmp_path)
    _, err = run.communicate(timeout=200)
    lines = [line for line in err.splitlines() if line.startswith("spectral-bench: ")]
    assert run.returncode == 1
    (line,) = lines
    assert "/dev/shm) is full; give fewer --workers" in line
    again = start(command("shm"), tmp_path)
    assert again.wait(200) == 0, again.communicate()


def test_what_fails_in_another_process_alone_is_said_in_one_line(command, tmp_path):
    run = start(command("broken", "--devices=2", method="broken.py:Broken"), tmp_path)
    _, err = run.communicate(timeout=200)
    (line,) = err.splitlines()
    assert run.returncode == 1
    assert line.startswith("spectral-bench: unexpected RuntimeError")
    assert "only here" in line
