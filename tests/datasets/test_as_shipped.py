"""The archives in the very layouts in which they are downloaded: one root serves every protocol, and nothing leaks."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from archives import (
    DFC2020_TILES,
    WHUOHS_RELEASE,
    random_image,
    random_label,
    write_data_lists,
    write_dfc2020,
    write_dfc2020_contest,
    write_dfc2020_release,
    write_mts12,
    write_mts12_original,
    write_tif,
    write_whuohs,
    write_whuohs_release,
)
from rasterio.enums import Interleaving

from spectral_tl_bench.config.protocols import load_protocols
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020
from spectral_tl_bench.datasets.archives.mts12 import MTS12
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.datasets.check import check_archive
from spectral_tl_bench.datasets.io.raster import read_image
from spectral_tl_bench.datasets.shift import measure_shift
from spectral_tl_bench.runs.planning import plan
from spectral_tl_bench.runs.requests import requests
from spectral_tl_bench.splits.assignment import split_tiles
from spectral_tl_bench.utils.errors import DataError

LAYOUTS = {
    "whu_region": write_whuohs_release,
    "whu_indomain": write_whuohs_release,
    "dfc_season": write_dfc2020_release,
    "dfc_indomain": write_dfc2020_release,
    "mts12_region": write_mts12,
    "mts12_indomain": write_mts12,
}


def requested(protocol, root):
    (request,) = requests("frozen", protocol.name, root=root, preset_name="quick")
    return request


def pixels_of(dataset, positions):
    return {hashlib.sha256(dataset.read_stored(int(p))["image"].numpy().tobytes()).hexdigest() for p in positions}


@pytest.mark.parametrize(
    "protocol", [p for group in LAYOUTS for p in load_protocols(group)], ids=lambda protocol: protocol.name
)
def test_one_root_serves_every_protocol_and_no_pixel_is_in_two_parts(tmp_path, protocol):
    root = LAYOUTS[protocol.group](tmp_path)
    ready = plan(requested(protocol, root))
    split, dataset = ready.split, ready.dataset
    parts = [pixels_of(dataset, rows) for rows in (split.training, split.held_out, split.target)]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 0
    assert dataset.index["tile"].is_unique


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("whuohs", write_whuohs_release),
        ("dfc2020", write_dfc2020_release),
        ("dfc2020", write_dfc2020_contest),
        ("mts12", write_mts12),
        ("mts12", write_mts12_original),
    ],
)
def test_every_release_passes_the_check(tmp_path, name, write):
    report = check_archive(name, write(tmp_path))
    assert report.ok
    assert report.tiles == report.tiles_read > 0
    assert report.left_out == ()


# WHU-OHS: tr/, ts/ and transfer-STall/ side by side.


def names(*splits, letters="STO"):
    return {name for split in splits for name in WHUOHS_RELEASE[split] if name[0] in letters}


def selected(root, protocol):
    (chosen,) = load_protocols(protocol)
    dataset = open_dataset(chosen.file, root)
    split = split_tiles(chosen, dataset.index, 0.1)
    tiles = dataset.index["tile"]
    return {*tiles.iloc[split.training], *tiles.iloc[split.held_out]}, set(tiles.iloc[split.target])


def test_the_transfers_take_the_transfer_release_and_the_reference_takes_tr_and_ts(tmp_path):
    root = write_whuohs_release(tmp_path)
    everywhere = ("tr", "val", "ts")
    assert selected(root, "whu_region/s2t") == (names(*everywhere, letters="S"), names(*everywhere, letters="T"))
    assert selected(root, "whu_region/t2s") == (names(*everywhere, letters="T"), names(*everywhere, letters="S"))
    assert selected(root, "whu_indomain") == (names("tr"), names("ts"))


def test_tiles_in_both_releases_count_once_and_are_said_once(tmp_path):
    dataset = WHUOHS(write_whuohs_release(tmp_path))
    assert set(dataset.index["tile"]) == names("tr", "val", "ts")
    assert dataset.notes == [
        f"{len(names('tr', 'ts', letters='ST'))} tiles lie in transfer-STall and in tr, val or ts, "
        "same name and same pixels: each counts once"
    ]
    assert dataset.index["image"].str.contains("transfer-STall").sum() == len(names("val"))


def test_blocks_are_those_of_the_official_archive(tmp_path):
    official = WHUOHS(write_whuohs(tmp_path / "official", WHUOHS_RELEASE)).index.set_index("tile")
    released = WHUOHS(write_whuohs_release(tmp_path / "release")).index.set_index("tile")
    assert released["block"].to_dict() == official["block"].to_dict()


def test_one_name_for_two_tiles_gives_each_protocol_its_own(tmp_path):
    root = write_whuohs_release(tmp_path)
    write_tif(root / "transfer-STall/source/image/tr/S1_0000.tif", random_image(32, 999))
    index = WHUOHS(root).index.set_index("tile")
    assert index.loc["train/S1_0000", ["split", "side"]].tolist() == ["train", ""]
    assert index.loc["transfer-train/S1_0000", ["split", "side"]].tolist() == ["", "S"]
    training, target = selected(root, "whu_region/s2t")
    assert "train/S1_0000" not in training | target
    assert "transfer-train/S1_0000" not in set.union(*selected(root, "whu_indomain"))
    assert any("for example S1_0000: whu_region takes the former" in note for note in WHUOHS(root).notes)


def test_a_source_tile_that_the_transfer_release_lacks_takes_no_part_in_a_transfer(tmp_path):
    root = write_whuohs_release(tmp_path)
    for role in ("image", "label"):
        (root / "transfer-STall/source" / role / "tr/S1_0000.tif").unlink()
    training, _ = selected(root, "whu_region/s2t")
    assert training == names("tr", "val", "ts", letters="S") - {"S1_0000"}
    assert "S1_0000" in selected(root, "whu_indomain")[0]
    assert any("1 S and T tiles" in note and "S1_0000" in note for note in WHUOHS(root).notes)


@pytest.mark.parametrize("link", [os.link, os.symlink, shutil.copy])
def test_a_test_tile_that_lies_among_the_training_tiles_too_never_trains(tmp_path, link):
    root = write_whuohs_release(tmp_path)
    for role in ("image", "label"):
        link(root / "ts" / role / "O1_0008.tif", root / "tr" / role / "O1_0008.tif")
    training, target = selected(root, "whu_indomain")
    assert "O1_0008" in target
    assert training == names("tr")
    assert any("more than one of tr, val and ts" in note for note in WHUOHS(root).notes)


def test_a_folder_linked_into_the_training_folder_makes_no_test_tile_train(tmp_path):
    root = write_whuohs_release(tmp_path)
    os.symlink(root / "ts", root / "tr" / "again")
    assert selected(root, "whu_indomain") == (names("tr"), names("ts"))
    os.symlink(root / "ts" / "image", root / "tr" / "image" / "more")
    os.symlink(root / "ts" / "label", root / "tr" / "label" / "more")
    assert selected(root, "whu_indomain") == (names("tr"), names("ts"))


def test_the_second_start_reads_no_file_of_the_release(tmp_path, monkeypatch):
    root = write_whuohs_release(tmp_path)
    first = WHUOHS(root)
    monkeypatch.setattr(rasterio, "DatasetReader", None)
    second = WHUOHS(root)
    assert second.index["tile"].tolist() == first.index["tile"].tolist()
    assert second.notes == first.notes


@pytest.mark.parametrize(
    ("published", "variants"),
    [({"train": 37, "test": 13}, {}), ({"train": 400, "test": 12}, {400: (36,)}), ({"train": 36, "val": 513}, None)],
)
def test_counts_that_releases_are_known_to_have_are_a_note_of_their_own(tmp_path, monkeypatch, published, variants):
    monkeypatch.setattr(WHUOHS, "expected_counts", {"split": published})
    monkeypatch.setattr("spectral_tl_bench.datasets.check.protocols_about", lambda dataset: [])
    if variants is not None:
        monkeypatch.setattr(WHUOHS, "count_variants", variants)
    report = check_archive("whuohs", write_whuohs_release(tmp_path))
    assert report.ok
    assert any("as releases of this archive are known to have" in note for note in report.notes)
    assert not any("partial" in note for note in report.notes)


def test_the_counts_of_the_re_release_and_of_other_loaders_are_known():
    published = WHUOHS.expected_counts["split"]
    assert {4821, 4648} <= set(WHUOHS.count_variants[published["train"]])
    assert 2459 in WHUOHS.count_variants[published["test"]]


# DFC2020: season folders, trainset/ and testset/ with the same tiles; and the contest's own release.


def test_a_tile_in_its_season_and_in_trainset_or_testset_is_read_from_its_season(tmp_path):
    dataset = DFC2020(write_dfc2020_release(tmp_path))
    assert dataset.index.groupby(["season", "region"]).size().to_dict() == DFC2020_TILES
    folders = {Path(path).relative_to(tmp_path).parts[0] for path in dataset.index["image"]}
    assert folders == {"spring", "summer", "autumn", "winter"}
    assert {Path(path).relative_to(tmp_path).parts[0] for path in dataset.index["label"]} == folders
    (note,) = dataset.notes
    assert note.startswith(f"{sum(DFC2020_TILES.values())} tiles lie more than once")


@pytest.mark.parametrize("kept", [("trainset", "testset"), ("spring", "summer", "autumn", "winter")])
def test_either_half_of_the_release_gives_the_same_tiles(tmp_path, kept):
    root = write_dfc2020_release(tmp_path)
    expected = DFC2020(root).index
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder)
    dataset = DFC2020(root)
    assert dataset.notes == []
    for column in ("tile", "season", "region", "block", "indomain"):
        assert dataset.index[column].tolist() == expected[column].tolist()


def test_a_label_missing_from_the_season_is_read_from_the_copy_and_one_missing_everywhere_is_listed(tmp_path):
    root = write_dfc2020_release(tmp_path)
    name = "label/dfc_BlackForest/ROIs0000_spring_dfc_BlackForest_p{}.tif"
    (root / "spring" / name.format(1)).unlink()
    for folder in ("spring", "trainset"):
        (root / folder / name.format(2)).unlink()
    report = check_archive("dfc2020", root)
    index = DFC2020(root).index.set_index("tile")
    assert "/trainset/" in index.loc["spring_BlackForest_p1", "label"]
    assert "spring_BlackForest_p2" not in index.index
    assert report.ok
    assert {Path(problem.path).name for problem in report.left_out} == {"ROIs0000_spring_s2_BlackForest_p2.tif"}
    assert any("left out" in note for note in report.notes)


def test_the_authors_lists_name_the_trainset_copies(tmp_path):
    root = write_dfc2020_release(tmp_path)
    path = "trainset/image/s2_BlackForest/ROIs0000_spring_s2_BlackForest_p{}.tif"
    write_data_lists(root, "DFC", [path.format(0)], [path.format(1)])
    index = DFC2020(root).index.set_index("tile")
    assert index.loc[["spring_BlackForest_p0", "spring_BlackForest_p1"], "indomain"].tolist() == ["train", "test"]


def test_labels_of_32_bits_and_reflectance_above_two_are_read_and_an_identity_transform_is_no_place(tmp_path):
    dataset = DFC2020(write_dfc2020_release(tmp_path))
    with rasterio.open(dataset.index["label"].iloc[0]) as label:
        assert (label.dtypes[0], label.crs.to_epsg()) == ("int32", 4326)
    sample = dataset[0]
    assert sample["image"][0, 0, 0] == pytest.approx(2.1393)
    assert set(sample["mask"].unique().tolist()) <= set(range(8))
    assert dataset.index.geometry.isna().all()


def test_the_contest_release_is_refused_for_seasons_with_the_release_to_get(tmp_path):
    root = write_dfc2020_contest(tmp_path)
    protocol = load_protocols("dfc_season/autumn")[0]
    for attempt in (
        lambda: plan(requested(protocol, root)),
        lambda: measure_shift(open_dataset(protocol.file, root), protocol),
    ):
        with pytest.raises(DataError, match="spectral-bench data download dfc2020") as error:
            attempt()
        assert "\n" not in str(error.value)


def test_the_contest_release_serves_the_in_domain_reference_with_its_own_split(tmp_path):
    (protocol,) = load_protocols("dfc_indomain")
    ready = plan(requested(protocol, write_dfc2020_contest(tmp_path)))
    assert ready.split.origin == "contest"
    tiles = ready.dataset.index["tile"]
    assert len(ready.split.training) + len(ready.split.held_out) == 30
    assert tiles.iloc[ready.split.target].tolist() == [f"validation_p{number}" for number in range(8)]


def test_the_check_of_the_contest_release_says_what_it_serves(tmp_path):
    report = check_archive("dfc2020", write_dfc2020_contest(tmp_path))
    assert sum("tell neither season nor region" in note for note in report.notes) == 1
    assert not any("has no tile" in note for note in report.notes)
    counts = {count.what: (count.found, count.published) for count in report.counts}
    assert counts["indomain = train"] == (30, 5128)
    assert counts["indomain = test"] == (8, 986)
    assert counts["dfc_indomain source"] == (30, None)


def test_the_contest_release_beside_tiles_with_a_season_is_left_alone(tmp_path):
    write_dfc2020(tmp_path)
    write_dfc2020_contest(tmp_path)
    dataset = DFC2020(tmp_path)
    assert len(dataset) == sum(DFC2020_TILES.values())
    assert dataset.unknown == {}
    assert [note.partition(" (")[0] for note in dataset.notes] == ["38 tiles of the contest's own release"]


# MTS12.


def test_the_stacked_files_are_read_where_the_original_lies_beside_them(tmp_path):
    write_mts12(tmp_path)
    write_mts12_original(tmp_path)
    dataset = MTS12(tmp_path)
    assert len(dataset) == 8
    assert dataset.index["image"].str.endswith(".tif").all()
    assert dataset.index["label"].str.endswith("_label.mat").all()
    assert len(dataset.notes) == 1


def test_a_tile_in_the_north_and_in_the_south_is_refused(tmp_path):
    root = write_mts12(tmp_path, {"train": ((5, 12),), "test": ((5, 12), (6, 3))})
    with pytest.raises(DataError, match="no tile trains and tests"):
        MTS12(root)


# Files that store pixel after pixel.


@pytest.mark.parametrize("profile", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
@pytest.mark.parametrize("window", [None, (3, 5, 20, 9)])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_order_on_disk_changes_no_pixel(tmp_path, profile, window, dtype):
    pixels = random_image(32, size=40, dtype=dtype)
    pixels[:, 4, 6] = 7
    path = write_tif(tmp_path / "tile.tif", pixels, interleave="pixel", nodata=7, **profile)
    with rasterio.open(path) as file:
        assert file.interleaving == Interleaving.pixel
    read, valid = read_image(path, window)
    top, left, height, width = window or (0, 0, 40, 40)
    np.testing.assert_array_equal(read, pixels[:, top : top + height, left : left + width])
    assert read.flags.c_contiguous
    assert not valid[4 - top, 6 - left]


def test_a_pixel_interleaved_tile_with_its_label_is_a_sample(tmp_path):
    pixels = random_image(32)
    write_tif(tmp_path / "tr/image/S1_0001.tif", pixels, interleave="pixel")
    write_tif(tmp_path / "tr/label/S1_0001.tif", random_label([1, 2]))
    np.testing.assert_allclose(WHUOHS(tmp_path)[0]["image"].numpy(), pixels / 10_000, rtol=1e-6)
