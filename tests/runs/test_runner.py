"""Whole runs, as small as they get, on a simulated archive."""

import shutil

import pandas as pd
import pytest
import torch
from tiny_run import TINY

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.methods import build_method, method_names
from spectral_tl_bench.records import find_runs, read_run, read_run_yaml
from spectral_tl_bench.runs.parameter_counts import account
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.sensors import OHS
from spectral_tl_bench.utils.errors import CheckpointError, ProtocolError, RecordError, SpectralBenchError
from spectral_tl_bench.utils.runtime import RuntimeOptions
from spectral_tl_bench.utils.tensors import load_weights


@pytest.fixture
def request_for(whuohs_root, two_cities):
    def make(method="lora", protocol=two_cities, **changes):
        training = TINY | changes.pop("training", {})
        usual = {"root": whuohs_root, "preset_name": "quick", "weights": "none"}
        (request,) = requests(method, protocol, training=training, **usual | changes)
        return request

    return make


@pytest.fixture
def run(request_for, tmp_path):
    def make(out="runs", **changes):
        return execute(plan(request_for(**changes)), tmp_path / out, RuntimeOptions(device="cpu"))

    return make


@pytest.mark.xdist_group("every_method")
@pytest.mark.parametrize("method", method_names())
def test_every_method_runs_from_protocol_to_table(every_method, method):
    done = every_method[method]
    assert done.record.simulated
    table = pd.read_csv(done.folder / "table.csv")
    domains = table["domain"].tolist()
    assert {"Jilin", "Tangshan", "all targets", "held-out source"} <= set(domains)
    assert table["mIoU"].between(0, 100).sum() >= len(domains) - 1  # the gap may be negative
    names = {"run.json", "run.yaml", "confusion.parquet", "table.csv", "table.md", "history.csv", "adapter.safetensors"}
    if "reconstruction" in done.record.stages:
        names |= {"stage1.safetensors", "reconstruction.png"}
    if method == "spectralx":
        names |= {"experts.csv", "experts.png"}
    assert {path.name for path in done.folder.iterdir()} == names
    assert done.record.parameters.trainable >= done.record.parameters.gradient_receiving > 0
    allocated, trainable = done.record.parameters.allocated, done.record.parameters.trainable
    assert allocated == trainable if method == "full" else allocated > trainable


def test_the_same_run_twice_gives_the_same_counts_and_another_seed_others(run):
    first, second, other = run(out="a"), run(out="b"), run(out="c", seed=1)
    pd.testing.assert_frame_equal(first.confusion, second.confusion)
    assert not first.confusion["count"].equals(other.confusion["count"])
    weights = [load_weights(r.folder / "adapter.safetensors")[0] for r in (first, second)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_every_target_tile_is_counted_once_at_its_own_resolution(run, whuohs_root):
    done = run(training={"image_size": 16})
    counts = done.counts("target")
    assert counts["tile"].nunique() == done.record.tiles.target
    per_tile = counts.groupby("tile")["count"].sum()
    assert per_tile.max() <= 32 * 32
    assert per_tile.max() > 16 * 16


def test_a_finished_run_is_not_repeated_unless_forced(request_for, tmp_path):
    ready = plan(request_for())
    first = execute(ready, tmp_path, RuntimeOptions(device="cpu"))
    written = (first.folder / "run.json").stat().st_mtime_ns
    execute(ready, tmp_path, RuntimeOptions(device="cpu"))
    assert (first.folder / "run.json").stat().st_mtime_ns == written
    execute(plan(request_for()), tmp_path, RuntimeOptions(device="cpu", force=True))
    assert (first.folder / "run.json").stat().st_mtime_ns > written


@pytest.mark.xdist_group("every_method")
def test_an_interrupted_run_goes_on_after_its_first_stage_with_the_same_result(train, every_method, tmp_path):
    whole = every_method["spectralx"]
    again = tmp_path / whole.folder.relative_to(whole.folder.parents[1])
    shutil.copytree(whole.folder, again)
    for name in ("run.json", "confusion.parquet", "adapter.safetensors"):
        (again / name).unlink()
    before = (again / "stage1.safetensors").stat().st_mtime_ns
    resumed = train(tmp_path, method="spectralx")
    assert resumed.folder == again
    assert (resumed.folder / "stage1.safetensors").stat().st_mtime_ns == before
    for name in ("reconstruction.png", "experts.csv", "experts.png"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    pd.testing.assert_frame_equal(resumed.confusion, whole.confusion)
    assert resumed.record.parameters == whole.record.parameters


def test_run_yaml_repeats_the_specification(run):
    done = run(seed=3)
    spec, where = read_run_yaml(done.folder / "run.yaml")
    assert spec == done.record.spec
    assert where.root is not None


@pytest.fixture
def shanghai(tmp_path):
    """A protocol with the source of the two cities and another target."""
    path = tmp_path / "shanghai.yaml"
    path.write_text(
        "{title: From one side to a city, dataset: whuohs, source: {side: S}, target: {city: Shanghai}, by: city}"
    )
    return str(path)


@pytest.mark.xdist_group("every_method")
def test_stage1_weights_serve_another_protocol_with_the_same_source(train, every_method, shanghai, tmp_path):
    first = every_method["spectralx"]
    given = first.folder / "stage1.safetensors"
    other = train(tmp_path / "runs", method="spectralx", protocol=shanghai, stage1=given, seed=1)
    own = train(tmp_path / "own", method="spectralx", protocol=shanghai, seed=1)
    assert other.record.spec.stage1.startswith("sha256:")
    assert other.record.stages["reconstruction"] == first.record.stages["reconstruction"]
    assert other.record.parameters == own.record.parameters
    assert not (other.folder / "stage1.safetensors").exists()
    assert not (other.folder / "reconstruction.png").exists()
    # The tokenizer's core rests in segmentation, so what stage 1 left in it is still there at the end.
    stage1, _ = load_weights(given)
    core = {name for name, _ in core_parameters(first)}
    assert core
    for done, taken in ((other, True), (own, False)):
        adapter, _ = load_weights(done.folder / "adapter.safetensors")
        assert all(torch.equal(adapter[f"backbone.{name}"], stage1[name]) for name in core) == taken


def core_parameters(done):
    spec = done.record.spec
    backbone = build_backbone(spec.backbone, OHS)
    build_method(spec.method).apply(backbone)
    return [(n, p) for n, p in backbone.named_parameters() if n.startswith("tokenizer.core.")]


@pytest.mark.xdist_group("every_method")
def test_stage1_weights_that_saw_the_target_are_refused_before_anything_trains(every_method, request_for):
    first = every_method["spectralx"]
    given = first.folder / "stage1.safetensors"
    with pytest.raises(CheckpointError, match="trained on the source of two_cities"):
        plan(request_for(method="spectralx", protocol="whu_region/t2s", stage1=given, weights=None))
    with pytest.raises(CheckpointError, match="stage segmentation"):
        plan(request_for(method="spectralx", stage1=first.folder / "adapter.safetensors"))


@pytest.mark.xdist_group("every_method")
def test_stage1_weights_of_other_parts_are_refused_before_anything_trains(train, every_method, tmp_path):
    given = every_method["spectralx"].folder / "stage1.safetensors"
    with pytest.raises(CheckpointError, match="belongs to another model"):
        train(tmp_path, method="spectralx", options={"aomoa": False, "are_adapter": False}, stage1=given)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.xdist_group("every_method")
@pytest.mark.parametrize(
    ("method", "options"), [("spectralx", {}), ("spectralx", {"variant": "reference"}), ("rein", {})]
)
def test_a_record_and_the_accounting_count_the_same(run, every_method, method, options):
    # Two steps are too few for SpectralX: what starts at zero hides the gradient of what it is multiplied with.
    done = every_method[method] if method == "rein" else run(method=method, options=options)
    spec = done.record.spec
    counts = account(
        method,
        build_method(method, options),
        spec.backbone,
        OHS,
        spec.training,
        len(done.record.classes),
        build_backbone(spec.backbone, OHS),
    )
    for kind in ("allocated", "trainable", "gradient_receiving"):
        counted = getattr(counts, kind)
        assert counted.without_decoder == getattr(done.record.parameters, kind), kind
        assert counted.with_decoder == getattr(done.record.parameters_with_decoder, kind), kind
    if options:
        assert done.record.parameters.gradient_receiving < done.record.parameters.trainable


def test_stage1_weights_for_a_method_without_that_stage_are_refused(request_for, tmp_path):
    with pytest.raises(SpectralBenchError, match="no reconstruction stage"):
        plan(request_for(method="lora", stage1=tmp_path / "any.safetensors"))


def test_selection_by_last_step_keeps_the_last(run):
    done = run(training={"selection": "last"})
    assert done.record.selected.last_step == 4
    assert set(done.confusion["selection"]) == {"best", "last"}


def test_reference_scoring_counts_resized_labels(run):
    done = run(training={"resolution": "resize", "scoring": "reference", "image_size": 16})
    assert done.counts("target").groupby("tile")["count"].sum().max() <= 16 * 16


def test_a_file_in_the_way_of_the_output_is_refused_and_left_alone(request_for, tmp_path):
    (tmp_path / "runs").write_text("precious")
    with pytest.raises(RecordError, match="cannot write to folder"):
        execute(plan(request_for()), tmp_path / "runs", RuntimeOptions(device="cpu"))
    assert (tmp_path / "runs").read_text() == "precious"


def test_own_tiles_need_a_root(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        """
title: Mine
dataset: tiles
sensor: {name: mine, rgb: [r, g, b], bands: {r: 660, g: 560, b: 480}}
classes: [{code: 1, name: one, color: "#ff0000"}]
source: {place: here}
target: {place: there}
by: place
"""
    )
    (request,) = requests("lora", str(path))
    with pytest.raises(ProtocolError, match="--root"):
        plan(request)


def test_find_runs_sees_what_was_run(run, tmp_path):
    done = run()
    assert find_runs(tmp_path / "runs") == [done.folder]
    assert read_run(done.folder).record == done.record
