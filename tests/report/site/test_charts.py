from itertools import pairwise

import numpy as np
import pytest

from spectral_tl_bench.report.site.charts import HEIGHT, WIDTH, Axis, curve, scatter


def test_an_axis_keeps_order_and_ends():
    axis = Axis.over([10.0, 20.0, 30.0], 0.0, 100.0)
    places = [axis.place(v) for v in (10.0, 20.0, 30.0)]
    assert 0 < places[0] < places[1] < places[2] < 100
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)


def test_equal_factors_are_equal_steps_on_a_logarithmic_axis_and_none_stands_at_its_beginning():
    axis = Axis.over([0.0, 0.1, 1.0, 10.0], 0.0, 100.0, logarithmic=True)
    places = [axis.place(v) for v in (0.1, 1.0, 10.0)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.02)
    assert axis.place(0.0) == 0.0
    assert axis.ticks(with_zero=True)[0].text == "0"


@pytest.mark.parametrize("rows", [0, 1, 3, 200])
def test_points_and_names_stay_within_the_drawing(rows):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 5, rows).tolist(), rng.uniform(20, 21, rows).tolist()
    chart = scatter("t", ("x", "y"), x, y, [f"row {i}" for i in range(rows)], logarithmic=True)
    assert len(chart.points) == rows
    assert all(0 <= p.x <= WIDTH and 0 <= p.y <= HEIGHT for p in chart.points)
    heights = sorted(p.label_y for p in chart.points if p.label_y is not None)
    assert all(0 <= h <= HEIGHT for h in heights)
    assert all(b - a > 10 for a, b in pairwise(heights))


def test_rows_without_a_figure_are_left_out_and_fixed_rows_are_named_first():
    x = [float("nan"), *range(1, 61)]
    names = [str(i) for i in range(61)]
    chart = scatter("t", ("x", "y"), x, list(range(61)), names, first=[60])
    assert "0" not in [p.name for p in chart.points]
    assert "60" in [p.name for p in chart.points if p.label_y is not None]


def test_a_curve_goes_through_every_place_that_is_known():
    chart = curve("t", ("step", "loss"), [1, 2, 3], [3.0, float("nan"), 1.0], "#123456")
    assert len(chart.paths[0].points.split()) == 2
    assert chart.paths[0].color == "#123456"
