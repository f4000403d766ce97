import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import rasterio
from scipy.io import loadmat

from spectral_tl_bench.datasets import dataset_class
from spectral_tl_bench.simulation import (
    ARCHIVES,
    GENERATOR_VERSION,
    MARKER_NAME,
    default_archive,
    read_marker,
    simulate_archive,
)
from spectral_tl_bench.simulation.archives import tile_counts
from spectral_tl_bench.simulation.covers import DFC2020
from spectral_tl_bench.simulation.landscape import Landscape
from spectral_tl_bench.testing import check_dataset
from spectral_tl_bench.utils.errors import DataError, UnknownNameError

GENERATIONS = 1, 2
LABELLED_EVERYWHERE = {"dfc2020", "ohs_sentinel2"}


def pixels(root):
    """Every image and label of an archive by path."""
    found = {}
    for path in sorted(root.rglob("*.tif")):
        with rasterio.open(path) as file:
            found[str(path.relative_to(root))] = file.read()
    for path in sorted(root.rglob("*.mat")):
        found[str(path.relative_to(root))] = loadmat(path)["label"]
    return found


@pytest.fixture(scope="module", params=GENERATIONS)
def archives(request, tmp_path_factory):
    root, options = tmp_path_factory.mktemp("simulated"), {"tiles": 0.25, "tile_size": 32}
    return {name: simulate_archive(name, root / name, generation=request.param, **options) for name in ARCHIVES}


@pytest.mark.parametrize("name", ARCHIVES)
def test_reader_of_the_real_archive_accepts_the_simulated_one(archives, name):
    dataset = dataset_class(name)(archives[name])
    marker = read_marker(archives[name])
    assert len(dataset) == marker["tiles"] == sum(marker["tiles_by_region"].values())
    sample = dataset.read(0)
    assert sample["image"].shape == (len(dataset.sensor.bands), 32, 32)
    assert 0 < sample["image"].mean() < 0.6


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_dataset_keeps_every_contract(archives, name):
    check_dataset(dataset_class(name), archives[name])


@pytest.mark.parametrize("name", ARCHIVES)
def test_types_and_codes_are_those_of_the_real_archive(archives, name):
    codes = set()
    for path, array in pixels(archives[name]).items():
        if "label" in path:
            assert array.dtype == np.uint8
            codes |= set(np.unique(array).tolist())
        else:
            assert array.dtype == np.uint16
            assert array.min() > 0
    expected = {land.code for land in dataset_class(name).all_classes}
    assert codes == (expected if name in LABELLED_EVERYWHERE else expected | {0})


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("whuohs", "side", "S T O"),
        ("whuohs", "split", "train val test"),
        ("dfc2020", "season", "spring summer autumn winter"),
        ("dfc2020", "region", "BlackForest Chabarovsk BandarAnzali CapeTown Mumbai KippaRing MexicoCity"),
        ("mts12", "half", "north south"),
        ("mts12", "split", "train val test"),
    ],
)
def test_every_domain_is_there(archives, name, column, values):
    assert set(dataset_class(name)(archives[name]).index[column]) == set(values.split())


def test_whu_ohs_has_all_cities_and_lacks_one_class_on_each_side(archives):
    dataset = dataset_class("whuohs")(archives["whuohs"])
    assert Counter(dataset.index.groupby("side")["pair"].nunique().to_dict()) == {"S": 8, "T": 8, "O": 26}
    codes = {"S": set(), "T": set()}
    for side, path in zip(dataset.index["side"], dataset.index["label"], strict=True):
        if side in codes:
            codes[side] |= set(np.unique(dataset.read_label(path)).tolist())
    assert codes["S"] - {0} == set(range(1, 25)) - {20}
    assert codes["T"] - {0} == set(range(1, 25)) - {18}


@pytest.mark.parametrize("name", ["dfc2020", "mts12"])
def test_georeferenced_tiles_do_not_overlap(archives, name):
    index = dataset_class(name)(archives[name]).index
    assert index.geometry.notna().all()
    assert not index.geometry.is_empty.any()
    metric = index.geometry.to_crs("EPSG:6933")
    assert metric.union_all().area == pytest.approx(metric.area.sum(), rel=1e-3)


@pytest.mark.parametrize("name", ARCHIVES)
def test_same_seed_gives_the_same_pixels_and_another_seed_others(tmp_path, name):
    small = {"tiles": 0.02, "tile_size": 16}
    first = pixels(simulate_archive(name, tmp_path / "a", **small))
    again = pixels(simulate_archive(name, tmp_path / "b", **small))
    other = pixels(simulate_archive(name, tmp_path / "c", seed=1, **small))
    assert first.keys() == again.keys() == other.keys()
    assert all(np.array_equal(first[path], again[path]) for path in first)
    images = [path for path in first if "image" in path]
    assert not any(np.array_equal(first[path], other[path]) for path in images)


@pytest.mark.parametrize("name", ARCHIVES)
def test_real_counts_are_the_published_ones(name):
    archive = ARCHIVES[name]
    regions = archive.regions(0)
    tiles = list(archive.tiles(regions, tile_counts(regions, "real")))
    expected = dataset_class(name).expected_counts
    assert len({tile.image for tile in tiles}) == len(tiles)
    if "side" in expected:
        assert Counter(t.region.name[0] for t in tiles) == {**expected["side"], "O": 4881}
        assert Counter(t.image.parts[0] for t in tiles) == {"tr": 4822, "val": 513, "ts": 2460}
    if "region" in expected:
        assert Counter(t.region.name for t in tiles) == expected["region"]
    if "half" in expected:
        assert Counter(t.region.name for t in tiles) == expected["half"]
        assert Counter(t.image.parts[1] for t in tiles) == expected["split"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_real_counts_bring_the_in_domain_lists(tmp_path, generation):
    root = simulate_archive("mts12", tmp_path / "m", tiles="real", tile_size=8, generation=generation)
    index = dataset_class("mts12")(root).index
    assert set(index["indomain_source"]) == {"authors"}
    assert Counter(index["indomain"]) == {"train": 655, "test": 281}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_real_tile_size(tmp_path, generation):
    root = simulate_archive("dfc2020", tmp_path / "d", tiles=0.01, tile_size="real", generation=generation)
    index = dataset_class("dfc2020")(root).index
    assert set(index["height"]) == set(index["width"]) == {256}


def test_neighbouring_crops_show_one_landscape():
    shares = np.full(len(DFC2020), 1 / len(DFC2020))
    scene = Landscape(DFC2020, shares, seed=3, name="somewhere", inclusions=0.1)
    codes, materials = scene.crop(0, 0, 64)
    left, right = scene.crop(0, 0, 32), scene.crop(0, 32, 32)
    assert np.array_equal(codes[:32], np.hstack((left[0], right[0])))
    assert np.allclose(materials[:32], np.hstack((left[1], right[1])), atol=2e-3)
    assert np.allclose(materials.sum(axis=-1), 1, atol=1e-4)


def test_landscape_has_the_wanted_class_shares():
    shares = np.array([0.3, 0.02, 0.2, 0.05, 0.25, 0.1, 0.08, 0.0])
    scene = Landscape(DFC2020, shares, seed=0, name="elsewhere")
    grid = np.arange(0, 640, 4)
    scene.calibrate(grid, grid, np.ones((160, 160), dtype=bool))
    codes, _ = scene.crop(0, 0, 640)
    found = [np.mean(codes == cover.code) for cover in DFC2020]
    assert found == pytest.approx(shares, abs=0.02)
    assert found[-1] == 0


def test_unknown_archive_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="dfc2020"):
        simulate_archive("dfc2002", tmp_path / "x")
    with pytest.raises(UnknownNameError):
        default_archive("tiles")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": 4}, "at least 8"),
        ({"tiles": 0}, "factor"),
        ({"tiles": float("nan")}, "factor"),
        ({"seed": -1}, "negative"),
        ({"draw": -1, "generation": 2}, "negative"),
        ({"draw": 1}, "choose generation 2"),
        ({"shift": {"noise": 0}}, "choose generation 2"),
        ({"seed": 1, "generation": 2}, "choose a draw"),
        ({"generation": 3}, "choose 1 or 2"),
        ({"shift": {"season": 0}, "generation": 2}, "its parts are shares"),
        ({"shift": {"noise": -1}, "generation": 2}, "from 0 to 10"),
        ({"shift": {"noise": float("nan")}, "generation": 2}, "from 0 to 10"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        simulate_archive("mts12", tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not an empty folder"):
        simulate_archive("mts12", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert read_marker(simulate_archive("mts12", tmp_path / "empty", tiles=0.01, tile_size=8))["tiles"] == 2


def test_an_interrupted_simulation_leaves_nothing(tmp_path):
    seen = []

    def interrupt(done, total):
        seen.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_archive("mts12", tmp_path / "x", tiles=0.1, tile_size=8, progress=interrupt)
    assert [done for done, _ in seen] == [1, 2, 3]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def marked(tmp_path):
    root = tmp_path / "far" / "away" / "archive"
    return simulate_archive("mts12", root, tiles=0.01, tile_size=8, seed=5)


def test_marker_says_what_was_simulated(marked):
    assert read_marker(marked) == {
        "dataset": "mts12",
        "generator_version": GENERATOR_VERSION,
        "seed": 5,
        "tile_size": 8,
        "tiles": 2,
        "tiles_by_region": {"north": 1, "south": 1},
    }


def test_marker_is_found_whatever_way_leads_to_the_tiles(marked, tmp_path):
    (tmp_path / "linked_root").symlink_to(marked)
    for part in ("linked_folders", "linked_files/image/test"):
        (tmp_path / part).mkdir(parents=True)
    for folder in ("image", "label"):
        (tmp_path / "linked_folders" / folder).symlink_to(marked / folder)
    tile = next((marked / "image" / "test").iterdir())
    (tmp_path / "linked_files" / "image" / "test" / tile.name).symlink_to(tile)
    for root in ("linked_root", "linked_folders", "linked_files", "far"):
        assert read_marker(tmp_path / root)["seed"] == 5, root
    assert read_marker(marked / "image" / "test")["seed"] == 5


def test_other_folders_have_no_marker(marked, tmp_path):
    (tmp_path / "real" / "image").mkdir(parents=True)
    assert read_marker(tmp_path / "real") is None
    assert read_marker(tmp_path / "missing") is None


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_marker_is_an_error(marked, content):
    (marked / MARKER_NAME).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="simulate the archive again"):
        read_marker(marked)


def test_default_archive_is_written_once_even_by_two_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTRAL_TL_BENCH_CACHE", str(tmp_path))
    with ProcessPoolExecutor(2) as pool:
        roots = list(pool.map(default_archive, ["mts12", "mts12"]))
    assert roots[0] == roots[1] == tmp_path / "simulated" / f"mts12-v{GENERATOR_VERSION}"
    assert os.listdir(tmp_path / "simulated") == [roots[0].name]
    written = (roots[0] / MARKER_NAME).stat().st_mtime_ns
    assert json.loads((roots[0] / MARKER_NAME).read_text())["seed"] == 0
    assert default_archive("mts12") == roots[0]
    assert (roots[0] / MARKER_NAME).stat().st_mtime_ns == written
