"""Files where they lie: templates of paths, names without suffix."""

import numpy as np
import pytest
from archives import random_image, random_label, write_tif
from pydantic import ValidationError
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.utils.errors import DataError


def write_sites(root, image=".tif", label=".png"):
    """Two years of two sites, years as folders."""
    lines = ["id,site,year,region"]
    for number, (site, year) in enumerate((s, y) for y in (2020, 2021) for s in ("a.b", "c")):
        write_tif(root / str(year) / f"{site}{image}", random_image(4, number))
        write_tif(root / "labels" / f"{site}_{year}{label}", random_label([10, 30], number), driver="PNG")
        lines.append(f"{number},{site},{year},{'coast' if year == 2020 else 'inland'}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("images", ["{year}/{site}.tif", "{year}/{site}"])
@pytest.mark.parametrize("labels", ["labels/{site}_{year}.png", "labels/{site}_{year}"])
def test_templates_take_any_column_and_suffixes_may_be_left_out(tmp_path, images, labels):
    folder = {"tile": "id", "images": images, "labels": labels}
    dataset = open_dataset(protocol_file(folder=folder), write_sites(tmp_path))
    assert list(dataset.index["tile"]) == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(dataset.read_stored(3)["image"].numpy(), random_image(4, 3))
    assert dataset.index["image"].iloc[3].endswith("2021/c.tif")


def test_a_name_with_the_suffix_of_the_image_finds_a_label_with_another(tmp_path):
    root = write_sites(tmp_path)
    (root / "tiles.csv").write_text("tile,region\n2020/c.tif,coast\n2021/c.tif,inland\n")
    for year in (2020, 2021):
        (root / "drawn" / str(year)).mkdir(parents=True)
        (root / "labels" / f"c_{year}.png").rename(root / "drawn" / str(year) / "c.png")
    dataset = open_dataset(protocol_file(folder={"images": "{tile}", "labels": "drawn/{tile}"}), root)
    np.testing.assert_array_equal(dataset.read_stored(1)["image"].numpy(), random_image(4, 3))


def test_two_files_that_may_be_meant_are_refused(tmp_path):
    root = write_sites(tmp_path)
    write_tif(root / "2020" / "c.img", random_image(4), driver="ENVI")
    folder = {"tile": "id", "images": "{year}/{site}", "labels": "labels/{site}_{year}"}
    with pytest.raises(DataError, match=r"2020/c\.tif and c\.img may both be meant"):
        open_dataset(protocol_file(folder=folder), root)


def test_a_column_that_is_not_there_is_named(tmp_path):
    folder = {"tile": "id", "images": "{date}/{site}", "labels": "labels/{site}_{year}"}
    with pytest.raises(DataError, match="no column 'date'; it has: id, site, year, region"):
        open_dataset(protocol_file(folder=folder), write_sites(tmp_path))


@pytest.mark.parametrize("site", ["../../secret", "/etc/passwd", "..", "C:/secret"])
def test_values_do_not_lead_out_of_the_folder(tmp_path, site):
    root = write_sites(tmp_path)
    (root / "tiles.csv").write_text(f"id,site,year,region\n0,{site},..,coast\n")
    for images in ("{site}", "{year}/{year}/{site}", "{year}{year}/x"):
        folder = {"tile": "id", "images": images, "labels": "labels/{id}"}
        with pytest.raises(DataError, match=r"leads out of the folder|does not exist"):
            open_dataset(protocol_file(folder=folder), root)


@pytest.mark.parametrize("template", ["../{tile}", "/{tile}", "{tile", "{}", "tile.tif", "{{tile}}", "a/../../{tile}"])
def test_templates_that_are_none_or_lead_out_are_refused(template):
    with pytest.raises(ValidationError, match=r"leads out|braces|same for every tile"):
        protocol_file(folder={"images": template})
