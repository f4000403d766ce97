"""Checkpoints with the names of the real releases, read from files as a user passes them."""

import argparse
import itertools
import pathlib

import pytest
import torch
from safetensors.torch import save_file
from small_models import RGB, SMALL, panopticon, randomise, small_entry
from torchgeo.models import CopernicusFM_Base_Weights, DOFABase16_Weights, Panopticon_Weights, ScaleMAELarge16_Weights
from torchgeo.models.copernicusfm import resize_abs_pos_embed

from spectral_tl_bench.backbones import backbone_entry, backbone_names, build_backbone, weights_fingerprint
from spectral_tl_bench.backbones.loading import colour_shares, read_state, timm_weights, torchgeo_weights
from spectral_tl_bench.sensors import OHS, SENTINEL2, Band, Sensor
from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.registry import BACKBONES

DECODER = (
    "mask_token",
    "decoder_pos_embed",
    "decoder_embed.weight",
    "decoder_blocks.0.norm1.weight",
    "decoder_norm.bias",
)
EXTRAS = {
    "vit_s_mae": ("head.weight", "head.bias"),
    "vit_b_mae": DECODER,
    "scalemae_l": (
        *DECODER,
        "mask_token_decoder",
        "fpn.do_fpn1.0.weight",
        "fcn_high.convs.0.weight",
        "fcn_low.convs.0.weight",
    ),
    "satmaepp_l": (*DECODER, "proj_up_conv.weight", "proj_up_norm.weight", "up_block.res_block.conv1.weight"),
    "dofa_b": ("mask_token", "norm.weight", "norm.bias", "projector.weight", "projector.bias"),
    "dofa_l": ("mask_token",),
    "panopticon_b": ("mask_token",),
}
"""What the released files hold besides the encoder, from the code that wrote them."""
LACKS = {"dofa_b": "fc_norm.", "dofa_l": "fc_norm.", "copernicusfm_b": "fc_norm.", "satmaepp_l": "norm."}
"""What they do not hold although the library's model has it."""
RELEASED = [name for name in backbone_names() if name in SMALL]


def encoder(name):
    """The library's model with weights other than those that are drawn when an entry builds it."""
    return randomise(SMALL[name](3), seed=7)


def released(name, model):
    """The state of a model as its release holds it."""
    state = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(LACKS.get(name, "no name"))}
    if name == "satmaepp_l":
        state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].flip(1)
    return state | {key: torch.ones(1, 2) for key in EXTRAS.get(name, ())}


def wrapped(name, state):
    """The file's content: masked autoencoders keep the state of their training beside it."""
    if name not in ("vit_b_mae", "scalemae_l", "satmaepp_l"):
        return state
    return {
        "model": state,
        "epoch": 799,
        "args": argparse.Namespace(lr=1e-4, model="vit"),
        "scaler": {"scale": 65536.0},
    }


@pytest.mark.parametrize("name", RELEASED)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_release_loads_completely(tmp_path, name, suffix):
    model, path = encoder(name), tmp_path / f"release{suffix}"
    state = released(name, model)
    if suffix == ".pth":
        torch.save(wrapped(name, state), path)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    entry = small_entry(name)
    loaded = entry.build(RGB, str(path)).eval()
    expected = entry.wrap(model, RGB).eval()
    x = torch.randn(1, 3, 2 * loaded.patch_size, 2 * loaded.patch_size)
    for a, b in zip(loaded(x), expected(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", RELEASED)
def test_a_release_without_a_block_is_refused_by_the_key(tmp_path, name):
    state = released(name, encoder(name))
    del state["blocks.2.mlp.fc1.weight"]
    torch.save(state, tmp_path / "release.pth")
    with pytest.raises(CheckpointError, match=rf"does not fit {name}: it lacks blocks.2.mlp.fc1.weight, 1 in all"):
        small_entry(name).build(RGB, str(tmp_path / "release.pth"))


@pytest.mark.parametrize("name", ["vit_l_mae", "dinov3_l_sat", "dofa_b"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": torch.zeros(1)}, "unknown key surprise"),
        ({"cls_token": torch.zeros(1, 2, 64)}, r"another shape of cls_token \(\(1, 2, 64\) instead of \(1, 1, 64\)\)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_by_the_key(tmp_path, name, change, message):
    torch.save(released(name, encoder(name)) | change, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        small_entry(name).build(RGB, str(tmp_path / "other.pth"))


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    torch.save(released("dofa_b", encoder("dofa_b")), tmp_path / "dofa.pth")
    with pytest.raises(CheckpointError, match="does not fit scalemae_l"):
        small_entry("scalemae_l").build(RGB, str(tmp_path / "dofa.pth"))


@pytest.mark.parametrize("name", ["vit_b_mae", "scalemae_l", "satmaepp_l", "dinov3_l_sat"])
@pytest.mark.parametrize("sensor", [SENTINEL2, OHS], ids=lambda s: s.name)
def test_rgb_weights_serve_any_number_of_bands_and_keep_the_sum_over_them(tmp_path, name, sensor):
    torch.save(released(name, encoder(name)), tmp_path / "release.pth")
    entry = small_entry(name)
    rgb = entry.build(RGB, str(tmp_path / "release.pth")).tokenizer.projection.weight
    projection = entry.build(sensor, str(tmp_path / "release.pth")).tokenizer.projection.weight
    bands = len(sensor.bands)
    assert projection.shape[1] == bands
    at_colours = torch.einsum("dkhw,kc->dchw", rgb.detach(), colour_shares(sensor.wavelengths))
    contrasts = projection.detach() - at_colours
    # What the bands have in common is the RGB model's; how they differ is random, half as large as the RGB kernels.
    torch.testing.assert_close(contrasts.sum(dim=1), torch.zeros_like(contrasts[:, 0]), rtol=0, atol=1e-5)
    assert contrasts.norm().item() == pytest.approx(0.5 * rgb.norm().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("wavelengths", "red", "green", "blue"),
    [
        (SENTINEL2.wavelengths, [3], [2], [1]),
        ((443, 490, 560, 660, 840, 1610, 2190), [3], [2], [1]),
        ((490, 560, 665, 490, 560, 665), [2, 5], [1, 4], [0, 3]),  # two dates
        ((470, 490, 510, 560, 600, 620, 700), [5, 6], [3], [0, 1, 2]),  # none within 25 nm of red
        ((520, 600, 700), [2], [0, 1], [0]),
    ],
)
def test_the_kernels_of_colours_go_to_the_bands_of_their_wavelengths(wavelengths, red, green, blue):
    shares = colour_shares(wavelengths)
    for row, bands in zip(shares, (red, green, blue), strict=True):
        assert row.nonzero().flatten().tolist() == bands
        assert row[bands].tolist() == pytest.approx([1 / len(bands)] * len(bands))


def three_bands(*wavelengths):
    bands = tuple(Band(name=str(w), wavelength=w) for w in wavelengths)
    return Sensor(name="three", bands=bands, rgb=tuple(band.name for band in bands))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_colours_in_any_order_get_the_kernels_of_their_wavelengths(tmp_path, order):
    torch.save(released("vit_b_mae", encoder("vit_b_mae")), tmp_path / "release.pth")
    entry = small_entry("vit_b_mae")
    rgb = entry.build(RGB, str(tmp_path / "release.pth")).eval()
    other = entry.build(three_bands(*(RGB.wavelengths[i] for i in order)), str(tmp_path / "release.pth")).eval()
    image = torch.randn(1, 3, 32, 32)
    for a, b in zip(rgb(image), other(image[:, list(order)]), strict=True):
        torch.testing.assert_close(a, b)


def test_three_bands_that_are_not_the_colours_get_kernels_as_other_sensors_do(tmp_path):
    torch.save(released("vit_b_mae", encoder("vit_b_mae")), tmp_path / "release.pth")
    entry = small_entry("vit_b_mae")
    rgb = entry.build(RGB, str(tmp_path / "release.pth")).tokenizer.projection.weight
    infrared = entry.build(three_bands(840, 665, 560), str(tmp_path / "release.pth")).tokenizer.projection.weight
    torch.testing.assert_close(infrared.sum(dim=1), rgb.sum(dim=1), rtol=0, atol=1e-4)
    assert not torch.allclose(infrared, rgb, atol=1e-3)


def test_a_sensor_without_colours_gets_every_kernel_on_every_band(tmp_path):
    wavelengths = (840, 900, 1240, 1610, 2190, 11000)
    assert colour_shares(wavelengths) is None
    torch.save(released("vit_b_mae", encoder("vit_b_mae")), tmp_path / "release.pth")
    bands = tuple(Band(name=str(w), wavelength=w) for w in wavelengths)
    infrared = Sensor(name="infrared", bands=bands, rgb=("840", "1610", "2190"))
    entry = small_entry("vit_b_mae")
    rgb = entry.build(RGB, str(tmp_path / "release.pth")).tokenizer.projection.weight
    projection = entry.build(infrared, str(tmp_path / "release.pth")).tokenizer.projection.weight
    torch.testing.assert_close(projection.sum(dim=1), rgb.sum(dim=1), rtol=0, atol=1e-4)


def test_bands_are_told_apart_the_same_way_for_the_same_seed(tmp_path):
    torch.save(released("vit_b_mae", encoder("vit_b_mae")), tmp_path / "release.pth")

    def kernels(seed):
        torch.manual_seed(seed)
        return small_entry("vit_b_mae").build(OHS, str(tmp_path / "release.pth")).tokenizer.projection.weight

    assert torch.equal(kernels(1), kernels(1))
    assert not torch.equal(kernels(1), kernels(2))


@pytest.mark.parametrize("grid", [16, 8])
def test_the_released_position_table_of_panopticon_is_resampled_as_torchgeo_does(tmp_path, grid):
    state = released("panopticon_b", randomise(panopticon(3)))
    state["pos_embed"] = torch.randn(1, 1 + 37 * 37, 64)
    torch.save(state, tmp_path / "teacher.pth")
    backbone = small_entry("panopticon_b").build(RGB, str(tmp_path / "teacher.pth"))
    expected = resize_abs_pos_embed(state["pos_embed"], grid, 37)
    torch.testing.assert_close(backbone.position_code((grid, grid)), expected)


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("content", "culprit"),
    [({"model": Payload()}, "print"), ({"model": {}, "args": argparse.Namespace(output=pathlib.Path("x"))}, "pathlib")],
)
def test_a_checkpoint_with_code_is_refused_by_the_object_and_the_code_does_not_run(tmp_path, capsys, content, culprit):
    path = tmp_path / "evil.pth"
    torch.save(content, path)
    message = rf"evil.pth is not a plain file of weights: it holds a Python object \({culprit}.*save its tensors alone"
    with pytest.raises(CheckpointError, match=message) as caught:
        build_backbone("vit_micro", OHS, str(path))
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"PK\x03\x04 half a file", b"<html>", b""])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused_in_one_line(tmp_path, content, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a plain file of weights: \w+") as caught:
        build_backbone("vit_micro", OHS, str(path))
    assert "\n" not in str(caught.value)


def test_missing_files_and_files_of_something_else_are_refused(tmp_path):
    path = str(tmp_path / "missing.pth")
    for use in (lambda: build_backbone("vit_micro", OHS, path), lambda: weights_fingerprint("vit_micro", path)):
        with pytest.raises(CheckpointError, match=r"no weights file .*embedded, hub, none or the PATH of a .pth"):
            use()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no table of named tensors"):
        read_state(tmp_path / "list.pth")


def test_a_fingerprint_belongs_to_the_content(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (weights_fingerprint("vit_l_mae", str(tmp_path / name)) for name in "abc")
    assert a == b != c
    assert [weights_fingerprint("vit_l_mae", weights) for weights in ("hub", "none")] == ["hub", "none"]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and caches of their own; returns their folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("weights", [
    DOFABase16_Weights.DOFA_MAE,
    ScaleMAELarge16_Weights.FMOW_RGB,
    Panopticon_Weights.VIT_BASE14,
    CopernicusFM_Base_Weights.CopernicusFM_ViT,
], ids=str)  # fmt: skip
def test_weights_of_torchgeo_come_from_its_cache_or_the_error_says_what_to_download(offline, weights):
    fetch = torchgeo_weights(type(weights).__name__, weights.name)
    with pytest.raises(CheckpointError) as caught:
        fetch()
    assert f"cannot download {weights.url} (torchgeo's {weights!r})" in str(caught.value)
    assert "--weights PATH" in str(caught.value)
    assert "\n" not in str(caught.value)
    file = offline / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    torch.save({"cls_token": torch.ones(1)}, file)
    assert torch.equal(fetch()["cls_token"], torch.ones(1))


def test_weights_of_timm_come_from_its_cache_or_the_error_says_what_to_download(offline):
    fetch = timm_weights("vit_large_patch16_dinov3.sat493m")
    address = "https://huggingface.co/timm/vit_large_patch16_dinov3.sat493m/resolve/main/model.safetensors"
    with pytest.raises(CheckpointError) as caught:
        fetch()
    assert f"cannot download {address}" in str(caught.value)
    assert "\n" not in str(caught.value)
    repository = offline / "models--timm--vit_large_patch16_dinov3.sat493m"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file({"cls_token": torch.ones(1)}, snapshot / "model.safetensors")
    assert torch.equal(fetch()["cls_token"], torch.ones(1))


@pytest.mark.parametrize("name", [name for name in BACKBONES.built_in if backbone_entry(name).hub is not None])
def test_every_other_backbone_names_an_address_when_its_weights_cannot_be_had(offline, name):
    with pytest.raises(CheckpointError, match="cannot download https://"):
        small_entry(name).build(RGB, "hub")
