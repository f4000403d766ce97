"""spectral-bench predict as it is typed, from a run to its map."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from archives import random_image, utm, write_tif

from spectral_tl_bench.cli.main import main

TINY = [
    f"--train={setting}"
    for setting in ("image_size=32", "batch_size=4", "segmentation_steps=2", "validations=1", "decoder_channels=8")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, whuohs_root):
    """The folder of a run on OHS, made from the command line with maps of two tiles."""
    out = tmp_path_factory.mktemp("predict") / "runs"
    arguments = ["run", "--method", "frozen", "--protocol", "whu_region/s2t", "--root", whuohs_root, "--maps", 2]
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in (*arguments, "--preset", "quick", "--out", out, *TINY)])
    assert not done.value.code
    (config,) = out.rglob("run.yaml")
    return config.parent


@pytest.fixture
def predict(capsys, monkeypatch, tmp_path, folder):
    """Run the command; returns exit status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def do(*arguments, run=folder):
        with pytest.raises(SystemExit) as done:
            main(["predict", str(run), *(str(a) for a in arguments)])
        printed = capsys.readouterr()
        return done.value.code or 0, printed.out, printed.err

    return do


@pytest.fixture
def scene(tmp_path):
    return write_tif(tmp_path / "scene.tif", random_image(32, size=80), **utm())


def refused(result, *parts):
    status, _, err = result
    assert status == 2
    assert err.startswith("spectral-bench: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_run_writes_maps_of_some_tiles(folder):
    endings = [path.name.rpartition("-")[2] for path in (folder / "maps").glob("*.tif")]
    assert sorted(endings) == ["error.tif"] * 2 + ["prediction.tif"] * 2
    assert len(list((folder / "maps").glob("*.png"))) == 2


def test_a_scene_becomes_a_map_and_the_command_says_what_is_in_it(predict, scene):
    status, out, err = predict(scene, "maps/map.tif", "--confidence", "sure.tif")
    assert (status, err) == (0, "")
    assert "SIMULATED: frozen on whu_region/s2t" in out
    assert "80 x 80 px" in out
    assert "s left" in out
    assert "%" in out
    assert "px/s" in out
    with rasterio.open("maps/map.tif") as found, rasterio.open("sure.tif") as sure:
        assert found.crs.to_epsg() == 32650
        assert found.tags()["SIMULATED"]
        assert set(np.unique(found.read(1))) <= set(range(1, 25))
        assert sure.read(1).max() <= 100


def test_nothing_that_is_there_is_lost(predict, scene):
    Path("map.tif").write_text("precious")
    refused(predict(scene, "map.tif"), "map.tif exists", "--force")
    assert Path("map.tif").read_text() == "precious"
    before = scene.read_bytes()
    refused(predict(scene, scene, "--force"), "the scene itself")
    assert scene.read_bytes() == before
    refused(predict(scene, "new.tif", "--confidence", "new.tif"), "--confidence")
    refused(predict(scene, "new.png"), "new.png", ".tif")
    assert predict(scene, "map.tif", "--force")[0] == 0


def test_show_writes_the_same_maps_later(folder, tmp_path, capsys):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("maps"))
    with pytest.raises(SystemExit) as done:
        main(["show", str(copy), "--maps", "2"])
    assert not done.value.code
    assert f"6 maps in {copy / 'maps'}" in capsys.readouterr().out
    for path in (folder / "maps").iterdir():
        assert (copy / "maps" / path.name).read_bytes() == path.read_bytes()


def test_what_does_not_fit_gets_one_line_and_leaves_no_file(predict, scene, folder, tmp_path):
    small = write_tif(tmp_path / "small.tif", random_image(4, size=20), **utm())
    refused(predict(small, "map.tif"), "small.tif", "4 bands", "32", "--bands")
    refused(predict(small, "map.tif", "--bands", "1-4"), "--bands names 4 bands", "32")
    refused(predict(tmp_path / "none.tif", "map.tif"), "none.tif")
    refused(predict(scene, "map.tif", "--weights", "none"), "--weights PATH")
    refused(predict(scene, "map.tif", run=tmp_path), "not the folder of a run")
    refused(predict(scene, "map.tif", run=folder.parent), "did you mean", folder.name)
    nowhere = write_tif(tmp_path / "nowhere.tif", random_image(32, size=20))
    refused(predict(nowhere, "map.tif"), "no coordinate reference system", "--without-crs")
    assert not Path("map.tif").exists()
    assert predict(nowhere, "map.tif", "--without-crs")[0] == 0


def test_pixels_of_another_size_get_a_note(predict, tmp_path):
    place = rasterio.transform.from_origin(500_000, 4_000_000, 30, 30)
    coarse = write_tif(tmp_path / "coarse.tif", random_image(32, size=40), **utm() | {"transform": place})
    status, out, _ = predict(coarse, "map.tif")
    assert status == 0
    assert "a pixel of the scene is 30 m, the run was trained on 10 m" in out


def test_maps_of_a_model_that_is_not_kept_are_refused_before_anything_is_fitted(capsys, tmp_path, whuohs_root):
    from spectral_tl_bench.baselines import pixel_forest

    method = f"{pixel_forest.__file__}:PixelForest"
    run = ["run", "--method", method, "--protocol", "whu_region/s2t", "--root", str(whuohs_root)]
    with pytest.raises(SystemExit) as done:
        main([*run, "--out", str(tmp_path / "runs"), "--maps", "1"])
    refused((done.value.code, "", capsys.readouterr().err), "--maps")
    assert not list((tmp_path / "runs").rglob("run.yaml"))
