import numpy as np
import pytest
from matplotlib.image import imread

from spectral_tl_bench.records import GuessErrors, ReconstructionErrors
from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2
from spectral_tl_bench.sensors.plotting import png
from spectral_tl_bench.training.reconstruction_plot import Reconstruction, pixels_shown, plot_reconstruction

ERRORS = ReconstructionErrors(
    pixels=GuessErrors(model=0.9, mean_of_visible=0.95, nearest_visible=1.3),
    spectra=GuessErrors(model=0.25, mean_of_visible=0.5, nearest_visible=0.75),
)


def example(sensor, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.05, 0.4, (len(sensor.bands), 16, 16)).astype(np.float32)
    hidden = np.zeros((16, 16), dtype=bool)
    hidden[:, 8:] = True
    return Reconstruction("tile_7", "Wuxi", image, np.where(hidden, 0.5 * image, image), hidden, ERRORS)


def draw(sensor, count=2):
    return plot_reconstruction(
        [example(sensor, i) for i in range(count)], sensor, "SIMULATED: x on y", "How it was made."
    )


def test_pixels_are_hidden_ones_from_dark_to_bright():
    shown = example(SENTINEL2)
    pixels = pixels_shown(shown)
    assert all(shown.hidden[pixel] for pixel in pixels)
    brightness = [shown.image[:, y, x].mean() for y, x in pixels]
    assert brightness == sorted(brightness)
    assert len(set(pixels)) == 3


@pytest.mark.parametrize("sensor", [OHS, SENTINEL2, MTS12], ids=lambda s: s.name)
def test_spectra_are_those_of_the_marked_pixels(sensor):
    figure = draw(sensor)
    shown = example(sensor)
    axes = figure.subfigs[0].axes[3]
    drawn = {line.get_linestyle(): 0 for line in axes.lines}
    assert {"-", "--"} <= set(drawn)
    values = np.concatenate([line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2])
    expected = [image[:, y, x] for y, x in pixels_shown(shown) for image in (shown.image, shown.restored)]
    np.testing.assert_allclose(np.sort(values), np.sort(np.concatenate(expected)))


def test_dates_stand_beside_one_another():
    labels = [label.get_text() for label in draw(MTS12).subfigs[0].axes[3].get_xticklabels()]
    assert labels == ["March", "June", "September", "December"]


def test_hidden_pixels_are_grey_in_the_masked_panel_alone():
    figure = draw(SENTINEL2)
    given, masked, restored = (axes.images[0].get_array() for axes in figure.subfigs[0].axes[:3])
    assert np.ptp(masked[:, 8:]) == 0
    assert np.array_equal(masked[:, :8], given[:, :8])
    assert np.array_equal(restored[:, :8], given[:, :8])
    assert restored[:, 8:].mean() < given[:, 8:].mean()


def test_rows_name_the_tile_and_its_errors_and_the_title_says_simulated():
    figure = draw(OHS)
    label = figure.subfigs[0].axes[0].get_ylabel()
    assert all(part in label for part in ("Wuxi", "tile_7", "0.25", "0.50", "0.75"))
    assert figure.subfigs[0].get_suptitle() == "SIMULATED: x on y: masked reconstruction"


def test_the_same_picture_gives_the_same_bytes(tmp_path):
    first, second = png(draw(SENTINEL2, 1), 50), png(draw(SENTINEL2, 1), 50)
    assert first == second
    (tmp_path / "a.png").write_bytes(first)
    assert imread(tmp_path / "a.png")[..., :3].std() > 0.05
