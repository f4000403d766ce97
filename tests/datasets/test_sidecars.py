"""Files beside a raster that decide its pixels or its place are part of the data; viewers' statistics are not."""

import numpy as np
import pytest
import rasterio
from archives import random_image, random_label, utm, write_own_tiles, write_tif
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.checksums import data_fingerprint
from spectral_tl_bench.datasets.io.formats import sidecars
from spectral_tl_bench.utils.errors import DataError


@pytest.fixture
def root(tmp_path):
    return write_own_tiles(tmp_path / "own", tiles=4)


def fingerprint(root, **changes):
    dataset = open_dataset(protocol_file(**changes), root)
    return data_fingerprint(dataset.checksums(range(len(dataset))))


PAM = '<PAMDataset><PAMRasterBand band="1">{}</PAMRasterBand></PAMDataset>'
SIDECARS = [
    ("000.tif.aux.xml", PAM.format("<NoDataValue>200</NoDataValue>")),
    ("000.tif.aux.xml", PAM.format("<Scale>0.0001</Scale><Offset>-0.1</Offset>")),
    ("000.tfw", "10\n0\n0\n-10\n500000\n4000000\n"),
    ("000.TFW", "10\n0\n0\n-10\n500000\n4000000\n"),
    ("000.prj", "PROJCS[0]"),
    ("000.hdr", "ENVI\nwavelength = {490, 560, 660, 840}\n"),
]


@pytest.mark.parametrize(("name", "text"), SIDECARS)
def test_a_file_that_appears_or_changes_beside_an_image_is_other_data(root, name, text):
    first = fingerprint(root)
    path = root / "images" / name
    path.write_text(text)
    second = fingerprint(root)
    path.write_text(text.replace("0", "1"))
    third = fingerprint(root)
    assert len({first, second, third}) == 3
    path.unlink()
    assert fingerprint(root) == first


def test_a_mask_beside_an_image_is_other_data_and_masks_it(root):
    first = fingerprint(root)
    beside = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False)
    with beside, rasterio.open(root / "images" / "000.tif", "r+") as file:
        valid = np.ones((16, 16), dtype=bool)
        valid[:4] = False
        file.write_mask(valid)
    assert (root / "images" / "000.tif.msk").is_file()
    assert fingerprint(root) != first
    assert (open_dataset(protocol_file(), root).read(0)["mask"].numpy()[:4] == 255).all()


def test_metadata_beside_a_label_map_is_other_data(root):
    first = fingerprint(root)
    (root / "labels" / "000.tif.aux.xml").write_text(PAM.format("<NoDataValue>10</NoDataValue>"))
    assert fingerprint(root) != first


def test_statistics_and_overviews_that_a_viewer_writes_are_no_other_data(root):
    first = fingerprint(root)
    statistics = '<Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata><Histograms><HistItem/></Histograms>'
    (root / "images" / "000.tif.aux.xml").write_text(PAM.format(statistics))
    write_tif(root / "images" / "000.ovr", random_image(1, size=8)).rename(root / "images" / "000.tif.ovr")
    assert fingerprint(root) == first


def test_a_mended_header_is_read_anew_and_other_data(tmp_path):
    """ENVI headers that call the order of the bytes wrong."""
    root = write_own_tiles(tmp_path, tiles=2)
    for number in range(2):
        (root / "images" / f"{number:03d}.tif").unlink()
        write_tif(root / "images" / f"{number:03d}.img", random_image(4, number), driver="ENVI")
    header = root / "images" / "000.hdr"
    right = header.read_text()
    header.write_text(right.replace("interleave = bsq", "interleave = bil"))
    first = fingerprint(root)
    header.write_text(right)
    assert fingerprint(root) != first
    np.testing.assert_array_equal(open_dataset(protocol_file(), root).read_stored(0)["image"], random_image(4, 0))


def test_offsets_in_the_table_are_part_of_the_data(root):
    sensor = {"name": "drone", "bands": {"blue": 490, "green": 560, "red": 660, "nir": 840}, "offset": "add"}
    seen = set()
    for add in ("0", "-1000"):
        (root / "tiles.csv").write_text(f"name,region,add\n000.tif,coast,{add}\n001.tif,inland,0\n")
        seen.add(fingerprint(root, sensor=sensor))
    assert len(seen) == 2


def test_a_scene_in_parts_is_other_data_once_a_file_beside_it_is(tmp_path):
    write_tif(tmp_path / "scene.tif", random_image(4, size=32), **utm())
    write_tif(tmp_path / "cover.tif", random_label([10, 30], size=32), **utm())
    (tmp_path / "tiles.csv").write_text("name,region\nscene,coast\n")
    folder = {"tile": "name", "images": "{name}.tif", "labels": "cover.tif", "tiles": {"size": 16}}
    first = fingerprint(tmp_path, folder=folder)
    (tmp_path / "scene.tif.aux.xml").write_text(PAM.format("<NoDataValue>200</NoDataValue>"))
    assert fingerprint(tmp_path, folder=folder) != first


def test_names_are_compared_without_case(tmp_path):
    path = tmp_path / "TILE.TIF"
    for name in ("TILE.TIF", "tile.tfw", "Tile.TIF.AUX.XML", "TILE.hdr", "other.hdr"):
        (tmp_path / name).write_text("")
    found = {kind: file.rsplit("/", 1)[1] for kind, file in sidecars(path).items()}
    assert found == {"world": "tile.tfw", "aux.xml": "Tile.TIF.AUX.XML", "hdr": "TILE.hdr"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("000.tif.msk", "<VRTDataset rasterXSize='16' rasterYSize='16'/>", "is no TIFF file"),
        ("000.tif.ovr", "<GDAL_WMS/>", "is no TIFF file"),
        (
            "000.tif.aux.xml",
            '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="&#79;VERVIEW_FILE">/etc/a.tif</MDI></Metadata>'
            "</PAMDataset>",
            "names a file of overviews",
        ),
        ("000.tif.aux.xml", '<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset/>', "defines entities"),
    ],
)
def test_a_file_beside_an_image_that_leads_elsewhere_is_refused(root, name, text, message):
    (root / "images" / name).write_text(text)
    with pytest.raises(DataError, match=message) as error:
        open_dataset(protocol_file(), root)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_beside_an_image_that_is_a_link_out_of_the_folder_is_refused(root):
    (root / "secret.xml").write_text("<PAMDataset/>")
    (root / "images" / "000.tif.aux.xml").symlink_to(root / "secret.xml")
    with pytest.raises(DataError, match="is a link out of its folder"):
        open_dataset(protocol_file(), root)
