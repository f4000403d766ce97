"""Maps as GeoTIFF files: tiled, compressed, in the place and with the colours that they belong to."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError

from spectral_tl_bench.config.spec import RunSpec
from spectral_tl_bench.prediction.restore import RestoredRun
from spectral_tl_bench.sensors.classes import LandClass
from spectral_tl_bench.utils.errors import RecordError
from spectral_tl_bench.utils.files import prepare_folder, replacing

TILE = 256
"""Side of the file's tiles in pixels."""

_INCOMPLETE = "the file is not complete; the disk may be full"

Color = tuple[int, int, int, int]


def code_table(classes: Sequence[LandClass]) -> np.ndarray:
    """Codes on disk by class id, in the smallest type that has room for one more code, that of no data."""
    codes = [c.code for c in classes]
    fitting = (np.uint8, np.uint16) if min(codes) >= 0 else (np.int16, np.int32)
    return np.array(codes, dtype=fitting[0] if max(codes) < np.iinfo(fitting[0]).max else fitting[1])


def no_data_code(classes: Sequence[LandClass]) -> int:
    """The code of pixels without data: 0, as in every archive here, unless 0 is a class; then the largest one.

    Raises:
        RecordError: If both are classes.
    """
    largest = int(np.iinfo(code_table(classes).dtype).max)
    taken = {c.code for c in classes}
    for code in (0, largest):
        if code not in taken:
            return code
    raise RecordError(f"no code is left for pixels without data: 0 and {largest} are both classes")


def rgba(color: str) -> Color:
    """Turn ``#rrggbb`` into four numbers of 0-255."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue, 255


def run_tags(spec: RunSpec) -> dict[str, str]:
    """What made a map, as tags of its file."""
    tags = {"METHOD": spec.method_name, "BACKBONE": spec.backbone, "PROTOCOL": spec.protocol, "RUN": spec.digest}
    return tags | ({"SIMULATED": "trained on simulated data"} if spec.simulated else {})


@dataclass(frozen=True)
class Place:
    """Size of a raster and where it lies: a coordinate reference system and a transform, or ground control points."""

    height: int
    width: int
    crs: Any = None
    transform: Affine = Affine.identity()  # noqa: RUF009  # a value
    gcps: tuple[Any, Any] = ((), None)
    area_or_point: str | None = None

    @classmethod
    def of(cls, source: rasterio.DatasetReader) -> Self:
        """The place of an open raster."""
        tag = source.tags().get("AREA_OR_POINT")
        return cls(source.height, source.width, source.crs, source.transform, source.gcps, tag)


class GeoTiff:
    """One band, written from top to bottom in whole rows of tiles, so that no compressed tile is written twice.

    A context manager: the file takes its place when the block ends well, and is gone when it does not.
    """

    def __init__(
        self,
        path: Path,
        place: Place,
        kind: type[np.generic],
        nodata: int,
        *,
        tags: Mapping[str, str],
        colors: Mapping[int, Color] | None = None,
    ) -> None:
        """Prepare a file.

        Args:
            path: The .tif file.
            place: Its size and where it lies.
            kind: Type of its pixels.
            nodata: Value of pixels without data.
            tags: Written into the file.
            colors: Colour table.
        """
        self.path, self.place, self.nodata = path, place, nodata
        self._tags, self._colors = tags, colors
        self._profile = {
            "driver": "GTiff",
            "count": 1,
            "height": place.height,
            "width": place.width,
            "dtype": kind,
            "nodata": nodata,
            "crs": place.crs,
            "transform": place.transform,
            "tiled": True,
            "blockxsize": TILE,
            "blockysize": TILE,
            "compress": "deflate",
            "bigtiff": "if_safer",
        }
        self._waiting: list[np.ndarray] = []
        self._checksum = 0
        self._written = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        prepare_folder(self.path.parent)
        self._stack.enter_context(self._failures())
        temporary = self._stack.enter_context(replacing(self.path))
        self._stack.push(lambda kind, error, trace: self._require_complete(temporary) if kind is None else None)
        self._file = self._stack.enter_context(rasterio.open(temporary, "w", **self._profile))
        if self.place.gcps[0] and self.place.crs is None:
            self._file.gcps = self.place.gcps
        kept = {} if self.place.area_or_point is None else {"AREA_OR_POINT": self.place.area_or_point}
        self._file.update_tags(**self._tags, **kept)
        if self._colors is not None:
            self._file.write_colormap(1, dict(self._colors))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _failures(self) -> Any:
        try:
            yield
        except RasterioError as error:
            raise RecordError(f"cannot write {self.path}: {_INCOMPLETE} ({str(error).splitlines()[0]})") from error

    def _require_complete(self, path: Path) -> None:
        """Read the closed file again: GDAL does not report a disk that was full as the last tiles were written.

        Raises:
            RecordError: If it does not hold what was written.
        """
        checksum = 0
        with contextlib.suppress(RasterioError), rasterio.open(path) as source:
            for top in range(0, source.height, TILE):
                window = rasterio.windows.Window(0, top, source.width, min(TILE, source.height - top))
                checksum = zlib.crc32(source.read(1, window=window).tobytes(), checksum)
        if checksum != self._checksum:
            raise RecordError(f"cannot write {self.path}: {_INCOMPLETE}")

    def write(self, rows: np.ndarray) -> None:
        """Write the next rows."""
        self._waiting.append(rows.astype(self._profile["dtype"]))
        ready = sum(len(part) for part in self._waiting)
        last = self._written + ready == self._profile["height"]
        whole = ready if last else ready - ready % TILE
        if whole:
            block = np.concatenate(self._waiting)
            self._waiting = [block[whole:]]
            window = rasterio.windows.Window(0, self._written, block.shape[1], whole)
            self._file.write(block[:whole], 1, window=window)
            self._checksum = zlib.crc32(block[:whole].tobytes(), self._checksum)
            self._written += whole


class ClassMap(GeoTiff):
    """The classes' codes on disk, in their colours."""

    def __init__(self, path: Path, place: Place, run: RestoredRun) -> None:
        """Prepare a map of a run's classes."""
        classes = run.adapter.classes
        nodata = no_data_code(classes)
        super().__init__(
            path,
            place,
            code_table(classes).dtype.type,
            nodata,
            tags=run_tags(run.adapter.spec) | {f"CLASS_{c.code}": c.name for c in classes},
            colors={nodata: (0, 0, 0, 0)} | {c.code: rgba(c.color) for c in classes},
        )


class ConfidenceMap(GeoTiff):
    """The softmax of the decision in whole percent."""

    NO_DATA = 255

    def __init__(self, path: Path, place: Place, run: RestoredRun) -> None:
        """Prepare a map of a run's confidence."""
        super().__init__(
            path, place, np.uint8, self.NO_DATA, tags=run_tags(run.adapter.spec) | {"UNIT": "percent, softmax"}
        )

    def write_shares(self, shares: np.ndarray, valid: np.ndarray) -> None:
        """Write the next rows, shares of 1, without those that are not valid."""
        self.write(np.where(valid, np.rint(100 * shares), self.NO_DATA))
