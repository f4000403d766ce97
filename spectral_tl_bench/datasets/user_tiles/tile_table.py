"""The table of a user's own tiles: one row a tile, and the files that each row means."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_tl_bench.config.domains import attribute_column, cuts, renamed
from spectral_tl_bench.config.tile_folder import TileFolder, fill, placeholders
from spectral_tl_bench.datasets.io.arrays import ARRAYS, file_of, is_array, name_array
from spectral_tl_bench.datasets.io.formats import SUFFIXES, file_names
from spectral_tl_bench.datasets.io.listing import Listing, Problem, Role
from spectral_tl_bench.datasets.user_tiles.polygons import SUFFIXES as VECTOR_SUFFIXES
from spectral_tl_bench.splits import blocks
from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.paths import path_inside

_FACTS = ("image", "label", "height", "width", "bands", "dtype", "label_height", "label_width", "geometry", "part")
"""Columns that the index has of itself; a user's columns of these names have others there."""


def locate(rows: Sequence[Mapping[Any, Any]], folder: TileFolder, root: Path, bands: int | None = None) -> Listing:
    """Find the files of every row.

    Args:
        rows: The table.
        folder: Templates of their paths.
        root: What these are relative to.
        bands: Bands of the images, where the protocol file lists them.

    Returns:
        The rows with ``image`` and ``label``, absolute paths, and a problem for each row without one.
    """
    base = os.path.abspath(root)
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for row in rows:
        paths: dict[Role, list[str]] = {}
        roles: tuple[tuple[Role, str], ...] = (("image", folder.images), ("label", folder.labels))
        for role, template in roles:
            named = fill(template, row)
            if named is None:
                raise DataError(
                    f"{root / folder.index}: tile {row['tile']!r} leads out of the folder with {template}; name files "
                    "below it"
                )
            paths[role] = _existing(os.path.join(base, named), role)
        problem = _missing(paths, folder, root)
        if problem is not None:
            problems.append(problem)
            continue
        try:
            read = {role: _as_read(files[0], role, bands) for role, files in paths.items()}
        except DataError as error:
            problems.append(Problem("unreadable", paths["image"][0], str(error)))
            continue
        found.append(index_columns(row) | read)
    return Listing(found, problems)


def index_columns(row: Mapping[Any, Any], *own: str) -> dict[str, Any]:
    """A row of a user's table with the names that its columns have in the index, which has ``own`` and others too."""
    return {renamed(str(name)) if name in (*_FACTS, *own) else str(name): value for name, value in row.items()}


def _as_read(path: str, role: Role, bands: int | None) -> str:
    return name_array(path, role, bands) if is_array(path) else path


def _existing(path: str, role: Role) -> list[str]:
    """The file of that name, or those of that name and a suffix; the name itself where there is none."""
    if os.path.isfile(file_of(path)) and not path.lower().endswith(".hdr"):
        return [path]
    stem, suffix = os.path.splitext(path)
    rasters = (*SUFFIXES, *(VECTOR_SUFFIXES if role == "label" else ()))
    stems = [path, *([stem] if suffix.lower() in (*rasters, *ARRAYS, ".hdr") else [])]
    # An array beside a raster of the same name is a copy of it.
    for suffixes in (rasters, ARRAYS):
        for stem in stems:
            folder, name = os.path.split(stem)
            present = file_names(folder)
            files = [file for suffix in suffixes for file in present.get(name.lower() + suffix, ())]
            files = [os.path.join(folder, file) for file in files if file.startswith(name)]
            files = [file for file in files if os.path.isfile(file)]
            if files:
                return files
    return [path]


def _missing(paths: Mapping[Role, Sequence[str]], folder: TileFolder, root: Path) -> Problem | None:
    for files in paths.values():
        if len(files) > 1:
            both = f"{files[0]} and {os.path.basename(files[1])}"
            message = f"{both} may both be meant; write the suffix under 'folder' in the protocol file"
            return Problem("duplicate", files[0], message)
        if not os.path.isfile(file_of(files[0])):
            message = (
                f"{files[0]} does not exist, but {root / folder.index} lists its tile; "
                "add the file, or correct 'images' and 'labels' under 'folder' in the protocol file"
            )
            return Problem("unpaired", files[0], message)
    return None


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table as text, since protocols compare text and a tile named 007 must stay so.

    Fields are separated by commas, semicolons or tabs. Blanks around names and values do not count, nor do rows and
    unnamed columns without any value, which spreadsheets write.

    Raises:
        DataError: If it is missing, no text, empty, or has rows that do not fit its header.
    """
    if path.exists() and not path.is_file():
        raise _unreadable(path, "it is a folder" if path.is_dir() else "it is no ordinary file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            separator = max(",;\t", key=header.count)
            file.seek(0)
            lines = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            rows = [[field.strip() for field in line] for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = "it does not exist" if isinstance(error, FileNotFoundError) else error.strerror or reason
        elif isinstance(error, UnicodeDecodeError):
            reason = "it is not text in UTF-8"
        raise _unreadable(path, reason) from error
    if not rows or not any(rows[0]):
        raise _unreadable(path, "it has no header in its first line")
    names, numbered = rows[0], [(number, row) for number, row in enumerate(rows[1:], start=1) if any(row)]
    for number, row in numbered:
        # Fields that are missing or empty at the end do not count where the header names no column for them.
        if not any(row[len(names) :]):
            del row[len(names) :]
        if len(row) != len(names):
            raise DataError(
                f"{path}: row {number} has {'more' if len(row) > len(names) else 'fewer'} fields than its header, "
                f"{len(row)} instead of {len(names)}; name every column, and quote values with a {separator!r} in them"
            )
    twice = [name for position, name in enumerate(names) if name and name in names[:position]]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}; remove or rename one")
    frame = pd.DataFrame([row for _, row in numbered], columns=names, dtype=str)
    unnamed = [position for position, name in enumerate(names) if not name]
    if any((frame.iloc[:, position] != "").any() for position in unnamed):
        raise DataError(f"{path} has a column without a name, column {unnamed[0] + 1}; name every column")
    frame = frame.drop(columns=[""], errors="ignore")
    if frame.empty:
        raise DataError(f"{path} lists no tile; it must be a CSV with one row a tile")
    return frame


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        f"cannot read the tile index {path}: {reason}; it must be a CSV with one row a tile "
        "('index' under 'folder' in the protocol file says where)"
    )


def read_table(path: Path, folder: TileFolder, attributes: Sequence[str]) -> pd.DataFrame:
    """Read the table of tiles.

    Args:
        path: CSV.
        folder: Names of its columns.
        attributes: Columns that a protocol selects by.

    Returns:
        Its rows as text, with ``tile``, ``split`` and ``block``; ``attrs["own_blocks"]`` is whether it brings blocks.

    Raises:
        DataError: If it cannot be used.
    """
    if not placeholders(folder.images):
        # A single scene, cut into tiles by its geometry, needs no table.
        alone = pd.DataFrame({"tile": [Path(folder.images).stem], "split": ["all"], "block": [""]})
        alone.attrs["own_blocks"] = False
        return alone
    frame = read_csv(path)
    named = [name for name in (*placeholders(folder.images), *placeholders(folder.labels)) if name != "tile"]
    if folder.tiles is not None:
        # Polygons may say the rest, and so may the place in the scene.
        attributes = [name for name in attributes if name in frame.columns]
    block = [folder.block] if folder.block and folder.tiles is None else []
    wanted = [folder.tile, *attributes, *block, *named]
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]!r}; it has: {', '.join(frame.columns)}. "
            "Add it, or correct its name in the protocol file"
        )
    if folder.tile != "tile":
        names = frame[folder.tile]
        frame = frame.rename(columns={"tile": renamed("tile")})
        frame.insert(0, "tile", names)
    unnamed = frame[frame["tile"] == ""]
    if len(unnamed):
        held = ", ".join(f"{name} = {value}" for name, value in unnamed.iloc[0].items() if value)
        raise DataError(f"{path} has a row without a name in column {folder.tile!r} ({held}); complete or remove it")
    twice = frame["tile"][frame["tile"].duplicated()]
    if len(twice):
        raise DataError(f"{path} lists tile {twice.iloc[0]!r} more than once; every row must be another tile")
    outside = [name for name in frame["tile"] if path_inside(Path(), name) is None]
    if outside:
        raise DataError(f"{path} lists tile {outside[0]!r}, which leads out of the folder; name files below it")
    if "split" not in frame.columns:
        frame["split"] = "all"
    frame.attrs["own_blocks"] = bool(folder.block) or "block" in frame.columns
    if block:
        frame["block"] = frame[folder.block]
    elif "block" not in frame.columns:
        own = [attribute_column(frame.columns, name) for name in attributes]
        frame["block"] = blocks.runs(["-".join(row) for row in frame[own].to_numpy().tolist()])
    return frame


def require_columns(tiles: Sequence[dict[str, Any]], attributes: Sequence[str], folder: TileFolder) -> None:
    """Give tiles that scenes were cut into their blocks, and make sure that they have every attribute.

    Args:
        tiles: The tiles; get ``block``: cells of the grid, which serve where the scenes lie nowhere on the globe.
        attributes: Columns that a protocol selects by.
        folder: Names the column of the blocks, where there is one.

    Raises:
        DataError: If a column is missing.
    """
    if not tiles:
        return
    attributes = [name for name in attributes if not cuts(tiles[0], name)]
    columns = [attribute_column(tiles[0], name) for name in attributes]
    block = folder.block and attribute_column(tiles[0], folder.block)
    for name, column in zip((*attributes, folder.block), (*columns, block), strict=True):
        if column is not None and (column not in tiles[0] or column in _FACTS):
            known = ", ".join(str(column) for column in tiles[0] if column not in _FACTS)
            raise DataError(
                f"no column {name!r} in the table of scenes or the polygons; they have: {known}. Add it, or correct "
                "its name in the protocol file"
            )
    scenes = {image: number for number, image in enumerate(dict.fromkeys(tile["image"] for tile in tiles))}
    groups = ["-".join([str(scenes[t["image"]]), *(str(t[name]) for name in columns)]) for t in tiles]
    size = max(tile["part"][2] for tile in tiles)
    cells = blocks.cells(groups, [t["part"][1] // size for t in tiles], [t["part"][0] // size for t in tiles])
    for tile, cell in zip(tiles, cells, strict=True):
        tile["block"] = str(tile[block]) if block else cell
