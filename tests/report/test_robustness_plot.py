import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from run_records import spec, write

from spectral_tl_bench.report.board import make_board
from spectral_tl_bench.report.robustness_plot import plot_robustness, robustness_png, spread_out
from spectral_tl_bench.report.summary import collect

METHODS = ("lora", "frozen", "norm", "full", "bitfit", "$ssf$")


@pytest.fixture
def frame(tmp_path):
    for number, method in enumerate(METHODS):
        write(tmp_path, spec(method=method), accuracy=0.5 + 0.05 * number, source=0.7 + 0.04 * number)
    return make_board(collect(tmp_path)[0]).rows


def test_every_row_is_a_named_point_and_names_lie_beside_the_panel(frame):
    figure = plot_robustness(frame, "whu_region")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert len(axes.collections[0].get_offsets()) == len(frame)
    boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert len(boxes) == len(frame)
    assert all(box.x0 >= axes.get_window_extent().x1 for box in boxes)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


def test_the_picture_says_simulated_and_is_a_png(frame):
    assert plot_robustness(frame.assign(data="simulated"), "x").get_suptitle().startswith("SIMULATED")
    assert imread(io.BytesIO(robustness_png(frame, "x")))[..., :3].std() > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_values_are_moved_apart_in_order_and_no_further_than_needed(seed):
    values = np.random.default_rng(seed).random(12)
    moved = spread_out(values, 0.05)
    assert (np.argsort(moved) == np.argsort(values)).all()
    assert np.diff(np.sort(moved)).min() >= 0.05 - 1e-9
    assert moved.mean() == pytest.approx(values.mean())
    assert spread_out(np.array([1.0, 9.0]), 0.5).tolist() == [1.0, 9.0]
