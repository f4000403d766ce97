"""Galileo and Presto against their equations written out a second time, with released files where they are there."""

from pathlib import Path

import published_galileo as published
import pytest
import torch

from spectral_tl_bench.backbones import backbone_entry, build_backbone
from spectral_tl_bench.backbones.galileo import DEVIATION, MEAN, GalileoBackbone, make_nano, normalisation
from spectral_tl_bench.backbones.sentinel2_groups import band_groups, month_of, vegetation_index
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2, Band, Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
RELEASED = {"galileo_nano": WEIGHTS / "galileo_nano_encoder.pt", "presto": WEIGHTS / "presto_default_model.pt"}
SHAPES = {"galileo_nano": published.galileo_shapes, "presto": published.presto_shapes}
BANDS = {
    "S2_RGB": ("B2", "B3", "B4"),
    "S2_Red_Edge": ("B5", "B6", "B7"),
    "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
}
CENTRES = {"coastal": 443, "blue": 490, "green": 560, "red": 660, "nir": 840, "swir1": 1610, "swir2": 2190}
HLS = Sensor(
    name="hls",
    bands=tuple(Band(name=name, wavelength=centre) for name, centre in CENTRES.items()),
    rgb=("red", "green", "blue"),
    ground_sampling_distance=30.0,
)


@pytest.fixture
def double_precision():
    """Random weights saturate attention, where rounding in single precision counts."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["random", "released"])
def file(request, tmp_path):
    """The path of a file of a model: random with the released names, or the released one."""

    def path(name):
        if request.param == "released":
            if not RELEASED[name].is_file():
                pytest.skip("the released file is not here")
            return RELEASED[name]
        made = tmp_path / f"{name}.pt"
        torch.save(published.random_weights(SHAPES[name]()), made)
        return made

    return path


def read(path):
    return {name: t.double() for name, t in torch.load(path, map_location="cpu", weights_only=True).items()}


def reflectance(bands, seed=0):
    return 0.02 + 0.5 * torch.rand(2, bands, 16, 24, generator=torch.Generator().manual_seed(seed))


def ndvi(infrared, red):
    return (infrared - red) / (infrared + red)


def sentinel2_groups(images, scale):
    """One date of every group of Sentinel-2, each channel scaled by its name."""
    of = {band.name: images[:, i] for i, band in enumerate(SENTINEL2.bands)}
    groups = {name: [torch.stack([scale(b, of[b]) for b in bands], dim=1)] for name, bands in BANDS.items()}
    return groups | {"NDVI": [ndvi(of["B8"], of["B4"]).unsqueeze(1)]}


def standardised(name, values):
    return (values - (MEAN[name] - 2 * DEVIATION[name])) / (4 * DEVIATION[name])


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def test_galileo_computes_its_equations(file, double_precision):
    path = file("galileo_nano")
    backbone = build_backbone("galileo_nano", SENTINEL2, str(path)).double().eval()
    assert not backbone.drawn
    images = reflectance(13)
    low, span = (torch.tensor(values).view(1, -1, 1, 1) for values in normalisation(SENTINEL2))
    expected = published.galileo(sentinel2_groups(images, standardised), [5], 10.0, read(path))
    ours = backbone((images - low) / span)[-1].permute(0, 2, 3, 1)
    assert difference(ours, expected) < 1e-5


@torch.no_grad()
def test_presto_computes_its_equations(file, double_precision):
    path = file("presto")
    backbone = build_backbone("presto", SENTINEL2, str(path)).double().eval()
    assert not backbone.drawn
    images = reflectance(13)
    groups = {
        name: [date.permute(0, 2, 3, 1).flatten(0, 2) for date in dates]
        for name, dates in sentinel2_groups(images, lambda _, values: values).items()
    }
    expected = published.presto(groups, [5], read(path)).view(2, 16, 24, 128)
    assert difference(backbone(images)[-1].permute(0, 2, 3, 1), expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["galileo_nano", "presto"])
def test_dates_are_steps_of_a_time_series_with_their_months(file, name, double_precision):
    path = file(name)
    backbone = build_backbone(name, MTS12, str(path)).double().eval()
    assert backbone.tokenizer.months == [2, 5, 8, 11]
    images = reflectance(24)
    scale = standardised if name == "galileo_nano" else lambda _, values: values
    places = {band.name: i for i, band in enumerate(MTS12.bands)}
    present = {group: bands for group, bands in BANDS.items() if all(f"{b} March" in places for b in bands)}
    groups = {group: [] for group in (*present, "NDVI")}
    for month in ("March", "June", "September", "December"):
        for group, bands in present.items():
            groups[group].append(torch.stack([scale(b, images[:, places[f"{b} {month}"]]) for b in bands], dim=1))
        groups["NDVI"].append(ndvi(*(images[:, places[f"{b} {month}"]] for b in ("B8", "B4"))).unsqueeze(1))
    if name == "galileo_nano":
        low, span = (torch.tensor(values).view(1, -1, 1, 1) for values in normalisation(MTS12))
        ours = backbone((images - low) / span)[-1].permute(0, 2, 3, 1)
        expected = published.galileo(groups, [2, 5, 8, 11], 10.0, read(path))
    else:
        ours = backbone(images)[-1].permute(0, 2, 3, 1)
        of_pixels = {k: [d.permute(0, 2, 3, 1).flatten(0, 2) for d in dates] for k, dates in groups.items()}
        expected = published.presto(of_pixels, [2, 5, 8, 11], read(path)).view(2, 16, 24, 128)
    assert difference(ours, expected) < 1e-5


def test_groups_of_which_a_band_is_missing_are_left_out():
    def names(sensor):
        return [group.name for group in band_groups(sensor, "galileo")[0]]

    assert names(SENTINEL2) == [*BANDS, "NDVI"]
    assert names(HLS) == ["S2_RGB", "S2_NIR_10m", "S2_SWIR", "NDVI"]
    assert "S2_SWIR" not in names(OHS)
    groups, _ = band_groups(HLS, "galileo")
    assert groups[0].positions == (1, 2, 3)
    assert groups[-1].positions == (4, 3)


def test_a_sensor_without_any_group_is_refused():
    thermal = Sensor(name="thermal", bands=(Band(name="t", wavelength=11_000),), rgb=("t", "t", "t"))
    with pytest.raises(SpectralBenchError, match=r"galileo reads groups of Sentinel-2 bands.*thermal has none"):
        build_backbone("galileo_nano", thermal)


@pytest.mark.parametrize(
    ("date", "month"), [(None, 5), ("March", 2), ("2019-12", 11), ("20190401", 3), ("S2 2020-07-15", 6), ("dry", 5)]
)
def test_months_are_read_from_the_dates_of_bands(date, month):
    assert month_of(date) == month


def test_the_vegetation_index_is_0_where_there_is_no_light_and_never_beyond_1():
    pixels = torch.tensor([[0.5, 0.1], [0.0, 0.0], [-0.01, 0.02]]).unsqueeze(-1)
    torch.testing.assert_close(vegetation_index(pixels).flatten(), torch.tensor([2 / 3, 0.0, -1.0]))


def test_nothing_of_a_neighbour_reaches_a_pixel_of_presto():
    backbone = build_backbone("presto", SENTINEL2).eval()
    images = reflectance(13)
    changed = images.clone()
    changed[:, :, 3, 5] += 0.1
    with torch.no_grad():
        moved = (backbone(changed)[-1] - backbone(images)[-1]).abs().amax(dim=(0, 1)) > 0
    assert moved.nonzero().tolist() == [[3, 5]]


def test_galileo_at_a_smaller_patch_resizes_its_kernels_and_its_steps():
    torch.manual_seed(0)
    model = make_nano(7).eval()
    fine = GalileoBackbone(model, HLS, patch_size=4).eval()
    with torch.no_grad():
        assert fine(torch.rand(1, 7, 16, 24))[-1].shape == (1, 128, 4, 6)
        code = fine.position(torch.zeros(1, 24, 128), (4, 6), {}).patches[0]
        coarse = GalileoBackbone(model, HLS).position(torch.zeros(1, 6, 128), (2, 3), {}).patches[0]
        # Every second patch of 4 px starts where one of 8 px does.
        torch.testing.assert_close(code.view(4, 6, -1)[::2, ::2], coarse.view(2, 3, -1))
        flat = torch.full((1, 7, 16, 16), 0.7)
        torch.testing.assert_close(
            fine.tokenizer(flat)[0][0, 0], GalileoBackbone(model, HLS).tokenizer(flat)[0][0, 0], atol=0.1, rtol=0
        )


def test_normalisations_are_those_of_pretraining():
    low, span = backbone_entry("galileo_nano").stated_normalisation(HLS)
    assert (low[0], span[0]) == (0.0, 1.0)
    assert low[1] == pytest.approx(0.13953 - 2 * 0.09177, abs=1e-5)
    assert span[1] == pytest.approx(4 * 0.09177, abs=1e-5)
    assert backbone_entry("presto").stated_normalisation(HLS) == ([0.0] * 7, [1.0] * 7)
    with pytest.raises(SpectralBenchError, match="vit_micro states no normalisation of its own"):
        backbone_entry("vit_micro").stated_normalisation(HLS)
