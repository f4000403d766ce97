"""Where a user's own tiles lie: the part of a protocol file that names paths."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from spectral_tl_bench.utils.paths import path_inside
from spectral_tl_bench.utils.validation import Value

ONE_HOT = "one-hot"
LabelBand = Annotated[int, Field(strict=True, ge=1)] | Literal["one-hot"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


_VECTORS = (".shp", ".kml", ".kmz", ".gml", ".gpx", ".fgb", ".parquet", ".gdb")
_OTHERS = (
    ".h5",
    ".hdf5",
    ".he5",
    ".hdf",
    ".nc",
    ".nc4",
    ".zarr",
    ".npz",
    ".csv",
    ".txt",
    ".xlsx",
    ".zip",
    ".tar",
    ".gz",
    ".pt",
)


def _require_format(path: str) -> str:
    """Refuse a path whose suffix names a format that is not read.

    Raises:
        ValueError: With how to convert it.
    """
    suffix = os.path.splitext(path.lower())[1]
    if suffix in _VECTORS:
        raise ValueError(
            f"{path!r}: {suffix} is not read; convert it to GeoPackage: ogr2ogr {Path(path).stem}.gpkg {path}"
        )
    if suffix in _OTHERS:
        raise ValueError(
            f"{path!r}: {suffix} is not read; write GeoTIFF, ENVI, JPEG 2000, PNG, .npy or .mat, or labels as "
            "GeoPackage or GeoJSON"
        )
    return path


class Cut(Value):
    """How scenes are cut into tiles.

    Attributes:
        size: Side of a tile in pixels; without it every polygon's rectangle is one.
        stride: From one tile to the next; by default the size. Tiles do not overlap.
        polygons: GeoPackage or GeoJSON below the root. Their columns are attributes of the tiles whose middle lies in
            them; tiles in none of them are left out.
    """

    size: int | None = Field(default=None, ge=8, le=16_384)
    stride: int | None = Field(default=None, ge=8, le=1_000_000)
    polygons: str | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Cut:
        if self.size is None and (self.polygons is None or self.stride is not None):
            raise ValueError("give the tiles' size in pixels, or the polygons that are tiles")
        if self.size is not None and self.stride is not None and self.stride < self.size:
            raise ValueError(f"a stride of {self.stride} px makes tiles of {self.size} px overlap; let it be as large")
        if self.polygons is not None:
            _require_format(self.polygons)
        if self.polygons is not None and path_inside(Path(), self.polygons) is None:
            raise ValueError(f"{self.polygons!r} leads out of the folder of tiles; give a path below it")
        return self


class TileFolder(Value):
    """Where a user's own tiles lie, relative to ``--root``.

    Attributes:
        index: CSV with one row a tile; its columns are the attributes a protocol selects by.
        tile: Column that names the tile.
        images: Path of a tile's image; ``{tile}`` stands for the name in the index, and so does any column for its
            value, as in ``{year}/{site}.tif``. The suffix may be left out.
        labels: Path of its label map, likewise: a raster, or polygons (GeoPackage, GeoJSON).
        block: Column whose equal values keep tiles together when source tiles are held out for validation (a scene, a
            map sheet). Without it, neighbours stay together where images are georeferenced, elsewhere runs of
            consecutive rows of one sub-domain.
        label_band: Band of the label rasters that holds the class codes, counted from 1; "one-hot" where each class has
            a band, in the order of the classes. Without it they have one band.
        class_column: Column of the polygons' classes, codes or names.
        tiles: How the images, which are scenes then, are cut into tiles. A single scene needs no index.
    """

    index: str = "tiles.csv"
    tile: str = "tile"
    images: str = "images/{tile}"
    labels: str = "labels/{tile}"
    block: str | None = None
    label_band: LabelBand | None = None
    class_column: str = Field(default="class", min_length=1)
    tiles: Cut | None = None

    @field_validator("index", "images", "labels")
    @classmethod
    def _below_the_root(cls, value: str) -> str:
        if path_inside(Path(), value) is None:
            raise ValueError(f"{value!r} leads out of the folder of tiles; give a path below it")
        return value

    @field_validator("images", "labels")
    @classmethod
    def _is_read(cls, value: str) -> str:
        return _require_format(value)

    @field_validator("images", "labels")
    @classmethod
    def _names_the_tile(cls, value: str) -> str:
        if "{}" in value or not value.count("{") == value.count("}") == len(placeholders(value)):
            raise ValueError(f"{value!r}: write the name of a column between braces, such as {{tile}}")
        return value

    @model_validator(mode="after")
    def _tells_tiles_apart(self) -> TileFolder:
        for template in () if self.tiles is not None else (self.images, self.labels):
            drawn = template == self.labels and template.lower().endswith((".gpkg", ".geojson", ".json"))
            if not placeholders(template) and not drawn:
                raise ValueError(f"{template!r} is the same for every tile; write {{tile}} where its name belongs")
        return self


def placeholders(template: str) -> list[str]:
    """Columns that a template of paths names."""
    return _PLACEHOLDER.findall(template)


def fill(template: str, row: Mapping[str, str]) -> str | None:
    """Put the values of a row into a template of paths; None where they lead out of the folder.

    Args:
        template: Path with columns in braces.
        row: The row, with all of these columns.
    """
    filled = _PLACEHOLDER.sub(lambda match: row[match[1]], template)
    return filled if path_inside(Path(), filled) is not None else None
