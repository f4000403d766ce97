"""Kinds of files and tables as researchers have them: each is read right, or refused in one line that says why.

A kind is a function that changes a sound folder of eight tiles. A right value is the image and the labels that every
tile must give; a refusal is a part of the line.
"""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from archives import write_mat, write_tif
from rasterio.transform import Affine, from_origin
from shapely.geometry import box

from spectral_tl_bench.config.protocols import protocols_of, read_protocol_file
from spectral_tl_bench.datamodules.leakage_checks import examine
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.utils.errors import SpectralBenchError

SIDE, BANDS, TILES = 16, 4, 8
PROTOCOL = {
    "title": "North to south",
    "sensor": "{name: drone, bands: {blue: 490, green: 560, red: 660, nir: 840}}",
    "classes": "[{code: 0, name: bare}, {code: 1, name: crops}, {code: 2, name: water}]",
    "source": "{region: north}",
    "target": "{region: south}",
    "by": "region",
}
CLASSES = 3


def codes_of(number):
    """Class codes of a tile: rows and columns differ, so that a turned or moved map is another one."""
    return np.random.default_rng(number).integers(0, CLASSES, (SIDE, SIDE)).astype("uint8")


def pixels_of(number):
    """Stored values of a tile, which tell its classes apart."""
    spectra = np.array([[900, 1200, 2400], [700, 2600, 900], [800, 400, 300], [3000, 5000, 100]], dtype="uint16")
    noise = np.random.default_rng(100 + number).integers(0, 50, (BANDS, SIDE, SIDE)).astype("uint16")
    return spectra[:BANDS, codes_of(number)] + noise


def place_of(number, crs="EPSG:32650", pixel=10.0):
    return {"crs": crs, "transform": from_origin(500_000 + 400 * number, 4_000_000, pixel, pixel)}


def moved(number, columns, rows):
    """The place of a tile, moved by pixels to the right and down."""
    return {"transform": from_origin(500_000 + 400 * number + 10 * columns, 4_000_000 - 10 * rows, 10.0, 10.0)}


class Folder:
    """A folder of tiles with its table and its protocol file, which a kind changes."""

    def __init__(self, root):
        self.root = root
        self.protocol = dict(PROTOCOL)
        self.header = ["tile", "region"]
        self.rows = [[f"t{n}", "north" if n < 5 else "south"] for n in range(TILES)]
        self.text = None
        for number in range(TILES):
            self.image(number, pixels_of(number))
            self.label(number, codes_of(number))

    def image(self, number, pixels, **profile):
        return write_tif(self.root / "images" / f"t{number}.tif", pixels, **place_of(number) | profile)

    def label(self, number, codes, **profile):
        return write_tif(self.root / "labels" / f"t{number}.tif", codes, **place_of(number) | profile)

    def labels(self, change, **profile):
        """Write every label map anew."""
        for number in range(TILES):
            self.label(number, change(codes_of(number)), **profile)

    def opened(self):
        text = self.text or "\n".join([",".join(self.header), *(",".join(row) for row in self.rows)]) + "\n"
        (self.root / "tiles.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        path = self.root / "p.yaml"
        path.write_text("dataset: tiles\n" + "".join(f"{key}: {value}\n" for key, value in self.protocol.items()))
        file = read_protocol_file(path)
        dataset = open_dataset(file, self.root)
        problems, notes = examine(protocols_of(file), self.root, all_must_run=True)
        if problems:
            raise SpectralBenchError(problems[0].message)
        self.notes = [*check_archive(file, self.root).notes, *notes]
        return dataset


READ, REFUSED = {}, {}
"""Kinds by name: what is changed, and what must come of it."""


def read(*notes, **expected):
    """A kind that is read right; ``notes`` are parts of the notes that there must be."""

    def register(change):
        READ[change.__name__] = (change, expected, notes)
        return change

    return register


def refused(*parts):
    """A kind that is refused, in a line with these parts."""

    def register(change):
        REFUSED[change.__name__] = (change, parts)
        return change

    return register


@read()
def geotiff_tiles(folder): ...


# Values that select tiles.


@read(source=["t0", "t1", "t3"])
def months_with_a_leading_zero(folder):
    folder.header.append("month")
    for row, month in zip(folder.rows, ["06", "07", "09", "08", "10", "11", "12", "01"], strict=True):
        row.append(month)
    folder.protocol |= {"source": "{month: [06, 07, 08]}", "target": "{month: [10, 11]}"}


@read(source=["t0", "t1", "t2"])
def the_country_no(folder):
    folder.rows = [[f"t{n}", "NO" if n < 3 else "SE"] for n in range(TILES)]
    folder.protocol |= {"source": "{region: [NO]}", "target": "{region: SE}"}


@read("no tile has region = 'ICE'")
def a_value_that_no_tile_has(folder):
    folder.protocol["source"] = "{region: [north, ICE]}"


@read("2 tiles are on neither side (region = 'North': 2)", source=["t2", "t3", "t4"])
def values_in_another_case(folder):
    folder.rows[0][1] = folder.rows[1][1] = "North"


@read(source=["t0", "t1", "t2", "t3", "t4"])
def a_blank_after_a_value(folder):
    folder.rows[0][1] = "north "


@refused("selects no source tiles", "region has north, south")
def no_value_that_a_tile_has(folder):
    folder.protocol["source"] = "{region: nort}"


# Tables.


@read()
def a_table_separated_by_semicolons(folder):
    folder.text = "tile;region\n" + "\n".join(";".join(row) for row in folder.rows) + "\n"


@read()
def a_table_separated_by_tabs(folder):
    folder.text = "tile\tregion\r\n" + "\r\n".join("\t".join(row) for row in folder.rows)


@read()
def blanks_after_commas(folder):
    folder.text = "tile, region\n" + "\n".join(", ".join(row) for row in folder.rows) + "\n"


@read()
def empty_rows_and_columns(folder):
    folder.header.append("")
    folder.rows = [[*row, ""] for row in folder.rows] + [["", "", ""], [""]]


@read()
def a_byte_order_mark(folder):
    folder.text = b"\xef\xbb\xbftile,region\n" + "\n".join(",".join(row) for row in folder.rows).encode()


@read(source=["t0", "t1", "t2", "t3", "t4"])
def columns_named_as_those_of_the_index(folder):
    folder.header += ["part", "height", "label", "image"]
    folder.rows = [[*row, row[1], "tall", "yes", "no"] for row in folder.rows]
    folder.protocol |= {"source": "{part: north, height: tall}", "target": "{part: south}", "by": "part"}


@read()
def a_column_named_tile_beside_the_one_that_names_it(folder):
    folder.header = ["id", "region", "tile"]
    folder.rows = [[*row, row[1]] for row in folder.rows]
    folder.protocol |= {"folder": "{tile: id}", "by": "tile", "source": "{tile: north}", "target": "{tile: south}"}


@refused("has two columns 'region'")
def a_column_given_twice(folder):
    folder.header.append("region")
    folder.rows = [[*row, "x"] for row in folder.rows]


@refused("row 3 has fewer fields than its header, 1 instead of 2")
def a_row_that_is_too_short(folder):
    folder.rows[2] = ["t2"]


@refused("row 3 has more fields than its header, 3 instead of 2")
def a_row_that_is_too_long(folder):
    folder.rows[2].append("x")


@refused("has a row without a name in column 'tile' (region = south)")
def a_row_without_a_name(folder):
    folder.rows[7][0] = ""


@refused("has a column without a name, column 3")
def a_column_without_a_name(folder):
    folder.header.append("")
    folder.rows = [[*row, "x"] for row in folder.rows]


@refused("it is not text in UTF-8")
def a_spreadsheet(folder):
    folder.text = b"PK\x03\x04\xff\xfe"


@refused("it has no header")
def an_empty_table(folder):
    folder.text = "\n"


@refused("'by: tile' has another value for each source tile", "choose a column whose values several tiles share")
def one_tile_a_value(folder):
    folder.protocol["by"] = "tile"


# Label rasters of several bands.


@refused("has 2 bands where a label map has one", "label_band: 2")
def labels_of_two_bands(folder):
    folder.labels(lambda codes: np.stack([np.zeros_like(codes), codes]))


@read()
def a_chosen_label_band(folder):
    folder.labels(lambda codes: np.stack([np.zeros_like(codes), codes]))
    folder.protocol["folder"] = "{label_band: 2}"


@refused("has 2 bands, no band 3")
def a_label_band_that_is_not_there(folder):
    folder.labels(lambda codes: np.stack([np.zeros_like(codes), codes]))
    folder.protocol["folder"] = "{label_band: 3}"


@refused("has 3 bands where a label map has one", "one-hot")
def one_hot_without_the_option(folder):
    folder.labels(
        lambda codes: np.stack([codes == code for code in range(CLASSES)]).astype("uint8"), photometric="MINISBLACK"
    )


@refused("is a picture in red, green and blue", "or 'label_band: one-hot'")
def one_hot_that_could_be_colours(folder):
    folder.labels(lambda codes: np.stack([codes == code for code in range(CLASSES)]).astype("uint8"))


@read()
def one_hot_labels(folder):
    folder.labels(lambda codes: np.stack([codes == code for code in range(CLASSES)]).astype("float32"))
    folder.protocol["folder"] = "{label_band: one-hot}"


@refused("is not one-hot", "more than one band")
def one_hot_labels_that_overlap(folder):
    folder.labels(lambda codes: np.stack([codes == 0, codes >= 0, codes == 2]).astype("uint8"))
    folder.protocol["folder"] = "{label_band: one-hot}"


@refused("has 2 bands where 'label_band: one-hot' needs one for each of 3 classes")
def one_hot_labels_of_other_classes(folder):
    folder.labels(lambda codes: np.stack([codes == 0, codes == 1]).astype("uint8"))
    folder.protocol["folder"] = "{label_band: one-hot}"


@refused("is a picture in red, green and blue")
def labels_as_colours(folder):
    folder.labels(lambda codes: np.stack([codes, codes, codes]) * 100, photometric="RGB")


# Labels that lie elsewhere than their image.


@read()
def labels_from_south_to_north(folder):
    for number in range(TILES):
        grid = place_of(number)["transform"]
        upwards = Affine(grid.a, 0, grid.c, 0, -grid.e, grid.f + SIDE * grid.e)
        folder.label(number, codes_of(number)[::-1], transform=upwards)


@read()
def images_from_east_to_west(folder):
    for number in range(TILES):
        grid = place_of(number)["transform"]
        westwards = Affine(-grid.a, 0, grid.c + SIDE * grid.a, 0, grid.e, grid.f)
        folder.image(number, pixels_of(number), transform=westwards)
        folder.label(number, codes_of(number)[:, ::-1])


@read()
def labels_of_a_larger_area(folder):
    for number in range(TILES):
        larger = np.full((SIDE + 9, SIDE + 5), 1, dtype="uint8")
        larger[2 : 2 + SIDE, 3 : 3 + SIDE] = codes_of(number)
        folder.label(number, larger, **moved(number, -3, -2))


@read()
def labels_whose_header_is_rounded(folder):
    for number in range(TILES):
        folder.label(number, codes_of(number), **moved(number, 0.001, -0.002))


@read()
def labels_without_a_place(folder):
    folder.labels(lambda codes: codes, crs=None, transform=Affine.identity())


@read()
def one_coordinate_system_in_two_wordings(folder):
    utm = "+proj=tmerc +lon_0=117 +k=0.9996 +x_0=500000 +datum=WGS84 +units=m +no_defs"
    folder.labels(lambda codes: codes, crs=utm)
    for number in range(TILES):
        folder.label(number, codes_of(number), crs=utm)


@refused("by its coordinates it covers 50 % of it")
def labels_half_a_tile_east(folder):
    for number in range(TILES):
        folder.label(number, codes_of(number), **moved(number, 8, 0))


@refused("it lies 0.5 pixels between the image's pixels", "gdalwarp")
def labels_half_a_pixel_off(folder):
    for number in range(TILES):
        folder.label(number, codes_of(number), **moved(number, 0, 0.5))


@refused("it is in EPSG:32651, the image in EPSG:32650", "gdalwarp")
def labels_in_another_zone(folder):
    folder.labels(lambda codes: codes, crs="EPSG:32651")


@refused("its pixels are 20 x 20, the image's 10 x 10")
def labels_of_larger_pixels(folder):
    for number in range(TILES):
        folder.label(number, codes_of(number), **place_of(number, pixel=20.0))


@refused("it is rotated")
def rotated_labels(folder):
    for number in range(TILES):
        folder.label(number, codes_of(number), transform=Affine(0, 10, 500_000 + 400 * number, -10, 0, 4_000_000))


# Pixels, their validity and scale.


def half(number):
    return np.arange(SIDE)[None, :].repeat(SIDE, 0) >= SIDE // 2


def half_masked(number):
    return np.where(half(number), pixels_of(number), 0).astype("uint16")


@read(valid=half)
def nodata_in_the_header(folder):
    for number in range(TILES):
        folder.image(number, half_masked(number), nodata=0)


@read(valid=half)
def nodata_of_the_sensor(folder):
    folder.protocol["sensor"] = folder.protocol["sensor"].replace("drone,", "drone, nodata: 0,")
    for number in range(TILES):
        folder.image(number, half_masked(number))


@read(valid=half)
def not_a_number(folder):
    for number in range(TILES):
        folder.image(number, np.where(half(number), pixels_of(number), np.nan).astype("float32"))


@read(valid=half)
def a_mask_in_the_file(folder):
    for number in range(TILES):
        path = folder.image(number, half_masked(number))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(half(number))


@read(valid=half)
def a_mask_beside_the_file(folder):
    for number in range(TILES):
        path = folder.image(number, half_masked(number))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(half(number))


@read()
def a_scale_and_an_offset_in_the_file(folder):
    for number in range(TILES):
        path = folder.image(number, pixels_of(number) + (1000 if number >= 5 else 0))
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (0.0001,) * BANDS, (-0.1 if number >= 5 else 0.0,) * BANDS


@read()
def suffixes_in_capitals(folder):
    for path in folder.root.glob("images/*.tif"):
        path.rename(path.with_suffix(".TIF"))


def envi_as(folder, suffix, interleave):
    for number in range(TILES):
        (folder.root / "images" / f"t{number}.tif").unlink()
        path = folder.root / "images" / f"t{number}{suffix}"
        write_tif(path, pixels_of(number), driver="ENVI", interleave=interleave, **place_of(number))


@read()
def envi_by_lines(folder):
    envi_as(folder, ".bil", "bil")


@read()
def envi_by_pixels(folder):
    envi_as(folder, ".bip", "bip")


@read()
def envi_by_bands(folder):
    envi_as(folder, ".bsq", "bsq")


@read()
def numpy_tiles(folder):
    for number in range(TILES):
        (folder.root / "images" / f"t{number}.tif").unlink()
        np.save(folder.root / "images" / f"t{number}.npy", pixels_of(number).transpose(1, 2, 0))


@read()
def numpy_tiles_beside_rasters(folder):
    for number in range(TILES):
        np.save(folder.root / "images" / f"t{number}.npy", pixels_of(number) + 1)


@read()
def matlab_labels(folder):
    for number in range(TILES):
        (folder.root / "labels" / f"t{number}.tif").unlink()
        write_mat(folder.root / "labels" / f"t{number}.mat", gt=codes_of(number))


@refused("images/t3.tif", "cannot read")
def a_file_that_was_cut_short(folder):
    path = folder.root / "images" / "t3.tif"
    path.write_bytes(path.read_bytes()[:600])


@refused("t3 does not exist")
def an_image_that_is_missing(folder):
    (folder.root / "images" / "t3.tif").unlink()


@refused("holds complex numbers")
def complex_numbers(folder):
    folder.image(3, pixels_of(3).astype("complex64"))


@refused("label code 7, 8, 9, which is neither a class nor ignored")
def a_code_without_a_class(folder):
    folder.label(3, codes_of(3) + np.uint8(7))


@refused("it holds fractions")
def fractions_as_labels(folder):
    folder.label(3, codes_of(3) + np.float32(0.5))


# Pixels of another size.


@read("the images' pixels are 10 m wide by their coordinates, the sensor's 30 m")
def a_sensor_of_other_pixels(folder):
    folder.protocol["sensor"] = folder.protocol["sensor"].replace("drone,", "drone, ground_sampling_distance: 30,")


@read("pixels are 10 m wide in the source and 20 m in the target")
def a_target_of_larger_pixels(folder):
    for number in range(5, TILES):
        folder.image(number, pixels_of(number), **place_of(number, pixel=20.0))
        folder.label(number, codes_of(number), **place_of(number, pixel=20.0))


@read()
def pixels_in_degrees(folder):
    for number in range(TILES):
        # 10 m at 60 degrees north, where a degree of longitude is half as long.
        grid = from_origin(10 + number, 60, 10 / 55_800, 10 / 111_412)
        folder.image(number, pixels_of(number), crs="EPSG:4326", transform=grid)
        folder.label(number, codes_of(number), crs="EPSG:4326", transform=grid)


# Polygons.


def draw(path, number_of_tiles, shift=0.0, crs="EPSG:32650", **options):
    """A polygon of class 1 on every tile but its last four rows."""
    west = [500_000 + 400 * number + shift for number in range(number_of_tiles)]
    shapes = [box(x, 4_000_000 - 120, x + 160, 4_000_000) for x in west]
    gpd.GeoDataFrame({"class": [1] * len(shapes)}, geometry=shapes, crs=crs).to_file(path, **options)


def drawn(number):
    codes = np.full((SIDE, SIDE), 255)
    codes[:12] = 1
    return codes


@read(codes=drawn)
def polygons(folder):
    draw(folder.root / "drawn.gpkg", TILES)
    folder.protocol["folder"] = "{labels: drawn.gpkg}"


@refused("coordinates up to 4000000, which are no longitudes and latitudes", "ogr2ogr")
def geojson_in_metres_without_its_system(folder):
    draw(folder.root / "drawn.geojson", TILES)
    content = json.loads((folder.root / "drawn.geojson").read_text())
    del content["crs"]
    (folder.root / "drawn.geojson").write_text(json.dumps(content))
    folder.protocol["folder"] = "{labels: drawn.geojson}"


@refused("no pixel has a label: no polygon covers it")
def polygons_elsewhere(folder):
    draw(folder.root / "drawn.gpkg", TILES, shift=100_000.0)
    folder.protocol["folder"] = "{labels: drawn.gpkg}"


@refused(".shp is not read", "ogr2ogr labels.gpkg labels.shp")
def a_shapefile(folder):
    folder.protocol["folder"] = "{labels: labels.shp}"


@refused(".h5 is not read; write GeoTIFF")
def another_format(folder):
    folder.protocol["folder"] = "{images: 'images/{tile}.h5'}"


# Bands.


@refused("bands: 2 means green of drone, which is among the bands already")
def a_band_chosen_twice(folder):
    folder.protocol["bands"] = "[green, 2]"


@refused("which is among the bands already")
def a_band_chosen_twice_in_the_target(folder):
    folder.protocol["target"] = "{region: south, bands: [1-3, green]}"


@refused("'blue' is given twice")
def a_band_listed_twice(folder):
    folder.protocol["sensor"] = "{name: drone, bands: {blue: 490, blue: 560, red: 660, nir: 840}}"


@read()
def evenly_spaced_wavelengths(folder):
    folder.protocol["sensor"] = "{name: drone, wavelengths: {first: 490, last: 840, number: 4}}"


# Scenes cut into tiles by rows and columns.


def scene(folder, **cut):
    """One scene of 3 x 4 tiles, cut by a grid."""
    pixels = np.concatenate(
        [np.concatenate([pixels_of(4 * r + c) for c in range(4)], axis=2) for r in range(3)], axis=1
    )
    codes = np.concatenate([np.concatenate([codes_of(4 * r + c) for c in range(4)], axis=1) for r in range(3)])
    write_tif(folder.root / "scene.tif", pixels, **place_of(0))
    write_tif(folder.root / "scene_gt.tif", codes, **place_of(0))
    (folder.root / "tiles.csv").unlink(missing_ok=True)
    folder.protocol |= {"folder": "{images: scene.tif, labels: scene_gt.tif, tiles: {size: 16}}", "by": "scene", **cut}


def in_scene(number):
    return f"scene_{16 * (number // 4)}_{16 * (number % 4)}"


@read("4 tiles are on neither side", names=[in_scene(n) for n in range(12)], source=[in_scene(n) for n in (0, 1, 4, 5)])
def a_scene_cut_by_rows_and_columns(folder):
    scene(folder, source="{rows: 0-32, columns: 0-40}", target="{rows: [0-32], columns: 32-64}")


@read("no tile lies in rows 100-200 of a scene", names=[in_scene(n) for n in range(12)])
def a_stretch_beyond_the_scene(folder):
    scene(folder, source="{rows: [0-16, 100-200]}", target="{rows: 16-48}")


@refused("rows: '300' is no stretch of a scene; write 0-300")
def a_stretch_that_is_a_number(folder):
    scene(folder, source="{rows: 300}", target="{rows: 16-48}")


@refused("selects no source tiles (rows = 0-10)")
def a_stretch_without_a_tile(folder):
    scene(folder, source="{rows: 0-10}", target="{rows: 16-48}")


@refused("4 tiles are both source and target")
def stretches_that_overlap(folder):
    scene(folder, source="{rows: 0-32}", target="{rows: 16-48}")


@pytest.mark.parametrize("kind", READ)
def test_a_kind_that_is_read_gives_its_right_values(tmp_path, kind):
    change, expected, notes = READ[kind]
    folder = Folder(tmp_path)
    change(folder)
    dataset = folder.opened()
    assert dataset.index["tile"].tolist() == expected.get("names", [f"t{number}" for number in range(TILES)])
    for number in range(len(dataset)):
        sample = dataset[number]
        right = expected.get("pixels", pixels_of)(number) * expected.get("scale", 1 / 10_000)
        valid = expected.get("valid", lambda number: np.full((SIDE, SIDE), True))(number)
        np.testing.assert_allclose(sample["image"].numpy(), np.where(valid, right, 0), rtol=1e-5)
        mask = np.where(valid, expected.get("codes", codes_of)(number), 255)
        np.testing.assert_array_equal(sample["mask"].numpy(), mask)
    if "source" in expected:
        (protocol,) = protocols_of(read_protocol_file(tmp_path / "p.yaml"))
        selected = dataset.index["tile"][protocol.transfer.source.select(dataset.index)]
        assert sorted(selected) == expected["source"]
    for part in notes:
        assert any(part in note for note in folder.notes), folder.notes


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_is_refused_is_one_clear_line(tmp_path, kind):
    change, parts = REFUSED[kind]
    folder = Folder(tmp_path)
    change(folder)
    with pytest.raises(SpectralBenchError) as error:
        folder.opened()
    line = str(error.value)
    assert "\n" not in line
    for part in parts:
        assert part in line
