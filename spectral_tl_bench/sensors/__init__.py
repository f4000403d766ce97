"""Sensors: what a band is, which of them a protocol uses, and the sensors of the suite's archives."""

from spectral_tl_bench.sensors.bands import (
    DEFAULT_BANDWIDTH,
    MTS12,
    MTS12_BANDS,
    MTS12_DATES,
    OHS,
    OHS_SENTINEL2,
    SENSORS,
    SENTINEL2,
    Band,
    BandSelection,
    Sensor,
    UnreadSensor,
    band_spelling,
    mts12_sensor,
    select_bands,
)

__all__ = [
    "DEFAULT_BANDWIDTH",
    "MTS12",
    "MTS12_BANDS",
    "MTS12_DATES",
    "OHS",
    "OHS_SENTINEL2",
    "SENSORS",
    "SENTINEL2",
    "Band",
    "BandSelection",
    "Sensor",
    "UnreadSensor",
    "band_spelling",
    "mts12_sensor",
    "select_bands",
]
