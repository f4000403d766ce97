import dataclasses

import pytest
import torch

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.config.presets import preset
from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.methods import Method, build_method, method_names
from spectral_tl_bench.runs.parameter_counts import (
    DATASET_OF_SENSOR,
    account,
    backbone_size,
    gradient_receiving,
    sensor_and_classes,
)
from spectral_tl_bench.sensors import OHS, SENSORS, SENTINEL2
from spectral_tl_bench.utils.errors import ProtocolError, UnknownNameError

QUICK, STANDARD = preset("quick"), preset("standard")


@pytest.mark.parametrize("name", method_names())
def test_a_large_vit_is_counted_without_being_allocated(name):
    counts = account(name, build_method(name), "vit_l_mae", OHS, STANDARD, 22)
    assert counts.gradient_receiving is None
    assert counts.allocated.without_decoder > 300e6
    assert counts.trainable.without_decoder <= counts.allocated.without_decoder
    heads = {kind.with_decoder - kind.without_decoder for kind in (counts.allocated, counts.trainable)}
    # The same decoder for every method, and all of it trains.
    assert len(heads) == 1
    assert heads.pop() > 50e6


def test_what_trains_in_any_stage_counts():
    core = sum(p.numel() for p in build_adapted("spectralx").tokenizer.core.parameters())
    # As published, layers of the match that nothing uses train beside the frozen core.
    published = build_adapted("spectralx", variant="reference")
    unused = sum(p.numel() for n, p in published.after_tap[0].named_parameters() if ".unused." in n)
    assert unused > 0
    with_stage1 = account("a", build_method("spectralx"), "vit_micro", SENTINEL2, QUICK, 8)
    frozen_core = account("b", build_method("spectralx", {"variant": "reference"}), "vit_micro", SENTINEL2, QUICK, 8)
    assert with_stage1.trainable.without_decoder - frozen_core.trainable.without_decoder == core - unused


def build_adapted(name, **options):
    backbone = build_backbone("vit_micro", SENTINEL2)
    method = build_method(name, options)
    method.apply(backbone)
    for stage in method.stages:
        method.begin_stage(backbone, stage)
    return backbone


def test_a_hard_match_trains_without_ever_receiving_a_gradient():
    backbone = build_adapted("spectralx", variant="reference")
    trainable = {f"backbone.{n}" for n, p in backbone.named_parameters() if p.requires_grad}
    method = build_method("spectralx", {"variant": "reference"})
    receiving = gradient_receiving(method, build_backbone("vit_micro", SENTINEL2), QUICK)
    left_out = trainable - receiving
    assert left_out
    # As published: nothing reaches the scores, and the noise of the gates has no loss that would need it.
    assert all(("_match." in n and ".after_tap." in n) or n.endswith("router.noise") for n in left_out), left_out
    soft = gradient_receiving(build_method("spectralx"), build_backbone("vit_micro", SENTINEL2), QUICK)
    assert {name for name in left_out if ".unused." not in name} <= soft


def test_a_part_that_nothing_reaches_is_allocated_and_trainable_only():
    @dataclasses.dataclass
    class Idle(Method):
        """Adds seven parameters that nobody uses, and trains the embedding."""

        def adapt(self, backbone):
            backbone.tokenizer.requires_grad_(True)
            backbone.idle = torch.nn.Parameter(torch.ones(7))

    plain = account("frozen", build_method("frozen"), "vit_micro", SENTINEL2, QUICK, 8)
    counts = account("idle", Idle(), "vit_micro", SENTINEL2, QUICK, 8, build_backbone("vit_micro", SENTINEL2))
    assert counts.allocated.without_decoder - plain.allocated.without_decoder == 7
    assert counts.trainable.without_decoder - plain.trainable.without_decoder == 7
    assert counts.gradient_receiving == plain.trainable


def test_measuring_leaves_the_backbone_as_it_was():
    backbone = build_backbone("vit_micro", SENTINEL2)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    account("full", build_method("full"), "vit_micro", SENTINEL2, QUICK, 8, backbone)
    after = backbone.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_size_of_a_backbone_is_that_of_its_weights():
    built = build_backbone("vit_micro", OHS)
    assert backbone_size("vit_micro", OHS) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("name", SENSORS)
def test_every_sensor_has_the_classes_of_its_archive(name):
    sensor, classes = sensor_and_classes(name)
    assert sensor is SENSORS[name]
    assert classes == len(dataset_class(DATASET_OF_SENSOR[name]).all_classes) > 1


def test_an_unknown_sensor_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'sentinel2'"):
        sensor_and_classes("sentinel")


def test_the_sensor_of_own_tiles_comes_from_their_protocol_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        """
title: Mine
dataset: tiles
sensor: {name: mine, rgb: [r, g, b], bands: {r: 660, g: 560, b: 480}}
classes: [{code: 1, name: one, color: "#ff0000"}, {code: 2, name: two, color: "#00ff00"}]
source: {place: here}
target: {place: there}
by: place
"""
    )
    sensor, classes = sensor_and_classes(str(path))
    assert (sensor.name, len(sensor.bands), classes) == ("mine", 3, 2)
    path.write_text("title: Other\ndataset: whuohs\nsource: {side: S}\ntarget: {side: T}\nby: city\n")
    with pytest.raises(ProtocolError, match="no sensor of its own"):
        sensor_and_classes(str(path))
