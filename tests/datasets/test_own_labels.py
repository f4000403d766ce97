"""Label maps as they come: any integer type, negative codes, whole numbers as floats, polygons."""

import geopandas as gpd
import numpy as np
import pytest
from archives import SIZE, random_image, random_label, utm, write_tif
from shapely.geometry import LineString, box
from test_tiles import protocol_file

from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.datasets.checksums import data_fingerprint
from spectral_tl_bench.datasets.io.label_codes import code_counts
from spectral_tl_bench.utils.errors import DataError

CODES = random_label([-1, 10, 30], 7, dtype="int16")
IDS = np.select([CODES == 10, CODES == 30], [0, 1], 255)


def write_pairs(root, label=None, tiles=4, **profile):
    """Four tiles with one label map each, or with none."""
    lines = ["name,region"]
    for number in range(tiles):
        place = utm(left=500_000 + 160 * number)
        write_tif(root / "images" / f"{number}.tif", random_image(4, number), **place)
        if label is not None:
            write_tif(root / "labels" / f"{number}.tif", label, **place, **profile)
        lines.append(f"{number},{'coast' if number < tiles // 2 else 'inland'}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n")
    return root


def mask_of(root, **changes):
    return open_dataset(protocol_file(**changes), root)[0]["mask"].numpy()


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float32", "float64"])
def test_negative_codes_of_any_type_are_ignored_where_the_protocol_says_so(tmp_path, dtype):
    root = write_pairs(tmp_path, CODES.astype(dtype))
    np.testing.assert_array_equal(mask_of(root, ignore=[-1]), IDS)
    np.testing.assert_array_equal(mask_of(root, ignore="rest"), IDS)
    with pytest.raises(DataError, match="label code -1, which is neither a class nor ignored"):
        mask_of(root, ignore=[0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_unsigned_codes_of_any_size_are_read(tmp_path, dtype):
    codes = np.where(CODES == -1, 200, CODES).astype(dtype)
    np.testing.assert_array_equal(mask_of(write_pairs(tmp_path, codes), ignore=[200]), IDS)


@pytest.mark.parametrize("code", [3_301_010_100, -2_147_483_648, 70_000, -32_768])
def test_codes_that_no_class_may_have_can_be_ignored(tmp_path, code):
    root = write_pairs(tmp_path, np.where(CODES == -1, code, CODES.astype("int64")))
    np.testing.assert_array_equal(mask_of(root, ignore=[code]), IDS)
    np.testing.assert_array_equal(mask_of(root, ignore="rest"), IDS)
    with pytest.raises(DataError, match=f"label code {code}.*list the code under 'ignore'"):
        mask_of(root, ignore=[1])


def test_a_class_may_have_a_negative_code(tmp_path):
    classes = [{"code": code, "name": str(code), "color": "#000000"} for code in (-1, 10, 30)]
    ids = np.select([CODES == -1, CODES == 10], [0, 1], 2)
    np.testing.assert_array_equal(mask_of(write_pairs(tmp_path, CODES), classes=classes), ids)


def test_what_a_label_map_calls_nodata_is_unlabelled_unless_it_is_a_class(tmp_path):
    root = write_pairs(tmp_path, np.where(CODES == -1, 99, CODES), nodata=99)
    np.testing.assert_array_equal(mask_of(root, ignore=[0]), IDS)
    root = write_pairs(tmp_path / "class", np.where(CODES == -1, 10, CODES), nodata=10)
    np.testing.assert_array_equal(mask_of(root, ignore=[0]), np.where(CODES == 30, 1, 0))


def test_nan_is_unlabelled_although_0_is_a_class(tmp_path):
    classes = [{"code": code, "name": str(code), "color": "#000000"} for code in (0, 10, 30)]
    root = write_pairs(tmp_path, np.where(CODES == -1, np.nan, CODES.astype("float32")))
    np.testing.assert_array_equal(mask_of(root, classes=classes), np.where(IDS == 255, 255, IDS + 1))


def test_fractions_are_no_labels(tmp_path):
    with pytest.raises(DataError, match="holds fractions"):
        mask_of(write_pairs(tmp_path, CODES + np.float32(0.5)))


def test_codes_are_counted_whatever_their_range():
    for codes in (CODES, CODES.astype("float32").astype("int64") - 30_000, np.full((3, 3), 65_535, dtype="uint16")):
        found, counts = np.unique(codes, return_counts=True)
        assert code_counts(codes) == dict(zip(found.tolist(), counts.tolist(), strict=True))


def test_the_check_counts_negative_codes(tmp_path):
    report = check_archive(protocol_file(ignore=[-1]), write_pairs(tmp_path, CODES))
    assert report.ok
    found = {label.code: (label.name, label.pixels) for label in report.labels}
    assert found[-1] == (None, 4 * int((CODES == -1).sum()))
    assert found[10] == ("trees", 4 * int((CODES == 10).sum()))


def draw(path, shapes, crs="EPSG:32650", column="class"):
    path.parent.mkdir(parents=True, exist_ok=True)
    classes, polygons = zip(*shapes, strict=True)
    gpd.GeoDataFrame({column: list(classes)}, geometry=list(polygons), crs=crs).to_file(path)
    return path


def rectangle(left, top, right, bottom, tile=0):
    """A rectangle in pixels of a tile."""
    west, north = 500_000 + 160 * tile, 4_000_000
    return box(west + 10 * left, north - 10 * bottom, west + 10 * right, north - 10 * top)


SHAPES = [(10, rectangle(0, 0, 10, 8)), (30, rectangle(6, 4, 16, 12)), (10, rectangle(2, 0, 9, 5, tile=1))]
DRAWN = np.full((SIZE, SIZE), 255)
DRAWN[0:8, 0:10] = 0
DRAWN[4:12, 6:16] = 1


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
@pytest.mark.parametrize("named", [False, True], ids=["codes", "names"])
def test_polygons_are_burnt_into_the_grid_of_every_tile(tmp_path, suffix, named):
    root = write_pairs(tmp_path)
    shapes = [({10: "trees", 30: "grass"}[code], shape) for code, shape in SHAPES] if named else SHAPES
    file = gpd.GeoDataFrame({"cover": [c for c, _ in shapes]}, geometry=[s for _, s in shapes], crs="EPSG:32650")
    file.to_crs("EPSG:4326").to_file(root / f"drawn{suffix}")
    folder = {"tile": "name", "labels": f"drawn{suffix}", "class_column": "cover"}
    dataset = open_dataset(protocol_file(folder=folder), root)
    np.testing.assert_array_equal(dataset[0]["mask"].numpy(), DRAWN)
    assert sorted(np.unique(dataset[1]["mask"].numpy()).tolist()) == [0, 255]
    np.testing.assert_array_equal(dataset.read(0, (3, 5, 6, 9))["mask"].numpy(), DRAWN[3:9, 5:14])
    codes = [content.codes for content in dataset.checksums(range(4)).values()]
    assert codes == [(-32768, 10, 30), (-32768, 10), (-32768,), (-32768,)]


def test_another_polygon_is_other_data(tmp_path):
    root = write_pairs(tmp_path)
    file = protocol_file(folder={"tile": "name", "labels": "drawn.gpkg"})

    def fingerprint(shapes):
        draw(root / "drawn.gpkg", shapes)
        return data_fingerprint(open_dataset(file, root).checksums(range(4)))

    assert len({fingerprint(SHAPES), fingerprint(SHAPES[:2]), fingerprint([(30, s) for _, s in SHAPES])}) == 3
    assert fingerprint(SHAPES) == fingerprint(SHAPES)


@pytest.mark.parametrize(
    ("shapes", "crs", "column", "message"),
    [
        ([(20, SHAPES[0][1])], "EPSG:32650", "class", "label code 20"),
        ([("wood", SHAPES[0][1])], "EPSG:32650", "class", "class 'wood', which is neither a code nor .* grass, trees"),
        ([(10.5, SHAPES[0][1])], "EPSG:32650", "class", r"class '10\.5'"),
        (SHAPES, None, "class", "names no coordinate reference system"),
        (SHAPES, "EPSG:32650", "kind", "no column 'class'; it has: kind"),
        (
            [(10, LineString([(500_000, 4_000_000), (500_100, 3_999_900)]))],
            "EPSG:32650",
            "class",
            "LineString geometries",
        ),
    ],
    ids=["code", "name", "fraction", "nowhere", "column", "lines"],
)
def test_polygons_that_are_no_labels_are_refused_by_name(tmp_path, shapes, crs, column, message):
    root = write_pairs(tmp_path)
    draw(root / "drawn.gpkg", shapes, crs, column)
    with pytest.raises(DataError, match=message) as error:
        open_dataset(protocol_file(folder={"tile": "name", "labels": "drawn.gpkg"}, ignore=[0]), root)[0]
    assert "drawn.gpkg" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("drawn.gpkg", b"SQLite format 3\0" + bytes(200)),
        ("drawn.gpkg", b"<OGRVRTDataSource><OGRVRTLayer name='a'></OGRVRTLayer></OGRVRTDataSource>"),
        ("drawn.geojson", b"<OGRVRTDataSource></OGRVRTDataSource>"),
        ("drawn.geojson", b"{"),
        ("drawn.geojson", b'{"type": "FeatureCollection", "features": []}'),
        ("drawn.geojson", b""),
    ],
)
def test_what_only_calls_itself_polygons_is_one_line(tmp_path, name, content):
    root = write_pairs(tmp_path)
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as error:
        open_dataset(protocol_file(folder={"tile": "name", "labels": name}), root)
    assert "\n" not in str(error.value)


def test_polygons_need_an_image_that_says_where_it_lies(tmp_path):
    root = write_pairs(tmp_path)
    write_tif(root / "images" / "0.tif", random_image(4))
    draw(root / "drawn.gpkg", SHAPES)
    with pytest.raises(DataError, match="names no coordinate reference system; assign one"):
        open_dataset(protocol_file(folder={"tile": "name", "labels": "drawn.gpkg"}), root)
