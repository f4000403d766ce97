"""Sensors: what a band is, and the three sensors of the suite's archives."""

from pydantic import Field, model_validator

from spectral_tl_bench.values import Value


class Band(Value):
    """One channel of an image.

    Attributes:
        name: The sensor's own name ("B8A"), with the date appended where a band occurs on several ("B8A 2019-03").
        wavelength: Centre wavelength in nm.
        bandwidth: Full width at half maximum in nm, where it is known.
        date: Acquisition date or month, for sensors that stack several dates.
    """

    name: str
    wavelength: float = Field(gt=100, lt=100_000)
    bandwidth: float | None = Field(default=None, gt=0)
    date: str | None = None


class Sensor(Value):
    """An ordered set of bands with the facts needed to turn stored numbers into reflectance.

    Attributes:
        name: Short name.
        bands: Bands in the order of the file's channels.
        rgb: Names of the bands shown as red, green and blue.
        scale: Stored value that means a reflectance of 1.
        ground_sampling_distance: Pixel size in metres.
    """

    name: str
    bands: tuple[Band, ...] = Field(min_length=1)
    rgb: tuple[str, str, str]
    scale: float = Field(default=10_000.0, gt=0)
    ground_sampling_distance: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _names_are_known_and_distinct(self) -> "Sensor":
        names = [band.name for band in self.bands]
        if len(set(names)) != len(names):
            raise ValueError(f"sensor {self.name}: band names occur twice")
        unknown = [name for name in self.rgb if name not in names]
        if unknown:
            raise ValueError(f"sensor {self.name}: rgb names {unknown} are not among its bands {names}")
        return self

    @property
    def wavelengths(self) -> tuple[float, ...]:
        """Centre wavelengths in nm, in channel order."""
        return tuple(band.wavelength for band in self.bands)

    @property
    def rgb_indices(self) -> tuple[int, int, int]:
        """Channel indices shown as red, green and blue, counted from 0."""
        names = [band.name for band in self.bands]
        red, green, blue = (names.index(name) for name in self.rgb)
        return red, green, blue


_OHS_WAVELENGTHS = (
    *(466, 480, 500, 520, 536, 550, 566, 580, 596, 610, 626, 640, 656, 670, 686, 700),
    *(716, 730, 746, 760, 776, 790, 806, 820, 836, 850, 866, 880, 896, 910, 926, 940),
)
OHS = Sensor(
    name="ohs",
    bands=tuple(Band(name=f"B{i}", wavelength=w) for i, w in enumerate(_OHS_WAVELENGTHS, start=1)),
    rgb=("B14", "B7", "B2"),
)
"""Orbita hyperspectral satellites, 32 bands, 10 m (Li et al., 2022)."""

_SENTINEL2_WAVELENGTHS = {
    "B1": 442.7,
    "B2": 492.7,
    "B3": 559.8,
    "B4": 664.6,
    "B5": 704.1,
    "B6": 740.5,
    "B7": 782.8,
    "B8": 832.8,
    "B8A": 864.7,
    "B9": 945.1,
    "B10": 1373.5,
    "B11": 1613.7,
    "B12": 2202.4,
}
SENTINEL2 = Sensor(
    name="sentinel2",
    bands=tuple(Band(name=name, wavelength=w) for name, w in _SENTINEL2_WAVELENGTHS.items()),
    rgb=("B4", "B3", "B2"),
)
"""Sentinel-2A MSI, all 13 bands at 10 m."""

MTS12_DATES = ("March", "June", "September", "December")
MTS12_BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")


def mts12_sensor(order: str = "date") -> Sensor:
    """The stack of four Sentinel-2 dates with six bands each (24 channels).

    Args:
        order: "date" when channels run through all bands of March first, "band" when they run through all dates of
            B2 first. The archive's papers do not say which holds.

    Returns:
        The sensor with its bands in channel order.
    """
    pairs = [(d, b) for d in MTS12_DATES for b in MTS12_BANDS]
    if order == "band":
        pairs = [(d, b) for b in MTS12_BANDS for d in MTS12_DATES]
    elif order != "date":
        raise ValueError(f"order must be 'date' or 'band', not {order!r}")
    bands = tuple(Band(name=f"{b} {d}", wavelength=_SENTINEL2_WAVELENGTHS[b], date=d) for d, b in pairs)
    return Sensor(name="mts12", bands=bands, rgb=("B4 June", "B3 June", "B2 June"))


MTS12 = mts12_sensor()
"""Four Sentinel-2 dates of 2019 with six bands each, date-major, 10 m (Zhao & Ji, 2022)."""

SENSORS: dict[str, Sensor] = {sensor.name: sensor for sensor in (OHS, SENTINEL2, MTS12)}
