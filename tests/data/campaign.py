"""The flight campaign of docs/your-tiles.md: a small folder of the kind that the page describes."""

import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from archives import utm, write_tif
from shapely.geometry import box

PAGE = (Path(__file__).parents[2] / "docs" / "your-tiles.md").read_text(encoding="utf-8")
SIDE, BANDS, NODATA = 16, 32, -9999
WAVELENGTHS = np.linspace(420, 2450, BANDS)
USED = [w for w in WAVELENGTHS if w <= 1340 or 1450 <= w <= 1780 or w >= 1970]
WEST, NORTH = 500_000, 4_000_000


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def image(rows, columns, seed=0):
    """Two kinds of land, left and right, a band without data, and a corner without any."""
    pixels = np.random.default_rng(seed).normal(2000, 200, (BANDS, rows, columns))
    pixels[:, :, : columns // 2] *= np.linspace(0.5, 2, BANDS)[:, None, None]
    pixels[7] = NODATA
    pixels[:, :3, :3] = NODATA
    return pixels.astype("int16")


def describe(path):
    with rasterio.open(path, "r+") as file:
        for band, wavelength in enumerate(WAVELENGTHS, start=1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=wavelength / 1000, FWHM_UM=0.0065)


def rectangle(left, top, width, height):
    return box(WEST + 10 * left, NORTH - 10 * (top + height), WEST + 10 * (left + width), NORTH - 10 * top)


def draw(path, column, shapes):
    values, areas = zip(*shapes, strict=True)
    gpd.GeoDataFrame({column: values}, geometry=list(areas), crs="EPSG:32650").to_file(path)


def write_campaign(folder):
    """Write the campaign of the page and its protocol below a folder."""
    campaign = folder / "campaign"
    campaign.mkdir()
    (campaign / "tiles.csv").write_text(blocks("csv")[0])
    names = [line.partition(",")[0] for line in blocks("csv")[0].splitlines()[1:]]
    shapes = []
    for number, name in enumerate(names):
        left = 50 * number
        path = campaign / "images" / f"{name}.tif"
        write_tif(path, image(SIDE, SIDE, number), **utm(left=WEST + 10 * left), nodata=NODATA)
        describe(path)
        for code, first, width in ((1, 0, 8), (2, 8, 7), (-1, 15, 1)):
            shapes.append((code, rectangle(left + first, 0, width, SIDE)))
    draw(campaign / "labels.gpkg", "class", shapes)
    (folder / "campaign.yaml").write_text(blocks("yaml")[0])
