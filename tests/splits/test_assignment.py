"""On every archive, no tile that is held out lies within one tile of one that trains."""

import os
from functools import cache

import numpy as np
import pandas as pd
import pytest
from archives import random_image, random_label, utm, write_tif

from spectral_tl_bench.config.protocols import load_protocols, read_protocol_file
from spectral_tl_bench.datasets import open_dataset
from spectral_tl_bench.datasets.archives.dfc2020 import DFC2020, GRID_WIDTHS, REGIONS
from spectral_tl_bench.datasets.archives.mts12 import MTS12
from spectral_tl_bench.datasets.archives.whuohs import WHUOHS
from spectral_tl_bench.simulation import ARCHIVES
from spectral_tl_bench.splits.assignment import split_tiles


@cache
def folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def touch(where, name):
    os.close(os.open(f"{folder(where)}/{name}", os.O_CREAT | os.O_WRONLY))


def dfc2020(root):
    """The numbers of the real archive: column 0 of a region's grid, and its first row, have no tile."""
    places = {}
    for season, regions in REGIONS.items():
        for region, count in regions.items():
            width = GRID_WIDTHS[region]
            numbers = [n for n in range(width, 3000) if n % width][:count]
            for number in numbers:
                for kind, role in (("s2", "image"), ("dfc", "label")):
                    touch(root / season / role / f"{kind}_{region}", f"ROIs0000_{season}_{kind}_{region}_p{number}.tif")
                places[f"{season}_{region}_p{number}"] = region, number % width, number // width
    return DFC2020, places


def whuohs(root):
    """183 tiles of each city in rows of 14, every third or so in another split."""
    places = {}
    for side in "STO":
        for pair in range(1, 9 if side != "O" else 2):
            for number in range(183):
                split = ("tr", "tr", "ts", "tr", "val")[number * 7 % 5]
                for role in ("image", "label"):
                    touch(root / split / role, f"{side}{pair}_{number:04d}.tif")
                places[f"{side}{pair}_{number:04d}"] = f"{side}{pair}", number % 14, number // 14
    return WHUOHS, places


def mts12(root):
    places = {}
    cells = [(column, row) for row in range(34) for column in range(5, 33)][:936]
    for patch, (column, row) in enumerate(cells):
        split = "test" if row < 12 else "train" if patch % 5 else "val"
        stem = f"eopatch_id_{patch}_col_{column}_row_{row}"
        touch(root / "image" / split, f"{stem}.tif")
        touch(root / "label" / split, f"{stem}_label.mat")
        places[stem] = "Slovenia", column, row
    return MTS12, places


@pytest.fixture(scope="module", params=[dfc2020, whuohs, mts12], ids=lambda archive: archive.__name__)
def archive(request, tmp_path_factory):
    """An archive of the real size whose files hold nothing: their names are all that a split needs."""
    root = tmp_path_factory.mktemp(request.param.__name__)
    cls, places = request.param(root)
    dataset = cls.__new__(cls)
    dataset.root = root
    index = pd.DataFrame(dataset.find().rows)
    index, _ = dataset.settle(index, [str(number) for number in range(len(index))])
    dataset.index = index.assign(geometry=None)
    return dataset, places


def gap(places, names, others):
    """The smallest distance between tiles of two lists in columns or rows of one grid, the larger."""
    least = np.inf
    for sheet in {places[name][0] for name in names}:
        here, there = (np.array([places[n][1:] for n in some if places[n][0] == sheet]) for some in (names, others))
        if len(here) and len(there):
            least = min(least, np.abs(here[:, None] - there[None]).max(axis=2).min())
    return least


GROUPS = {
    "dfc2020": ("dfc_season", "dfc_indomain"),
    "whuohs": ("whu_region", "whu_indomain"),
    "mts12": ("mts12_region", "mts12_indomain"),
}


def test_no_held_out_tile_is_within_one_tile_of_a_training_tile(archive):
    dataset, places = archive
    names = dataset.index["tile"].to_numpy()
    for group in GROUPS[dataset.name]:
        for protocol in load_protocols(group):
            split = split_tiles(protocol, dataset.index, 0.1, dataset.places)
            assert split.rule == "cells"
            assert gap(places, names[split.held_out], names[split.training]) > 1
            source = len(split.training) + len(split.held_out) + len(split.margin)
            assert source == protocol.transfer.source.select(dataset.index).sum()
            assert 0.08 <= len(split.held_out) / source <= 0.13
            assert len(split.training) / source >= 0.7
            parts = [set(part.tolist()) for part in (split.training, split.held_out, split.margin, split.target)]
            assert sum(map(len, parts)) == len(set.union(*parts))


def test_every_sub_domain_of_the_source_is_held_out_in_part(archive):
    dataset, _ = archive
    for protocol in load_protocols(GROUPS[dataset.name][0]):
        split = split_tiles(protocol, dataset.index, 0.1, dataset.places)
        by = dataset.index[protocol.transfer.by]
        assert set(by.iloc[split.held_out]) == set(by.iloc[split.training])


def test_blocks_without_a_margin_touch_training_tiles(archive):
    """Why there is a margin; and the rule of before is still there."""
    dataset, places = archive
    names = dataset.index["tile"].to_numpy()
    (protocol, *_) = load_protocols(GROUPS[dataset.name][0])
    split = split_tiles(protocol, dataset.index, 0.1)
    assert split.rule == "blocks"
    assert not len(split.margin)
    assert gap(places, names[split.held_out], names[split.training]) == 1


def test_our_own_in_domain_split_keeps_a_margin_too(archive):
    dataset, places = archive
    if "indomain" not in dataset.index:
        pytest.skip("this archive has a split of its own")
    names, sides = dataset.index["tile"].to_numpy(), dataset.index["indomain"].to_numpy()
    assert set(sides) == {"train", "test", "margin"}
    assert gap(places, names[sides == "test"], names[sides == "train"]) > 1
    assert (sides == "margin").mean() <= 0.12


PROTOCOL = """
title: From the coast inland
dataset: tiles
sensor: {name: four, bands: {b: 490, g: 560, r: 660, n: 840}, rgb: [r, g, b]}
classes: [{code: 10, name: trees, color: "#00aa00"}, {code: 20, name: grass, color: "#aaff00"}]
source: {region: coast}
target: {region: inland}
by: region
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A coast of 8 x 8 georeferenced tiles, listed in no order, and two tiles far inland."""
    root = tmp_path_factory.mktemp("own")
    lines = []
    for number in np.random.default_rng(0).permutation(66).tolist():
        column, row = (number % 8, number // 8) if number < 64 else (900 * number, 0)
        place = utm(500_000 + 160 * column, 4_000_000 - 160 * row)
        write_tif(root / "images" / f"{number}.tif", random_image(4, number, dtype="int16"), **place)
        write_tif(root / "labels" / f"{number}.tif", random_label([10, 20], number))
        lines.append(f"{number}.tif,{'coast' if number < 64 else 'inland'},{number % 8 // 4}{number // 32}")
    (root / "tiles.csv").write_text("\n".join(["tile,region,sheet", *lines]) + "\n")
    (root / "coast.yaml").write_text(PROTOCOL)
    (root / "sheets.yaml").write_text(PROTOCOL + "folder: {block: sheet}\n")
    return root


def test_footprints_of_your_own_tiles_tell_their_neighbours(own):
    file = read_protocol_file(own / "coast.yaml")
    dataset = open_dataset(file, own)
    (protocol,) = load_protocols(str(own / "coast.yaml"))
    split = split_tiles(protocol, dataset.index, 0.1, dataset.places)
    numbers = dataset.index["tile"].str.removesuffix(".tif").astype(int).to_numpy()
    places = {n: ("here", n % 8, n // 8) for n in range(64)}
    assert split.rule == "cells"
    assert 4 <= len(split.held_out) <= 9
    assert gap(places, numbers[split.held_out], numbers[split.training]) > 1


def test_blocks_that_come_with_the_tiles_stay_whole(own):
    (protocol,) = load_protocols(str(own / "sheets.yaml"))
    dataset = open_dataset(protocol.file, own)
    split = split_tiles(protocol, dataset.index, 0.2, dataset.places)
    sheets = dataset.index["sheet"]
    (held,) = set(sheets.iloc[split.held_out])
    assert len(split.held_out) == 16
    assert held not in set(sheets.iloc[split.training])
    assert len(split.margin) == 9


@pytest.mark.parametrize("name", ARCHIVES)
def test_simulated_tiles_say_where_they_lie(name, tmp_path):
    """Those that are numbered alone lie where the simulator put them: edges of neighbours go on in one another."""
    from spectral_tl_bench.datasets import dataset_class
    from spectral_tl_bench.simulation import simulate_archive

    dataset = dataset_class(name)(simulate_archive(name, tmp_path / name, tile_size=8, tiles=0.5))
    assert dataset.places is not None
    neighbours = dataset.places.neighbours()
    assert 0 < np.mean([len(near) for near in neighbours]) < 8
