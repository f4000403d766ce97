"""Tiles per second: the datasets' way of reading a WHU-OHS tile against the straightforward one.

Run with ``pytest benchmarks/speed/test_loading.py``; each group's table shows the ratio.
"""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window

from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.io.raster import read_image

BANDS, SIZE = 32, 512


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("whuohs")
    rng = np.random.default_rng(0)
    image = rng.integers(100, 6000, (BANDS, SIZE, SIZE), dtype="uint16")
    label = np.kron(rng.integers(0, 25, (SIZE // 16, SIZE // 16)), np.ones((16, 16))).astype("uint8")
    for role, pixels in (("image", image), ("label", label[None])):
        path = root / "tr" / role / "S1_0001.tif"
        path.parent.mkdir(parents=True)
        profile = {"driver": "GTiff", "count": len(pixels), "height": SIZE, "width": SIZE, "dtype": pixels.dtype}
        # Band after band, as GDAL writes what numpy holds; the other order is measured below.
        profile["interleave"] = "band"
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels)
    return WHUOHS(root)


@pytest.fixture(scope="module")
def pixel_by_pixel(dataset, tmp_path_factory):
    """The same tile stored pixel after pixel, as WHU-OHS is shipped."""
    path = tmp_path_factory.mktemp("interleaved") / "tile.tif"
    with rasterio.open(dataset.index["image"].iloc[0]) as source:
        profile, pixels = source.profile | {"interleave": "pixel"}, source.read()
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


def read_plainly(image_path, label_path, ids):
    """Read as one writes it first: double precision, band by band, a dictionary look-up for each pixel.

    Returns what training needs, as the dataset does: a float32 image and int64 labels as tensors.
    """
    with rasterio.open(image_path) as file:
        image = file.read().astype("float64")
    for band in range(len(image)):
        low, high = image[band].min(), image[band].max()
        image[band] = (image[band] - low) / (high - low)
    with rasterio.open(label_path) as file:
        label = file.read(1)
    mask = np.vectorize(lambda code: ids.get(code, 255))(label)
    return torch.from_numpy(image).float(), torch.from_numpy(mask).long()


@pytest.fixture(scope="module")
def plain_arguments(dataset):
    row = dataset.index.iloc[0]
    return row["image"], row["label"], {c.code: i for i, c in enumerate(dataset.classes)}


@pytest.mark.benchmark(group="whole tile, 512 x 512 x 32 uint16")
def test_read_tile(benchmark, dataset):
    sample = benchmark(dataset.read_stored, 0)
    assert sample["image"].shape == (BANDS, SIZE, SIZE)


@pytest.mark.benchmark(group="whole tile, 512 x 512 x 32 uint16")
def test_read_tile_as_reflectance(benchmark, dataset):
    sample = benchmark(dataset.read, 0)
    assert sample["image"].dtype == torch.float32


@pytest.mark.benchmark(group="whole tile, 512 x 512 x 32 uint16")
def test_read_bytes_alone(benchmark, plain_arguments):
    image, label, _ = plain_arguments
    stored, _ = benchmark(lambda: (Path(image).read_bytes(), Path(label).read_bytes()))
    assert len(stored) > BANDS * SIZE * SIZE * 2


@pytest.mark.benchmark(group="whole tile, 512 x 512 x 32 uint16")
def test_read_tile_plainly(benchmark, dataset, plain_arguments):
    _, mask = benchmark(read_plainly, *plain_arguments)
    np.testing.assert_array_equal(mask, dataset.read(0)["mask"].numpy())


@pytest.mark.benchmark(group="training window, 224 x 224 of the tile")
def test_read_window(benchmark, dataset):
    sample = benchmark(dataset.read_stored, 0, (100, 100, 224, 224))
    assert sample["mask"].shape == (224, 224)


@pytest.mark.benchmark(group="training window, 224 x 224 of the tile")
def test_read_window_plainly(benchmark, plain_arguments):
    def crop():
        image, mask = read_plainly(*plain_arguments)
        return image[:, 100:324, 100:324], mask[100:324, 100:324]

    _, mask = benchmark(crop)
    assert mask.shape == (224, 224)


def read_band_by_band(path, window=None):
    with rasterio.open(path) as file:
        return np.stack([file.read(band, window=window) for band in file.indexes])


def read_in_one_call(path):
    with rasterio.open(path) as file:
        return file.read()


PIXEL = "stored pixel by pixel: the image alone, 512 x 512 x 32 uint16"


@pytest.mark.benchmark(group=PIXEL)
def test_pixel_interleaved_whole(benchmark, pixel_by_pixel):
    pixels, _ = benchmark(read_image, pixel_by_pixel)
    np.testing.assert_array_equal(pixels, read_in_one_call(pixel_by_pixel))


@pytest.mark.benchmark(group=PIXEL)
def test_pixel_interleaved_band_by_band(benchmark, pixel_by_pixel):
    assert benchmark(read_band_by_band, pixel_by_pixel).shape == (BANDS, SIZE, SIZE)


@pytest.mark.benchmark(group=PIXEL)
def test_pixel_interleaved_in_one_call(benchmark, pixel_by_pixel):
    assert benchmark(read_in_one_call, pixel_by_pixel).shape == (BANDS, SIZE, SIZE)


@pytest.mark.benchmark(group=PIXEL)
def test_the_same_tile_stored_band_by_band(benchmark, dataset):
    pixels, _ = benchmark(read_image, dataset.index["image"].iloc[0])
    assert pixels.shape == (BANDS, SIZE, SIZE)


WINDOW = "stored pixel by pixel: a window of 224 x 224"


@pytest.mark.benchmark(group=WINDOW)
def test_pixel_interleaved_window(benchmark, pixel_by_pixel):
    pixels, _ = benchmark(read_image, pixel_by_pixel, (100, 100, 224, 224))
    assert pixels.shape == (BANDS, 224, 224)


@pytest.mark.benchmark(group=WINDOW)
def test_pixel_interleaved_window_band_by_band(benchmark, pixel_by_pixel):
    assert benchmark(read_band_by_band, pixel_by_pixel, Window(100, 100, 224, 224)).shape == (BANDS, 224, 224)


HYPERSPECTRAL = 224
USED = [*range(130), *range(136, HYPERSPECTRAL)]
"""218 of 224 bands, as imaging spectrometers are used: without those that the atmosphere takes."""


@pytest.fixture(scope="module", params=["pixel", "band"])
def hyperspectral(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("hyperspectral") / f"{request.param}.tif"
    pixels = np.random.default_rng(0).integers(0, 10_000, (HYPERSPECTRAL, 256, 256), dtype="int16")
    profile = {"driver": "GTiff", "count": HYPERSPECTRAL, "height": 256, "width": 256, "dtype": "int16"}
    with rasterio.open(path, "w", interleave=request.param, **profile) as file:
        file.write(pixels)
    return path


@pytest.mark.benchmark(group="224 bands, 256 x 256 int16")
@pytest.mark.parametrize("channels", [None, USED, [20, 40, 60]], ids=["all", "218", "3"])
def test_some_bands_of_many(benchmark, hyperspectral, channels):
    pixels, _ = benchmark(read_image, hyperspectral, channels=channels)
    assert len(pixels) == (HYPERSPECTRAL if channels is None else len(channels))
