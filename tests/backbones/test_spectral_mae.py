"""A token for each band: how many there are, what they know of their band, and what of them the blocks and taps see."""

import pytest
import torch
from small_models import RGB, small_entry
from torch.nn import functional as F

from spectral_tl_bench.backbones import Layout, build_backbone
from spectral_tl_bench.backbones.base import BANDS, TapModule
from spectral_tl_bench.backbones.spectral_mae import SpectralMAEBackbone, convert, make_micro, merge, neighbours
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2, Band, Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError

TWO = Sensor(
    name="two",
    bands=(Band(name="a", wavelength=500, bandwidth=20), Band(name="b", wavelength=800, bandwidth=90)),
    rgb=("a",) * 3,
)


@pytest.fixture(scope="module")
def micro():
    torch.manual_seed(0)
    return SpectralMAEBackbone(make_micro(2), TWO).eval()


def small(sensor):
    return small_entry("spectral_mae_micro").build(sensor).eval()


def test_parameters_are_those_counted_by_hand(micro):
    block = 2 * 2 * 192 + (192 + 1) * 3 * 192 + (192 + 1) * 192 + (192 + 1) * 768 + (768 + 1) * 192
    projection, positions, class_token = (64 + 1) * 192, (8 * 8 + 1) * 192, 192
    band_width = (1 + 1) * 64 + (64 + 1) * 192
    assert sum(p.numel() for p in micro.parameters()) == 8 * block + projection + positions + class_token + band_width


def test_at_the_start_widths_count_for_nothing_and_wavelengths_do(micro):
    codes = micro.tokenizer.codes()
    torch.testing.assert_close(codes, micro.tokenizer.wavelengths)
    assert (codes[0] - codes[1]).abs().max() > 0.5
    # Sine and cosine of 500 nm itself, the shortest period.
    assert codes[0, 0].item() == pytest.approx(torch.tensor(500.0, dtype=torch.float64).sin().item(), abs=1e-6)
    rows = micro.pos_embed[0, 1:]
    assert len(rows.detach().round(decimals=4).unique(dim=0)) == 64
    assert not micro.pos_embed[0, 0].any()


def test_every_band_is_a_token_and_maps_are_their_mean(micro):
    seen = []
    hook = micro.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    features = micro(torch.randn(3, 2, 24, 40))
    hook.remove()
    assert seen == [(3, 1 + 3 * 5 * 2, 192)]
    assert [tuple(f.shape) for f in features] == [(3, 192, 3, 5)] * 4


def test_tokens_of_bands_are_a_shared_projection_plus_codes(micro):
    images = torch.randn(1, 2, 16, 16)
    mean, context = micro.tokenizer(images)
    bands = mean.unsqueeze(2) + context[BANDS]
    for i in range(2):
        alone = F.conv2d(images[:, i : i + 1], micro.tokenizer.projection.weight, micro.tokenizer.projection.bias, 8)
        expected = alone.flatten(2).transpose(1, 2) + micro.tokenizer.codes()[i]
        torch.testing.assert_close(bands[:, :, i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sensor", [TWO, OHS], ids=lambda s: s.name)
def test_the_mean_over_bands_is_the_convolution_that_it_says_it_is(sensor):
    tokenizer = small(sensor).tokenizer
    images = torch.randn(2, len(sensor.bands), 16, 16)
    as_convolution = F.conv2d(images, *tokenizer.kernels(), stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokenizer(images)[0], as_convolution, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sensor", [SENTINEL2, MTS12, OHS], ids=lambda s: s.name)
def test_bands_in_another_order_give_the_same_tokens(sensor):
    order = torch.randperm(len(sensor.bands), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    backbone = build_backbone("spectral_mae_micro", sensor).eval()
    images = torch.randn(1, len(sensor.bands), 16, 16)
    expected = backbone(images)
    with backbone.seeing(sensor.subset(order.tolist())):
        for ours, theirs in zip(backbone(images[:, order]), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_more_bands_than_tokens_share_them_with_their_neighbours():
    assert neighbours(TWO, 8) == [[0], [1]]
    groups = neighbours(OHS, 8)
    assert groups == [list(range(first, first + 4)) for first in range(0, 32, 4)]
    # B1 to B4 of OHS: 466, 480, 500 and 520 nm, with half of 30 nm on either side.
    assert merge(OHS, groups[0]) == (491.5, 520 - 466 + 30)
    assert merge(TWO, [1]) == (800, 90)
    dates = [{MTS12.bands[i].date for i in group} for group in neighbours(MTS12, 8)]
    assert all(len(group) == 1 for group in dates)


def test_the_bound_on_tokens_is_set_and_stays_with_another_sensor():
    backbone = small(OHS)
    images = torch.randn(1, 32, 16, 16)
    assert backbone.embed(images).tokens_a_patch == 8
    backbone.limit_band_tokens(5, 0.0)
    assert backbone.embed(images).tokens_a_patch == 5
    with backbone.seeing(SENTINEL2):
        assert backbone.embed(torch.randn(1, 13, 16, 16)).tokens_a_patch == 5
    backbone.limit_band_tokens(100, 0.0)
    assert backbone.embed(images).tokens_a_patch == 32


def test_bands_are_left_out_in_training_alone():
    backbone = small(OHS)
    backbone.limit_band_tokens(8, 0.5)
    images = torch.randn(2, 32, 16, 16)
    assert backbone.embed(images).tokens_a_patch == 8
    every = backbone.embed(images)
    backbone.train()
    torch.manual_seed(1)
    some = backbone.embed(images)
    assert some.tokens_a_patch == 4
    kept = [any(torch.equal(every.bands[:, :, i], some.bands[:, :, j]) for j in range(4)) for i in range(8)]
    assert sum(kept) == 4
    torch.manual_seed(2)
    assert not torch.equal(backbone.embed(images).bands, some.bands)


class AddOne(TapModule):
    def forward(self, patches, tokens):
        assert patches.shape[1] == tokens.patches.shape[1]
        return patches + 1


def test_what_is_behind_a_tap_refines_the_mean_and_with_it_every_band(micro):
    images = torch.randn(1, 2, 16, 16)
    tokens = micro.embed(images)
    plain = micro.encode(tokens)
    kept, micro.after_tap[0] = micro.after_tap[0], AddOne()
    refined = micro.encode(tokens)
    micro.after_tap[0] = kept
    torch.testing.assert_close(refined[0], plain[0] + 1)
    assert not torch.allclose(refined[1], plain[1], atol=1e-3)


def test_each_token_of_a_patch_is_on_a_map_of_its_own():
    layout = Layout(grid=(2, 2), positions=torch.tensor([[3, 0]]), tokens_a_patch=2)
    patches = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])  # both of patch 3, then both of patch 0
    maps = layout.to_map(patches)
    assert torch.equal(maps[:, 0], torch.tensor([[[3.0, 0], [0, 1]], [[4, 0], [0, 2]]]))
    assert torch.equal(layout.from_map(maps), patches)


def test_a_band_starts_as_an_rgb_model_sees_a_grey_picture_at_positions_of_its_own():
    rgb = {"patch_embed.proj.weight": torch.randn(192, 3, 8, 8), "pos_embed": torch.zeros(1, 65, 192)}
    converted = convert(rgb, RGB)
    band = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(
        F.conv2d(band, converted["patch_embed.proj.weight"]),
        F.conv2d(band.expand(-1, 3, -1, -1), rgb["patch_embed.proj.weight"]),
        atol=1e-4,
        rtol=1e-4,
    )
    assert "pos_embed" not in converted
    own = make_micro(1).state_dict()
    assert convert(own, RGB) is own


@pytest.mark.parametrize("setting", ["band_tokens=4", "band_dropping=0.5"])
def test_a_backbone_with_one_token_a_patch_refuses_settings_of_several(tmp_path, setting):
    name, value = setting.split("=")
    (request,) = requests("lora", "whu_region/s2t", root=tmp_path, preset_name="quick", training={name: value})
    with pytest.raises(SpectralBenchError, match=f"{name} is about .* vit_micro has one") as caught:
        plan(request)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
