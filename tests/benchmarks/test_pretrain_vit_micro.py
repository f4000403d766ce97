"""The script that made the embedded weights: the same again from the same seed, and a file that runs accept."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.benchmarks.pretrain_vit_micro import (
    CAMERA,
    PICTURE_SIZE,
    Pictures,
    main,
    render_scene,
    render_scenes,
    strengthen_colour,
)
from spectral_tl_bench.sensors import OHS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run the script with few steps; returns the file of a seed."""
    folder = tmp_path_factory.mktemp("pretraining")

    def make(name, seed):
        path = folder / name
        main(["--steps", "2", "--scenes", "2", "--seed", str(seed), "--out", str(path)])
        return path

    return make


@pytest.fixture(scope="module")
def first(made):
    return made("a.safetensors", 1)


def test_the_script_repeats_its_file_and_a_backbone_takes_it(made, first):
    again, other = made("b.safetensors", 1), made("c.safetensors", 2)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    backbone = build_backbone("vit_micro", OHS, str(first))
    assert torch.equal(backbone.cls_token, load_file(first)["cls_token"].float())
    assert all(torch.isfinite(f).all() for f in backbone(torch.randn(1, 32, 32, 32)))


def test_pretraining_changes_every_block(first):
    state = load_file(first)
    for key in ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.7.mlp.fc2.bias"):
        assert state[key].float().abs().sum() > 0
    assert (state["blocks.7.mlp.fc2.bias"] != 0).any()


def test_scenes_are_standardised_and_differ_by_number_and_seed():
    scene = render_scene(0, seed=0)
    assert scene.shape[0] == len(CAMERA.bands)
    np.testing.assert_allclose(scene.mean(axis=(1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(scene.std(axis=(1, 2)), 1, atol=1e-3)
    np.testing.assert_array_equal(scene, render_scene(0, seed=0))
    for other in (render_scene(1, seed=0), render_scene(0, seed=1)):
        assert abs(np.corrcoef(scene.ravel(), other.ravel())[0, 1]) < 0.5


def test_pictures_lose_colour_but_no_brightness():
    torch.manual_seed(0)
    batch = next(iter(Pictures(render_scenes(2, seed=0), batch_size=8)))
    image, colour = batch["image"], batch["colour"]
    assert image.shape == colour.shape == (8, 3, PICTURE_SIZE, PICTURE_SIZE)
    torch.testing.assert_close(image.mean(dim=1), colour.mean(dim=1))
    lost, full = ((x - x.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2, 3)) for x in (image, colour))
    assert (lost < full).all()


def test_stronger_colour_leaves_the_answer_to_grey():
    kernels = torch.randn(4, 3, 8, 8)
    changed = kernels.clone()
    strengthen_colour(changed, 5.0)
    torch.testing.assert_close(changed.sum(dim=1), kernels.sum(dim=1))
    torch.testing.assert_close(changed[:, 0] - changed[:, 1], 5 * (kernels[:, 0] - kernels[:, 1]))
