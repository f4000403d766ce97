"""Your own tiles: a folder, an index of attributes, and a protocol file that describes both."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from spectral_tl_bench.config.protocols import ProtocolFile
from spectral_tl_bench.config.tile_folder import TileFolder
from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.datasets.io.arrays import file_of
from spectral_tl_bench.datasets.io.band_metadata import described_bands
from spectral_tl_bench.datasets.io.headers import Header, raster_header
from spectral_tl_bench.datasets.io.label_codes import own_codes
from spectral_tl_bench.datasets.io.listing import Listing, Role, Stored, raise_first
from spectral_tl_bench.datasets.io.raster import Window, read_image
from spectral_tl_bench.datasets.io.vrt import is_virtual, sources_of
from spectral_tl_bench.datasets.user_tiles.label_maps import AS_STORED, Placement, place_label, read_codes
from spectral_tl_bench.datasets.user_tiles.pixel_size import size_notes
from spectral_tl_bench.datasets.user_tiles.polygons import burn, grid_of, is_vector
from spectral_tl_bench.datasets.user_tiles.tile_table import locate, read_table, require_columns
from spectral_tl_bench.datasets.user_tiles.tiling import cut_scenes
from spectral_tl_bench.sensors import Sensor, UnreadSensor, select_bands
from spectral_tl_bench.sensors.classes import HIGHEST_CODE, LOWEST_CODE
from spectral_tl_bench.utils.errors import DataError, first_problem
from spectral_tl_bench.utils.registry import DATASETS


@DATASETS.register("tiles", order=1000)
class Tiles(TileDataset):
    """Tiles of any sensor, with bands, classes and attributes from a protocol file.

    The index is the CSV that the file names, one row a tile, its values kept as the text that protocols compare. A
    column ``split`` gives the splits; without one, every tile is in the split "all". A column ``block`` (or the one
    that the protocol file names) keeps tiles together in validation; otherwise neighbours do where the images are
    georeferenced, and elsewhere runs of consecutive rows of one sub-domain.
    """

    name = "tiles"
    title = "Your own tiles"
    citation = ""
    channels: tuple[int, ...] | None = None
    band_hint = (
        "list all bands of the files under 'sensor' in the protocol file and choose some of them with 'bands', or list "
        "none where the files describe them"
    )

    def __init__(
        self,
        root: str | Path = "data",
        split: str | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        download: bool = False,
        *,
        file: ProtocolFile,
        strict: bool = True,
    ) -> None:
        """Read the index and find the tiles.

        Args:
            root: Folder that the protocol file's paths are relative to.
            split: A value of the column ``split``, or None for every tile.
            transforms: Applied to each sample.
            download: Refused where there are no tiles: your own have no public address.
            file: The protocol file: sensor, classes, ignored codes and where the tiles lie.
            strict: Refuse a folder with a tile that does not fit; see the base class.

        Raises:
            DataError: If the index or a file it names is missing, or a tile does not fit.
        """
        if file.sensor is None or file.classes is None:
            raise DataError(f"protocol file {file.name} describes no sensor and classes of its own tiles")
        self.all_classes = file.classes
        self.folder = file.folder or TileFolder()
        self._group_by = list(
            dict.fromkeys(
                attribute
                for transfer in file.protocols.values()
                for attribute in (transfer.by, *transfer.source.where, *transfer.target.where)
            )
        )
        self._ignore = file.ignore
        labels = (self.folder.class_column, self.folder.label_band)
        words = (*labels, file.ignore, [(c.code, c.name) for c in file.classes])
        self._labels_read_as = hashlib.blake2b(repr(words).encode(), digest_size=6).hexdigest()
        self._files_describe = isinstance(file.sensor, UnreadSensor)
        self._bands_known = None if isinstance(file.sensor, UnreadSensor) else len(file.sensor.bands)
        self._listing: Listing | None = None
        self._rows = read_table(Path(root).expanduser() / self.folder.index, self.folder, self._group_by)
        self.splits = tuple(dict.fromkeys(self._rows["split"]))
        # What the files hold first, of which some bands are used.
        self.root = Path(root).expanduser()
        self._stored = self._sensor_of_files(file.sensor)
        wanted = range(len(self._stored.bands)) if file.bands is None else select_bands(self._stored, file.bands)
        self.sensor = self._stored.subset(wanted)
        self.own_blocks = bool(self._rows.attrs["own_blocks"])
        near = file.ignore if file.ignore == "rest" else [c for c in file.ignore if LOWEST_CODE <= c <= HIGHEST_CODE]
        super().__init__(root, split, transforms, download, ignore=near, strict=strict)
        self._leave_out_unusable(wanted)
        if split is None:
            self.notes = [*self.notes, *size_notes(file, self.index, self.sensor.ground_sampling_distance)]

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands of the files."""
        return self._stored

    @property
    def file_channels(self) -> tuple[int, ...]:
        """Which bands of the files the source tiles show, counted from 0."""
        shown = super().file_channels
        return shown if self.channels is None else tuple(self.channels[channel] for channel in shown)

    @property
    def read_as(self) -> str:
        """What headers are read with: another sensor may contradict the files."""
        given = sorted(self._stored.model_fields_set & {"scale", "offset"})
        return self._stored.model_dump_json(include={"bands", "nodata", *given})

    def _sensor_of_files(self, sensor: Sensor | UnreadSensor) -> Sensor:
        if isinstance(sensor, Sensor):
            return sensor
        listed = self.find()
        if not listed.rows:
            raise_first(listed.problems)
        first = listed.rows[0]["image"]
        try:
            return sensor.with_bands(described_bands(Path(first)))
        except ValueError as error:
            said = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{first}: the bands that it describes do not suit the protocol file: {said}") from error

    def _leave_out_unusable(self, wanted: Sequence[int]) -> None:
        """Use the bands that have data in some tile and that no header marks as bad; name the others in notes."""
        channels = self._leave_out(wanted, self.empty, "bands without data in any tile are left out")
        if not channels:
            raise DataError(
                f"no tile of {self.root} has data in any band: all values are nodata or not finite; correct "
                "'nodata' under 'sensor' in the protocol file"
            )
        if self._files_describe:
            channels = self._leave_out(channels, self.bad, "bands that the headers mark as bad (bbl) are left out")
            if not channels:
                raise DataError(
                    f"the headers of {self.root} mark every band that is used as bad (bbl); correct them, or list the "
                    "bands under 'sensor' in the protocol file"
                )
        else:
            self._leave_out(
                channels, self.bad, "bands that the headers mark as bad (bbl) are used, as the sensor lists them"
            )
        if len(channels) < len(wanted):
            self.sensor = self._stored.subset(channels)
        self.channels = None if channels == list(range(len(self._stored.bands))) else tuple(channels)

    def _leave_out(self, channels: Sequence[int], unusable: Collection[int], what: str) -> list[int]:
        """The other channels; a note names those that are left out."""
        names = [self._stored.bands[channel].name for channel in channels if channel in unusable]
        if names:
            shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
            self.notes = [*self.notes, f"{what}, {len(names)} of them: {shown}"]
        return [channel for channel in channels if channel not in unusable]

    def read_image(self, path: Path, window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the bands of an image that are used, and where all of them have data."""
        return read_image(path, window, channels=self.channels, sensor=self._stored)

    def channels_at(
        self, row: Mapping[Any, Any], channels: Sequence[int], window: Window | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read some of the bands that are used; where others have no data does not matter."""
        alone = copy.copy(self)
        alone.channels = tuple(channels if self.channels is None else (self.channels[c] for c in channels))
        return alone.image_at(row, window)

    def find(self) -> Listing:
        """List the tiles; see the base class."""
        if self._listing is None:
            self._listing = self._find()
        return self._listing

    def _find(self) -> Listing:
        found = locate(self._rows.to_dict("records"), self.folder, self.root, self._bands_known)
        cut = self.folder.tiles
        if cut is None:
            return found
        polygons = None if cut.polygons is None else os.path.join(os.path.abspath(self.root), cut.polygons)
        tiles = cut_scenes(found, cut, polygons)
        require_columns(tiles.rows, self._group_by, self.folder)
        return tiles

    def headers_at(self, row: Mapping[Any, Any]) -> tuple[Header, Header]:
        """Read the headers of a row; polygons have that of the image on whose grid they are burnt."""
        part = row.get("part")
        image = raster_header(row["image"], self._stored, part, self._offset(row), own=True)
        if not is_vector(row["label"]):
            placement = self._placement(row)
            self._codes(row["label"], (0, 0, 1, 1))
            if placement != AS_STORED:
                return image, raster_header(row["label"], part=(0, 0, image.height, image.width))
            scene, map_ = grid_of(row["image"]), grid_of(row["label"])
            if part is not None and (scene.height, scene.width) != (map_.height, map_.width):
                raise DataError(
                    f"{row['label']} is {map_.height} x {map_.width} px but its scene is {scene.height} x "
                    f"{scene.width}; warp it onto the scene's grid (gdalwarp), or draw the labels as polygons"
                )
            return image, raster_header(row["label"], part=part)
        self.label_at(row)
        return image, dataclasses.replace(image, bands=1, dtype="int32", content="", empty=())

    def stored_at(self, row: Mapping[Any, Any], role: Role) -> Stored:
        """Say which files hold the image or the label map of a row."""
        path, part = row[role], row.get("part")
        place = "" if part is None else " " + "_".join(map(str, part))
        files = (file_of(path), *(sources_of(path) if is_virtual(path) else ()))
        if role == "label" and is_vector(path):
            # The same polygons are another label map on another grid.
            place = f" on {row['image'].removeprefix(os.path.abspath(self.root))}{place}"
            files = (*files, file_of(row["image"]))
        whole = not place and path == files[0]
        offset = self._offset(row) if role == "image" else None
        read_as = f"offset {offset:g}" if offset else ""
        return Stored(f"{path}{place}", files, whole, read_as if role == "image" else self._labels_read_as)

    def image_at(self, row: Mapping[Any, Any], window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the bands of the image of a row that are used, or a window of it."""
        window, offset = _within(row, window), self._offset(row)
        return read_image(row["image"], window, channels=self.channels, sensor=self._stored, offset=offset)

    def _offset(self, row: Mapping[Any, Any]) -> float | None:
        """The offset of a tile where the protocol names the column that has it."""
        column = self._stored.offset
        if not isinstance(column, str):
            return None
        try:
            return float(row[column]) if str(row[column]).strip() else None
        except (KeyError, ValueError):
            what = f"is {row[column]!r} for tile {row['tile']!r}" if column in row else "does not exist"
            raise DataError(
                f"{self.root / self.folder.index}: column {column!r}, the 'offset' of the sensor, {what}; give numbers "
                "such as -1000, or name another column"
            ) from None

    def pixels_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read all bands of the image of a row as they are stored."""
        return read_image(row["image"], _within(row, None))[0]

    def label_at(self, row: Mapping[Any, Any], window: Window | None = None) -> np.ndarray:
        """Read or burn the label map of a row, or a window of it."""
        path = row["label"]
        if not is_vector(path):
            placement = self._placement(row)
            if placement == AS_STORED:
                return self.read_label(Path(path), _within(row, window))
            grid = grid_of(row["image"])
            within = _within(row, window) or (0, 0, grid.height, grid.width)
            return placement.turned(self.read_label(Path(path), placement.window(within)))
        window = _within(row, window)
        names = {c.name: c.code for c in self.all_classes}
        return burn(path, grid_of(row["image"]), window, self.folder.class_column, names)

    def read_label(self, path: Path, window: Window | None = None) -> np.ndarray:
        """Read an H x W label map; what the file calls nodata, NaN, and ignored codes of any size are unlabelled."""
        stored, nodata = self._codes(path, window)
        return own_codes(stored, nodata, [c.code for c in self.all_classes], self._ignore, path)

    def label_is_moved(self, row: Mapping[Any, Any]) -> bool:
        """Whether the label map of a row is a raster that lies otherwise on the image than as it is stored."""
        return not is_vector(row["label"]) and self._placement(row) != AS_STORED

    def _placement(self, row: Mapping[Any, Any]) -> Placement:
        names = (row["image"], row["label"])
        return place_label(grid_of(names[0]), grid_of(names[1]), names, row.get("part"))

    def _codes(self, path: Path | str, window: Window | None) -> tuple[np.ndarray, float | None]:
        return read_codes(path, window, self.folder.label_band, [c.code for c in self.all_classes])


def _within(row: Mapping[Any, Any], window: Window | None) -> Window | None:
    """A window of a tile as one of the file that the tile is a part of."""
    part: Window | None = row.get("part")
    if part is None or window is None:
        return part if window is None else window
    return part[0] + window[0], part[1] + window[1], window[2], window[3]
