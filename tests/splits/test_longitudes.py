"""Tiles on both sides of 180 degrees longitude are neighbours as tiles elsewhere are."""

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import Polygon, box

from spectral_tl_bench.splits.neighbors import by_footprint

SIDE = 0.01


def neighbours(lefts):
    """Neighbours of a row of tiles by their left edges, in degrees east of some meridian."""
    wrapped = [((left + 180) % 360 - 180, ((left + SIDE) + 180) % 360 - 180) for left in lefts]
    shapes = [
        box(west, 60, east, 60 + SIDE)
        if west < east
        # As corners are transformed one by one: the outline goes the other way round the globe.
        else Polygon([(west, 60), (east, 60), (east, 60 + SIDE), (west, 60 + SIDE)])
        for west, east in wrapped
    ]
    places = by_footprint(gpd.GeoSeries(shapes, crs="EPSG:4326"))
    return [sorted(found.tolist()) for found in places.neighbours()]


@pytest.mark.parametrize("middle", [0.0, 90.0, 179.995, 180.0, 180.003, -179.995])
def test_a_row_of_tiles_has_the_same_neighbours_on_every_meridian(middle):
    lefts = [middle + number * SIDE for number in range(-3, 3)]
    assert neighbours(lefts) == [[1], [0, 2], [1, 3], [2, 4], [3, 5], [4]]


def test_tiles_all_over_the_globe_keep_their_neighbours_across_180_degrees():
    lefts = [*np.arange(-175.0, 175.0, 25.0), 179.99, 180.0, 10.0, 10.0 + SIDE]
    found = neighbours(lefts)
    assert (found[-4], found[-3]) == ([len(lefts) - 3], [len(lefts) - 4])
    assert (found[-2], found[-1]) == ([len(lefts) - 1], [len(lefts) - 2])
    assert not any(found[:-4])
