import pytest
from pydantic import ValidationError

from spectral_tl_bench.sensors import MTS12_BANDS, MTS12_DATES, OHS, SENSORS, SENTINEL2, Band, Sensor, mts12_sensor


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_every_sensor_maps_its_display_bands_to_visible_light(sensor):
    red, green, blue = (sensor.wavelengths[i] for i in sensor.rgb_indices)
    assert 400 < blue < green < red < 700
    assert sensor.scale == 10_000


def test_ohs_has_32_bands_in_order_of_wavelength():
    assert len(OHS.bands) == 32
    assert list(OHS.wavelengths) == sorted(OHS.wavelengths)
    assert (OHS.wavelengths[0], OHS.wavelengths[-1]) == (466, 940)
    assert OHS.rgb_indices == (13, 6, 1)


def test_sentinel_2_has_its_13_bands():
    assert [band.name for band in SENTINEL2.bands][7:10] == ["B8", "B8A", "B9"]
    assert len(SENTINEL2.bands) == 13


def test_mts12_stacks_dates_or_bands_first():
    by_date, by_band = mts12_sensor("date"), mts12_sensor("band")
    assert [band.date for band in by_date.bands[:6]] == ["March"] * 6
    assert [band.date for band in by_band.bands[:4]] == list(MTS12_DATES)
    assert {band.name for band in by_date.bands} == {band.name for band in by_band.bands}
    assert len(by_date.bands) == len(MTS12_DATES) * len(MTS12_BANDS) == 24
    with pytest.raises(ValueError, match="'date' or 'band'"):
        mts12_sensor("pixel")


def test_a_band_named_twice_or_shown_but_missing_is_refused():
    band = Band(name="a", wavelength=500)
    with pytest.raises(ValidationError, match="occur twice"):
        Sensor(name="s", bands=(band, band), rgb=("a", "a", "a"))
    with pytest.raises(ValidationError, match="not among its bands"):
        Sensor(name="s", bands=(band,), rgb=("a", "b", "a"))


@pytest.mark.parametrize("wavelength", [0.49, -1, 200_000])
def test_wavelengths_are_nanometres(wavelength):
    with pytest.raises(ValidationError):
        Band(name="a", wavelength=wavelength)
