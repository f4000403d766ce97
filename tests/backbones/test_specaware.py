"""SpecAware: the generated patch embedding against explicit kernels, and what of a sensor it knows."""

import pytest
import torch
from torch.nn import functional as F

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.backbones.band_attributes import name_rows, wavelength_code, width_code
from spectral_tl_bench.backbones.specaware import SpecAware, SpecAwareBackbone, make_micro
from spectral_tl_bench.sensors import OHS, SENTINEL2, Band, Sensor

BANDS = (
    Band(name="a", wavelength=500, bandwidth=5),
    Band(name="b", wavelength=800, bandwidth=15),
    Band(name="c", wavelength=2200, bandwidth=180),
)
SENSOR = Sensor(name="three", bands=BANDS, rgb=("a", "b", "c"), ground_sampling_distance=2.0)


@pytest.fixture(scope="module")
def model():
    """The small model, its last layers not at 0, so that nothing is left out."""
    torch.manual_seed(0)
    model = make_micro(3)
    torch.nn.init.normal_(model.patch_embed.bias[-1].weight)
    torch.nn.init.normal_(model.patch_embed.attributes.names.weight)
    return model.eval()


@pytest.fixture
def backbone(model):
    return SpecAwareBackbone(model, SENSOR).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))


def linear(inputs, outputs):
    return (inputs + 1) * outputs


def test_parameters_are_those_counted_by_hand(backbone):
    width, rank = 192, 16
    norm = 2 * 128
    block = 2 * 2 * width + linear(width, 3 * width) + linear(width, width) + 2 * width * 4 * width + 5 * width
    fusion = 2 * linear(128, 128) + linear(256, 128) + norm
    attributes = (
        linear(1, 64)
        + linear(64, 128)
        + 2  # the mixture
        + linear(128, 256)
        + linear(256, 128)
        + 256 * 384  # the table of names
        + linear(384, 64)
        + fusion
        + (2 * norm + linear(128, 3 * 128) + 3 * linear(128, 128))  # across bands
    )
    content = 2 * (linear(784, 196) + linear(196, 128)) + linear(256, 256) + linear(256, 128) + norm
    trunk = norm + linear(128, 128) + linear(128, 64)
    bias = norm + linear(128, 64) + linear(64, width)
    generated = 2 * trunk + linear(64, width * rank) + linear(64, rank * 64) + bias + 1
    expected = 6 * block + attributes + content + fusion + generated + width + 2 * width
    assert sum(p.numel() for p in backbone.parameters()) == expected


def test_it_starts_as_the_paper_says():
    torch.manual_seed(0)
    backbone = build_backbone("specaware_micro", SENSOR).eval()
    embedding = backbone.tokenizer.embedding
    assert SpecAware(64, 4, 4).patch_embed.scale.item() == pytest.approx(0.02)
    # Ten times that: kernels of a quarter of the rank, summed over a tenth of the bands.
    assert embedding.scale.item() == pytest.approx(0.2)
    torch.testing.assert_close(embedding.attributes.mixture.data, torch.tensor([0.8, 0.2]))
    _, _, bias = backbone.tokenizer.factors(torch.randn(1, 3, 16, 16))
    assert not bias.any()
    # A name that no pretraining has seen is a vector of zeros.
    assert not embedding.attributes.names.weight.any()


def test_low_rank_tokens_are_those_of_the_explicit_kernels(backbone, images):
    with torch.no_grad():
        tokens, _ = backbone.tokenizer(images)
        left, right, bias = backbone.tokenizer.factors(images)
    assert left.shape == (2, 3, 192, 16)
    assert right.shape == (2, 3, 16, 8, 8)
    for i, image in enumerate(images):
        kernels = torch.einsum("cdr,crij->dcij", left[i], right[i])
        expected = 0.2 * F.conv2d(image.unsqueeze(0), kernels, bias[i], stride=8)
        torch.testing.assert_close(tokens[i], expected[0].flatten(1).T, atol=1e-5, rtol=1e-4)


def test_bands_in_another_order_give_the_same_tokens(model, images):
    order = [2, 0, 1]
    ours = SpecAwareBackbone(model, SENSOR)
    theirs = SpecAwareBackbone(model, SENSOR.subset(order))
    with torch.no_grad():
        torch.testing.assert_close(
            ours.tokenizer(images)[0], theirs.tokenizer(images[:, order])[0], atol=1e-5, rtol=1e-5
        )
        assert not torch.allclose(ours.tokenizer(images)[0], theirs.tokenizer(images)[0], atol=1e-3)


def test_the_tokens_of_an_image_do_not_depend_on_others(backbone, images):
    with torch.no_grad():
        torch.testing.assert_close(backbone.tokenizer(images)[0][:1], backbone.tokenizer(images[:1])[0])


def test_another_number_of_bands_needs_no_other_weights():
    with torch.device("meta"):
        shapes = [
            {name: tuple(p.shape) for name, p in build_backbone("specaware_b", sensor).named_parameters()}
            for sensor in (SENSOR, SENTINEL2, OHS)
        ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"level": "L1"},
        {"bands": (BANDS[0], BANDS[1], BANDS[2].model_copy(update={"bandwidth": 40}))},
        {"bands": (BANDS[0], BANDS[1], BANDS[2].model_copy(update={"wavelength": 2100}))},
    ],
    ids=["name", "level", "width", "wavelength"],
)
def test_every_attribute_of_a_sensor_counts(model, images, change):
    one, other = SpecAwareBackbone(model, SENSOR), SpecAwareBackbone(model, SENSOR.model_copy(update=change))
    with torch.no_grad():
        assert not torch.allclose(one.tokenizer(images)[0], other.tokenizer(images)[0], atol=1e-4)


def test_widths_are_scaled_from_5_to_15_nm_and_names_ignore_case():
    torch.testing.assert_close(width_code(SENSOR).flatten(), torch.tensor([0.0, 1.0, 17.5]))
    assert wavelength_code(SENSOR).shape == (3, 128)
    # A whole period at the longest one.
    longest = wavelength_code(Sensor(name="one", bands=(Band(name="a", wavelength=2550),), rgb=("a",) * 3))
    torch.testing.assert_close(longest[0, [63, 127]], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
    rows = name_rows(SENSOR.model_copy(update={"name": "Three ", "level": "L2"}))
    assert rows[0] == name_rows(SENSOR)[0] >= 0
    assert (rows[1] >= 0, name_rows(SENSOR)[1]) == (True, -1)


def test_positions_are_counted_on_the_ground_of_the_sensor_that_is_seen(backbone):
    nothing = torch.zeros(1, 6, 192)
    fine = backbone.position(nothing, (2, 3), {}).patches
    coarse = SENSOR.model_copy(update={"ground_sampling_distance": 4.0})
    with backbone.seeing(coarse):
        seen = backbone.position(nothing, (2, 3), {}).patches
    # The second patch of a coarse image lies where the third of a fine one does.
    torch.testing.assert_close(seen[0, 1], fine[0, 2])
    assert not torch.allclose(seen[0, 1], fine[0, 1], atol=1e-2)


def test_a_patch_of_another_size_resizes_the_kernels_and_the_ground(model):
    own, large = SpecAwareBackbone(model, SENSOR).eval(), SpecAwareBackbone(model, SENSOR, patch_size=16).eval()
    flat = torch.tensor([0.5, -1.0, 2.0]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = own.tokenizer(flat.expand(-1, -1, 16, 24))[0]
        tokens = large.tokenizer(flat.expand(-1, -1, 32, 48))[0]
        kernels = own.tokenizer.factors(flat.expand(-1, -1, 32, 32))[1]
        resized = large.tokenizer.factors(flat.expand(-1, -1, 32, 32))[1]
        assert [tuple(f.shape) for f in large(torch.randn(1, 3, 32, 48))] == [(1, 192, 2, 3)] * 4
    # Not the same to the last digit: bilinear interpolation keeps a sum only inside.
    torch.testing.assert_close(tokens, expected, atol=2e-2, rtol=0)
    torch.testing.assert_close(resized.mean(dim=(3, 4)), kernels.mean(dim=(3, 4)) / 4, atol=2e-2, rtol=0)
    assert large.metres_a_pixel == 2 * own.metres_a_pixel == 4.0


def test_the_last_tap_is_normed_and_the_others_are_not(backbone, images):
    with torch.no_grad():
        *before, last = backbone(images)
    assert last.mean(dim=1).abs().max() < 1e-5
    assert before[-1].mean(dim=1).abs().max() > 1e-3


def test_mixed_precision_changes_little(backbone, images):
    with torch.no_grad():
        exact = backbone(images)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = backbone(images)[0]
    assert mixed.dtype == torch.float32
    assert (mixed - exact).norm() < 0.05 * exact.norm()
