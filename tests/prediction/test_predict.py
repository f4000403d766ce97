"""Maps of scenes: the same pixels whatever the scene's size, in the place and the colours they belong to."""

import numpy as np
import pytest
import rasterio
import torch
from archives import write_tif
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from run_records import spec
from torch import nn
from torch.nn import functional as F

from spectral_tl_bench.backbones import build_backbone
from spectral_tl_bench.config.presets import override, preset
from spectral_tl_bench.datamodules.radiometry import MinMax, SourceStatistics
from spectral_tl_bench.datamodules.windows import offsets
from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020
from spectral_tl_bench.methods import build_method
from spectral_tl_bench.prediction.predict import hann, map_scene, total_weight
from spectral_tl_bench.prediction.rasters import no_data_code
from spectral_tl_bench.prediction.restore import RestoredRun
from spectral_tl_bench.prediction.scene import open_scene
from spectral_tl_bench.runs.adapter import Adapter
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.training.decoders import Segmenter
from spectral_tl_bench.training.segmentation import Segmentation
from spectral_tl_bench.utils.errors import DataError, RecordError, SpectralBenchError
from spectral_tl_bench.utils.runtime import pick_device

BANDS, SIZE = len(SENTINEL2.bands), 32
CLASSES = DFC2020.all_classes
UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 4_100_000, 10, 10)}


class PerPixel(nn.Module):
    """Logits from each pixel's own bands, or from its ``reach`` neighbours too."""

    def __init__(self, reach=0):
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(BANDS, len(CLASSES), 2 * reach + 1, padding=reach)

    def forward(self, images):
        return self.convolution(images)


def decide(segmenter):
    """Let an untrained segmenter tell places apart and take every class somewhere."""
    head = [m for m in segmenter.modules() if isinstance(m, nn.ConvTranspose2d)][-1]
    with torch.no_grad():
        head.bias -= segmenter(torch.randn(4, BANDS, SIZE, SIZE)).mean(dim=(0, 2, 3))


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """A run of Sentinel-2 whose model is a transformer drawn at random, or anything else given."""

    def make(model=None, classes=CLASSES, **settings):
        training = override(preset("quick"), {"image_size": SIZE, "batch_size": 5, "decoder_channels": 8, **settings})
        torch.manual_seed(0)
        method = build_method("lora")
        backbone = build_backbone("vit_micro", SENTINEL2, "embedded")
        method.apply(backbone)
        task = Segmentation(Segmenter.of(backbone, len(classes), training), method, training, len(classes)).eval()
        if model is not None:
            task.segmenter = model
        else:
            decide(task.segmenter)
        adapter = Adapter(
            spec=spec(training=training),
            sensor=SENTINEL2,
            classes=classes,
            step=1,
            tile=(40, 48),
            pretrained=None,
        )
        if training.radiometry == "minmax":
            return RestoredRun(tmp_path_factory.getbasetemp(), adapter, task, MinMax())
        radiometry = SourceStatistics(torch.full((BANDS,), 0.3), torch.full((BANDS,), 0.17))
        return RestoredRun(tmp_path_factory.getbasetemp(), adapter, task.eval(), radiometry)

    return make


def pixels(height, width, bands=BANDS, seed=0):
    """Blurred noise between 0.02 and 0.6, times 10,000."""
    noise = torch.randn(1, bands, height, width, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(F.pad(noise, (2, 2, 2, 2), mode="replicate"), 5, stride=1)[0]
    return (3000 + 5000 * smooth).clamp(200, 6000).numpy().astype("uint16")


def mapped(run, scene, tmp_path, confidence=False, **options):
    """Map a scene; returns the codes, and the confidence where wanted."""
    out, sure = tmp_path / "map.tif", tmp_path / "sure.tif"
    with open_scene(scene, SENTINEL2, **options) as opened:
        map_scene(run, opened, out, sure if confidence else None, device="cpu")
    with rasterio.open(out) as file:
        codes = file.read(1)
    if not confidence:
        return codes
    with rasterio.open(sure) as file:
        return codes, file.read(1)


def codes_of(ids):
    return np.array([c.code for c in CLASSES])[ids]


@pytest.mark.parametrize("shape", [(97, 130), (64, 64), (20, 70), (9, 11), (300, 33)], ids=str)
def test_a_model_of_single_pixels_gives_the_map_of_the_whole_image(make_run, tmp_path, shape):
    run = make_run(PerPixel())
    image = pixels(*shape)
    codes, sure = mapped(run, write_tif(tmp_path / "s.tif", image, **UTM), tmp_path, confidence=True)
    with torch.no_grad():
        whole = run.task.segmenter(run.normalise(torch.from_numpy(image)[None], 10_000))[0]
    np.testing.assert_array_equal(codes, codes_of(whole.argmax(dim=0).numpy()))
    np.testing.assert_allclose(sure, 100 * whole.softmax(dim=0).amax(dim=0).numpy(), atol=0.51)


def test_away_from_borders_a_model_of_neighbours_gives_the_map_of_the_whole_image(make_run, tmp_path):
    run = make_run(PerPixel(reach=2))
    image = pixels(150, 170)
    codes = mapped(run, write_tif(tmp_path / "s.tif", image, **UTM), tmp_path)
    with torch.no_grad():
        whole = run.task.segmenter(run.normalise(torch.from_numpy(image)[None], 10_000))[0].argmax(dim=0).numpy()
    inner = (slice(4, -4), slice(4, -4))
    # Windows fade out where they end, so that little of what they do not see beyond their edge is left.
    assert (codes[inner] == codes_of(whole)[inner]).mean() > 0.998
    plain = run.task.predict_tiles([{"image": run.normalise(torch.from_numpy(image)[None], 10_000)[0]}])[0].numpy()
    assert (plain[inner] != whole[inner]).mean() > 3 * (codes[inner] != codes_of(whole)[inner]).mean()


def test_reading_row_by_row_changes_nothing(make_run, tmp_path):
    """The transformer's map is what all windows of the whole image, held in memory, add up to."""
    run = make_run()
    image = pixels(93, 118)
    codes = mapped(run, write_tif(tmp_path / "s.tif", image, **UTM), tmp_path)
    whole = run.normalise(torch.from_numpy(image)[None], 10_000)[0]
    sums = torch.zeros(len(CLASSES), *whole.shape[1:])
    weights = torch.outer(hann(SIZE), hann(SIZE))
    with torch.no_grad():
        for top in offsets(93, SIZE, SIZE // 2):
            for left in offsets(118, SIZE, SIZE // 2):
                window = whole[None, :, top : top + SIZE, left : left + SIZE]
                sums[:, top : top + SIZE, left : left + SIZE] += run.task.segmenter(window)[0] * weights
    assert (codes == codes_of(sums.argmax(dim=0).numpy())).mean() > 0.9999
    assert len(np.unique(codes)) > 2


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (SIZE, SIZE)),
        ({"resolution": "resize"}, (40, 48)),
        ({"resolution": "resize", "radiometry": "minmax"}, (40, 48)),
    ],
    ids=["native", "resize", "own minimum and maximum"],
)
def test_a_scene_of_one_window_gets_what_the_run_scores(make_run, tmp_path, settings, shape):
    run = make_run(**settings)
    image = pixels(*shape)
    codes = mapped(run, write_tif(tmp_path / "s.tif", image, **UTM), tmp_path)
    (scored,) = run.task.predict_tiles([{"image": run.normalise(torch.from_numpy(image)[None], 10_000)[0]}])
    np.testing.assert_array_equal(codes, codes_of(scored.numpy()))


def test_hanns_window_adds_up_to_one_at_half_overlap():
    starts = offsets(256, 64, 32)
    total = total_weight(256, 64, starts)
    torch.testing.assert_close(total[32:-32], torch.ones(192))
    assert (hann(64) > 0).all()


@pytest.fixture
def run(make_run):
    return make_run(PerPixel())


def test_the_map_lies_where_the_scene_lies_in_the_classes_colours(run, tmp_path):
    scene = write_tif(tmp_path / "s.tif", pixels(70, 300), **UTM)
    mapped(run, scene, tmp_path, confidence=True)
    with rasterio.open(scene) as source, rasterio.open(tmp_path / "map.tif") as found:
        assert (found.crs, found.transform, found.shape) == (source.crs, source.transform, source.shape)
        assert (found.dtypes, found.nodata, found.count) == (("uint8",), 0, 1)
        assert found.profile["tiled"]
        assert found.profile["compress"] == "deflate"
        colors = found.colormap(1)
        assert colors[0] == (0, 0, 0, 0)
        assert colors[10] == (0x1C, 0x0D, 0xFF, 255)
        assert found.tags()["CLASS_10"] == "water"
        assert found.tags()["METHOD"] == "lora"
    with rasterio.open(tmp_path / "sure.tif") as sure:
        assert (sure.crs, sure.transform, sure.dtypes, sure.nodata) == (UTM["crs"], UTM["transform"], ("uint8",), 255)


def test_a_scene_in_degrees_works_as_well(run, tmp_path):
    place = {"crs": "EPSG:4326", "transform": from_origin(14.2, 46.1, 1e-4, 1e-4)}
    image = pixels(50, 60)
    codes = mapped(run, write_tif(tmp_path / "s.tif", image, **place), tmp_path)
    np.testing.assert_array_equal(codes, mapped(run, write_tif(tmp_path / "u.tif", image, **UTM), tmp_path))
    mapped(run, tmp_path / "s.tif", tmp_path)
    with rasterio.open(tmp_path / "map.tif") as found:
        assert found.crs.to_epsg() == 4326
        assert found.transform == place["transform"]
    with open_scene(tmp_path / "s.tif", SENTINEL2) as scene:
        assert scene.ground_sampling_distance() == pytest.approx(
            111.32 * 0.1 * np.sqrt(np.cos(np.radians(46.1))), rel=1e-3
        )


def test_pixels_without_data_get_none_and_lend_none_to_others(make_run, tmp_path):
    run = make_run(PerPixel())
    image = pixels(80, 90)
    holes = {"nodata": (slice(0, 20), slice(0, 90)), "zero": (slice(30, 33), slice(5, 9)), "one band": (40, 40)}
    image[:, *holes["nodata"]] = 65535
    image[:, *holes["zero"]] = 0
    image[4, *holes["one band"]] = 65535
    codes, sure = mapped(run, write_tif(tmp_path / "s.tif", image, nodata=65535, **UTM), tmp_path, confidence=True)
    empty = np.zeros((80, 90), bool)
    for hole in holes.values():
        empty[hole] = True
    np.testing.assert_array_equal(codes == 0, empty)
    np.testing.assert_array_equal(sure == 255, empty)
    full = mapped(run, write_tif(tmp_path / "f.tif", pixels(80, 90), **UTM), tmp_path)
    np.testing.assert_array_equal(codes[~empty], full[~empty])


def test_a_float_scene_with_not_a_number_and_a_mask_of_its_own(run, tmp_path):
    image = pixels(40, 40).astype("float32") / 10_000
    image[2, 3, 4] = np.nan
    path = write_tif(tmp_path / "s.tif", image, **UTM)
    with rasterio.open(path, "r+") as file:
        valid = np.full((40, 40), 255, "uint8")
        valid[10:12] = 0
        file.write_mask(valid)
    codes = mapped(run, path, tmp_path, scale=1.0)
    assert codes[3, 4] == 0
    assert (codes[10:12] == 0).all()
    assert (codes == 0).sum() == 81
    (tmp_path / "u.tif").unlink(missing_ok=True)
    counted = mapped(run, write_tif(tmp_path / "u.tif", pixels(40, 40), **UTM), tmp_path)
    assert (codes[20:] == counted[20:]).mean() > 0.999


def test_a_scene_without_any_data_is_an_empty_map(run, tmp_path):
    codes = mapped(run, write_tif(tmp_path / "s.tif", np.zeros((BANDS, 40, 50), "uint16"), **UTM), tmp_path)
    assert not codes.any()


@pytest.mark.parametrize("named", ["14-2", "2,1"], ids=str)
def test_band_ranges_that_run_backwards_or_are_too_few_are_refused(run, tmp_path, named):
    scene = write_tif(tmp_path / "s.tif", pixels(10, 10), **UTM)
    with pytest.raises(DataError, match="--bands"), open_scene(scene, SENTINEL2, bands=named):
        pass


def test_bands_are_taken_by_number_range_or_name(run, tmp_path):
    image = pixels(40, 40)
    expected = mapped(run, write_tif(tmp_path / "s.tif", image, **UTM), tmp_path)
    names = ["SCL", *(f"B{n:02}" for n in range(1, 9)), "B8A", "B09", "B10", "B11", "B12"]
    larger = write_tif(tmp_path / "l.tif", np.concatenate([image[:1] * 0 + 4, image]), **UTM)
    with rasterio.open(larger, "r+") as file:
        file.descriptions = names
    for bands in ("2-14", ",".join(map(str, range(2, 15))), ",".join(b.name for b in SENTINEL2.bands), "2-5,b5,7-14"):
        np.testing.assert_array_equal(mapped(run, larger, tmp_path, bands=bands), expected)


def test_an_alpha_band_is_no_band_of_the_sensor(run, tmp_path):
    image = np.concatenate([pixels(40, 40), np.full((1, 40, 40), 65535, "uint16")])
    image[-1, :5] = 0
    path = write_tif(tmp_path / "s.tif", image, **UTM)
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [*[ColorInterp.undefined] * BANDS, ColorInterp.alpha]
    codes = mapped(run, path, tmp_path)
    np.testing.assert_array_equal(codes == 0, np.arange(40)[:, None] < np.full((1, 40), 5))


def refused(path, *parts, sensor=SENTINEL2, **options):
    with pytest.raises(DataError) as caught, open_scene(path, sensor, **options):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    for part in parts:
        assert part in message


def test_what_is_no_scene_of_the_sensor_gets_one_line(tmp_path):
    refused(tmp_path / "none.tif", "no scene", "none.tif")
    (tmp_path / "text.tif").write_text("nonsense")
    refused(tmp_path / "text.tif", "not a raster")
    refused(write_tif(tmp_path / "4.tif", pixels(9, 9, 4), **UTM), "4 bands", "has 13", "--bands", "B8A")
    refused(write_tif(tmp_path / "n.tif", pixels(9, 9)), "no coordinate reference system", "--without-crs")
    refused(write_tif(tmp_path / "c.tif", pixels(9, 9).astype("complex64"), **UTM), "complex64")
    refused(write_tif(tmp_path / "b.tif", (pixels(9, 9) // 40).astype("uint8"), **UTM), "uint8", "--scale")
    small = write_tif(tmp_path / "f.tif", pixels(9, 9).astype("float32") / 10_000, **UTM)
    refused(small, "not on the run's scale", "--scale", brightness=0.3)
    refused(tmp_path / "4.tif", "--bands 5", "1 to 4", bands="1-3,5")
    refused(tmp_path / "f.tif", "--scale 0", scale=0.0)
    refused(tmp_path / "4.tif", "--bands red", "no names", bands="1,red")


def test_a_scene_without_crs_is_mapped_when_that_is_meant(run, tmp_path):
    codes = mapped(run, write_tif(tmp_path / "s.tif", pixels(20, 20)), tmp_path, without_crs=True)
    assert codes.all()


def test_bands_in_another_order_or_at_other_wavelengths_are_told_by_the_file(tmp_path):
    path = write_tif(tmp_path / "s.tif", pixels(9, 9), **UTM)
    names = [b.name for b in SENTINEL2.bands]
    with rasterio.open(path, "r+") as file:
        file.descriptions = [names[1], names[0], *names[2:]]
    larger = write_tif(tmp_path / "l.tif", pixels(9, 9, 14), **UTM)
    with rasterio.open(larger, "r+") as file:
        file.descriptions = ["SCL", *names]
    refused(larger, "among others", "--bands 2,3,4,5,6,7,8,9,10,11,12,13,14")
    refused(path, "another order", "--bands 2,1,3,4,5,6,7,8,9,10,11,12,13")
    other = write_tif(tmp_path / "w.tif", pixels(9, 9), **UTM)
    with rasterio.open(other, "r+") as file:
        file.update_tags(3, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.8328")
    refused(other, "832.8 nm", "B3", "559.8 nm")


def test_a_scene_with_more_bands_is_read_at_the_runs_wavelengths(run, tmp_path):
    """Those of a product whose empty bands a run has left out; the header beside the file says where they lie."""
    image, more = pixels(64, 64), pixels(64, 64, bands=2, seed=1)
    write_tif(tmp_path / "run.tif", image, **UTM)
    write_tif(tmp_path / "more.tif", np.concatenate([more[:1], image[:4], more[1:], image[4:]]), **UTM)
    lies_at = [400.0, *SENTINEL2.wavelengths[:4], 700.0, *SENTINEL2.wavelengths[4:]]
    header = tmp_path / "more.hdr"

    def describe(wavelengths):
        listed = ", ".join(f"{nm:.4f}" for nm in wavelengths)
        header.write_text(f"ENVI\nwavelength units = Nanometers\nwavelength = {{{listed}}}\n")

    refused(tmp_path / "more.tif", "15 bands where the run has 13", "--bands")
    describe(lies_at)
    with open_scene(tmp_path / "more.tif", SENTINEL2) as scene:
        assert scene.bands == (*range(2, 6), *range(7, 16))
    expected = mapped(run, tmp_path / "run.tif", tmp_path)
    np.testing.assert_array_equal(mapped(run, tmp_path / "more.tif", tmp_path), expected)
    # Twice the same wavelength: which one is meant, only a person knows.
    describe([SENTINEL2.wavelengths[0], *lies_at[1:]])
    refused(tmp_path / "more.tif", "15 bands where the run has 13", "--bands")


def test_a_damaged_scene_leaves_no_map(run, tmp_path):
    scene = write_tif(tmp_path / "s.tif", pixels(200, 64), **UTM, compress="deflate", blockysize=16)
    scene.write_bytes(scene.read_bytes()[: scene.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=r"s\.tif"):
        mapped(run, scene, tmp_path, confidence=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tif"]


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(SpectralBenchError, match="no device tpu"):
        pick_device("tpu")


def test_classes_that_leave_no_code_or_need_two_bytes(make_run, tmp_path):
    codes = [0, 3, 5, 7, 9, 300, 11, 12]
    changed = [c.model_copy(update={"code": code}) for c, code in zip(CLASSES, codes, strict=True)]
    run = make_run(PerPixel(), classes=tuple(changed))
    found = mapped(run, write_tif(tmp_path / "s.tif", pixels(30, 30), **UTM), tmp_path)
    assert found.dtype == np.uint16
    assert set(np.unique(found)) <= set(codes)
    assert no_data_code(changed) == 65535
    assert no_data_code([c.model_copy(update={"code": i}) for i, c in enumerate(CLASSES)]) == 255
    full = [CLASSES[0].model_copy(update={"code": code}) for code in (0, 65535)]
    with pytest.raises(RecordError, match="no code is left"):
        no_data_code(full)
