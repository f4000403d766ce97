"""What would spoil figures silently is said in one line before anything trains, by a run and by `data check` alike."""

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
from archives import random_image, random_label, utm, write_own_tiles, write_tif

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.utils.errors import SpectralBenchError

PROTOCOL = """
title: From the coast inland
dataset: tiles
sensor: {name: four, bands: {b: 490, g: 560, r: 660, n: 840}, rgb: [r, g, b]}
classes: [{code: 10, name: trees, color: "#00aa00"}, {code: 20, name: grass, color: "#aaff00"}]
ignore: [30]
folder: {tile: name, block: sheet}
source: {region: coast}
target: {region: inland}
by: region
"""


@pytest.fixture
def root(tmp_path):
    """Tiles 000 to 003 are source, two of them held out, and 004 to 007 target."""
    return write_own_tiles(tmp_path / "tiles")


@pytest.fixture
def protocol(tmp_path):
    path = tmp_path / "coast.yaml"
    path.write_text(PROTOCOL)
    return path


def planned(protocol, root, **choices):
    # As large as the tiles, so that nothing is to be said of that.
    choices = {"training": {"image_size": 16}} | choices
    (request,) = requests("frozen", str(protocol), root=root, preset_name="quick", **choices)
    return plan(request)


def image(root, number):
    return root / "images" / f"{number:03d}.tif"


def label(root, number):
    return root / "labels" / f"{number:03d}.tif"


def without_class(*numbers):
    def spoil(root):
        for number in numbers:
            write_tif(label(root, number), random_label([30]))

    return spoil


def unknown_code(number):
    def spoil(root):
        codes = random_label([10, 20])
        codes[3, 5] = 77
        write_tif(label(root, number), codes)

    return spoil


def same_image(link):
    def spoil(root):
        image(root, 6).unlink()
        link(image(root, 1), image(root, 6))

    return spoil


def link_within(source, target):
    """A link to a link."""
    between = target.parent.parent / "between.tif"
    between.symlink_to(source)
    target.symlink_to(between)


def complex_image(root):
    write_tif(image(root, 5), random_image(4).astype("complex64"))


def complex_label(root):
    write_tif(label(root, 5), random_label([10]).astype("complex64"))


def huge_image(root):
    profile = {"width": 40_000, "height": 40_000, "count": 4, "dtype": "int16", "tiled": True, "sparse_ok": True}
    rasterio.open(image(root, 5), "w", driver="GTiff", **profile).close()


def repacked(source, target):
    """The same pixels in other bytes."""

    def spoil(root):
        with rasterio.open(image(root, source)) as file:
            write_tif(image(root, target), file.read(), compress="deflate", predictor=2)

    return spoil


def band_without_data(*numbers, value=0):
    def spoil(root):
        for number in numbers:
            pixels = random_image(4, number, dtype="int16")
            pixels[2] = value
            write_tif(image(root, number), pixels)

    return spoil


def one_class_each(root):
    for number in range(8):
        write_tif(label(root, number), random_label([10, 30] if number < 4 else [20, 30], number))


def labels_beside_the_data(root):
    for number in (4, 5, 6, 7):
        pixels, codes = random_image(4, number, dtype="int16"), random_label([10, 20], number)
        pixels[:, :8], codes[8:] = -1, 30
        write_tif(image(root, number), pixels, nodata=-1)
        write_tif(label(root, number), codes)


def reflectance(factor, *numbers):
    def spoil(root):
        for number in numbers:
            write_tif(image(root, number), random_image(4, number, dtype="float32") * np.float32(factor))

    return spoil


SPOILED = {
    "same pixels packed otherwise": (repacked(1, 6), ["images/006.tif", "images/001.tif", "must not test"]),
    "held out and training": (repacked(0, 2), ["images/000.tif", "images/002.tif", "must not select"]),
    "band without data in source": (band_without_data(0, 1, 2, 3), ["coast: band r", "4 source tiles", "'bands'"]),
    "band of one value in target": (band_without_data(4, 5, 6, 7, value=500), ["coast: band r", "4 target tiles"]),
    "no class in common": (one_class_each, ["no class in common", "have trees", "target grass"]),
    "labels where there is no data": (
        labels_beside_the_data,
        ["of its 4 target tiles, no pixel with a class", "nodata"],
    ),
    "already reflectance": (reflectance(1e-4, 0, 1, 2, 3), ["source tiles is 3", "e-05", "10000 cannot be", "'scale'"]),
    "another scale in target": (reflectance(100, 4, 5, 6, 7), ["target tiles is 3", "10000 cannot be"]),
    "unknown code in a target tile": (unknown_code(6), ["labels/006.tif", "label code 77", "'ignore'"]),
    "unknown code in a source tile": (unknown_code(1), ["labels/001.tif", "label code 77"]),
    "no class in source": (without_class(0, 1, 2, 3), ["coast: no pixel of its 2 source training tiles", "30"]),
    "no class in training": (without_class(2, 3), ["coast: no pixel of its 2 source training tiles has a class", "30"]),
    "no class in held-out": (without_class(0, 1), ["coast: no pixel of its 2 held-out source tiles has a class"]),
    "no class in target": (without_class(4, 5, 6, 7), ["coast: no pixel of its 4 target tiles has a class"]),
    "copy": (same_image(shutil.copyfile), ["images/006.tif", "images/001.tif", "must not test"]),
    "hard link": (same_image(os.link), ["images/006.tif", "images/001.tif", "must not test"]),
    "link": (same_image(link_within), ["images/006.tif", "images/001.tif", "must not test"]),
    "complex image": (complex_image, ["images/005.tif", "complex64", "magnitude"]),
    "complex label": (complex_label, ["labels/005.tif", "complex64"]),
    "huge image": (huge_image, ["images/005.tif", "40000 x 40000", "23.8 GiB", "SPECTRAL_TL_BENCH_TILE_GIB=24"]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_run_and_a_check_refuse_it_in_one_line(root, protocol, name, capsys):
    spoil, parts = SPOILED[name]
    planned(protocol, root)
    spoil(root)
    with pytest.raises(SpectralBenchError) as caught:
        planned(protocol, root)
    assert caught.value.exit_status == 2
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(protocol), str(root), "--json"])
    assert stopped.value.code == 1
    problems = [problem["message"] for problem in json.loads(capsys.readouterr().out)["problems"]]
    for message in (str(caught.value), *problems[:1]):
        assert "\n" not in message
        for part in parts:
            assert part in message


def test_a_sound_archive_passes_both(root, protocol, capsys):
    planned(protocol, root)
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(protocol), str(root), "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def notes_of(protocol, root, capsys):
    """What a run says, and the check with it."""
    notes = planned(protocol, root).notes
    with pytest.raises(SystemExit) as stopped:
        main(["data", "check", str(protocol), str(root), "--json"])
    assert stopped.value.code == 0
    assert set(notes) <= set(json.loads(capsys.readouterr().out)["notes"])
    assert all("\n" not in note for note in notes)
    return notes


def test_a_sound_archive_gives_no_note(root, protocol, capsys):
    assert notes_of(protocol, root, capsys) == ()


def test_the_same_site_on_both_sides_is_noted_with_its_share(root, protocol, capsys):
    places = {0: 0, 1: 800, 2: 1600, 3: 2400, 4: 20, 5: 960, 6: 5000, 7: 6000}
    for number, left in places.items():
        write_tif(image(root, number), random_image(4, number, dtype="int16"), **utm(500_000 + left))
    (note,) = notes_of(protocol, root, capsys)
    # 16 px of 10 m: tile 4 lies across tile 0, tile 5 only touches tile 1.
    assert "1 of 4 target tiles (25 %) lie where source tiles lie" in note


def test_a_class_that_no_training_tile_has_is_noted(root, protocol, capsys):
    for number in (2, 3):
        write_tif(label(root, number), random_label([10, 30], number))
    (note,) = notes_of(protocol, root, capsys)
    assert "grass occur in the target and in no training tile" in note


@pytest.mark.parametrize(("one", "other"), [(2, 3), (4, 7)])
def test_an_image_twice_on_one_side_is_noted(root, protocol, one, other, capsys):
    repacked(one, other)(root)
    (note,) = notes_of(protocol, root, capsys)
    assert "1 tiles show the same image as another on their side" in note
    assert f"{other:03d}.tif" in note


def test_a_source_too_small_for_a_margin_is_noted(root, protocol, capsys):
    for number in range(8):
        write_tif(image(root, number), random_image(4, number, dtype="int16"), **utm(500_000 + 160 * number))
    (note,) = notes_of(protocol, root, capsys)
    assert "too small for a margin" in note


def test_a_band_with_data_in_one_tile_is_enough(root, protocol):
    band_without_data(0, 1, 2)(root)
    planned(protocol, root)


def test_water_alone_in_the_first_tiles_is_no_wrong_scale(root, protocol):
    reflectance(1e-4, 0, 1, 2)(root)
    planned(protocol, root)


def test_changed_labels_are_another_run(root, protocol):
    before = planned(protocol, root).spec
    write_tif(label(root, 6), random_label([10, 20], seed=99))
    after = planned(protocol, root).spec
    assert before.digest != after.digest
    assert before.model_copy(update={"data": after.data}) == after


def test_tiles_outside_the_protocol_change_nothing(root, protocol):
    protocol.write_text(
        PROTOCOL.replace("target: {region: inland}", "target: {region: inland, name: [004.tif, 005.tif]}")
    )
    before = planned(protocol, root).spec
    unknown_code(7)(root)
    assert planned(protocol, root).spec == before


def test_tiles_with_nothing_to_see_may_be_alike(root, protocol):
    for number in (1, 6):
        write_tif(image(root, number), np.zeros((4, 16, 16), np.int16))
    planned(protocol, root)


def test_labels_may_be_alike(root, protocol):
    for number in range(8):
        write_tif(label(root, number), np.full((16, 16), 10, np.uint8))
    planned(protocol, root)


def test_few_labels_without_a_class_are_refused(root, protocol):
    training = planned(protocol, root).split.training.tolist()
    few = planned(protocol, root, training={"label_fraction": 0.5})
    assert len(training) == 2
    refused = []
    for number in training:
        without_class(number)(root)
        try:
            planned(protocol, root, training={"label_fraction": 0.5})
        except SpectralBenchError as error:
            refused.append(str(error))
        write_tif(label(root, number), random_label([10]))
    assert few.spec.training.label_fraction == 0.5
    (message,) = refused
    assert "no pixel of its 1 source training tiles has a class" in message


def test_the_largest_tile_can_be_set(root, protocol, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_TILE_GIB", "0.000001")
    with pytest.raises(SpectralBenchError, match="a tile may take 1e-06"):
        planned(protocol, root)
    monkeypatch.setenv("SPECTRAL_TL_BENCH_TILE_GIB", "many")
    with pytest.raises(SpectralBenchError, match="set it to a number of GiB"):
        planned(protocol, root)
    monkeypatch.setenv("SPECTRAL_TL_BENCH_TILE_GIB", "4")
    planned(protocol, root)


def test_a_protocol_of_ones_own_without_tiles_is_a_problem_of_the_check(root, protocol, capsys):
    protocol.write_text(PROTOCOL.replace("{region: inland}", "{region: alps}"))
    with pytest.raises(SystemExit):
        main(["data", "check", str(protocol), str(root), "--json"])
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "selects no target tiles" in problem["message"]
