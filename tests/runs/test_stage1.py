"""Weights of the reconstruction stage: whose they are, and which runs may go on from them."""

import pytest
import torch
from run_records import spec

from spectral_tl_bench.records.stage1 import check_stage1, origin, read_stage1
from spectral_tl_bench.sensors import OHS, SENTINEL2
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.tensors import save_weights

RUN = {"method": "spectralx", "method_options": {"variant": "default", "are_adapter": True}, "data": "aa-1"}

ERRORS = {"model": 0.1, "mean_of_visible": 0.2, "nearest_visible": 0.3}


@pytest.fixture
def file(tmp_path):
    """Write a file of stage-1 weights of a run on OHS, trained on tiles a and b."""

    def make(metadata=None, **changes):
        content = {
            "stage": "reconstruction",
            "sensor": "ohs",
            "bands": 32,
            "spec": spec(**(RUN | changes)).model_dump(mode="json"),
            "seconds": 3.5,
            "trainable": ["backbone.tokenizer.scale"],
            "gradient_receiving": [],
            "images": {"a": "a0", "b": "b0"},
            "errors": {"pixels": ERRORS, "spectra": ERRORS},
            "history": [],
            "software": {},
        }
        path = tmp_path / "stage1.safetensors"
        save_weights(path, {"tokenizer.scale": torch.ones(3)}, content | (metadata or {}))
        return path

    return make


def refusal(path, sensor=OHS, unseen=None, **changes):
    with pytest.raises(CheckpointError) as caught:
        check_stage1(path, spec(**(RUN | changes)), sensor, unseen or {"c": "c0", "d": "d0"})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_other_targets_seeds_lengths_and_options_of_the_same_source_are_served(file):
    path = file(seed=1)
    longer = spec().training.model_copy(update={"segmentation_steps": 7})
    check_stage1(path, spec(**RUN, protocol="mine/other", training=longer), OHS, {"c": "c0"})


@pytest.mark.parametrize(
    ("changes", "sides"),
    [
        ({"backbone": "vit_l_mae"}, ["backbone vit_micro", "vit_l_mae"]),
        ({"weights": "hub"}, ["pretrained weights none", "hub"]),
        ({"method": "frozen"}, ["method spectralx", "frozen"]),
        ({"method": "mine.py:Mine", "method_source": "12ab"}, ["method spectralx", "Mine"]),
        ({"method_source": "12ab"}, ["another version", "12ab"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_backbone_or_method_is_refused_naming_both_sides(file, changes, sides):
    message = refusal(file(), **changes)
    assert "--stage1" in message
    assert "stage1.safetensors" in message
    for side in sides:
        assert side in message


def test_another_sensor_is_refused_naming_both_sides(file):
    message = refusal(file(), SENTINEL2)
    assert "ohs (32 bands)" in message
    assert "sentinel2 (13 bands)" in message
    fewer = OHS.model_copy(update={"bands": OHS.bands[:30]})
    assert "ohs (30 bands)" in refusal(file(), fewer)


def test_weights_that_have_seen_target_or_held_out_tiles_are_refused(file):
    message = refusal(file(), unseen={"z": "z0", "b": "b0"}, protocol="whu_region/t2s")
    assert "whu_region/s2t" in message
    assert "whu_region/t2s" in message
    assert "1 tiles" in message


def test_tiles_of_another_archive_may_have_the_same_names(file):
    check_stage1(file(), spec(**RUN), OHS, {"a": "other", "b": "pixels"})


def test_weights_of_another_stage_or_version_are_refused(file):
    assert "stage segmentation" in refusal(file({"stage": "segmentation"}))
    assert "another version" in refusal(file({"surprise": 1}))
    assert "images" in refusal(file({"images": None}))


def test_what_is_written_reads_back(file):
    given = read_stage1(file())
    assert given.images == {"a": "a0", "b": "b0"}
    assert given.seconds == 3.5
    assert given.spec == spec(**RUN)


def test_origin_names_source_seed_and_the_options_that_differ(file):
    path = file(method_options={"variant": "reference", "are_adapter": False}, seed=2, simulated=True)
    given = read_stage1(path)
    assert origin(given, spec(**RUN)) == (
        "trained on the source of whu_region/s2t, seed 2, are_adapter=False, variant=reference, SIMULATED data"
    )
    assert "variant" not in origin(given, given.spec)
