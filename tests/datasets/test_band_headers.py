"""What ENVI headers say of bands (bad ones, units), and suffixes that files really have."""

import pytest
from archives import random_image, random_label, write_own_tiles, write_tif
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.utils.errors import DataError

NANOMETRES = [490.0, 560.0, 1380.0, 660.0]


def write_envi(root, lines, driver="ENVI"):
    """Four tiles with headers that end in some lines."""
    rows = ["name,region"]
    for number in range(4):
        name = f"{number}"
        suffix = ".tif" if driver == "GTiff" else ".img"
        write_tif(root / "images" / f"{name}{suffix}", random_image(4, number), driver=driver)
        write_tif(root / "labels" / f"{name}.tif", random_label([10, 30], number))
        header = root / "images" / f"{name}.hdr"
        header.write_text((header.read_text() if driver == "ENVI" else "ENVI\n") + lines + "\n")
        rows.append(f"{name},{'coast' if number < 2 else 'inland'}")
    (root / "tiles.csv").write_text("\n".join(rows) + "\n")
    return root


def listed(values):
    return "{" + ",\n ".join(map(str, values)) + "}"


MICROMETRES = f"wavelength units = Micrometers\nwavelength = {listed(w / 1000 for w in NANOMETRES)}"


@pytest.mark.parametrize("driver", ["ENVI", "GTiff"])
def test_bands_that_a_header_marks_as_bad_are_left_out_and_named(tmp_path, driver):
    root = write_envi(tmp_path, f"{MICROMETRES}\nbbl = {{1, 1, 0, 1}}", driver)
    dataset = open_dataset(protocol_file(sensor={"name": "imager"}), root)
    assert [band.wavelength for band in dataset.sensor.bands] == [490, 560, 660]
    assert dataset.file_channels == (0, 1, 3)
    (note,) = [note for note in dataset.notes if "bbl" in note]
    assert "are left out, 1 of them" in note
    assert len(check_archive(protocol_file(sensor={"name": "imager"}), root).bands) == 3
    with pytest.raises(DataError, match="mark every band that is used as bad"):
        open_dataset(protocol_file(sensor={"name": "imager"}, bands=[3]), root)


def test_bands_that_the_protocol_lists_are_used_although_a_header_marks_them(tmp_path):
    root = write_envi(tmp_path, "bbl = {1, 0.0, 1, 1}")
    dataset = open_dataset(protocol_file(), root)
    assert len(dataset.sensor.bands) == 4
    assert any("(bbl) are used" in note and "green" in note for note in dataset.notes)


@pytest.mark.parametrize("bbl", ["{1, 1, 0}", "{}", "{a, b, c, d}", "0"])
def test_a_list_of_bad_bands_that_is_none_marks_no_band(tmp_path, bbl):
    root = write_envi(tmp_path, f"{MICROMETRES}\nbbl = {bbl}")
    assert len(open_dataset(protocol_file(sensor={"name": "imager"}), root).sensor.bands) == 4


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("Wavenumber", lambda nm: 1e7 / nm),
        ("GHz", lambda nm: 299_792_458 / nm),
        ("Angstroms", lambda nm: nm * 10),
        ("Nanometers", lambda nm: nm),
        ("Millimeters", lambda nm: nm / 1e6),
    ],
)
def test_wavelengths_in_any_unit_of_envi_become_nanometres(tmp_path, unit, written):
    values = listed(f"{written(nm):.9g}" for nm in NANOMETRES)
    root = write_envi(tmp_path, f"wavelength units = {unit}\nwavelength = {values}")
    bands = open_dataset(protocol_file(sensor={"name": "imager"}), root).sensor.bands
    assert [band.wavelength for band in bands] == pytest.approx(NANOMETRES, rel=1e-5)


def test_a_width_in_wavenumbers_becomes_one_in_nanometres(tmp_path):
    values = listed(f"{1e7 / nm:.9g}" for nm in NANOMETRES)
    root = write_envi(tmp_path, f"wavelength units = Wavenumber\nwavelength = {values}\nfwhm = {listed([100] * 4)}")
    bands = open_dataset(protocol_file(sensor={"name": "imager"}), root).sensor.bands
    assert bands[0].bandwidth == pytest.approx(1e7 / (1e7 / 490 - 50) - 1e7 / (1e7 / 490 + 50), rel=1e-3)


@pytest.mark.parametrize("unit", ["Index", "furlongs"])
def test_a_unit_that_is_none_of_wavelengths_is_refused_by_name(tmp_path, unit):
    root = write_envi(tmp_path, f"wavelength units = {unit}\nwavelength = {{1, 2, 3, 4}}")
    with pytest.raises(DataError, match=f"'{unit}', which is no wavelength; list the bands") as error:
        open_dataset(protocol_file(sensor={"name": "imager"}), root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("suffix", "driver"),
    [
        *(
            (".TIF", "GTiff"),
            (".TIFF", "GTiff"),
            (".Tif", "GTiff"),
            (".IMG", "HFA"),
            (".raw", "ENVI"),
            (".bsq", "ENVI"),
        ),
        *((".bil", "ENVI"), (".bip", "ENVI"), (".BIL", "ENVI"), (".JP2", "JP2OpenJPEG"), (".DAT", "ENVI")),
    ],
)
def test_files_are_found_whatever_their_suffix_and_its_case(tmp_path, suffix, driver):
    root = write_own_tiles(tmp_path, tiles=2)
    for number in range(2):
        options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
        (root / "images" / f"{number:03d}.tif").unlink()
        write_tif(root / "images" / f"{number:03d}{suffix}", random_image(4, number), driver=driver, **options)
    (root / "tiles.csv").write_text("name,region\n000,coast\n001,inland\n")
    dataset = open_dataset(protocol_file(), root)
    assert len(dataset) == 2
    assert (dataset.read_stored(1)["image"].numpy() == random_image(4, 1)).all()
    for named in ("images/{name}", f"images/{{name}}{suffix.lower()}"):
        folder = {"tile": "name", "images": named}
        assert len(open_dataset(protocol_file(folder=folder), root)) == 2


def test_two_spellings_of_one_suffix_may_both_be_meant(tmp_path):
    root = write_own_tiles(tmp_path, tiles=2)
    write_tif(root / "images" / "000.TIF", random_image(4))
    (root / "tiles.csv").write_text("name,region\n000,coast\n001,inland\n")
    with pytest.raises(DataError, match=r"000\.TIF and 000\.tif may both be meant|000\.tif and 000\.TIF"):
        open_dataset(protocol_file(), root)
