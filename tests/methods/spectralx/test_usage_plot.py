import numpy as np
import pandas as pd
import pytest

from spectral_tl_bench.methods.spectralx.usage_plot import plot_experts, shares
from spectral_tl_bench.records.titles import HELD_OUT


@pytest.fixture
def usage():
    """Expert 1 on the source, expert 2 on both targets."""
    rows = [
        (domain, tap, layer, attribute, expert, 10 if expert == (1 if domain == HELD_OUT else 2) else 0)
        for domain in (HELD_OUT, "Jilin", "Wuxi")
        for tap in (1, 2, 3, 4)
        for layer in ("fc1", "fc2")
        for attribute in ("spatial", "spectral")
        for expert in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["domain", "tap", "layer", "attribute", "expert", "choices"])


def test_shares_are_percent_of_all_choices():
    usage = pd.DataFrame({"expert": [1, 2, 1], "choices": [1, 2, 1]})
    assert shares(usage, [1, 2, 3]).tolist() == [50, 50, 0]
    assert shares(usage.assign(choices=0), [1, 2]).tolist() == [0, 0]


def test_there_is_a_panel_for_each_tap_layer_and_attribute(usage):
    figure = plot_experts(usage, "SIMULATED: x")
    assert len(figure.axes) == 16
    assert [axes.get_title() for axes in figure.axes[:4]] == ["tap 1", "tap 2", "tap 3", "tap 4"]
    names = [axes.get_ylabel().partition("\n")[0] for axes in figure.axes[::4]]
    assert names == ["fc1, spatial", "fc1, spectral", "fc2, spatial", "fc2, spectral"]
    assert figure.get_suptitle() == "SIMULATED: x: expert usage"


def test_bars_are_source_and_targets_and_dots_each_target(usage):
    axes = plot_experts(usage, "x").axes[0]
    source, target = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert source == [100, 0, 0]
    assert target == [0, 100, 0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == 2
    assert all(np.array_equal(line.get_ydata(), [0, 100, 0]) for line in dots)
