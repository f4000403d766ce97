"""Each family against the library that it is taken from."""

import pytest
import timm
import torch
from small_models import RGB, copernicusfm, dinov2, dinov3, dofa, panopticon, randomise, scalemae, small_entry, vit
from torchgeo.models.copernicusfm import resize_abs_pos_embed
from torchgeo.models.scale_mae import get_2d_sincos_pos_embed_with_resolution

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.copernicusfm import CopernicusFMBackbone
from spectral_tl_bench.backbones.dinov3 import DINOv3Backbone
from spectral_tl_bench.backbones.dofa import DOFABackbone
from spectral_tl_bench.backbones.panopticon import PanopticonBackbone
from spectral_tl_bench.backbones.scalemae import ScaleMAEBackbone
from spectral_tl_bench.backbones.vit import VisionTransformerBackbone
from spectral_tl_bench.sensors import DEFAULT_BANDWIDTH, OHS, SENTINEL2, Band, Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError

SENSORS = [RGB, SENTINEL2, OHS]


@pytest.fixture
def images():
    torch.manual_seed(0)
    return lambda sensor, height=224, width=224: torch.randn(2, len(sensor.bands), height, width)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def tokens(maps):
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("make", "backbone", "size"),
    [
        (vit, VisionTransformerBackbone, (224, 224)),
        (lambda bands: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=70, depth=4, num_classes=0),
         VisionTransformerBackbone, (70, 70)),
        (dinov2, VisionTransformerBackbone, (518, 518)),
        (dinov3, DINOv3Backbone, (96, 64)),
        (dinov3, DINOv3Backbone, (256, 256)),
    ],
    ids=["vit", "registers without positions", "dinov2", "dinov3 of another size", "dinov3"],
)  # fmt: skip
def test_features_equal_the_intermediate_ones_of_timm(images, make, backbone, size):
    model = randomise(make(3))
    x = images(RGB, *size)
    expected = model.forward_intermediates(x, indices=[0, 1, 2, 3], intermediates_only=True, norm=False)
    for ours, theirs in zip(backbone(model, RGB).eval()(x), expected, strict=True):
        close(ours, theirs)


def test_kept_patches_of_dinov3_keep_their_turn_and_prefix_tokens_have_none(images):
    backbone = DINOv3Backbone(randomise(dinov3(3)), RGB)
    tokens = backbone.embed(images(RGB, 48, 32))
    assert tokens.prefix.shape[1] == 5
    assert tokens.rotary.shape == (6, 32)
    order = torch.tensor([[5, 0], [1, 4]])
    kept = tokens.keep(order)
    assert torch.equal(kept.rotary, tokens.rotary[order])
    assert torch.equal(kept.keep(torch.tensor([[1], [0]])).rotary, tokens.rotary[torch.tensor([[0], [1]])])


def test_a_vit_without_a_table_of_positions_is_refused():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, pos_embed="none", depth=4)
    with pytest.raises(SpectralBenchError, match="no table of positions"):
        VisionTransformerBackbone(model, RGB)


def test_a_vit_on_another_grid_equals_timm_with_its_positions_resampled(images):
    model = randomise(vit(3))
    x = images(RGB, 64, 96)
    ours = VisionTransformerBackbone(model, RGB).eval()(x)
    model.set_input_size((64, 96))
    close(ours[-1], model.forward_intermediates(x, indices=1, intermediates_only=True, norm=False)[0])


@pytest.mark.parametrize("distance", [1.0, 10.0, 0.3])
def test_scalemae_equals_torchgeo_at_the_resolution_of_the_sensor(images, distance):
    sensor = RGB.model_copy(update={"ground_sampling_distance": distance})
    model = randomise(scalemae(3, res=distance, img_size=64))
    x = images(sensor, 64, 64)
    last = ScaleMAEBackbone(model, sensor).eval()(x)[-1]
    close(model.norm(tokens(last)), model.forward_features(x)[:, 1:])


def test_scalemae_positions_of_a_wide_grid_are_the_corner_of_a_square_one():
    backbone = ScaleMAEBackbone(scalemae(3), RGB)
    empty = torch.zeros(1, 3 * 5, 64)
    code = backbone.position(empty, (3, 5), {}).patches.view(3, 5, 64)
    square = get_2d_sincos_pos_embed_with_resolution(64, 5, torch.tensor([10.0])).view(5, 5, 64)
    close(code, square[:3])


def test_scalemae_positions_follow_the_enlargement_of_windows(images):
    model = randomise(scalemae(3))
    small = images(RGB, 32, 32)
    backbone = ScaleMAEBackbone(model, RGB).eval()
    enlarged = backbone.enlarge(small, 2)
    fine = RGB.model_copy(update={"ground_sampling_distance": RGB.ground_sampling_distance / 2})
    close(backbone(enlarged)[-1], ScaleMAEBackbone(model, fine).eval()(enlarged)[-1])
    # An image that is not enlarged afterwards has the sensor's own distance again.
    close(backbone(backbone.enlarge(small, 1))[-1], ScaleMAEBackbone(model, RGB).eval()(small)[-1])


def test_copernicusfm_knows_the_area_of_a_patch_of_enlarged_images(images):
    model = randomise(copernicusfm(3))
    backbone = CopernicusFMBackbone(model, RGB).eval()
    enlarged = backbone.enlarge(images(RGB, 32, 32), 2)
    fine = RGB.model_copy(update={"ground_sampling_distance": RGB.ground_sampling_distance / 2})
    close(backbone(enlarged)[-1], CopernicusFMBackbone(model, fine).eval()(enlarged)[-1])


def test_scalemae_sees_a_coarser_sensor_as_a_larger_scene(images):
    coarse = RGB.model_copy(update={"ground_sampling_distance": 20.0})
    model = randomise(scalemae(3))
    x = images(RGB, 64, 64)
    assert not torch.allclose(ScaleMAEBackbone(model, RGB)(x)[-1], ScaleMAEBackbone(model, coarse)(x)[-1], atol=1e-3)


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda s: s.name)
def test_dofa_equals_torchgeo(images, sensor):
    model = randomise(dofa(len(sensor.bands)))
    x = images(sensor)
    last = DOFABackbone(model, sensor).eval()(x)[-1]
    expected = model.forward_features(x, [w / 1000 for w in sensor.wavelengths])
    close(model.fc_norm(tokens(last).mean(1)), expected)


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda s: s.name)
@pytest.mark.parametrize("side", [224, 96])
def test_copernicusfm_equals_torchgeo_where_place_and_time_are_unknown(images, sensor, side):
    model = randomise(copernicusfm(len(sensor.bands)))
    x = images(sensor, side, side)
    last = CopernicusFMBackbone(model, sensor).eval()(x)[-1]
    unknown = float("nan")
    metadata = torch.tensor([[unknown, unknown, unknown, 0.16**2]]).expand(2, -1)
    bandwidths = [band.bandwidth or DEFAULT_BANDWIDTH for band in sensor.bands]
    expected = model.forward_features(x, metadata, sensor.wavelengths, bandwidths)
    close(model.fc_norm(tokens(last).mean(1)), expected)


def test_copernicusfm_takes_bands_and_pixels_smaller_than_it_was_made_for(images):
    sensor = Sensor(
        name="drone",
        bands=(Band(name="red edge", wavelength=717, bandwidth=0.5),),
        rgb=("red edge",) * 3,
        ground_sampling_distance=0.05,
    )
    features = CopernicusFMBackbone(randomise(copernicusfm(1)), sensor)(images(sensor, 32, 32))
    assert features[-1].isfinite().all()


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda s: s.name)
@pytest.mark.parametrize("side", [224, 112])
def test_panopticon_equals_torchgeo_built_for_the_images_size(images, sensor, side):
    model = randomise(panopticon(len(sensor.bands)))
    x = images(sensor, side, side)
    last = PanopticonBackbone(model, sensor).eval()(x)[-1]
    channels = torch.tensor(sensor.wavelengths).expand(2, -1).clone()
    # torchgeo interpolates the released table once, when it builds the model for an image size.
    model.pos_embed = torch.nn.Parameter(resize_abs_pos_embed(model.pos_embed, side // 14, 37))
    expected = model.forward_features({"imgs": x, "chn_ids": channels})[:, 1:]
    close(model.norm(tokens(last)), expected)


@pytest.mark.parametrize("name", ["dofa_b", "panopticon_b", "copernicusfm_b"])
def test_a_band_is_known_by_its_wavelength_and_not_by_its_place(images, name):
    """These models see the same scene when bands come in another order."""
    order = [2, 0, 1]
    backbone = small_entry(name).build(RGB)
    other = small_entry(name).build(RGB.model_copy(update={"bands": tuple(RGB.bands[i] for i in order)}))
    x = images(RGB, 2 * backbone.patch_size, 2 * backbone.patch_size)
    close(backbone(x)[-1], other(x[:, order])[-1])
    assert not torch.allclose(backbone(x)[-1], backbone(x[:, order])[-1], atol=1e-2)


def test_positions_of_randomly_initialised_models_differ_from_place_to_place():
    with torch.no_grad():
        for name in ("dofa_b", "copernicusfm_b"):
            code = build_backbone(name, RGB).position_code((14, 14))[0]
            assert len(code[1:].round(decimals=4).unique(dim=0)) == 14 * 14


@pytest.mark.parametrize(
    ("backbone", "make"),
    [
        (ScaleMAEBackbone, scalemae),
        (DOFABackbone, dofa),
        (CopernicusFMBackbone, copernicusfm),
        (PanopticonBackbone, panopticon),
        (DINOv3Backbone, dinov3),
    ],
)
def test_mixed_precision_changes_little(images, backbone, make):
    """Codes of hundreds of metres and nm would be noise in half precision."""
    model = backbone(randomise(make(13)), SENTINEL2).eval()
    x = images(SENTINEL2, 4 * model.patch_size, 4 * model.patch_size)
    with torch.no_grad():
        exact = model(x)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(x)[0]
    assert mixed.dtype == torch.float32
    assert (mixed - exact).norm() < 0.05 * exact.norm()
