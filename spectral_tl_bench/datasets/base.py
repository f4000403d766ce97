"""What every archive here has in common: an index of tiles, and tiles read as TorchGeo samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from torchgeo.datasets import DatasetNotFoundError, NonGeoDataset

from spectral_tl_bench.config.domains import Transfer
from spectral_tl_bench.datasets.checksums import TileChecksums
from spectral_tl_bench.datasets.file_facts import FileFacts
from spectral_tl_bench.datasets.index import survey
from spectral_tl_bench.datasets.io.headers import Header, raster_header
from spectral_tl_bench.datasets.io.listing import Listing, Role, Stored, raise_first
from spectral_tl_bench.datasets.io.raster import Window, label_table, map_labels, read_image, read_label, to_reflectance
from spectral_tl_bench.sensors import Sensor
from spectral_tl_bench.sensors.classes import IGNORE_INDEX, LandClass
from spectral_tl_bench.simulation.marker import read_marker
from spectral_tl_bench.splits.neighbors import TileLayout, by_footprint
from spectral_tl_bench.utils.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spectral_tl_bench.datasets.cross_sensor import Crossing

Sample = dict[str, Any]


class TileDataset(NonGeoDataset):
    """Tiles of one archive with their label maps.

    A subclass states the facts (class constants) and finds the files (:meth:`find`). Samples follow TorchGeo:

    * ``image``: float32, C x H x W, reflectance (stored value divided by ``sensor.scale``); pixels without data are 0
    * ``mask``: int64, H x W, contiguous class ids in the order of ``classes``, 255 = ignore (also where the image has
      no data)
    * ``tile``: the tile's name in ``index``

    Attributes:
        index: One row a tile. Columns ``tile`` (unique name), ``image`` and ``label`` (absolute paths), ``split``,
            ``height``, ``width``, ``block`` (tiles of one block are neighbours in space), the archive's own domain
            attributes, and ``geometry`` (footprint in WGS 84 where the file has a CRS, else missing).
        classes: Classes in the order of their ids.
        label_table: Lookup table from codes on disk to class ids; see
            :func:`spectral_tl_bench.datasets.io.raster.label_table`.
        problems: What kept tiles out of the index; empty unless ``strict`` is False.
        left_out: Files that are no part of a tile and do no harm, such as an image without a label.
        notes: What is worth knowing about the files, a line each: copies, files left out.
        unknown: Attributes that these files do not tell, and what to do to learn them.
        empty: Channels of the files, counted from 0, that are nodata in every tile, as far as it was looked for.
        bad: Channels of the files that the header of some tile marks as bad.
        samples: Digest of a sample of each image's pixels, by what stores it: alike for copies, however packed.
        crossing: Which bands source and target show, where these differ.
        own_blocks: Whether ``block`` was given with the tiles rather than made from their order.
        expected_counts: Published numbers of tiles, by attribute and value.
        count_variants: Other numbers that releases of the archive are known to hold, by the published number.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str]
    splits: tuple[str, ...] = ("train", "val", "test")
    all_classes: tuple[LandClass, ...]
    ignored_codes: ClassVar[tuple[int, ...]] = ()
    expected_counts: ClassVar[dict[str, dict[str, int]]] = {}
    count_variants: ClassVar[dict[int, tuple[int, ...]]] = {}
    band_hint: str = "use the archive's own tiles, or describe yours in a protocol file with 'dataset: tiles'"
    own_blocks: bool = False
    crossing: Crossing | None = None

    sensor: Sensor

    def __init__(
        self,
        root: str | Path = "data",
        split: str | None = None,
        transforms: Callable[[Sample], Sample] | None = None,
        download: bool = False,
        *,
        ignore: Sequence[int] | Literal["rest"] = (),
        strict: bool = True,
    ) -> None:
        """Find the tiles.

        Args:
            root: Folder of the archive, in any of the layouts that the class names.
            split: One of ``splits``, or None for every tile.
            transforms: Applied to each sample.
            download: Fetch the archive into ``root`` if it is not there; its published digests are verified.
            ignore: Label codes to ignore beyond the archive's own; the remaining classes keep their order. "rest"
                ignores every code that is not a class.
            strict: Refuse an archive with a tile that does not fit; False leaves such tiles out of ``index`` and lists
                them in ``problems``.

        Raises:
            DatasetNotFoundError: If ``root`` holds no tile of this archive.
            DataError: If a tile does not fit the archive (bands, label, truncation); the message names the file.
        """
        if split is not None and split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; choose one of {', '.join(self.splits)}")
        self.root = Path(root).expanduser()
        self.split = split
        self.transforms = transforms
        self.download = download
        dropped = set() if ignore == "rest" else set(ignore)
        self.classes = tuple(c for c in self.all_classes if c.code not in dropped)
        self.label_table = label_table(
            [c.code for c in self.classes],
            None if ignore == "rest" else (*self.ignored_codes, *dropped),
        )
        if download:
            self.fetch()
        found = survey(self)
        index, self.problems = found.index, found.problems
        self.left_out, self.notes, self.unknown = found.left_out, found.notes, found.unknown
        self.empty, self.bad, self.samples = found.empty, found.bad, found.samples
        if strict:
            raise_first(self.problems)
        if index.empty and not self.problems:
            raise DatasetNotFoundError(self)
        if split is not None:
            index = index[index["split"] == split].reset_index(drop=True)
        self.index: gpd.GeoDataFrame = index

    @property
    def stored(self) -> Sensor:
        """The sensor with all bands of the files, of which ``sensor`` may be some."""
        return self.sensor

    @property
    def file_channels(self) -> tuple[int, ...]:
        """Which bands of the files the source tiles show, counted from 0."""
        return tuple(range(len(self.sensor.bands))) if self.crossing is None else self.crossing.source

    @property
    def read_as(self) -> str:
        """What headers are read with; where it changes, they are read again."""
        return ""

    # What a subclass provides.

    def find(self) -> Listing:
        """List the tiles under ``root`` by their names and folders, without opening them.

        Returns:
            Among others one dict a tile with at least ``tile``, ``image``, ``label``, ``split``, ``block`` and the
            domain attributes, in a fixed order. Empty when ``root`` holds nothing of this archive.
        """
        raise NotImplementedError

    def settle(self, index: pd.DataFrame, contents: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """Decide what only the pixels tell, such as which of the tiles listed are one and the same.

        Args:
            index: The tiles that :meth:`find` listed and that fit the archive, with what their headers say.
            contents: Digest of each tile's pixels; see :class:`spectral_tl_bench.datasets.io.headers.Header`.

        Returns:
            The index to use, and notes about it.
        """
        return index, []

    def numbered_places(self) -> TileLayout | None:
        """Return where the tiles of ``index`` lie as far as their names tell, None where they tell nothing."""
        return None

    def published_counts(self) -> dict[str, dict[str, int]]:
        """Return the published numbers of tiles of the release at hand, by attribute and value."""
        return self.expected_counts

    def image_header(self, path: Path) -> Header:
        """Read what an image's header says; a file that was cut short is refused."""
        return raster_header(path, self.stored)

    def label_header(self, path: Path) -> Header:
        """Read what a label map's header says; a file that was cut short is refused."""
        return raster_header(path)

    def fetch(self) -> None:
        """Download the archive into ``root`` if nothing of it is there; your own tiles cannot be."""
        if self.find().rows:
            return
        from spectral_tl_bench.datasets.archives.download import download

        download(self.name, self.root)

    def read_image(self, path: Path, window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a C x H x W image in the type on disk, and its H x W validity where some pixels have no data."""
        return read_image(path, window, sensor=self.stored)

    def read_label(self, path: Path, window: Window | None = None) -> np.ndarray:
        """Read an H x W label map as integer codes."""
        return read_label(path, window)

    def image_at(self, row: Mapping[Any, Any], window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the image of a row of the index, or a window of it; see :meth:`read_image`."""
        return self.read_image(Path(row["image"]), window)

    def pixels_at(self, row: Mapping[Any, Any]) -> np.ndarray:
        """Read all pixels that the image of a row stores, whichever bands are used."""
        return self.image_at(row)[0]

    def label_at(self, row: Mapping[Any, Any], window: Window | None = None) -> np.ndarray:
        """Read the label map of a row of the index, or a window of it; see :meth:`read_label`."""
        return self.read_label(Path(row["label"]), window)

    def headers_at(self, row: Mapping[Any, Any]) -> tuple[Header, Header]:
        """Read what the headers say of the image and of the label map of a row that :meth:`find` lists."""
        return self.image_header(Path(row["image"])), self.label_header(Path(row["label"]))

    def stored_at(self, row: Mapping[Any, Any], role: Role) -> Stored:
        """Say which files hold the image or the label map of a row."""
        return Stored(str(row[role]), (str(row[role]),), whole=True)

    def label_is_moved(self, row: Mapping[Any, Any]) -> bool:
        """Whether the label map of a row is read in another place or direction than its file stores it."""
        return False

    # What they all share.

    def require(self, transfer: Transfer) -> None:
        """Refuse a transfer between tiles that these files do not tell apart.

        Raises:
            DataError: If source or target depends on an attribute in ``unknown``.
        """
        for attribute in (*transfer.source.where, *transfer.target.where):
            if attribute in self.unknown:
                raise DataError(self.unknown[attribute])

    @cached_property
    def places(self) -> TileLayout | None:
        """Where the tiles lie: by their footprints, else by their names; None where neither tells."""
        places = by_footprint(self.index.geometry) or self.numbered_places()
        if places is None or not self.own_blocks:
            return places
        return dataclasses.replace(places, blocks=self.index["block"].astype(str).to_numpy())

    @cached_property
    def facts(self) -> FileFacts:
        """What is known of the files; digests of a simulated archive are of its pixels."""
        return FileFacts(self, "bytes" if read_marker(self.root) is None else "pixels")

    def checksums(self, positions: Sequence[int]) -> dict[str, TileChecksums]:
        """Digests of tiles; files that have not changed since they were read last are not read again.

        Args:
            positions: Rows of ``index``.

        Returns:
            Digests and label codes, by the tiles' names.

        Raises:
            DataError: If a file cannot be read, or a label map is none.
        """
        rows = self.index.iloc[list(positions)].to_dict("records")
        return {str(row["tile"]): tile for row, tile in zip(rows, self.facts.checksums(rows), strict=True)}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.read(index)
        return self.transforms(sample) if self.transforms is not None else sample

    def read(self, position: int, window: Window | None = None) -> Sample:
        """Read one tile, or a window of it.

        Args:
            position: Row of ``index``.
            window: (top, left, height, width) in pixels, inside the tile; None reads it whole.

        Returns:
            The sample without ``transforms`` applied.

        Raises:
            DataError: If a file cannot be read or does not fit the archive.
        """
        sample = self.read_stored(position, window)
        return {**sample, "image": self.to_reflectance(sample["image"])}

    def to_reflectance(self, stored: torch.Tensor) -> torch.Tensor:
        """Convert stored values of any type and shape to float32 reflectance."""
        return to_reflectance(stored, self.sensor.scale)

    def read_stored(self, position: int, window: Window | None = None) -> Sample:
        """Read like :meth:`read`, the image in the type and unit on disk.

        Half the bytes of float32 or less: training moves them to the device as they are and converts whole batches
        there, with :meth:`to_reflectance`.
        """
        row = self.index.iloc[position]
        pixels, valid = self.read_bands(position, window)
        codes = self.label_at(row, window)
        if codes.shape != pixels.shape[1:]:
            raise DataError(
                f"{row['label']} is {codes.shape[0]} x {codes.shape[1]} px but its image is "
                f"{pixels.shape[1]} x {pixels.shape[2]}; restore the pair from the archive"
            )
        mask = map_labels(codes, self.label_table, row["label"], IGNORE_INDEX)
        if self.crossing is not None:
            pixels = self.crossing.shown(position, pixels)
        if valid is not None:
            pixels[:, ~valid] = 0
            mask[~valid] = IGNORE_INDEX
        return {"image": torch.from_numpy(pixels), "mask": torch.from_numpy(mask), "tile": str(row["tile"])}

    def read_bands(self, position: int, window: Window | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the bands of :meth:`sensor_of` a tile, like :meth:`image_at`; a file with others is refused."""
        row = self.index.iloc[position]
        if self.crossing is not None:
            return self.channels_at(row, self.crossing.channels(position), window)
        pixels, valid = self.image_at(row, window)
        if pixels.shape[0] != len(self.sensor.bands):
            raise DataError(
                f"{row['image']} has {pixels.shape[0]} bands where {self.sensor.name} has {len(self.sensor.bands)}; "
                f"{self.band_hint}"
            )
        return pixels, valid

    def channels_at(
        self, row: Mapping[Any, Any], channels: Sequence[int], window: Window | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read some of the bands of :meth:`image_at`, counted from 0."""
        pixels, valid = self.image_at(row, window)
        return pixels[list(channels)], valid

    def sensor_of(self, position: int) -> Sensor:
        """The bands that a tile shows."""
        return self.sensor if self.crossing is None else self.crossing.sensor(position)

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draw a sample's true-colour view beside its label map and, where it has one, its prediction.

        Args:
            sample: A sample of this dataset, optionally with ``prediction`` (H x W class ids).
            show_titles: Whether each panel has a title.
            suptitle: Title of the whole figure.

        Returns:
            The figure.
        """
        from spectral_tl_bench.datasets.plot import plot_sample

        return plot_sample(sample, self.sensor, self.classes, show_titles, suptitle)
