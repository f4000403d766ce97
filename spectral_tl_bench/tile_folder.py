"""Where a user's own tiles lie: the part of a protocol file that names paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from spectral_tl_bench.paths import path_inside
from spectral_tl_bench.values import Value

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class TileFolder(Value):
    """Where a user's own tiles lie, relative to ``--root``.

    Attributes:
        index: CSV with one row a tile; its columns are the attributes a protocol selects by.
        tile: Column that names the tile.
        images: Path of a tile's image; ``{tile}`` stands for the name in the index, and so does any column for its
            value, as in ``{year}/{site}.tif``. The suffix may be left out.
        labels: Path of its label map, likewise: a raster, or polygons (GeoPackage, GeoJSON).
        block: Column whose equal values keep tiles together when source tiles are held out for validation (a scene, a
            map sheet). Without it, runs of consecutive rows of one sub-domain serve.
        class_column: Column of the polygons' classes, codes or names.
    """

    index: str = "tiles.csv"
    tile: str = "tile"
    images: str = "images/{tile}"
    labels: str = "labels/{tile}"
    block: str | None = None
    class_column: str = Field(default="class", min_length=1)

    @field_validator("index", "images", "labels")
    @classmethod
    def _below_the_root(cls, value: str) -> str:
        if path_inside(Path(), value) is None:
            raise ValueError(f"{value!r} leads out of the folder of tiles; give a path below it")
        return value

    @field_validator("images", "labels")
    @classmethod
    def _names_the_tile(cls, value: str) -> str:
        if not placeholders(value) and not value.lower().endswith((".gpkg", ".geojson", ".json")):
            raise ValueError(f"{value!r} is the same for every tile; write {{tile}} where its name belongs")
        if (
            "{}" in value
            or value.count("{") != len(placeholders(value))
            or value.count("}") != len(placeholders(value))
        ):
            raise ValueError(f"{value!r}: write the name of a column between braces, such as {{tile}}")
        return value


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
