"""Bands made from others: linear in wavelength, under a band's response, and not from far away."""

import numpy as np
import pytest

from spectral_tl_bench.sensors import MTS12, OHS, SENTINEL2, Band, Sensor
from spectral_tl_bench.sensors.resampling import BEYOND, resampling_matrix
from spectral_tl_bench.utils.errors import ProtocolError


def sensor(*wavelengths, width=None, date=None):
    bands = tuple(Band(name=f"b{i}", wavelength=w, bandwidth=width, date=date) for i, w in enumerate(wavelengths))
    return Sensor(name="made", bands=bands)


@pytest.mark.parametrize("own", [OHS, SENTINEL2, MTS12], ids=lambda s: s.name)
def test_the_same_bands_stay_as_they_are(own):
    np.testing.assert_allclose(resampling_matrix(own, own), np.eye(len(own.bands)), atol=1e-12)


@pytest.mark.parametrize("width", [None, 10.0, 60.0])
def test_a_spectrum_that_is_linear_in_wavelength_is_kept(width):
    """Within the given bands; a Gaussian is as wide on either side."""
    wanted = sensor(560, 640, 700, 800, width=width)
    matrix = resampling_matrix(OHS, wanted)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix @ np.array(OHS.wavelengths), wanted.wavelengths, rtol=1e-6)


def test_a_wide_band_is_the_mean_under_its_response():
    fine = sensor(*range(400, 801))
    spectrum = (np.array(fine.wavelengths) > 600).astype(float)
    narrow, wide = (resampling_matrix(fine, sensor(590, width=w)) @ spectrum for w in (2.0, 50.0))
    assert narrow[0] == pytest.approx(0, abs=1e-6)
    # The share of a Gaussian of deviation 50 / 2.355 that lies more than 10.5 nm above its middle.
    assert wide[0] == pytest.approx(0.31, abs=0.02)


def test_values_beyond_the_ends_are_those_of_the_nearest_band_and_only_so_far():
    given = sensor(500, 600)
    np.testing.assert_allclose(resampling_matrix(given, sensor(500 - BEYOND, 600 + BEYOND)), [[1, 0], [0, 1]])
    for far in (500 - BEYOND - 1, 600 + BEYOND + 1):
        with pytest.raises(ProtocolError, match=f"b0 of made at {far:g} nm cannot be made .* at 500 to 600 nm"):
            resampling_matrix(given, sensor(far))
    np.testing.assert_allclose(resampling_matrix(given, sensor(2200), clamp=True), [[0, 1]])


def test_bands_of_one_wavelength_count_alike():
    given = Sensor(name="two", bands=(Band(name="a", wavelength=500), Band(name="b", wavelength=500)))
    np.testing.assert_allclose(resampling_matrix(given, sensor(510)), [[0.5, 0.5]])


def test_dates_stay_apart():
    june = MTS12.subset([i for i, band in enumerate(MTS12.bands) if band.date == "June"])
    matrix = resampling_matrix(MTS12, june)
    assert {MTS12.bands[i].date for i in matrix.nonzero()[1]} == {"June"}
    with pytest.raises(ProtocolError, match="is of March, and no band"):
        resampling_matrix(june, MTS12)
