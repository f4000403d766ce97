"""One scene cut into tiles, and virtual rasters: nothing is written, and nothing outside the folder is read."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from archives import random_image, random_label, utm, write_tif
from pydantic import ValidationError
from shapely.geometry import box
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.checksums import data_fingerprint
from spectral_tl_bench.utils.errors import DataError

SIDE, TILE = 100, 16
IMAGE = random_image(4, size=SIDE)
LABEL = random_label([10, 30], size=SIDE)
WEST, NORTH = 500_000, 4_000_000


def area(left, top, right, bottom):
    """A rectangle in pixels of the scene."""
    return box(WEST + 10 * left, NORTH - 10 * bottom, WEST + 10 * right, NORTH - 10 * top)


@pytest.fixture
def root(tmp_path):
    """One scene with its labels, and two halves of it as polygons."""
    write_tif(tmp_path / "scene.tif", IMAGE, **utm())
    write_tif(tmp_path / "cover.tif", LABEL, **utm())
    halves = {"region": ["coast", "inland"], "sheet": [7, None]}
    gpd.GeoDataFrame(halves, geometry=[area(0, 0, 50, 100), area(50, 0, 100, 100)], crs="EPSG:32650").to_crs(
        "EPSG:4326"
    ).to_file(tmp_path / "halves.geojson")
    return tmp_path


def folder(**changes):
    cut = {"size": TILE, "polygons": "halves.geojson", **changes.pop("tiles", {})}
    return {"images": "scene.tif", "labels": "cover.tif", "tiles": cut, **changes}


def opened(root, **changes):
    return open_dataset(protocol_file(folder=folder(**changes)), root)


def test_a_scene_is_cut_by_a_grid_and_its_halves_are_attributes(root):
    dataset = opened(root)
    index = dataset.index
    assert len(index) == 36
    assert index["region"].value_counts().to_dict() == {"coast": 18, "inland": 18}
    assert set(index["sheet"]) <= {"7", "7.0", ""}
    assert (set(index["height"]), set(index["width"])) == ({TILE}, {TILE})
    for position in (0, 17, 35):
        top, left = index["part"].iloc[position][:2]
        sample = dataset.read_stored(position)
        np.testing.assert_array_equal(sample["image"].numpy(), IMAGE[:, top : top + TILE, left : left + TILE])
        codes = LABEL[top : top + TILE, left : left + TILE]
        np.testing.assert_array_equal(sample["mask"].numpy(), np.where(codes == 10, 0, 1))
        window = dataset.read_stored(position, (2, 3, 4, 5))["image"].numpy()
        np.testing.assert_array_equal(window, IMAGE[:, top + 2 : top + 6, left + 3 : left + 8])


def test_footprints_of_tiles_are_their_own_and_tell_neighbours(root):
    dataset = opened(root)
    footprints = dataset.index.to_crs("EPSG:32650").geometry
    assert footprints.area.round(-2).unique().tolist() == [25_600]
    first = footprints.iloc[0].bounds
    np.testing.assert_allclose(first, area(0, 0, TILE, TILE).bounds, atol=0.1)
    assert dataset.places is not None
    assert sorted(dataset.places.neighbours()[0].tolist()) == [1, 6, 7]


def test_without_coordinates_blocks_are_cells_of_the_grid(tmp_path):
    write_tif(tmp_path / "scenes" / "a.tif", IMAGE)
    write_tif(tmp_path / "scenes" / "b.tif", IMAGE[:, ::-1].copy())
    for name in "ab":
        write_tif(tmp_path / "labels" / f"{name}.tif", LABEL)
    (tmp_path / "tiles.csv").write_text("tile,region\na,coast\nb,inland\n")
    dataset = opened(tmp_path, images="scenes/{tile}", labels="labels/{tile}", tiles={"size": 8, "polygons": None})
    assert dataset.index["region"].value_counts().to_dict() == {"coast": 144, "inland": 144}
    assert dataset.index.groupby("block")["region"].nunique().max() == 1
    assert dataset.index.groupby("block").size().max() == 9
    assert any("8 % of a scene is left out" in note for note in dataset.notes)


def test_every_polygon_can_be_a_tile(root):
    areas = [area(0, 0, 30, 20), area(60, 10, 76, 26), area(90, 90, 120, 120), area(200, 200, 210, 210)]
    regions = ["coast", "inland", "inland", "coast"]
    gpd.GeoDataFrame({"region": regions}, geometry=areas, crs="EPSG:32650").to_file(root / "plots.gpkg")
    dataset = opened(root, tiles={"size": None, "polygons": "plots.gpkg"})
    assert list(dataset.index["part"]) == [(0, 0, 20, 30), (10, 60, 16, 16), (90, 90, 10, 10)]
    np.testing.assert_array_equal(dataset.read_stored(1)["image"].numpy(), IMAGE[:, 10:26, 60:76])


def test_a_stride_leaves_a_gap(root):
    parts = opened(root, tiles={"stride": 40}).index["part"]
    assert sorted({part[0] for part in parts}) == [0, 40, 80]


def test_polygons_label_a_scene(root):
    gpd.GeoDataFrame({"class": ["trees"]}, geometry=[area(4, 4, 40, 40)], crs="EPSG:32650").to_file(root / "drawn.gpkg")
    dataset = opened(root, labels="drawn.gpkg")
    expected = np.full((SIDE, SIDE), 255)
    expected[4:40, 4:40] = 0
    for position in (0, 2, 14):
        top, left = dataset.index["part"].iloc[position][:2]
        mask = dataset[position]["mask"].numpy()
        np.testing.assert_array_equal(mask, expected[top : top + TILE, left : left + TILE])


def test_tiles_of_one_file_are_known_by_their_own_pixels(root):
    contents = opened(root).checksums(range(36))
    assert len({content.image for content in contents.values()}) == 36
    # Another selection of bands reads the same scene.
    assert open_dataset(protocol_file(folder=folder(), bands=["nir"]), root).checksums(range(36)) == contents
    changed = IMAGE.copy()
    changed[3, 50, 50] += 1
    write_tif(root / "scene.tif", changed, **utm())
    after = opened(root).checksums(range(36))
    assert sum(after[tile] != contents[tile] for tile in contents) == 1


def test_tiles_without_any_data_are_left_out(root):
    pixels = IMAGE.copy()
    pixels[:, :40] = 0
    write_tif(root / "scene.tif", pixels, **utm(), nodata=0)
    dataset = opened(root)
    assert len(dataset) == 24
    assert "12 tiles that hold no data at all are left out of the scenes' cut" in dataset.notes


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ({"size": None, "polygons": None}, "give the tiles' size"),
        ({"stride": 8}, "overlap"),
        ({"size": 4}, "greater than or equal to 8"),
        ({"polygons": "../halves.geojson"}, "leads out of the folder"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(tiles, message):
    with pytest.raises(ValidationError, match=message):
        protocol_file(folder=folder(tiles=tiles))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": {"size": 200}}, r"scene\.tif \(100 x 100 px\) holds no tiles of 200 px"),
        ({"tiles": {"polygons": None}}, "no column 'region' in the table of scenes or the polygons"),
        ({"tiles": {"polygons": "none.gpkg"}}, "cannot read .*none.gpkg"),
        ({"images": "none.tif"}, "none.tif does not exist"),
        ({"block": "parish"}, "no column 'parish'"),
    ],
)
def test_what_a_cut_lacks_is_named(root, change, message):
    with pytest.raises(DataError, match=message):
        opened(root, **change)


def test_a_label_map_of_another_size_than_its_scene_is_refused(root):
    write_tif(root / "cover.tif", LABEL[:80, :80], **utm())
    with pytest.raises(DataError, match=r"cover\.tif is 80 x 80 px but its scene is 100 x 100"):
        opened(root)


def write_vrt(path, sources, size=SIDE, relative=1, band='<VRTRasterBand dataType="UInt16" band="{}">', extra=""):
    """A virtual raster with one band from each source."""
    bands = "".join(
        f'{band.format(number)}<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        f"<SourceBand>{of}</SourceBand></SimpleSource>{extra}</VRTRasterBand>"
        for number, (source, of) in enumerate(sources, start=1)
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{bands}</VRTDataset>')


def write_stacks(root, size=16):
    """Four tiles, each a virtual stack of four files of one band."""
    lines = ["name,region"]
    for number in range(4):
        pixels = random_image(4, number, size)
        for band, plane in enumerate(pixels, start=1):
            write_tif(root / "images" / "bands" / f"{number}_B{band}.tif", plane)
        write_vrt(root / "images" / f"{number}.vrt", [(f"bands/{number}_B{band}.tif", 1) for band in range(1, 5)], size)
        write_tif(root / "labels" / f"{number}.tif", random_label([10, 30], number, size))
        lines.append(f"{number},{'coast' if number < 2 else 'inland'}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_virtual_raster_of_files_below_it_is_a_tile(tmp_path):
    dataset = open_dataset(protocol_file(), write_stacks(tmp_path))
    np.testing.assert_array_equal(dataset.read_stored(2)["image"].numpy(), random_image(4, 2))
    assert dataset.index["image"].iloc[2].endswith("2.vrt")


def test_a_change_behind_a_virtual_raster_is_other_data(tmp_path):
    root = write_stacks(tmp_path)

    def fingerprint():
        return data_fingerprint(open_dataset(protocol_file(), root).checksums(range(4)))

    before = fingerprint()
    with rasterio.open(root / "images" / "bands" / "3_B4.tif", "r+") as file:
        file.write(file.read(1) + 1, 1)
    assert fingerprint() != before


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: write_vrt(path, [("../labels/0.tif", 1)] * 4, 16),
            "'../labels/0.tif', which is not in its folder",
        ),
        (lambda path: write_vrt(path, [("/etc/passwd", 1)] * 4, 16, 0), "'/etc/passwd', which is not in its folder"),
        (lambda path: write_vrt(path, [(str(path.parent / "1.vrt"), 1)] * 4, 16, 0), "which is not in its folder"),
        (lambda path: write_vrt(path, [("/vsicurl/http://localhost/a.tif", 1)] * 4, 16, 0), "not in its folder"),
        (lambda path: write_vrt(path, [("1.vrt", 1)] * 4, 16), "no raster that holds its own pixels"),
        (lambda path: write_vrt(path, [("bands/none.tif", 1)] * 4, 16), "none.tif, which does not exist"),
        (lambda path: write_vrt(path, [("linked.tif", 1)] * 4, 16), "not in its folder"),
        (lambda path: write_vrt(path, [], 16), "no virtual raster of other files"),
        (
            lambda path: write_vrt(
                path, [("bands/0_B1.tif", 1)] * 4, 16, band='<VRTRasterBand subClass="VRTDerivedRasterBand" band="{}">'
            ),
            "does more than put pixels of other files together",
        ),
        (
            lambda path: write_vrt(
                path, [("bands/0_B1.tif", 1)] * 4, 16, extra="<PixelFunctionCode>1</PixelFunctionCode>"
            ),
            "PixelFunctionCode",
        ),
        (lambda path: path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><VRTDataset/>'), "defines entities"),
        (lambda path: path.write_text("<VRTDataset>"), "no virtual raster"),
        (lambda path: path.write_bytes(b"\xff\xfe\0"), "no virtual raster"),
    ],
    # A function's own text holds its address, which differs between the processes of one test run.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_virtual_raster_that_draws_on_anything_else_is_refused(tmp_path, write, message):
    root = write_stacks(tmp_path / "own")
    write_tif(tmp_path / "secret.tif", random_image(1))
    (root / "images" / "linked.tif").symlink_to(tmp_path / "secret.tif")
    write(root / "images" / "0.vrt")
    with pytest.raises(DataError, match=message) as error:
        open_dataset(protocol_file(), root)
    assert "0.vrt" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_virtual_raster_by_another_name_is_none(tmp_path):
    root = write_stacks(tmp_path)
    (root / "images" / "0.vrt").rename(root / "images" / "0.tif")
    with pytest.raises(DataError, match=r"cannot read .*0\.tif"):
        open_dataset(protocol_file(), root)
