"""Held-out tiles are in cells, and no tile within reach of them trains."""

import geopandas as gpd
import numpy as np
import pytest
from shapely.affinity import rotate
from shapely.geometry import box

from spectral_tl_bench.splits.buffered_holdout import LARGEST_MARGIN, buffered_holdout
from spectral_tl_bench.splits.neighbors import by_footprint, by_grid, by_number


def grid(columns, rows):
    return np.array([(column, row) for row in range(rows) for column in range(columns)])


def nearest(sides, points):
    """Distance in columns or rows, the larger, from each held-out tile to the nearest training tile."""
    held_out, training = points[sides == "held_out"], points[sides == "training"]
    return np.abs(held_out[:, None] - training[None]).max(axis=2).min(axis=1)


@pytest.mark.parametrize(("columns", "rows"), [(38, 38), (22, 22), (30, 30), (27, 11), (7, 7), (4, 3), (60, 2)])
@pytest.mark.parametrize("margin", [1, 2])
def test_no_training_tile_is_in_reach_of_a_held_out_one(columns, rows, margin):
    points = grid(columns, rows)
    places = by_grid(["a"] * len(points), points[:, 0], points[:, 1], margin)
    sides = buffered_holdout(["a"] * len(points), places, 0.1)
    if len(points) > 20:
        assert 0.07 <= (sides == "held_out").mean() <= 0.13
        assert (sides == "margin").mean() <= max(LARGEST_MARGIN, 4 / len(points) ** 0.5)
    assert (sides == "training").mean() >= 0.5
    if (sides == "held_out").any():
        assert nearest(sides, points).min() > margin


def test_the_margin_is_no_wider_than_it_must_be():
    points = grid(20, 20)
    sides = buffered_holdout(["a"] * 400, by_grid(["a"] * 400, points[:, 0], points[:, 1]), 0.1)
    held_out, margin = points[sides == "held_out"], points[sides == "margin"]
    assert np.abs(margin[:, None] - held_out[None]).max(axis=2).min(axis=1).max() == 1


def test_every_sub_domain_gives_its_share_of_every_stretch_of_land():
    points = np.concatenate([grid(15, 15)] * 3)
    sheets = np.repeat(["one", "two", "three"], 225)
    groups = np.repeat(["autumn", "autumn", "winter"], 225)
    sides = buffered_holdout(groups.tolist(), by_grid(sheets, points[:, 0], points[:, 1]), 0.1)
    for sheet in ("one", "two", "three"):
        assert 0.06 <= (sides[sheets == sheet] == "held_out").mean() <= 0.14


def test_the_choice_depends_on_places_alone():
    points = grid(21, 17)
    order = np.random.default_rng(0).permutation(len(points))
    one = buffered_holdout(["a"] * len(points), by_grid(["s"] * len(points), points[:, 0], points[:, 1]), 0.1)
    other = points[order]
    two = buffered_holdout(["a"] * len(points), by_grid(["s"] * len(points), other[:, 0], other[:, 1]), 0.1)
    assert (one[order] == two).all()


def test_sub_domains_that_lie_among_one_another_keep_the_margin_between_them():
    points = grid(24, 24)
    groups = np.where((points[:, 0] // 3) % 2, "low", "high")
    sides = buffered_holdout(groups.tolist(), by_grid(["s"] * 576, points[:, 0], points[:, 1]), 0.1)
    assert nearest(sides, points).min() > 1
    assert set(groups[sides == "held_out"]) == {"low", "high"}


@pytest.mark.parametrize("back_and_forth", [False, True])
@pytest.mark.parametrize(("columns", "rows"), [(13, 14), (14, 13), (24, 8), (8, 24)])
def test_numbers_through_a_grid_of_unknown_width_leave_room_for_a_row(columns, rows, back_and_forth):
    points = grid(columns, rows)
    if back_and_forth and columns > rows * 1.5:
        pytest.skip("a row and back is longer than is allowed for")
    if back_and_forth:
        points[:, 0] = np.where(points[:, 1] % 2, columns - 1 - points[:, 0], points[:, 0])
    count = len(points)
    sides = buffered_holdout(["a"] * count, by_number(["a"] * count, range(count)), 0.1)
    assert 0.08 <= (sides == "held_out").mean() <= 0.12
    assert (sides == "margin").mean() <= 0.17
    assert nearest(sides, points).min() > 1


def test_too_few_tiles_give_none():
    for count in (1, 2, 3):
        points = grid(count, 1)
        places = by_grid(["a"] * count, points[:, 0], points[:, 1], 2)
        assert set(buffered_holdout(["a"] * count, places, 0.1)) == {"training"}


def footprints(columns, rows, side=0.02, angle=0.0, left=10.0, overlap=0.0):
    corners = [(left + c, 45 + r) for c, r in grid(columns, rows) * side * (1 - overlap)]
    boxes = [box(x, y, x + side, y + side) for x, y in corners]
    return [rotate(b, angle, origin=(left, 45)) for b in boxes]


@pytest.mark.parametrize("angle", [0.0, 3.0])
def test_footprints_tell_neighbours(angle):
    places = by_footprint(gpd.GeoSeries(footprints(16, 16, angle=angle), crs="EPSG:4326"))
    sides = buffered_holdout(["a"] * 256, places, 0.1)
    assert nearest(sides, grid(16, 16)).min() == 2
    assert (sides == "held_out").sum() >= 16


def test_tiles_that_overlap_need_a_wider_margin():
    places = by_footprint(gpd.GeoSeries(footprints(30, 30, overlap=0.5), crs="EPSG:4326"))
    sides = buffered_holdout(["a"] * 900, places, 0.1)
    assert nearest(sides, grid(30, 30)).min() >= 4


def test_distant_lands_each_give_their_share():
    land = footprints(10, 10) + footprints(12, 12, left=80)
    sides = buffered_holdout(["a"] * 244, by_footprint(gpd.GeoSeries(land, crs="EPSG:4326")), 0.1)
    assert 5 <= (sides[:100] == "held_out").sum() <= 15
    assert 8 <= (sides[100:] == "held_out").sum() <= 20


def test_scattered_tiles_are_held_out_one_by_one_without_a_margin():
    places = by_footprint(gpd.GeoSeries([b for n in range(40) for b in footprints(1, 1, left=n)], crs="EPSG:4326"))
    sides = buffered_holdout(["a"] * 40, places, 0.1)
    assert (sides == "held_out").sum() == 4
    assert not (sides == "margin").any()


def test_a_footprint_that_is_missing_leaves_places_unknown():
    assert by_footprint(gpd.GeoSeries([*footprints(3, 3), None], crs="EPSG:4326")) is None
