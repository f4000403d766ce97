import io

import numpy as np
import pytest
from matplotlib.image import imread
from run_records import spec, write

from spectral_tl_bench.report.board import make_board
from spectral_tl_bench.report.plots import leaderboard_png, plot_leaderboard
from spectral_tl_bench.report.summary import collect
from spectral_tl_bench.sensors.plotting import png


@pytest.fixture
def frame(tmp_path):
    for seed in (0, 1):
        write(tmp_path, spec(seed=seed), accuracy=0.8)
        write(tmp_path, spec(seed=seed, method="frozen", method_options={}), accuracy=0.6)
    write(tmp_path, spec(protocol="whu_region/t2s", method="full"), accuracy=0.5)
    return make_board(collect(tmp_path)[0]).rows


def test_there_is_a_panel_per_protocol_with_the_best_method_on_top(frame):
    figure = plot_leaderboard(frame, "whu_region")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["whu_region/s2t", "whu_region/t2s"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["lora", "frozen"]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top


def test_points_are_the_boards_figures(frame):
    figure = plot_leaderboard(frame, "whu_region")
    points = np.concatenate(
        [collection.get_offsets() for collection in figure.axes[0].collections if len(collection.get_offsets()) == 2]
    )
    for value in frame.loc[frame["protocol"] == "whu_region/s2t", "source_miou"]:
        assert np.isclose(points[:, 0], value).any()


def test_no_figure_lies_under_a_marker(frame):
    """Also where the source lies left of the target."""
    frame = frame.assign(source_miou=frame["miou"] - 0.4)
    figure = plot_leaderboard(frame, "whu_region")
    figure.draw_without_rendering()
    for axes in figure.axes:
        rows = frame[frame["protocol"] == axes.get_title(loc="left")]
        edges = axes.transData.transform([(min(row.miou, row.source_miou), 0) for row in rows.itertuples()])[:, 0]
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == len(rows)
        half_a_marker = 3.5 / 72 * figure.dpi
        assert all(box.x1 <= edge - half_a_marker for box, edge in zip(boxes, edges, strict=True))


def test_a_simulated_board_says_so(frame):
    assert plot_leaderboard(frame, "whu_region").get_suptitle() == "whu_region"
    simulated = plot_leaderboard(frame.assign(data="simulated"), "whu_region")
    assert simulated.get_suptitle().startswith("SIMULATED")


def test_the_picture_is_a_png_with_something_on_it(frame):
    pixels = imread(io.BytesIO(leaderboard_png(frame, "whu_region")))
    assert pixels.shape[1] == 1200
    assert pixels[..., :3].std() > 0.05


def test_a_figure_laid_out_once_looks_as_matplotlib_saves_it(frame):
    plainly = io.BytesIO()
    plot_leaderboard(frame, "whu_region").savefig(plainly, format="png", dpi=90, metadata={"Software": None})
    assert png(plot_leaderboard(frame, "whu_region"), 90) == plainly.getvalue()


def test_a_board_of_undefined_scores_can_still_be_drawn(frame):
    assert leaderboard_png(frame.assign(miou=np.nan, low=np.nan, high=np.nan), "x")
