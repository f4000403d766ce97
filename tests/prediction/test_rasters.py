"""Maps as files: complete, or refused in one line."""

import contextlib
import resource

import numpy as np
import pytest
from rasterio.transform import from_origin

from spectral_tl_bench.prediction.rasters import GeoTiff, Place
from spectral_tl_bench.utils.errors import RecordError


@contextlib.contextmanager
def full_disk(size):
    """No file may become larger than so many bytes: a write then ends as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path):
    with GeoTiff(
        path, Place(300, 300, "EPSG:32650", from_origin(500_000, 4_000_000, 10, 10)), np.uint8, 255, tags={}
    ) as file:
        file.write(np.random.default_rng(0).integers(0, 9, (300, 300)))


@pytest.mark.parametrize("size", [300, 3_000, 30_000])
def test_a_map_that_does_not_fit_on_the_disk_is_refused_and_the_old_one_stays(tmp_path, size):
    path = tmp_path / "map.tif"
    path.write_bytes(b"old")
    with full_disk(size), pytest.raises(RecordError, match=r"cannot write .*map\.tif") as caught:
        write(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_map_is_kept(tmp_path):
    write(tmp_path / "map.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
