"""From the bands of one sensor to those of another: linear in wavelength, averaged over a band's response."""

from __future__ import annotations

import numpy as np

from spectral_tl_bench.sensors import Band, Sensor
from spectral_tl_bench.utils.errors import ProtocolError

BEYOND = 30.0
"""How far in nm a wanted band may lie outside the given ones; it then gets the value of the nearest of them."""

_SIGMAS_OF_A_WIDTH = 1 / (2 * np.sqrt(2 * np.log(2)))
_SAMPLES = np.linspace(-2.5, 2.5, 41)
"""Where a band's Gaussian response is sampled, in standard deviations."""


def resampling_matrix(given: Sensor, wanted: Sensor, *, clamp: bool = False) -> np.ndarray:
    """Weights with which the values of given bands make those of wanted ones.

    The spectrum is taken to be linear between the centres of the given bands. A wanted band whose width is known is its
    mean under a Gaussian response with that full width at half maximum; one whose width is not known its value at the
    centre. A band of a date is made from bands of that date alone.

    Args:
        given: Bands whose values there are, C of them.
        wanted: Bands whose values are wanted, K of them.
        clamp: Give bands however far outside the given ones the value of the nearest.

    Returns:
        K x C, each row adding up to 1.

    Raises:
        ProtocolError: If a wanted band lies more than 30 nm outside the given ones of its date, unless ``clamp``.
    """
    return np.stack([_weights(given, band, wanted.name, clamp) for band in wanted.bands])


def _weights(given: Sensor, band: Band, wanted: str, clamp: bool) -> np.ndarray:
    same_date = [i for i, other in enumerate(given.bands) if other.date == band.date]
    if not same_date:
        raise ProtocolError(f"{band.name} of {wanted} is of {band.date or 'no date'}, and no band of {given.name} is")
    centres, where = np.unique([given.bands[i].wavelength for i in same_date], return_inverse=True)
    outside = max(centres[0] - band.wavelength, band.wavelength - centres[-1])
    if outside > BEYOND and not clamp:
        raise ProtocolError(
            f"{band.name} of {wanted} at {band.wavelength:g} nm cannot be made from the bands of {given.name} at "
            f"{centres[0]:g} to {centres[-1]:g} nm"
        )
    points, response = np.array([band.wavelength]), np.ones(1)
    if band.bandwidth is not None:
        points = band.wavelength + band.bandwidth * _SIGMAS_OF_A_WIDTH * _SAMPLES
        response = np.exp(-(_SAMPLES**2) / 2)
    # What each centre contributes to the points: the interpolation of a spectrum that is 1 there and 0 elsewhere.
    shares = np.stack([np.interp(points, centres, unit) for unit in np.eye(len(centres))]) @ response / response.sum()
    row = np.zeros(len(given.bands))
    row[same_date] = (shares / np.bincount(where))[where]
    return row
