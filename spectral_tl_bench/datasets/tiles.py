"""Your own tiles: a folder, an index of attributes, and a protocol file that describes both."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from spectral_tl_bench.datasets import blocks
from spectral_tl_bench.datasets.base import Sample, TileDataset
from spectral_tl_bench.datasets.descriptions import described_bands
from spectral_tl_bench.datasets.files import Listing, Problem, raise_first
from spectral_tl_bench.datasets.headers import Header, own_bands
from spectral_tl_bench.datasets.raster import Window, read_image
from spectral_tl_bench.errors import DataError, first_problem
from spectral_tl_bench.paths import path_inside
from spectral_tl_bench.protocols import ProtocolFile, TileFolder
from spectral_tl_bench.sensors import Sensor, UnreadSensor, select_bands

_OWN_COLUMNS = ("image", "label", "height", "width", "bands", "dtype", "label_height", "label_width", "geometry")


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
        self._rows = _read_csv(Path(root).expanduser() / self.folder.index, self.folder, self._group_by)
        self.splits = tuple(dict.fromkeys(self._rows["split"]))
        # What the files hold first, of which some bands are used.
        self.root = Path(root).expanduser()
        self._stored = self._sensor_of_files(file.sensor)
        wanted = range(len(self._stored.bands)) if file.bands is None else select_bands(self._stored, file.bands)
        self.sensor = self._stored.subset(wanted)
        self.own_blocks = bool(self._rows.attrs["own_blocks"])
        super().__init__(root, split, transforms, download, ignore=file.ignore, strict=strict)
        self._leave_out_empty(wanted)

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands of the files."""
        return self._stored

    @property
    def read_as(self) -> str:
        """What headers are read with: a sensor with other wavelengths agrees with other files."""
        return self._stored.model_dump_json(include={"bands", "nodata"})

    def _sensor_of_files(self, sensor: Sensor | UnreadSensor) -> Sensor:
        if isinstance(sensor, Sensor):
            return sensor
        listed = self.find()
        if not listed.rows:
            raise_first(listed.problems)
        first = listed.rows[0]["image"]
        try:
            return sensor.with_bands(described_bands(Path(first), Path(os.path.abspath(self.root))))
        except ValueError as error:
            said = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{first}: the bands that it describes do not suit the protocol file: {said}") from error

    def _leave_out_empty(self, wanted: Sequence[int]) -> None:
        """Use the bands that hold data in some tile, and say which do not."""
        channels = [channel for channel in wanted if channel not in self.empty]
        if len(channels) < len(wanted):
            names = [self._stored.bands[channel].name for channel in wanted if channel in self.empty]
            shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
            if not channels:
                raise DataError(
                    f"no tile of {self.root} has data in any band: all values are nodata or not finite; correct "
                    "'nodata' under 'sensor' in the protocol file"
                )
            self.notes = [*self.notes, f"bands without data in any tile are left out, {len(names)} of them: {shown}"]
            self.sensor = self._stored.subset(channels)
        self.channels = None if channels == list(range(len(self._stored.bands))) else tuple(channels)

    def image_header(self, path: Path) -> Header:
        """Read what an image's header says, and which of its bands hold data."""
        header = super().image_header(path)
        return dataclasses.replace(header, empty=own_bands(path, self._stored))

    def read_image(self, path: Path, window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the bands of an image that are used, and where all of them have data."""
        return read_image(path, window, channels=self.channels, nodata=self._stored.nodata)

    def find(self) -> Listing:
        """List the tiles; see the base class."""
        root = os.path.abspath(self.root)
        rows: list[dict[str, Any]] = []
        problems: list[Problem] = []
        for row in self._rows.to_dict("records"):
            for role, template in (("image", self.folder.images), ("label", self.folder.labels)):
                row[role] = os.path.join(root, template.replace("{tile}", row["tile"]))
            missing = [row[role] for role in ("image", "label") if not os.path.isfile(row[role])]
            if missing:
                message = (
                    f"{missing[0]} does not exist, but {self.root / self.folder.index} lists its tile; "
                    "add the file, or correct 'images' and 'labels' under 'folder' in the protocol file"
                )
                problems.append(Problem("unpaired", missing[0], message))
            else:
                rows.append({str(column): value for column, value in row.items()})
        return Listing(rows, problems)


def _read_csv(path: Path, folder: TileFolder, attributes: list[str]) -> pd.DataFrame:
    try:
        # As text: protocols compare text, and a tile named 007 must stay so.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise DataError(
            f"cannot read the tile index {path}: {reason}; it must be a CSV with one row a tile "
            "('index' under 'folder' in the protocol file says where)"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path} has rows of more fields than its header; name every column, and quote commas")
    if frame.empty:
        raise DataError(f"{path} lists no tile; it must be a CSV with one row a tile")
    wanted = [folder.tile, *attributes, *([folder.block] if folder.block else [])]
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; it has: {', '.join(frame.columns)}. "
            "Add it, or correct its name in the protocol file"
        )
    own = [*_OWN_COLUMNS, *(["tile"] if folder.tile != "tile" else [])]
    reserved = [column for column in frame.columns if column in own]
    if reserved:
        raise DataError(f"{path} has a column {reserved[0]!r}, which is a name of the index's own; rename it")
    if folder.tile != "tile":
        frame.insert(0, "tile", frame[folder.tile])
    twice = frame["tile"][frame["tile"].duplicated()]
    if len(twice):
        raise DataError(f"{path} lists tile {twice.iloc[0]!r} more than once; every row must be another tile")
    outside = [name for name in frame["tile"] if path_inside(Path(), name) is None]
    if outside:
        raise DataError(f"{path} lists tile {outside[0]!r}, which leads out of the folder; name files below it")
    if "split" not in frame.columns:
        frame["split"] = "all"
    frame.attrs["own_blocks"] = bool(folder.block) or "block" in frame.columns
    if folder.block:
        frame["block"] = frame[folder.block]
    elif "block" not in frame.columns:
        frame["block"] = blocks.runs(list(frame[attributes].agg("-".join, axis=1)))
    return frame
