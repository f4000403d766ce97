"""Runs that are killed, told to end or repeated: the same command goes on, and the record is the same.

SPECTRAL_TL_BENCH_KILLS=30 kills a run so many times instead of a few.
"""

import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from tiny_run import TINY

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.records import TileKey, find_runs, read_run, remove_temporary_files
from spectral_tl_bench.records.stage1 import STAGE1
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.progress_file import PROGRESS
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.runs.score_journal import ScoreJournal
from spectral_tl_bench.training.checkpoints import Checkpoints
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.fit import fit
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils.errors import (
    CheckpointError,
    InterruptedRunError,
    RecordError,
    RunInUseError,
    SpectralBenchError,
)
from spectral_tl_bench.utils.files import LOCK
from spectral_tl_bench.utils.interruption import Interruption
from spectral_tl_bench.utils.runtime import RuntimeOptions

# One worker makes what they share.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("interruption")]
KILLS = int(os.environ.get("SPECTRAL_TL_BENCH_KILLS", "3"))
STEPS = {"reconstruction_steps": 8, "segmentation_steps": 10, "validations": 3, "batch_size": 2}
SAME = ("confusion.parquet", "history.csv", "table.csv", "experts.csv", "adapter.safetensors", "reconstruction.png")

processes = get_context("forkserver")
processes.set_forkserver_preload(["spectral_tl_bench.runs.runner", "spectral_tl_bench.cli.commands", "tiny_run"])


FEW = """
title: From one side to two cities
dataset: whuohs
protocols: {cities: {source: {side: S}, target: {city: [Jilin, Tangshan]}, by: city}}
"""


def protocol(root):
    """A protocol with few target tiles: what is scored is killed and told to end as what trains is."""
    path = root.parent / "few.yaml"
    if not path.exists():
        path.write_text(FEW)
    return f"{path}:cities"


def request(root, **changes):
    (asked,) = requests(
        "spectralx",
        protocol(root),
        root=root,
        preset_name="quick",
        weights="none",
        training=TINY | STEPS | changes,
    )
    return asked


def run_in_process(root, out, minutes, force=False, largest=None):
    """What the command does with a run, down to its exit status; no file may become larger than so many bytes."""
    import torch

    torch.set_num_threads(1)
    if largest is not None:
        # As a full disk does, this ends a write in the middle of a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        execute(
            plan(request(root)),
            out,
            RuntimeOptions(device="cpu", checkpoint_minutes=minutes, force=force),
        )
    except SpectralBenchError as error:
        (out / "said").write_text(str(error))
        sys.exit(error.exit_status)


def start(root, out, minutes=10.0, **options):
    process = processes.Process(target=run_in_process, args=(root, out, minutes), kwargs=options)
    process.start()
    return process


def finish(process):
    process.join(400)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def undisturbed(whuohs_root, tmp_path_factory):
    """A run that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(start(whuohs_root, out))
    (folder,) = find_runs(out)
    return folder


@pytest.fixture
def place(undisturbed, tmp_path):
    """Where the same run lies in the test's own folder of runs."""
    return tmp_path / undisturbed.relative_to(undisturbed.parents[2])


def require_same(folder, other):
    """The same record, apart from when, where and how fast."""
    for name in SAME:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    kept = {"provenance", "stages", "peak_memory_mib"}
    ours, theirs = (read_run(place).record for place in (folder, other))
    ours_kept, theirs_kept = (record.model_dump(exclude=kept) for record in (ours, theirs))
    # The file of stage 1 says how many seconds it took.
    assert set(ours_kept["files"]) == set(theirs_kept["files"])
    for record in (ours_kept, theirs_kept):
        record["files"].pop(STAGE1, None)
    assert ours_kept == theirs_kept
    assert {name: stage.steps for name, stage in ours.stages.items()} == {
        name: stage.steps for name, stage in theirs.stages.items()
    }
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_record(whuohs_root, tmp_path, undisturbed, place):
    # Once more, now that the server has imported everything.
    started = time.monotonic()
    finish(start(whuohs_root, tmp_path / "timed"))
    seconds = time.monotonic() - started
    draw = random.Random(KILLS)
    for _ in range(KILLS):
        process = start(whuohs_root, tmp_path, minutes=0.0)
        process.join(draw.uniform(0.1, 0.8) * seconds)
        process.kill()
        process.join()
    finish(start(whuohs_root, tmp_path))
    require_same(place, undisturbed)


@pytest.mark.parametrize("asked", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_leaves_a_checkpoint_and_the_status_that_schedulers_know(
    whuohs_root, tmp_path, undisturbed, place, asked
):
    process = start(whuohs_root, tmp_path)
    patience = time.monotonic() + 120
    while not (place / "stage1.safetensors").exists() and time.monotonic() < patience:
        time.sleep(0.02)
    os.kill(process.pid, asked)
    process.join(120)
    assert process.exitcode == {signal.SIGTERM: 143, signal.SIGINT: 130}[asked]
    assert list(place.glob("checkpoint-*.pt"))
    finish(start(whuohs_root, tmp_path))
    require_same(place, undisturbed)


def test_a_file_that_cannot_be_written_costs_nothing_that_was(whuohs_root, tmp_path, undisturbed, place):
    process = start(whuohs_root, tmp_path, minutes=0.0, largest=300_000)
    process.join(240)
    assert process.exitcode == 2
    said = (tmp_path / "said").read_text()
    assert re.search(r"cannot write .*", said)
    assert "\n" not in said
    assert not (place / "run.json").exists()
    finish(start(whuohs_root, tmp_path))
    require_same(place, undisturbed)


@pytest.fixture
def done(undisturbed, place):
    """A complete run in a folder of the test's own."""
    shutil.copytree(undisturbed, place)
    return place


def again(root, folder, force=False):
    return execute(plan(request(root)), folder.parents[2], RuntimeOptions(device="cpu", force=force))


def test_force_replaces_a_run_only_by_a_complete_one(whuohs_root, done):
    (done / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in done.iterdir()}
    process = start(whuohs_root, done.parents[2], minutes=0.0, force=True)
    hidden = done.parent / f".{done.name}.again"
    patience = time.monotonic() + 120
    while not list(hidden.glob("checkpoint-*")) and time.monotonic() < patience:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert {path.name: path.read_bytes() for path in done.iterdir() if path.name not in (LOCK, PROGRESS)} == before
    assert find_runs(done.parent) == [done]
    finish(start(whuohs_root, done.parents[2], force=True))
    assert not hidden.exists()
    assert (done / "notes.txt").read_text() == "mine"
    assert (done / "run.json").read_bytes() != before["run.json"]
    assert (done / "confusion.parquet").read_bytes() == before["confusion.parquet"]


def test_a_run_whose_counts_are_damaged_is_repaired_by_the_same_command(whuohs_root, done, undisturbed):
    counts = done / "confusion.parquet"
    counts.write_bytes(counts.read_bytes()[:100])
    with pytest.raises(RecordError):
        read_run(done)
    again(whuohs_root, done)
    require_same(done, undisturbed)


def test_a_second_process_leaves_a_run_that_is_going_on_alone(whuohs_root, done):
    (done / "run.json").unlink()
    with FileLock(done / LOCK), pytest.raises(RunInUseError, match="another process is at"):
        again(whuohs_root, done)


def test_a_checkpoint_of_another_run_is_refused(whuohs_root, done):
    (done / "run.json").unlink()
    Checkpoints(done, "another").save("segmentation", 3, {})
    with pytest.raises(CheckpointError, match=r"checkpoint-segmentation-000000003\.pt is a checkpoint of another run"):
        again(whuohs_root, done)


def test_stage1_weights_of_another_run_in_the_folder_are_refused(whuohs_root, done):
    (done / "run.json").unlink()
    other = execute(
        plan(request(whuohs_root, reconstruction_steps=2, segmentation_steps=1, validations=1)),
        done.parents[2],
        RuntimeOptions(device="cpu"),
    )
    (other.folder / "stage1.safetensors").replace(done / "stage1.safetensors")
    with pytest.raises(CheckpointError, match=r"stage1\.safetensors is of another run \(.*\); delete it"):
        again(whuohs_root, done)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, "digest")
    for step in (1, 2, 3):
        checkpoints.save("segmentation", step, {})
    first, second = checkpoints.paths()
    first.write_bytes(first.read_bytes()[:50])
    assert checkpoints.load("segmentation")["step"] == 2
    second.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"000000003\.pt is damaged; delete it"):
        checkpoints.load("segmentation")


@pytest.mark.parametrize("left", [f".adapter.safetensors-{'0' * 32}", ".tmpvOQbJR"], ids=["ours", "safetensors'"])
def test_what_a_killed_process_left_behind_is_swept_up(tmp_path, left):
    kept = tmp_path / ".notes-of-mine"
    (tmp_path / left).touch()
    kept.touch()
    remove_temporary_files(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("validated", [[], [2]], ids=["from the start", "after three steps"])
def test_a_stage_knows_its_step_in_every_part_and_after_it(data, validated):
    module = data(segmentation_steps=5, validations=2, batch_size=2, decoder_channels=8)
    backbone = build_backbone("vit_micro", module.tiles.sensor)
    method = build_method("frozen")
    method.apply(backbone)
    training, classes = module.training_spec, len(module.tiles.classes)
    task = Segmentation(Segmenter.of(backbone, classes, training), method, training, classes)
    task.held_out_miou = [(step, 0.1) for step in validated]
    task.steps_done = 3 if validated else 0
    seen = []
    fit(
        task,
        module,
        training,
        options=RuntimeOptions(device="cpu"),
        callbacks=[],
        validations=2,
        after_part=lambda: seen.append(task.step),
    )
    assert [*validated, *seen] == [step for step, _ in task.held_out_miou] == [2, 4, 5]


@pytest.mark.parametrize(
    ("received", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)], ids=str
)
def test_signals_have_the_status_that_schedulers_know(received, status):
    heard = Interruption()
    with heard.listening():
        os.kill(os.getpid(), received)
        with pytest.raises(InterruptedRunError) as caught:
            heard.end_if_requested("somewhere")
    assert caught.value.exit_status == status
    again = pickle.loads(pickle.dumps(caught.value))  # as a sweep's worker sends it
    assert (str(again), again.exit_status) == (str(caught.value), status)


def test_a_line_cut_short_costs_one_tile_and_no_other(tmp_path):
    path = tmp_path / "scores.jsonl"
    journal = ScoreJournal(path, "digest", 2)
    for tile in ("a", "b"):
        journal.add("last", TileKey("held_out_source", tile), np.array([[1, 0], [2, 3]]))
    path.write_bytes(path.read_bytes()[:-9])
    journal = ScoreJournal(path, "digest", 2)
    assert journal.done("last") == {("held_out_source", "a")}
    journal.add("last", TileKey("target", "c"), np.array([[0, 4], [0, 0]]))
    assert {key.tile: matrix.tolist() for key, matrix in ScoreJournal(path, "digest", 2).of("last")} == {
        "a": [[1, 0], [2, 3]],
        "c": [[0, 4], [0, 0]],
    }
    assert not ScoreJournal(path, "another", 2).done("last")


def test_the_history_of_an_interrupted_run_has_both_stages(undisturbed):
    history = pd.read_csv(undisturbed / "history.csv")
    assert set(history["stage"]) == {"reconstruction", "segmentation"}
    assert not history.duplicated(["stage", "step", "held_out_miou"]).any()


@pytest.mark.long
def test_a_sweep_passes_a_signal_on_and_the_same_command_goes_on(whuohs_root, tmp_path, undisturbed):
    place = tmp_path / "runs" / undisturbed.relative_to(undisturbed.parents[2])
    suite = tmp_path / "suite.yaml"
    content = {"title": "t", "methods": ["spectralx"], "protocols": [protocol(whuohs_root)], "preset": "quick"}
    suite.write_text(yaml.safe_dump(content | {"weights": ["none"], "train": TINY | STEPS}))
    out = tmp_path / "runs"
    command = [sys.executable, "-m", "spectral_tl_bench", "sweep", str(suite), "--root", str(whuohs_root)]
    # One thread, as the others: sums in another order differ in the last bit.
    command += ["--jobs", str(os.cpu_count())]
    with subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True) as process:
        patience = time.monotonic() + 120
        while not (place / "stage1.safetensors").exists() and time.monotonic() < patience:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 143
    assert said.strip() == (
        "spectral-bench: stopped by SIGTERM (0 of 1 runs are done); the same command goes on from there"
    )
    finish(start(whuohs_root, out))
    require_same(place, undisturbed)
