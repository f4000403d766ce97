"""Maps of target tiles show what was counted."""

import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from archives import utm
from matplotlib.image import imread

from spectral_tl_bench.prediction.restore import restore_run
from spectral_tl_bench.prediction.tile_maps import RIGHT, UNLABELLED, WRONG, write_maps
from spectral_tl_bench.records.metrics import confusion_matrix
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.runs.runner import execute
from spectral_tl_bench.utils.runtime import RuntimeOptions

TINY = {"image_size": 32, "batch_size": 2, "segmentation_steps": 3, "validations": 1, "decoder_channels": 8}


NOWHERE = "Changsha"


@pytest.fixture(scope="module")
def drawn(whuohs_root, tmp_path_factory):
    """A run with the maps of three tiles, and its plan. Tiles know where they lie, except those of one city."""
    root = shutil.copytree(whuohs_root, tmp_path_factory.mktemp("archive") / "whuohs")
    (request,) = requests("frozen", "whu_region/s2t", root=root, preset_name="quick", training=TINY)
    made = plan(request)
    for position in made.split.target:
        row = made.dataset.index.iloc[position]
        if row["city"] != NOWHERE:
            with rasterio.open(row["image"], "r+") as file:
                file.crs, file.transform = utm()["crs"], utm(left=1000.0 * position)["transform"]
    done = execute(made, tmp_path_factory.mktemp("maps"), RuntimeOptions(device="cpu"))
    files = write_maps(restore_run(done.folder), made, 3, torch.device("cpu"))
    return done, made, files


def named(files, ending):
    return [path for path in files if path.name.endswith(ending)]


def test_three_files_a_tile_from_different_sub_domains(drawn):
    done, made, files = drawn
    assert sorted(path.name for path in (done.folder / "maps").iterdir()) == sorted(path.name for path in files)
    pictures = named(files, ".png")
    assert len(pictures) == 3
    assert len({made.split.subdomains[path.stem] for path in pictures}) == 3
    assert all(imread(path)[..., :3].std() > 0.05 for path in pictures)


def test_maps_hold_the_codes_whose_counts_were_recorded(drawn):
    done, made, files = drawn
    classes = made.dataset.classes
    ids = {c.code: i for i, c in enumerate(classes)}
    for path in named(files, "-prediction.tif"):
        tile = path.name.removesuffix("-prediction.tif")
        position = made.dataset.index.index[made.dataset.index["tile"] == tile][0]
        truth = made.dataset.read(position)["mask"].numpy()
        with rasterio.open(path) as file, rasterio.open(path.with_name(f"{tile}-error.tif")) as errors:
            codes, error = file.read(1), errors.read(1)
            assert file.colormap(1)[classes[0].code][:3] == tuple(bytes.fromhex(classes[0].color[1:]))
            assert errors.nodata == UNLABELLED
        matrix = confusion_matrix(truth, np.vectorize(ids.__getitem__)(codes), len(classes), 255)
        counts = done.counts("target")
        counts = counts[counts["tile"] == tile]
        recorded = np.zeros_like(matrix)
        recorded[counts["truth"], counts["prediction"]] = counts["count"]
        np.testing.assert_array_equal(matrix, recorded)
        assert (error == RIGHT).sum() == np.trace(matrix)
        assert (error == WRONG).sum() == matrix.sum() - np.trace(matrix)
        np.testing.assert_array_equal(error == UNLABELLED, truth == 255)


def test_a_map_lies_where_its_tile_says_that_it_lies(drawn):
    _, made, files = drawn
    images = made.dataset.index.set_index("tile")["image"]
    placed = 0
    for path in named(files, ".tif"):
        tile = path.name.rpartition("-")[0]
        with rasterio.open(path) as file, rasterio.open(images[tile]) as image:
            assert (file.crs, file.transform, file.shape) == (image.crs, image.transform, image.shape)
            placed += file.crs is not None
    assert placed == 4


def test_more_tiles_than_there_are_gives_all(drawn, tmp_path):
    done, made, _ = drawn
    few = made.split.target[:2]
    index = pd.Index(made.dataset.index["tile"].iloc[few])
    smaller = type(made.split)(**{**vars(made.split), "target": few})
    files = write_maps(restore_run(done.folder), type(made)(**{**vars(made), "split": smaller}), 9, torch.device("cpu"))
    assert {path.stem for path in named(files, ".png")} == set(index)
