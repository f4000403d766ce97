"""One reader for tiles, checks and scenes: which pixels have data, and how stored values become reflectance."""

import numpy as np
import pytest
import rasterio
from archives import SIZE, random_image, random_label, write_own_tiles, write_tif
from rasterio.enums import ColorInterp
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.prediction.scene import open_scene
from spectral_tl_bench.utils.errors import DataError

BANDS = {"blue": 490, "green": 560, "red": 660, "nir": 840}
EMPTY = np.zeros((SIZE, SIZE), dtype=bool)
EMPTY[:, :6] = True
"""Where the tiles have no data: 6 of 16 columns."""


def internal_mask(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(~EMPTY)


def mask_file(path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(~EMPTY)
    assert path.with_name(f"{path.name}.msk").is_file()


def alpha_band(path):
    with rasterio.open(path) as file:
        pixels = file.read()
    alpha = np.where(EMPTY, 0, 30_000).astype(pixels.dtype)
    write_tif(path, np.concatenate([pixels, alpha[None]]), photometric="minisblack", alpha="unspecified")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [*[ColorInterp.undefined] * 4, ColorInterp.alpha]


def nodata_of_one_band(path):
    """The third band's nodata is another than the first's, as metadata beside a file may say."""
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[2][EMPTY] = 7
        file.write(pixels)
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for band, value in ((1, -5), (2, -5), (3, 7), (4, -5))
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


@pytest.fixture
def root(tmp_path):
    return write_own_tiles(tmp_path / "own", tiles=4, header="name,region,sheet")


def values(dataset, position=0):
    sample = dataset.read(position)
    return sample["image"].numpy(), sample["mask"].numpy()


@pytest.mark.parametrize("write", [internal_mask, mask_file, alpha_band, nodata_of_one_band])
def test_pixels_without_data_are_the_same_for_tiles_check_and_scenes(root, write):
    for path in sorted((root / "images").glob("*.tif")):
        write(path)
    dataset = open_dataset(protocol_file(), root)
    image, mask = values(dataset)
    np.testing.assert_array_equal(mask == 255, EMPTY | (random_label([10, 20, 30], 0) == 20))
    expected = np.where(EMPTY, 0, random_image(4, 0)) / 10_000
    np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert check_archive(protocol_file(), root).nodata_share == 0.375
    with open_scene(root / "images" / "000.tif", dataset.sensor, without_crs=True) as scene:
        pixels, valid = scene.read(0, SIZE)
    np.testing.assert_array_equal(valid, ~EMPTY)
    np.testing.assert_allclose(pixels / 10_000, expected, rtol=1e-6)


def test_an_alpha_band_that_the_sensor_lists_counts_where_it_is_not_used(root):
    for path in sorted((root / "images").glob("*.tif")):
        alpha_band(path)
    sensor = {"name": "drone", "bands": {**BANDS, "alpha": 1000}}
    few = open_dataset(protocol_file(sensor=sensor, bands=["1-4"]), root)
    assert (values(few)[1][EMPTY] == 255).all()
    every = open_dataset(protocol_file(sensor=sensor), root)
    np.testing.assert_allclose(values(every)[0][4], np.where(EMPTY, 0, 3.0))
    assert (values(every)[1][EMPTY] != 255).any()


def test_a_fourth_band_that_a_writer_called_alpha_is_data(root):
    for number in range(4):
        pixels = random_image(4, number)
        pixels[3, 0, 0] = 0
        path = write_tif(root / "images" / f"{number:03d}.tif", pixels, photometric="rgb")
        with rasterio.open(path, "r+") as file:
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    dataset = open_dataset(protocol_file(ignore=[20]), root)
    np.testing.assert_allclose(values(dataset)[0][3], pixels_of(3, 0), rtol=1e-6)
    with open_scene(root / "images" / "000.tif", dataset.sensor, without_crs=True) as scene:
        assert scene.bands == (1, 2, 3, 4)


def pixels_of(band, number):
    pixels = random_image(4, number)
    pixels[3, 0, 0] = 0
    return pixels[band] / 10_000


def tag(path, gain, offset):
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = [gain] * file.count, [offset] * file.count


def sensor(**facts):
    return {"name": "drone", "bands": BANDS, **facts}


def reflectance(number, gain=1e-4, offset=0.0):
    return random_image(4, number) * gain + offset


def test_tiles_with_an_offset_in_their_tags_are_the_same_reflectance_as_those_without(root):
    """Sentinel-2 since baseline 04.00 beside older tiles."""
    path = root / "images" / "003.tif"
    write_tif(path, random_image(4, 3) + 1000)
    tag(path, 1e-4, -0.1)
    for facts in ({"scale": 10_000}, {}, {"scale": 10_000, "offset": 0}):
        dataset = open_dataset(protocol_file(sensor=sensor(**facts)), root)
        np.testing.assert_allclose(values(dataset, 3)[0], reflectance(3), atol=1e-6)
        np.testing.assert_allclose(values(dataset, 2)[0], reflectance(2), atol=1e-6)
        assert any("1 of 4 images state" in note and "-0.1 (images/003.tif)" in note for note in dataset.notes)
    assert dataset.read_stored(2)["image"].numpy().dtype == np.int16


def landsat(root, **facts):
    for number in range(4):
        tag(root / "images" / f"{number:03d}.tif", 0.0000275, -0.2)
    return open_dataset(protocol_file(sensor=sensor(**facts)), root)


@pytest.mark.parametrize("facts", [{}, {"scale": 36363.6}, {"scale": 36363.6, "offset": -7272.7}], ids=str)
def test_scale_and_offset_of_the_files_count_where_the_protocol_agrees_or_gives_none(root, facts):
    dataset = landsat(root, **facts)
    np.testing.assert_allclose(values(dataset)[0], reflectance(0, 0.0000275, -0.2), atol=2e-5)
    report = check_archive(protocol_file(sensor=sensor(**facts)), root)
    mean = np.mean([reflectance(number, 0.0000275, -0.2)[0].mean() for number in range(4)])
    assert report.bands[0].mean == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(
    ("facts", "named"),
    [({"scale": 10_000}, "'scale: 10000'"), ({"scale": 36363.6, "offset": -1000}, "'offset: -1000'")],
    ids=str,
)
def test_a_protocol_that_contradicts_the_files_is_refused_with_both(root, facts, named):
    with pytest.raises(DataError, match=rf"000\.tif states scale 2\.75e-05 and offset -0\.2, .*{named}") as error:
        landsat(root, **facts)
    assert "\n" not in str(error.value)


def test_a_contradiction_is_seen_although_the_headers_are_known(root):
    landsat(root)
    with pytest.raises(DataError, match="'scale: 10000'"):
        landsat(root, scale=10_000)


def test_the_protocol_gives_the_offset_of_files_that_state_none(root):
    dataset = open_dataset(protocol_file(sensor=sensor(scale=10_000, offset=-1000)), root)
    np.testing.assert_allclose(values(dataset)[0], reflectance(0, offset=-0.1), atol=1e-6)
    assert dataset.sensor.offset == -1000
    with open_scene(root / "images" / "000.tif", dataset.sensor, without_crs=True) as scene:
        np.testing.assert_allclose(scene.read(0, SIZE)[0] / scene.scale, reflectance(0, offset=-0.1), atol=1e-6)


def test_pixels_without_data_stay_0_where_there_is_an_offset(root):
    for path in (root / "images").glob("*.tif"):
        internal_mask(path)
    image, _ = values(open_dataset(protocol_file(sensor=sensor(offset=-1000)), root))
    assert (image[:, EMPTY] == 0).all()


def test_a_column_gives_the_offset_of_each_tile(root):
    table = "name,region,add\n000.tif,coast,\n001.tif,coast,-1000\n002.tif,inland,-1e3\n003.tif,inland,0\n"
    (root / "tiles.csv").write_text(table)
    dataset = open_dataset(protocol_file(sensor=sensor(offset="add")), root)
    for number, offset in enumerate((0, -0.1, -0.1, 0)):
        np.testing.assert_allclose(values(dataset, number)[0], reflectance(number, offset=offset), atol=1e-6)
    scene = root / "images" / "001.tif"
    with pytest.raises(DataError, match=r"column 'add'.*--offset"), open_scene(scene, dataset.sensor, without_crs=True):
        pass
    with open_scene(scene, dataset.sensor, without_crs=True, offset=-1000) as opened:
        np.testing.assert_allclose(opened.read(0, SIZE)[0] / opened.scale, reflectance(1, offset=-0.1), atol=1e-6)


@pytest.mark.parametrize(("column", "cell", "message"), [("gone", "0", "does not exist"), ("add", "x", "is 'x' for")])
def test_a_column_of_offsets_that_cannot_be_used_is_named(root, column, cell, message):
    (root / "tiles.csv").write_text(f"name,region,add\n000.tif,coast,{cell}\n001.tif,inland,0\n")
    with pytest.raises(DataError, match=f"column '{column}'.*{message}"):
        open_dataset(protocol_file(sensor=sensor(offset=column)), root)


@pytest.mark.parametrize(
    ("lines", "gain", "offset"),
    [
        ("reflectance scale factor = 20000", 1 / 20_000, 0),
        ("data gain values = {0.00002, 0.00002, 0.00002, 0.00002}", 2e-5, 0),
        (
            "data gain values = {1e-4, 1e-4, 1e-4, 1e-4}\ndata offset values = {-0.1, -0.1, -0.1, -0.1}",
            1e-4,
            -0.1,
        ),
    ],
)
def test_an_envi_header_states_scale_and_offset(root, lines, gain, offset):
    for number in range(4):
        (root / "images" / f"{number:03d}.tif").unlink()
        write_tif(root / "images" / f"{number:03d}.img", random_image(4, number), driver="ENVI")
        with (root / "images" / f"{number:03d}.hdr").open("a") as header:
            header.write(lines + "\n")
    dataset = open_dataset(protocol_file(sensor=sensor()), root)
    np.testing.assert_allclose(values(dataset)[0], reflectance(0, gain, offset), atol=1e-6)


def test_a_scene_with_tags_of_its_own_is_read_by_them_and_the_user_counts_more(root):
    dataset = open_dataset(protocol_file(sensor=sensor(scale=10_000)), root)
    scene = write_tif(root / "scene.tif", random_image(4, 5))
    tag(scene, 0.0000275, -0.2)
    with open_scene(scene, dataset.sensor, without_crs=True) as opened:
        expected = reflectance(5, 0.0000275, -0.2)
        np.testing.assert_allclose(opened.read(0, SIZE)[0] / opened.scale, expected, atol=1e-6)
        assert "states scale 2.75e-05 and offset -0.2, which is applied" in opened.notes[0]
    with open_scene(scene, dataset.sensor, without_crs=True, scale=5000.0, offset=-50.0) as opened:
        expected = (random_image(4, 5) - 50.0) / 5000
        np.testing.assert_allclose(opened.read(0, SIZE)[0] / opened.scale, expected, atol=1e-6)
        assert "--scale and --offset count instead" in opened.notes[0]


def test_an_offset_is_part_of_the_protocol_and_its_absence_changes_no_digest():
    from spectral_tl_bench.config.protocols import protocols_of

    def digest(**facts):
        return protocols_of(protocol_file(sensor=sensor(**facts)))[0].digest

    assert digest() == digest(offset=0)
    assert len({digest(), digest(offset=-1000), digest(offset="add")}) == 3


def test_a_run_of_some_bands_takes_a_scene_with_the_bands_of_its_tiles(root):
    """The files name no wavelength, so that only the run knows which of their bands it used."""
    dataset = open_dataset(protocol_file(bands=["nir", "green"]), root)
    assert dataset.file_channels == (3, 1)
    layout = {"channels": dataset.file_channels, "file_bands": 4, "without_crs": True}
    with open_scene(root / "images" / "000.tif", dataset.sensor, **layout) as scene:
        assert scene.bands == (4, 2)
        assert "the 2 that the run used of its own files" in scene.notes[0]
        np.testing.assert_array_equal(scene.read(0, SIZE)[0], random_image(4, 0)[[3, 1]])
    other = write_tif(root / "other.tif", random_image(5))
    with pytest.raises(DataError, match="5 bands where the run has 2"), open_scene(other, dataset.sensor, **layout):
        pass
