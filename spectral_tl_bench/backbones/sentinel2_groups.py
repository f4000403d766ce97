"""How Galileo and Presto read a sensor: groups of Sentinel-2 bands, one token for each group and date."""

from __future__ import annotations

import calendar
import dataclasses
import math
import re

import torch
from torch import Tensor, nn

from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.utils.errors import SpectralBenchError

WAVELENGTHS = {
    "B2": 490.0,
    "B3": 560.0,
    "B4": 665.0,
    "B5": 705.0,
    "B6": 740.0,
    "B7": 783.0,
    "B8": 842.0,
    "B8A": 865.0,
    "B11": 1610.0,
    "B12": 2190.0,
}
"""Centre wavelengths in nm of the bands that both models were pretrained with."""
GROUPS = {
    "S2_RGB": ("B2", "B3", "B4"),
    "S2_Red_Edge": ("B5", "B6", "B7"),
    "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
    "NDVI": ("B8", "B4"),
}
"""Bands that share a token; the token of NDVI is made of one number, (B8 - B4) / (B8 + B4)."""
TOLERANCE = 20.0
"""How far in nm a sensor's band may lie from the Sentinel-2 band that it stands for."""
USUAL_MONTH = 5
"""June, counted from 0: that of images whose bands have no date."""


@dataclasses.dataclass(frozen=True)
class BandGroup:
    """Bands of a sensor that make one token.

    Attributes:
        name: One of :data:`GROUPS`.
        positions: Places of its bands in the sensor.
        date: Which of the sensor's dates they are of, from 0.
    """

    name: str
    positions: tuple[int, ...]
    date: int


def month_table(width: int) -> Tensor:
    """Codes of the twelve months, 12 x ``width``: the sine of the month's angle, then its cosine, each repeated."""
    angles = 2 * math.pi * torch.arange(12) / 12
    halves = [angles.sin()[:, None].expand(-1, width // 2), angles.cos()[:, None].expand(-1, width // 2)]
    return torch.cat(halves, 1).contiguous()


def initialize_linear_layers(model: nn.Module) -> None:
    """Draw Xavier-uniform weights and zero biases for the linear layers, as both models do."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def nearest_band(wavelength: float) -> str | None:
    """The Sentinel-2 band that a wavelength in nm stands for, or None where none is near enough."""
    name = min(WAVELENGTHS, key=lambda band: abs(WAVELENGTHS[band] - wavelength))
    return name if abs(WAVELENGTHS[name] - wavelength) <= TOLERANCE else None


def band_groups(sensor: Sensor, model: str) -> tuple[list[BandGroup], list[int]]:
    """Sort a sensor's bands into groups; groups of which a band is missing are left out, as the models' authors do.

    Args:
        sensor: Sensor of the images.
        model: Name of the model, for the error.

    Returns:
        The groups, date by date, and the month of each date, from 0.

    Raises:
        SpectralBenchError: If no group is complete.
    """
    dates = list(dict.fromkeys(band.date for band in sensor.bands))
    groups = []
    for number, date in enumerate(dates):
        of_date = [place for place, band in enumerate(sensor.bands) if band.date == date]
        places: dict[str, int] = {}
        for place in of_date:
            name = nearest_band(sensor.bands[place].wavelength)
            if name is None:
                continue
            nearer = places.get(name)
            if nearer is None or _distance(sensor, place, name) < _distance(sensor, nearer, name):
                places[name] = place
        for group, bands in GROUPS.items():
            if all(band in places for band in bands):
                groups.append(BandGroup(group, tuple(places[band] for band in bands), number))
    if not groups:
        raise SpectralBenchError(
            f"{model} reads groups of Sentinel-2 bands, such as blue, green and red, and {sensor.name} has none of "
            f"them complete within {TOLERANCE:g} nm; choose another backbone"
        )
    return groups, [month_of(date) for date in dates]


def unread_bands(sensor: Sensor, groups: list[BandGroup]) -> frozenset[str]:
    """Names of a sensor's bands that are in none of these groups."""
    read = {place for group in groups for place in group.positions}
    return frozenset(band.name for place, band in enumerate(sensor.bands) if place not in read)


def _distance(sensor: Sensor, place: int, name: str) -> float:
    return abs(sensor.bands[place].wavelength - WAVELENGTHS[name])


def month_of(date: str | None) -> int:
    """The month of a band's date ("March", "2019-03"), from 0; June where it tells none."""
    if date is None:
        return USUAL_MONTH
    if number := re.search(r"\d{4}-?(0[1-9]|1[0-2])", date):
        return int(number[1]) - 1
    names = [month.lower() for month in calendar.month_name]
    return names.index(date.lower()) - 1 if date.lower() in names[1:] else USUAL_MONTH


def vegetation_index(images: Tensor) -> Tensor:
    """NDVI of B x 2 x ... near infrared and red reflectance, B x 1 x ..., 0 where both are 0 and within -1 and 1."""
    infrared, red = images.split(1, dim=1)
    total = infrared + red
    index = torch.where(total != 0, (infrared - red) / torch.where(total != 0, total, 1), 0)
    return index.clamp(-1, 1)
