"""pretrain, sweep and predict that are killed again and again: the same result, and nothing left behind.

SPECTRAL_TL_BENCH_KILLS=30 kills each so many times instead of a few; ``run`` is in test_interruption.py.
"""

import os
import random
import shutil
import time
from multiprocessing import get_context

import pytest
import torch
import yaml
from archives import random_image, utm, write_tif
from safetensors.torch import load_file
from tiny_run import TINIEST

from spectral_tl_bench.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("interruption")]
KILLS = int(os.environ.get("SPECTRAL_TL_BENCH_KILLS", "3"))

processes = get_context("forkserver")
processes.set_forkserver_preload(
    ["spectral_tl_bench.runs.network", "spectral_tl_bench.pretraining.run", "spectral_tl_bench.prediction.predict"]
)


def act(arguments, environment):
    """The command in a process that has imported everything already."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    main(arguments)


def start(arguments):
    environment = {"SPECTRAL_TL_BENCH_CACHE": os.environ["SPECTRAL_TL_BENCH_CACHE"]}
    process = processes.Process(target=act, args=([str(argument) for argument in arguments], environment))
    process.start()
    return process


def finish(arguments):
    process = start(arguments)
    process.join(400)
    assert process.exitcode == 0


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def kill_again_and_again(folder, arguments, same, rest=0.0):
    """Kill a command that writes into ``folder``, which it finds as it was left; compare every result that it gets to.

    Args:
        folder: Where the command writes.
        arguments: The command.
        same: Asserts that the folder holds the same result as another.
        rest: Seconds after each kill in which processes that the command has started may end.
    """
    undisturbed = folder.with_name("undisturbed")
    for _ in range(2):  # the first one fills the caches
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        finish(arguments)
        seconds = time.monotonic() - started
    folder.rename(undisturbed)
    draw, kills = random.Random(KILLS), 0
    while kills < KILLS:
        process = start(arguments)
        process.join(draw.uniform(0.05, 0.95) * seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            time.sleep(rest)
        else:
            assert process.exitcode == 0
            same(folder, undisturbed)
            shutil.rmtree(folder)
    finish(arguments)
    same(folder, undisturbed)


def test_pretraining(whuohs_root, tmp_path):
    folder = tmp_path / "pretrained"
    settings = {
        "image_size": 16,
        "reconstruction_batch_size": 4,
        "reconstruction_steps": 6,
        "reconstruction_decoder_width": 16,
        "reconstruction_decoder_depth": 1,
        "reconstruction_decoder_heads": 2,
    }
    train = [f"--train={name}={value}" for name, value in settings.items()]

    def same(ours, theirs):
        assert names(ours) == names(theirs)
        first, second = (load_file(place / "weights.safetensors") for place in (ours, theirs))
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    out = ["--checkpoint-minutes", 0, "--out", folder / "weights.safetensors"]
    archive = ["--archive", f"whuohs={whuohs_root}", "--device", "cpu"]
    kill_again_and_again(folder, ["pretrain", "spectral_mae_micro", *archive, *out, *train], same)


def test_a_sweep(whuohs_root, two_cities, tmp_path):
    folder, suite = tmp_path / "runs", tmp_path / "suite.yaml"
    content = {"title": "t", "methods": ["frozen"], "protocols": [two_cities], "preset": "quick", "weights": ["none"]}
    suite.write_text(yaml.safe_dump(content | {"train": TINIEST | {"segmentation_steps": 20}}))

    def same(ours, theirs):
        assert names(ours) == names(theirs)
        for counts in ours.rglob("confusion.parquet"):
            assert counts.read_bytes() == (theirs / counts.relative_to(ours)).read_bytes()

    out = ["--checkpoint-minutes", 0, "--out", folder, "--jobs", os.cpu_count()]
    kill_again_and_again(folder, ["sweep", suite, "--root", whuohs_root, "--device", "cpu", *out], same, rest=1.0)


def test_a_prediction(train, tmp_path):
    run = train(tmp_path / "runs", method="frozen").folder
    scene = write_tif(tmp_path / "scene.tif", random_image(32, size=400), **utm())
    folder = tmp_path / "maps"

    def same(ours, theirs):
        assert names(ours) == names(theirs)
        for path in theirs.iterdir():
            assert (ours / path.name).read_bytes() == path.read_bytes()

    arguments = ["predict", run, scene, folder / "map.tif", "--confidence", folder / "sure.tif", "--device", "cpu"]
    kill_again_and_again(folder, [*arguments, "--force"], same)
