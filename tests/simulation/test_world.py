"""The second generation of simulated archives: the same pixels everywhere, draws, and a shift with named parts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from spectral_tl_bench.cli.main import main
from spectral_tl_bench.sensors import SENTINEL2
from spectral_tl_bench.simulation import ARCHIVES, default_archive, read_marker, simulate_archive
from spectral_tl_bench.simulation.archives import find_archive
from spectral_tl_bench.simulation.world import PARTS, World, parse_shift, reference_difference
from spectral_tl_bench.simulation.world.digests import reference_digests
from spectral_tl_bench.simulation.world.integers import LatticeFields, hashed, sensor_noise
from spectral_tl_bench.simulation.world.landscape import WRONG_LABELS, Landscape
from spectral_tl_bench.simulation.world.materials import GRID, band_responses, material
from spectral_tl_bench.utils.errors import DataError

SMALL = {"tiles": 0.05, "tile_size": 16, "generation": 2}
PROCESSORS = [
    {},
    {"OPENBLAS_CORETYPE": "Zen"},
    {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"},
    {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX"},
]
DIGESTS = """
import sys, tempfile
from spectral_tl_bench.simulation import ARCHIVES, read_marker, simulate_archive
for name in ARCHIVES:
    with tempfile.TemporaryDirectory() as folder:
        root = simulate_archive(name, folder, generation=2, tiles=0.05, tile_size=16)
        print(name, read_marker(root)["digest"])
"""


def digest(root):
    return read_marker(root)["digest"]


@pytest.mark.slow
def test_pixels_are_the_same_under_other_processors_and_thread_counts():
    processes = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DIGESTS], env=os.environ | other, capture_output=True, text=True
        )
        for other in PROCESSORS
    ]
    assert all(process.returncode == 0 for process in processes), [process.stderr for process in processes]
    outputs = {process.stdout for process in processes}
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == len(ARCHIVES)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_draw_is_repeated_exactly_and_another_is_another_world(tmp_path, name):
    first, again, other = (
        simulate_archive(name, tmp_path / folder, draw=draw, **SMALL) for folder, draw in (("a", 3), ("b", 3), ("c", 4))
    )
    assert digest(first) == digest(again) != digest(other)
    conditions = [read_marker(root)["conditions"] for root in (first, other)]
    assert all(conditions[0][region] != conditions[1][region] for region in conditions[0])


def test_marker_records_draw_shift_and_conditions(tmp_path):
    marker = read_marker(simulate_archive("mts12", tmp_path / "m", draw=2, shift={"light": 0.5}, **SMALL))
    assert (marker["generator_version"], marker["draw"], marker["wrong_labels"]) == (2, 2, WRONG_LABELS)
    assert marker["shift"] == {**dict.fromkeys(PARTS, 1.0), "light": 0.5}
    assert set(marker["conditions"]) == {"north", "south"}
    assert len(marker["conditions"]["north"]["haze"]) == 4


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("shares", {"shares", "composition"}),
        ("texture", {"patch_size", "parcel_size", "texture_size"}),
        ("phenology", {"greenness", "canopy"}),
        ("soil", {"soils", "ground", "water"}),
        ("light", {"brightness", "slope", "haze"}),
        ("noise", {"noise"}),
    ],
)
def test_a_part_without_shift_is_equal_in_all_domains_and_leaves_the_others_alone(part, fields):
    archive = find_archive("dfc2020")
    usual = {name: vars(c) for name, c in World(archive, draw=1).conditions.items()}
    without = {name: vars(c) for name, c in World(archive, draw=1, shift={part: 0}).conditions.items()}
    regions = list(usual)
    for field in usual[regions[0]]:
        values = [without[region][field] for region in regions]
        if field in fields:
            assert all(np.array_equal(values[0], value) for value in values), field
            assert not np.array_equal(usual[regions[0]][field], usual[regions[-1]][field])
        else:
            assert all(np.array_equal(without[region][field], usual[region][field]) for region in regions), field


def test_a_factor_multiplies_the_deviations_of_its_part():
    archive = find_archive("mts12")
    once, twice = (World(archive, draw=0, shift={"phenology": factor}).conditions["north"] for factor in (1, 2))
    assert twice.canopy == pytest.approx(2 * once.canopy)


@pytest.mark.parametrize(("text", "factors"), [("", {}), ("shares=0, light=2.5", {"shares": 0.0, "light": 2.5})])
def test_shift_is_parsed(text, factors):
    assert parse_shift(text) == factors


@pytest.mark.parametrize("text", ["shares", "shares=much", "shares=1,shares=2", "shares=nan", "weather=1", "noise=11"])
def test_a_wrong_shift_is_refused(text):
    with pytest.raises(DataError, match="shift"):
        parse_shift(text)


def status(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", "simulate", *map(str, arguments)])
    return ended.value.code


def test_command_writes_the_draw_with_its_shift(tmp_path, capsys):
    options = ["--generation", "2", "--draw", "7", "--shift", "shares=0,noise=2", "--tile-size", "8"]
    assert status("mts12", tmp_path / "m", *options) == 0
    marker = read_marker(tmp_path / "m")
    assert (marker["draw"], marker["shift"]["shares"], marker["shift"]["noise"]) == (7, 0.0, 2.0)
    assert status("mts12", tmp_path / "x", "--generation", 2, "--shift", "sun=1") == 2
    assert "its parts are shares" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_default_archives_of_draws_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path))
    root = default_archive("mts12", generation=2)
    assert root == tmp_path / "simulated" / "mts12-v2-d0"
    assert digest(root) == reference_digests()["mts12"]["0"]
    assert reference_difference(root) is None
    marker = read_marker(root)
    (root / "SIMULATED.json").write_text(json.dumps({**marker, "digest": "0" * 64}))
    assert "mts12, draw 0: the pixels differ" in reference_difference(root)
    (root / "SIMULATED.json").write_text(json.dumps({**marker, "digest": "0" * 64, "tile_size": 32}))
    assert reference_difference(root) is None


def test_every_archive_has_the_reference_digest_of_its_default_draw():
    assert {name: sorted(draws) for name, draws in reference_digests().items()} == {name: ["0"] for name in ARCHIVES}


def landscape(shares_of="dfc2020"):
    world = World(find_archive(shares_of))
    region = world.regions[0]
    return Landscape(world._covers, world.conditions[region.name], ("test", region.name), 64)


def test_neighbouring_crops_show_one_landscape():
    scene = landscape()
    whole, left, right = scene.crop(0, 0, 64), scene.crop(0, 0, 32), scene.crop(0, 32, 32)
    assert np.array_equal(whole.labels[:32], np.hstack((left.labels, right.labels)))
    assert np.array_equal(whole.weights[:34, :34], left.weights)
    assert np.array_equal(whole.weights[:34, 32:], right.weights)


def test_weights_are_whole_numbers_whose_products_float64_holds_exactly():
    weights = landscape().crop(0, 0, 64).weights
    assert np.array_equal(weights, np.rint(weights))
    # Times the largest spectrum, in steps of 1e-5, and twelve terms.
    assert np.abs(weights).max() * 2e5 * 12 < 2**53


def test_landscape_has_its_shares_and_few_classes_in_a_tile():
    scene = landscape()
    grid = np.ones((10, 10), dtype=bool)
    scene.calibrate(64, grid)
    crop = scene.crop(0, 0, 640)
    shares = World(find_archive("dfc2020")).conditions["BlackForest"].shares
    found = [np.mean(crop.labels == code) for code in (1, 2, 4, 5, 6, 7, 9, 10)]
    assert found == pytest.approx(shares, abs=0.03)
    tiles = crop.labels.reshape(10, 64, 10, 64).swapaxes(1, 2).reshape(100, -1)
    assert 2 < np.mean([len(np.unique(tile)) for tile in tiles]) < 6.5
    wrong = crop.labels != np.array([1, 2, 4, 5, 6, 7, 9, 10])[crop.covers[1:-1, 1:-1]]
    assert np.mean(wrong) == pytest.approx(WRONG_LABELS, abs=0.01)


def test_fields_have_unit_variance_and_do_not_depend_on_the_crop():
    fields = LatticeFields(("test",), 3, 7.3)
    whole = fields(np.arange(400), np.arange(400))
    assert whole.std(axis=(1, 2)) == pytest.approx([1, 1, 1], abs=0.1)
    part = fields(np.arange(100, 120), np.arange(350, 400, 7), which=[2])
    assert np.array_equal(part[0], whole[2, 100:120, 350:400:7])
    assert np.abs(np.corrcoef(whole.reshape(3, -1)) - np.eye(3)).max() < 0.15


def test_hashes_and_noise_are_these_numbers():
    bits = hashed(5, np.array([0, 1, -1]), np.array([7, 7, 7]))
    assert bits.tolist() == EXPECTED_BITS
    noise = sensor_noise((200, 200), "test")
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


EXPECTED_BITS = [12689182252494876846, 8622268509809562553, 7043269464911678398]


def test_spectra_have_the_marks_of_their_materials():
    def at(name, wavelength):
        return material(name)[0][np.abs(GRID - wavelength).argmin()]

    assert at("broadleaf", 860) > 5 * at("broadleaf", 670)
    assert at("red_soil", 1650) > at("red_soil", 670) > at("red_soil", 480)
    assert at("clear_water", 860) < 0.02 < at("turbid_water", 560)
    assert at("algal_water", 705) > at("algal_water", 675)
    assert at("snow", 560) > 0.7 > 0.2 > at("snow", 1610)


def test_bands_average_the_spectrum_over_their_width():
    responses = band_responses(SENTINEL2.bands)
    assert responses.sum(axis=1) == pytest.approx(1)
    assert responses @ GRID == pytest.approx(SENTINEL2.wavelengths, abs=4)
    widths = np.sqrt(((GRID - np.array(SENTINEL2.wavelengths)[:, None]) ** 2 * responses).sum(axis=1))
    assert widths[7] > 3 * widths[8]


def test_tags_name_generation_and_draw(tmp_path):
    root = simulate_archive("dfc2020", tmp_path / "d", draw=5, **SMALL)
    with rasterio.open(next(root.rglob("s2_*/*.tif"))) as file:
        assert "generator 2, draw 5" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
