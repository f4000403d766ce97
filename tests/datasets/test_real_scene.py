"""Real tiles laid side by side as one mosaic, labels drawn as polygons: the same pixels, labels and statistics."""

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from archives import utm, write_tif
from rasterio.features import shapes
from shapely.geometry import box, shape

from spectral_tl_bench.config.protocols import ProtocolFile
from spectral_tl_bench.datamodules.radiometry import band_statistics
from spectral_tl_bench.datasets import open_dataset

HLS = Path(os.environ.get("SPECTRAL_TL_BENCH_HLS", Path(__file__).parents[3] / "shared" / "data" / "hls_worldcover"))
SIDE, ACROSS = 128, 4
BANDS = {"coastal": 443, "blue": 490, "green": 560, "red": 660, "nir": 840, "swir1": 1610, "swir2": 2190}
CODES = (10, 20, 30, 40, 50, 60, 80)

pytestmark = pytest.mark.skipif(not (HLS / "tiles.csv").is_file(), reason="the HLS tiles are not there")


def protocol(folder):
    return ProtocolFile.model_validate(
        {
            "name": "hls",
            "title": "Lowland to highland",
            "dataset": "tiles",
            "sensor": {"name": "hls", "bands": BANDS},
            "classes": [{"code": code, "name": f"c{code}", "color": "#000000"} for code in CODES],
            "ignore": "rest",
            "folder": folder,
            "source": {"domain": "lowland"},
            "target": {"domain": "highland"},
            "by": "domain",
        }
    )


@pytest.fixture(scope="module")
def chosen():
    """Eight lowland and four highland tiles, in the order in which they are laid."""
    table = pd.read_csv(HLS / "tiles.csv", dtype=str)
    return [
        (row.tile, row.domain)
        for domain, many in (("lowland", 8), ("highland", 4))
        for row in table[table["domain"] == domain].head(many).itertuples()
    ]


@pytest.fixture(scope="module")
def mosaic(chosen, tmp_path_factory):
    root = tmp_path_factory.mktemp("mosaic")
    rows = len(chosen) // ACROSS
    image = np.zeros((len(BANDS), rows * SIDE, ACROSS * SIDE), dtype="int16")
    label = np.zeros(image.shape[1:], dtype="uint8")
    domains = []
    place = utm()
    for number, (tile, domain) in enumerate(chosen):
        top, left = (SIDE * step for step in divmod(number, ACROSS))
        part = (slice(top, top + SIDE), slice(left, left + SIDE))
        with rasterio.open(HLS / "images" / f"{Path(tile).stem}.tif") as file:
            image[:, *part] = file.read()
        with rasterio.open(HLS / "labels" / f"{Path(tile).stem}.tif") as file:
            label[part] = file.read(1)
        west, north = place["transform"].c + 10 * left, place["transform"].f - 10 * top
        domains.append({"domain": domain, "geometry": box(west, north - 10 * SIDE, west + 10 * SIDE, north)})
    write_tif(root / "mosaic.tif", image, **place, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    drawn = [{"class": code, "geometry": shape(area)} for area, code in shapes(label, transform=place["transform"])]
    gpd.GeoDataFrame(drawn, crs=place["crs"]).astype({"class": int}).to_file(root / "cover.gpkg")
    gpd.GeoDataFrame(domains, crs=place["crs"]).dissolve("domain").reset_index().to_file(root / "domains.gpkg")
    cut = {"size": SIDE, "polygons": "domains.gpkg"}
    return open_dataset(protocol({"images": "mosaic.tif", "labels": "cover.gpkg", "tiles": cut}), root)


@pytest.fixture(scope="module")
def apart(chosen):
    dataset = open_dataset(protocol(None), HLS)
    positions = {name: position for position, name in enumerate(dataset.index["tile"])}
    return dataset, [positions[tile] for tile, _ in chosen]


def test_a_mosaic_of_real_tiles_gives_the_tiles_and_their_labels(mosaic, apart, chosen):
    dataset, positions = apart
    assert list(mosaic.index["domain"]) == [domain for _, domain in chosen]
    for number, position in enumerate(positions):
        laid, alone = mosaic[number], dataset[position]
        np.testing.assert_array_equal(laid["image"].numpy(), alone["image"].numpy())
        np.testing.assert_array_equal(laid["mask"].numpy(), alone["mask"].numpy())


def test_its_statistics_are_those_of_the_tiles(mosaic, apart):
    dataset, positions = apart
    for laid, alone in zip(
        band_statistics(mosaic, range(len(positions))), band_statistics(dataset, positions), strict=True
    ):
        np.testing.assert_array_equal(laid.numpy(), alone.numpy())
