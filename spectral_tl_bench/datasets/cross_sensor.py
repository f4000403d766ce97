"""Tiles of which source and target show other bands: what is read where, and what a model of the source's is shown."""

from __future__ import annotations

import copy
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from spectral_tl_bench.sensors import BandSelection, Sensor, select_bands
from spectral_tl_bench.sensors.resampling import resampling_matrix
from spectral_tl_bench.utils.errors import ProtocolError

if TYPE_CHECKING:
    from spectral_tl_bench.config.protocols import Protocol

OtherBands = Literal["resampled", "wavelengths"]
"""How a model sees bands that it was not built for: as values of its own bands, or by their wavelengths."""


@dataclass(frozen=True)
class Crossing:
    """Which bands the tiles of either side show.

    Attributes:
        source: Channels of the source, counted from 0 in the dataset's sensor.
        target: Channels of the target.
        source_sensor: The source's bands; all tiles but the target's are read as having these.
        target_sensor: The target's bands.
        rows: Rows of the index that are target tiles.
        matrix: Makes the source's bands from the target's, K x C; None where the target's are shown as they are.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    source_sensor: Sensor
    target_sensor: Sensor
    rows: frozenset[int]
    matrix: np.ndarray | None

    @property
    def differ(self) -> bool:
        """Whether the target shows other bands than the source."""
        return self.source != self.target

    @property
    def seen(self) -> Sensor | None:
        """The target's bands where a model has to see them as they are."""
        return self.target_sensor if self.differ and self.matrix is None else None

    def channels(self, row: int) -> tuple[int, ...]:
        """What is read of a tile."""
        return self.target if row in self.rows else self.source

    def sensor(self, row: int) -> Sensor:
        """The bands that a tile has."""
        return self.target_sensor if row in self.rows else self.source_sensor

    def shown(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """What a model sees of a tile's C x H x W stored values."""
        if row not in self.rows or self.matrix is None:
            return pixels
        made: np.ndarray = np.tensordot(self.matrix.astype(np.float32), pixels.astype(np.float32), axes=1)
        return made


class _Showing(typing.Protocol):
    """What is asked of a dataset; every :class:`~spectral_tl_bench.datasets.base.TileDataset` is one."""

    sensor: Sensor
    crossing: Crossing | None

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands of the files."""


_Dataset = TypeVar("_Dataset", bound=_Showing)


def crossed(dataset: _Dataset, protocol: Protocol, target: Sequence[int], how: OtherBands = "resampled") -> _Dataset:
    """Let source and target tiles show the bands that a protocol gives them.

    Args:
        dataset: The archive, all its bands.
        protocol: Names the bands of either side, or none.
        target: Rows of the target tiles.
        how: How bands of the target are shown where they are not the source's.

    Returns:
        The dataset itself where the protocol names no bands, else one that shares its index, with the source's sensor.

    Raises:
        ProtocolError: If a selection means no band, or the target's cannot make the source's.
    """
    transfer = protocol.transfer
    if transfer.source.bands is None and transfer.target.bands is None:
        return dataset
    source = _channels(dataset, transfer.source.bands, protocol.name)
    other = _channels(dataset, transfer.target.bands, protocol.name)
    source_sensor, target_sensor = dataset.sensor.subset(source), dataset.sensor.subset(other)
    matrix = None
    if source != other and how == "resampled":
        try:
            matrix = resampling_matrix(target_sensor, source_sensor)
        except ProtocolError as error:
            raise ProtocolError(
                f"{protocol.name}: {error}, which the target has; choose 'bands' of the source among these, or a "
                "backbone whose tokens come from wavelengths, such as dofa_b, with a method that keeps its tokenizer"
            ) from error
    shown = copy.copy(dataset)
    shown.sensor = source_sensor
    shown.crossing = Crossing(source, other, source_sensor, target_sensor, frozenset(map(int, target)), matrix)
    return shown


def _channels(dataset: _Showing, selection: BandSelection | None, name: str) -> tuple[int, ...]:
    """Channels in the dataset's sensor."""
    if selection is None:
        return tuple(range(len(dataset.sensor.bands)))
    there = {band.name: channel for channel, band in enumerate(dataset.sensor.bands)}
    try:
        wanted = [dataset.stored.bands[position].name for position in select_bands(dataset.stored, selection)]
    except ProtocolError as error:
        raise ProtocolError(f"{name}: {error}") from error
    missing = [band for band in wanted if band not in there]
    if missing:
        raise ProtocolError(f"{name}: band {missing[0]} has no data in any tile; leave it out of 'bands'")
    return tuple(there[band] for band in wanted)
