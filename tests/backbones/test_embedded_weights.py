"""Weights that come with the package: small, honest about how they were made, and the default where there are any."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import spectral_tl_bench.backbones
from spectral_tl_bench.backbones import backbone_entry, build_backbone, weights_fingerprint
from spectral_tl_bench.benchmarks.pretrain_vit_micro import CAMERA
from spectral_tl_bench.cli.main import main
from spectral_tl_bench.pretraining.recipes import recipe
from spectral_tl_bench.records import find_runs, read_run, read_run_yaml
from spectral_tl_bench.records.pretraining import PretrainingRecord, read_pretraining
from spectral_tl_bench.sensors import OHS, SENTINEL2
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.registry import BACKBONES
from spectral_tl_bench.utils.weight_metadata import fingerprint, read_metadata

EMBEDDED = [name for name in BACKBONES.usable()[0] if backbone_entry(name).embedded is not None]
BY_PLACE = [name for name in EMBEDDED if not backbone_entry(name).from_wavelengths]
OTHERS = [name for name in BACKBONES.usable()[0] if name not in EMBEDDED]
TINY = ("image_size=32", "batch_size=2", "segmentation_steps=2", "validations=1", "decoder_channels=8")


def file_of(name):
    return Path(spectral_tl_bench.backbones.__file__).parent / backbone_entry(name).embedded


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("sensor", [CAMERA, SENTINEL2, OHS], ids=lambda s: s.name)
def test_embedded_weights_load_in_single_precision_for_any_number_of_bands(name, sensor):
    backbone = build_backbone(name, sensor, "embedded")
    state = load_file(file_of(name))
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    for number, block in enumerate(backbone.blocks):
        assert torch.equal(block.mlp.fc2.weight, state[f"blocks.{number}.mlp.fc2.weight"].float())
    assert f"blocks.{len(backbone.blocks)}.mlp.fc2.weight" not in state


@pytest.mark.parametrize("name", BY_PLACE)
@pytest.mark.parametrize("sensor", [CAMERA, SENTINEL2, OHS], ids=lambda s: s.name)
def test_a_grey_image_gives_the_tokens_that_the_model_of_colour_pictures_gives_it(name, sensor):
    backbone = build_backbone(name, sensor, "embedded")
    kernels, colour = backbone.tokenizer.projection.weight, load_file(file_of(name))["patch_embed.proj.weight"].float()
    torch.testing.assert_close(kernels.sum(dim=1), colour.sum(dim=1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weights", ["embedded", "none"])
@pytest.mark.parametrize("sensor", [CAMERA, SENTINEL2], ids=lambda s: s.name)
@pytest.mark.parametrize("name", EMBEDDED)
def test_a_backbone_knows_which_of_its_parameters_were_drawn(name, sensor, weights):
    built = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        built.append(build_backbone(name, sensor, weights))
    other = dict(built[1].named_parameters())
    differing = {n for n, p in built[0].named_parameters() if not torch.equal(p, other[n])}
    assert differing <= built[0].drawn
    if weights == "embedded":
        fits = sensor is CAMERA or name not in BY_PLACE
        assert built[0].drawn == differing == (set() if fits else {"tokenizer.projection.weight"})
    else:
        assert built[0].drawn == set(other)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_weights_are_small_and_say_how_they_were_made(name):
    assert file_of(name).stat().st_size <= 8_000_000
    assert {tensor.dtype for tensor in load_file(file_of(name)).values()} == {torch.float16}
    made = read_metadata(file_of(name))
    assert made["steps"] >= 1000
    if name in BY_PLACE:
        assert made["data"].startswith("simulated RGB")
        assert made["script"] == "spectral_tl_bench.benchmarks.pretrain_vit_micro"
        assert made["seed"] >= 0
        return
    spec = PretrainingRecord.model_validate(made).spec
    shipped = recipe(name, {})
    assert spec.backbone == name == shipped.backbone
    assert spec.simulated
    assert {archive.name for archive in spec.archives} == set(shipped.simulated)
    assert {key: getattr(spec.training, key) for key in shipped.train} == shipped.train
    assert spec.init.split()[0] == shipped.init


@pytest.mark.parametrize("name", [name for name in EMBEDDED if name not in BY_PLACE])
def test_embedded_weights_have_their_training_curve_beside_them(name):
    record = PretrainingRecord.model_validate_json(file_of(name).with_suffix(".json").read_text())
    assert record.model_dump(exclude={"history"}) == read_pretraining(file_of(name)).model_dump(exclude={"history"})
    steps = [row["step"] for row in record.history]
    assert steps == sorted(steps)
    assert steps[-1] == record.steps


@pytest.mark.parametrize("name", OTHERS)
def test_a_backbone_without_embedded_weights_refuses_them_in_one_line(name):
    assert backbone_entry(name).default_weights == "hub"
    for use in (lambda: build_backbone(name, OHS, "embedded"), lambda: weights_fingerprint(name, "embedded")):
        with pytest.raises(CheckpointError, match=rf"no weights of {name} come with the package: .*hub or none") as e:
            use()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_weights_and_the_same_file_by_its_path_are_the_same_run(name):
    path = str(file_of(name))
    assert weights_fingerprint(name, "embedded") == weights_fingerprint(name, path) == fingerprint(file_of(name))
    states = []
    for weights in ("embedded", path):
        torch.manual_seed(0)
        states.append(build_backbone(name, OHS, weights).state_dict())
    embedded, given = states
    assert all(torch.equal(embedded[key], given[key]) for key in embedded)


def test_a_run_takes_embedded_weights_by_default_records_their_content_and_repeats_them(whuohs_root, tmp_path):
    arguments = ["run", "--method", "frozen", "--protocol", "whu_region/s2t", "--root", str(whuohs_root)]
    arguments += ["--preset", "quick", "--out", str(tmp_path / "runs"), *(f"--train={setting}" for setting in TINY)]
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    (folder,) = find_runs(tmp_path / "runs")
    recorded = read_run(folder).record.spec.weights
    assert recorded == fingerprint(file_of("vit_micro"))
    assert read_run_yaml(folder / "run.yaml")[1].weights == "embedded"
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--config", str(folder / "run.yaml"), "--out", str(tmp_path / "again")])
    (again,) = find_runs(tmp_path / "again")
    assert read_run(again).record.spec.weights == recorded
    assert again.name == folder.name
