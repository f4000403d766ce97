"""docs/your-tiles.md, followed to the letter on small files of the kind that it speaks of."""

import shlex

import numpy as np
import pandas as pd
import pytest
from archives import utm, write_mat, write_tif
from campaign import NODATA, USED, WAVELENGTHS, blocks, describe, draw, image, rectangle, write_campaign
from command_line import command
from tiny_run import TINIEST

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_campaign(folder)
    return folder


def test_every_command_of_the_page_does_what_it_says(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    for line in blocks("bash")[0].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "spectral-bench"
        if "lora" in line:
            # As few steps as it gets; the page's own takes a minute.
            arguments += [f"--train={name}={value}" for name, value in TINIEST.items()]
        done = command(capfd, *arguments)
        assert done.status == 0, done.err
        if arguments[0] == "data":
            assert "bands without data in any tile are left out, 1 of them: B8" in " ".join(done.out.split())
        else:
            assert "south" in done.out
    (table,) = folder.glob("runs/campaign/pixel_forest-*/table.csv")
    # Spectra tell this land apart: any other score would mean that labels and pixels do not meet.
    scores = pd.read_csv(table).set_index("domain")["mIoU"]
    assert scores["south"] > 90


def test_the_files_say_bands_nodata_and_place(folder):
    dataset = open_dataset(load_protocols(str(folder / "campaign.yaml"))[0].file, folder / "campaign")
    wanted = [w for w in USED if w != WAVELENGTHS[7]]
    np.testing.assert_allclose([band.wavelength for band in dataset.sensor.bands], wanted, atol=0.01)
    mask = dataset[0]["mask"].numpy()
    assert (mask[:3, :3] == 255).all()
    assert (mask[:, 15] == 255).all()
    assert (mask[3:, :8] == 0).all()
    assert (mask[:, 8:15] == 1).all()


def test_the_ground_truth_scene_of_the_page_is_cut_and_planned(tmp_path):
    rows, columns = 610, 32
    codes = np.random.default_rng(0).integers(0, 10, (rows, columns)).astype("uint8")
    cube = np.random.default_rng(1).integers(200, 4000, (rows, columns, 103)).astype("uint16")
    write_mat(tmp_path / "root" / "PaviaU.mat", paviaU=cube)
    write_mat(tmp_path / "root" / "PaviaU_gt.mat", paviaU_gt=codes)
    (tmp_path / "pavia.yaml").write_text(blocks("yaml")[2])
    (request,) = requests(
        "frozen", str(tmp_path / "pavia.yaml"), root=tmp_path / "root", preset_name="quick", weights="none"
    )
    ready = plan(request)
    assert len(ready.dataset) == 38 * 2
    assert len(ready.split.target) == 18 * 2
    assert len(ready.split.training) + len(ready.split.held_out) == 19 * 2
    np.testing.assert_array_equal(ready.dataset[0]["mask"].numpy(), np.where(codes == 0, 255, codes - 1.0)[:16, :16])


def test_nothing_was_written_beside_the_files_but_what_is_remembered(folder):
    assert {path.name for path in (folder / "campaign").iterdir()} <= {
        *("tiles.csv", "images", "labels.gpkg", ".spectral_tl_bench"),
    }


def test_the_scene_of_the_page_is_cut_and_planned(tmp_path):
    path = write_tif(tmp_path / "root" / "mosaic.tif", image(80, 48), **utm(), nodata=NODATA)
    describe(path)
    root = tmp_path / "root"
    draw(root / "labels.gpkg", "class", [("meadow", rectangle(0, 0, 24, 80)), ("forest", rectangle(24, 0, 24, 80))])
    halves = [("north", rectangle(0, 0, 48, 48)), ("south", rectangle(0, 64, 48, 16))]
    draw(root / "regions.geojson", "region", halves)
    (tmp_path / "mosaic.yaml").write_text(blocks("yaml")[1])
    (request,) = requests(
        "frozen", str(tmp_path / "mosaic.yaml"), root=tmp_path / "root", preset_name="quick", weights="none"
    )
    ready = plan(request)
    assert ready.dataset.index["region"].value_counts().to_dict() == {"north": 9, "south": 3}
    assert ready.spec.training.image_size == 16
    assert len(ready.split.target) == 3
    assert len(ready.split.held_out) >= 1
