"""A model rebuilt from a run's folder is the model that was scored, whoever rebuilds it."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from spectral_tl_bench.backbones import backbone_entry, build_backbone
from spectral_tl_bench.baselines import pixel_forest
from spectral_tl_bench.methods import method_names
from spectral_tl_bench.prediction.restore import restore_run
from spectral_tl_bench.records import read_run, write_run_yaml
from spectral_tl_bench.records.confusion import PIXELS
from spectral_tl_bench.runs.adapter import ADAPTER, pretrained_digest, read_adapter
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.utils.errors import CheckpointError, RecordError
from spectral_tl_bench.utils.tensors import load_weights, save_weights

# One worker does them all: they share the runs.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("every_method")]

RESCORE = """
import json, sys
from pathlib import Path

import torch

torch.manual_seed(4711)
torch.set_num_threads(1)

from spectral_tl_bench.datamodules.protocol import ProtocolDataModule
from spectral_tl_bench.records import ConfusionTable
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import repeated
from spectral_tl_bench.prediction.restore import restore_run

out, *folders = map(Path, sys.argv[1:])
for folder in folders:
    run = restore_run(folder)
    made = plan(repeated(folder / "run.yaml", None))
    data = ProtocolDataModule(made.split, made.dataset, made.spec.training, seed=99)
    data.radiometry = run.radiometry
    table = ConfusionTable()
    with run.predicting(torch.device("cpu")):
        for number, loader in enumerate(data.test_dataloader()):
            for batch in loader:
                run.task.test_step(data.on_after_batch_transfer(batch, number), 0, number)
    for key, matrix in run.task.confusions:
        table.add(made.spec.training.selection, *key, made.split.subdomains[key.tile], matrix)
    table.frame().to_parquet(out / f"{folder.name}.parquet")
"""


SETTINGS = {
    "without pretrained weights": {"method": "adapter", "weights": "none"},
    "last step of resampled tiles": {
        "method": "adapter",
        "training": {"selection": "last", "radiometry": "minmax", "resolution": "resize"},
    },
}
"""Runs beside those of every method with the embedded weights."""


@pytest.fixture(scope="module")
def runs(train, every_method, tmp_path_factory):
    """Runs of every method and of other settings."""
    folder = tmp_path_factory.mktemp("runs")
    return every_method | {name: train(folder, **changes) for name, changes in SETTINGS.items()}


@pytest.fixture(scope="module")
def rescored(runs, tmp_path_factory):
    """Their counts once more, by the folder's name: each rebuilt and scored in one fresh process with another seed."""
    folder = tmp_path_factory.mktemp("rescored")
    script = folder / "rescore.py"
    script.write_text(RESCORE)
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *(str(r.folder) for r in runs.values())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


def recorded(run):
    selection = run.record.spec.training.selection
    rows = run.confusion[run.confusion["selection"] == selection].reset_index(drop=True)
    return rows.drop(columns=PIXELS)


@pytest.mark.parametrize("name", [*method_names(), *SETTINGS])
def test_a_fresh_process_with_another_seed_counts_exactly_what_was_recorded(runs, rescored, name):
    pd.testing.assert_frame_equal(rescored[runs[name].folder.name], recorded(runs[name]))


@pytest.fixture
def run(runs, tmp_path):
    """A run of its own for each test."""
    folder = runs["lora"].folder
    return read_run(shutil.copytree(folder, tmp_path / "runs" / folder.name))


def test_what_is_pretrained_is_left_out_and_what_is_drawn_at_random_kept(runs):
    pretrained, none = (load_file(runs[n].folder / ADAPTER) for n in ("adapter", "without pretrained weights"))
    projection, block = "tokenizer.projection.weight", "qkv.weight"
    assert any(name.endswith(projection) for name in pretrained)
    assert not any(name.endswith(block) for name in pretrained)
    assert all(any(name.endswith(part) for name in none) for part in (projection, block))


def test_the_file_says_what_a_map_needs(run):
    adapter, _, radiometry = read_adapter(run.folder / ADAPTER)
    assert adapter.sensor == OHS
    assert [c.name for c in adapter.classes] == [c.name for c in run.record.classes]
    assert [c.code for c in adapter.classes] == list(range(1, 25))
    assert adapter.step == run.record.selected.best_step
    assert adapter.tile == (32, 32)
    assert radiometry["mean"].shape == (1, 32, 1, 1)


def test_restoring_leaves_the_random_generator_alone(run):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    restore_run(run.folder)
    assert torch.equal(torch.rand(3), expected)


def refused(folder, *parts, error=CheckpointError, weights=None):
    with pytest.raises(error) as caught:
        restore_run(folder, weights)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_file_of_an_earlier_version_says_to_run_again(run):
    state, metadata = load_weights(run.folder / ADAPTER)
    old = {"stage": "segmentation", "sensor": "ohs", "bands": 32, "spec": metadata["spec"]}
    save_weights(run.folder / ADAPTER, state, old)
    refused(run.folder, "another version", "run it again", "--force")


def test_an_unfinished_run_another_folder_and_one_above_get_one_line(run, tmp_path):
    (run.folder / ADAPTER).rename(tmp_path / "kept")
    refused(run.folder, "not complete", "run it again")
    refused(tmp_path / "runs", "did you mean", str(run.folder), error=RecordError)
    refused(tmp_path / "nowhere", "nowhere", error=RecordError)


def test_weights_of_another_run_are_refused(runs, run):
    shutil.copy(runs["adapter"].folder / ADAPTER, run.folder)
    refused(run.folder, "another run")


def test_moved_pretrained_weights_are_named_and_taken_where_they_are(train, tmp_path):
    given = tmp_path / "mine.safetensors"
    embedded = backbone_entry("vit_micro").fetch("embedded")
    save_file({name: tensor + 0.01 for name, tensor in embedded.items()}, given)
    folder = train(tmp_path / "runs", weights=str(given)).folder
    moved = given.rename(tmp_path / "moved.safetensors")
    refused(folder, "not to be found", str(given), "--weights PATH")
    refused(folder, "not to be found", "embedded", weights="embedded")
    spec = read_run(folder).record.spec
    assert restore_run(folder, str(moved)).adapter.spec == spec
    assert spec.weights_file == "mine"
    assert spec.model_copy(update={"weights_file": "moved"}).digest == spec.digest


def test_weights_of_a_hub_that_have_changed_are_refused(run):
    """A hub's weights have a name and no fingerprint: their digest in the file tells."""
    state, metadata = load_weights(run.folder / ADAPTER)
    metadata["pretrained"] = "sha256:0"
    save_weights(run.folder / ADAPTER, state, metadata)
    refused(run.folder, "not those", "--weights PATH")


def test_a_method_file_that_is_gone_or_was_edited_is_refused(train, tmp_path):
    file = tmp_path / "bias.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from spectral_tl_bench.methods import Method\n\n\n"
        "@dataclass\nclass Bias(Method):\n"
        "    def adapt(self, backbone):\n"
        "        for name, parameter in backbone.named_parameters():\n"
        "            parameter.requires_grad = name.endswith('bias')\n"
    )
    folder = train(tmp_path / "runs", f"{file}:Bias").folder
    restore_run(folder)
    file.write_text(file.read_text() + "\n# edited\n")
    refused(folder, "not there as it was", "bias.py")
    file.unlink()
    refused(folder, "not there as it was", "bias.py")


def test_a_run_without_a_network_says_that_it_keeps_no_model(train, tmp_path):
    folder = train(tmp_path, f"{pixel_forest.__file__}:PixelForest", options={"trees": 2}).folder
    refused(folder, "PixelForest keeps no model")


def test_digest_of_pretrained_weights_ignores_what_is_drawn():
    torch.manual_seed(0)
    first = pretrained_digest(build_backbone("vit_micro", OHS, "embedded"))
    torch.manual_seed(1)
    assert pretrained_digest(build_backbone("vit_micro", OHS, "embedded")) == first
    assert pretrained_digest(build_backbone("vit_micro", OHS)) is None


def test_run_yaml_of_other_settings_does_not_pass(run):
    spec = run.record.spec.model_copy(update={"seed": 7})
    write_run_yaml(run.folder, spec, {"weights": "embedded"})
    refused(run.folder, "another run")
    assert json.loads((run.folder / "run.json").read_text())["spec"]["seed"] == 0
