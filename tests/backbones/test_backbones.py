import pytest
import timm
import torch
from safetensors.torch import save_file

from spectral_tl_bench.backbones import BACKBONES, build_backbone, weights_fingerprint
from spectral_tl_bench.errors import CheckpointError, DataError, UnknownNameError
from spectral_tl_bench.sensors import OHS, SENTINEL2, Band, Sensor

RGB = Sensor(
    name="rgb",
    bands=(Band(name="R", wavelength=665), Band(name="G", wavelength=560), Band(name="B", wavelength=490)),
    rgb=("R", "G", "B"),
)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_four_maps_at_quarter_depths(name):
    with torch.device("meta"):
        backbone = build_backbone(name, OHS)
        side = 6 * backbone.patch_size
        features = backbone(torch.empty(2, 32, side, 2 * side))
    assert [tuple(f.shape) for f in features] == [(2, backbone.width, 6, 12)] * 4
    depth = len(backbone.blocks)
    assert backbone.taps == (depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1)


def test_features_equal_those_of_the_library():
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=0)
    images = torch.randn(2, 3, 224, 224)
    from spectral_tl_bench.backbones.vit import VisionTransformerBackbone

    expected = model.eval().forward_intermediates(images, indices=[2, 5, 8, 11], intermediates_only=True, norm=False)
    for ours, theirs in zip(VisionTransformerBackbone(model, RGB).eval()(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dropping_no_token_changes_nothing_and_dropping_some_keeps_their_order():
    backbone = build_backbone("vit_micro", RGB).eval()
    tokens = backbone.embed(torch.randn(2, 3, 64, 64))
    everything = tokens.keep(torch.arange(64).expand(2, -1))
    assert torch.equal(everything.patches, tokens.patches)
    some = tokens.keep(torch.tensor([[5, 1], [0, 63]]))
    assert torch.equal(some.patches[0], tokens.patches[0, [5, 1]])
    assert torch.equal(some.patches[1], tokens.patches[1, [0, 63]])
    assert [tuple(f.shape) for f in backbone.encode(some)] == [(2, 2, 192)] * 4


def test_images_that_do_not_fit_are_refused():
    backbone = build_backbone("vit_micro", RGB)
    with pytest.raises(DataError, match="multiples of 8"):
        backbone(torch.randn(1, 3, 60, 64))
    with pytest.raises(DataError, match="built for 3 bands"):
        backbone(torch.randn(1, 4, 64, 64))


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the masked-autoencoder kind: encoder, decoder and mask token under "model"."""
    torch.manual_seed(1)
    state = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
    state |= {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 384)}
    path = tmp_path / "mae.pth"
    torch.save({"model": state}, path)
    return path, state


def test_a_checkpoint_loads_completely_and_keeps_the_sum_over_bands(checkpoint):
    path, state = checkpoint
    backbone = build_backbone("vit_s_mae", SENTINEL2, str(path))
    assert torch.equal(backbone.blocks[3].attn.qkv.weight, state["blocks.3.attn.qkv.weight"])
    projection = backbone.tokenizer.projection.weight
    assert projection.shape[1] == 13
    rgb = build_backbone("vit_s_mae", RGB, str(path)).tokenizer.projection.weight
    assert torch.equal(rgb, state["patch_embed.proj.weight"])
    # A grey image must look the same to both, up to the rounding of 13 bands over 3 kernels.
    repeated = rgb.repeat(1, 5, 1, 1)[:, :13] * 3 / 13
    torch.testing.assert_close(projection, repeated)


def test_safetensors_load_like_pth(checkpoint, tmp_path):
    path, state = checkpoint
    save_file(state, tmp_path / "mae.safetensors")
    a = build_backbone("vit_s_mae", OHS, str(path))
    b = build_backbone("vit_s_mae", OHS, str(tmp_path / "mae.safetensors"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("blocks.7.mlp.fc1.weight"), "lacks blocks.7.mlp.fc1.weight"),
        (lambda s: s.update(surprise=torch.zeros(1)), "unknown key surprise"),
        (lambda s: s.update({"pos_embed": torch.zeros(1, 5, 384)}), r"pos_embed of shape \(1, 5, 384\)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_by_the_key(checkpoint, change, message):
    path, state = checkpoint
    change(state)
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=message):
        build_backbone("vit_s_mae", OHS, str(path))


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_with_code_is_refused_and_the_code_does_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": Payload()}, path)
    with pytest.raises(CheckpointError, match="not a plain file of weights"):
        build_backbone("vit_micro", OHS, str(path))
    assert "code ran" not in capsys.readouterr().out


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no weights file"):
        build_backbone("vit_micro", OHS, str(tmp_path / "missing.pth"))
    with pytest.raises(CheckpointError, match="no weights file"):
        weights_fingerprint(str(tmp_path / "missing.pth"))
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match="not a plain file of weights"):
        build_backbone("vit_micro", OHS, str(tmp_path / "damaged.pth"))


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'vit_micro'"):
        build_backbone("vit_mikro", OHS)
