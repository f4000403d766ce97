"""Files as they come: some of their bands, bands that they describe themselves, values that stand for no data."""

import numpy as np
import pytest
import rasterio
from archives import SIZE, random_image, random_label, write_tif
from test_tiles import protocol_file

from spectral_tl_bench.config.protocols import load_protocols, protocols_of
from spectral_tl_bench.datamodules.radiometry import band_statistics
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.sensors import SENTINEL2, Band, Sensor, select_bands
from spectral_tl_bench.utils.errors import DataError, ProtocolError

BANDS = 12
WAVELENGTHS = [400 + 50 * number for number in range(BANDS)]
DESCRIBED = {"name": "imager"}
LISTED = {"name": "imager", "bands": {f"C{number + 1}": w for number, w in enumerate(WAVELENGTHS)}}


def stored(number, dtype="int16"):
    """The pixels of a tile: every band another, none of them -1."""
    return random_image(BANDS, number, dtype=dtype)


def describe(path, wavelengths=WAVELENGTHS, width=0.0065):
    with rasterio.open(path, "r+") as file:
        for band, wavelength in enumerate(wavelengths, start=1):
            file.set_band_description(band, f"Band {band}")
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=wavelength / 1000, FWHM_UM=width)


def write_imager(root, change=lambda number, pixels: pixels, dtype="int16", **profile):
    """Four tiles of 12 bands, whose files say where these lie."""
    lines = ["name,region"]
    for number in range(4):
        name = f"{number}.tif"
        path = write_tif(root / "images" / name, change(number, stored(number, dtype)), **profile)
        describe(path)
        write_tif(root / "labels" / name, random_label([10, 30], number))
        lines.append(f"{name},{'coast' if number < 2 else 'inland'}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path):
    return write_imager(tmp_path / "own")


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (["B4", "B3", "B2"], "B4 B3 B2"),
        (["b08", " B8A"], "B8 B8A"),
        ([1, 13], "B1 B12"),
        (["2-4", 1], "B2 B3 B4 B1"),
        (["480-600 nm", "2.0-2.5 um"], "B2 B3 B12"),
    ],
)
def test_bands_are_named_numbered_or_given_by_their_wavelengths(selection, names):
    assert [SENTINEL2.bands[i].name for i in select_bands(SENTINEL2, selection)] == names.split()


def test_what_is_the_name_of_a_band_is_no_number():
    sensor = Sensor(name="odd", bands=[Band(name=n, wavelength=500 + i) for i, n in enumerate(["7", "1-2", "1"])])
    assert select_bands(sensor, ["7", "1-2", "1"]) == (0, 1, 2)
    assert select_bands(sensor, [1, 2, 3]) == (0, 1, 2)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (["B99"], "no band 'B99'; name some of B1, B2"),
        ([0], "bands 1 to 13"),
        (["3-14"], "bands 1 to 13"),
        (["4-3"], "bands 1 to 13"),
        (["3000-4000 nm"], "run from 442.7 to 2202.4 nm"),
        (["1-3", "B2"], "'B2' means B2 of sentinel2, which is among the bands already"),
    ],
)
def test_a_part_that_means_no_band_or_one_again_is_refused(selection, message):
    with pytest.raises(ProtocolError, match=message):
        select_bands(SENTINEL2, selection)


def test_a_part_of_a_sensor_shows_its_own_bands_in_the_colours_they_are_nearest_to():
    assert SENTINEL2.subset([3, 2, 1, 7]).rgb == SENTINEL2.rgb
    assert SENTINEL2.subset([1, 6, 12]).rgb == ("B7", "B2", "B2")


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("bands", [["1-5", "7-12"], [11, 3], ["500-600 nm"], None], ids=str)
def test_the_chosen_bands_are_read_in_their_order_from_files_left_as_they_are(tmp_path, interleave, bands):
    root = write_imager(tmp_path, interleave=interleave)
    positions = {"['1-5', '7-12']": [*range(5), *range(6, 12)], "[11, 3]": [10, 2], "['500-600 nm']": [2, 3, 4]}
    wanted = positions.get(str(bands), list(range(BANDS)))
    for sensor in (LISTED, DESCRIBED):
        dataset = open_dataset(protocol_file(sensor=sensor, bands=bands), root)
        assert [band.wavelength for band in dataset.sensor.bands] == [WAVELENGTHS[i] for i in wanted]
        np.testing.assert_array_equal(dataset.read_stored(2)["image"].numpy(), stored(2)[wanted])
        window = dataset.read_stored(2, (3, 5, 4, 6))["image"].numpy()
        np.testing.assert_array_equal(window, stored(2)[wanted, 3:7, 5:11])


def test_files_say_names_wavelengths_and_widths(root):
    sensor = open_dataset(protocol_file(sensor=DESCRIBED), root).sensor
    assert sensor.bands[3] == Band(name="Band 4", wavelength=550, bandwidth=6.5)
    assert sensor.rgb == ("Band 6", "Band 4", "Band 3")


@pytest.mark.parametrize("unit", ["Nanometers", "Micrometers", "Unknown"])
def test_an_envi_header_says_it_too(tmp_path, unit):
    root = write_imager(tmp_path)
    factor = 1000 if unit == "Micrometers" else 1
    for number in range(4):
        path = root / "images" / f"{number}.tif"
        with rasterio.open(root / "images" / f"{number}", "w", driver="ENVI", count=BANDS, height=SIZE, width=SIZE,
                           dtype="int16") as file:  # fmt: skip
            file.write(stored(number))
        path.unlink()
        with (root / "images" / f"{number}.hdr").open("a") as header:
            header.write(f"wavelength units = {unit}\nwavelength = {{\n")
            header.write(",\n".join(str((w + 0.25) / factor) for w in WAVELENGTHS) + "}\n")
            header.write(f"fwhm = {{{', '.join(str(6.5 / factor) for _ in WAVELENGTHS)}}}\n")
    (root / "tiles.csv").write_text((root / "tiles.csv").read_text().replace(".tif", ""))
    for number in range(4):
        (root / "labels" / f"{number}.tif").rename(root / "labels" / str(number))
    bands = open_dataset(protocol_file(sensor=DESCRIBED, bands=["400-700 nm"]), root).sensor.bands
    assert [band.wavelength for band in bands] == [w + 0.25 for w in WAVELENGTHS[:6]]
    # GDAL's rounded micrometres would say 6 or 7, and 650 nm.
    assert bands[0].bandwidth == 6.5


def test_a_file_that_says_no_wavelength_is_refused(root):
    write_tif(root / "images" / "0.tif", stored(0))
    with pytest.raises(DataError, match=r"images/0\.tif does not say the wavelength of band 1"):
        open_dataset(protocol_file(sensor=DESCRIBED), root)


@pytest.mark.parametrize("sensor", [LISTED, DESCRIBED], ids=["listed", "described"])
def test_a_file_whose_bands_lie_elsewhere_is_refused(root, sensor):
    describe(root / "images" / "3.tif", [*WAVELENGTHS[:5], 1600, *WAVELENGTHS[6:]])
    with pytest.raises(DataError, match=r"band 6 of .*3\.tif is at 1600 nm, .* of imager at 650 nm"):
        open_dataset(protocol_file(sensor=sensor), root)


@pytest.mark.parametrize("said", ["by the file", "by the sensor", "not a number"])
def test_bands_without_data_in_any_tile_are_left_out_and_named(tmp_path, said):
    fill = np.nan if said == "not a number" else -1

    def change(number, pixels):
        pixels[[5, 9]] = fill
        pixels[2] = fill if number else pixels[2]
        pixels[[5, 9], 3, 3] = pixels[0, 3, 3] if number == 3 else fill
        pixels[9] = fill
        return pixels

    dtype = "float32" if said == "not a number" else "int16"
    root = write_imager(tmp_path, change, dtype, **({"nodata": -1} if said == "by the file" else {}))
    sensor = {**DESCRIBED, **({"nodata": -1} if said == "by the sensor" else {})}
    # Band 6 has a single pixel in one tile, band 3 one tile: only band 10 is empty.
    dataset = open_dataset(protocol_file(sensor=sensor), root)
    assert [band.name for band in dataset.sensor.bands] == [f"Band {i + 1}" for i in range(BANDS) if i != 9]
    assert "bands without data in any tile are left out, 1 of them: Band 10" in dataset.notes
    few = open_dataset(protocol_file(sensor=sensor, bands=["10-12"]), root)
    assert [band.name for band in few.sensor.bands] == ["Band 11", "Band 12"]
    np.testing.assert_array_equal(few.read_stored(1)["image"].numpy(), stored(1, dtype)[10:])
    with pytest.raises(DataError, match=r"no tile of .* has data in any band"):
        open_dataset(protocol_file(sensor=sensor, bands=[10]), root)


def test_pixels_without_data_in_a_band_that_is_not_used_are_whole(tmp_path):
    def change(number, pixels):
        pixels[4, :5] = -1
        return pixels

    root = write_imager(tmp_path, change)
    sensor = {**DESCRIBED, "nodata": -1}
    whole = open_dataset(protocol_file(sensor=sensor, bands=["1-4"]), root)
    np.testing.assert_array_equal(whole.read_stored(0)["image"].numpy(), stored(0)[:4])
    assert (whole.read_stored(0)["mask"] != 255).all()


def test_pixels_without_data_are_ignored_filled_with_0_and_no_part_of_the_statistics(tmp_path):
    def change(number, pixels):
        pixels[4, :5] = -1
        return pixels

    dataset = open_dataset(protocol_file(sensor={**DESCRIBED, "nodata": -1}), write_imager(tmp_path, change))
    sample = dataset.read_stored(0)
    assert (sample["mask"][:5] == 255).all()
    assert (sample["mask"][5:] != 255).all()
    assert not sample["image"][:, :5].any()
    mean, _ = band_statistics(dataset, [0])
    np.testing.assert_allclose(mean.numpy(), stored(0)[:, 5:].mean(axis=(1, 2)) / 10_000, rtol=1e-5)


def test_what_a_protocol_did_not_say_before_changes_no_digest():
    def digest(**changes):
        return protocols_of(protocol_file(**changes))[0].digest

    sensor = {"name": "drone", "bands": {"blue": 490, "green": 560, "red": 660, "nir": 840}}
    # Recorded before bands could be chosen.
    assert digest() == "74441df54441842f"
    assert digest(sensor=sensor, bands=None) == digest(sensor={**sensor, "rgb": ["red", "green", "blue"]})
    assert len({digest(), digest(bands=[1]), digest(bands=["nir"]), digest(sensor={**sensor, "nodata": 0})}) == 4


def test_a_selection_that_cannot_be_is_refused_with_the_file(tmp_path):
    path = tmp_path / "own.yaml"
    for bands, message in (("[nir, swir]", "no band 'swir'"), ("[]", "bands"), ("[1.5]", "bands"), ("[true]", "bands")):
        path.write_text(
            "title: A\ndataset: tiles\nsensor: {name: drone, bands: {nir: 840}}\n"
            'classes: [{code: 1, name: a, color: "#000000"}]\n'
            f"source: {{a: b}}\ntarget: {{a: c}}\nby: a\nbands: {bands}\n"
        )
        with pytest.raises(ProtocolError, match=message) as error:
            load_protocols(str(path))
        assert "own.yaml" in str(error.value)
        assert "\n" not in str(error.value)
