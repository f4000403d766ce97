"""The file that says an archive is simulated, so that no figure from it passes for a measured one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.validation import parse_json

MARKER_NAME = "SIMULATED.json"

GENERATOR_VERSION = 1
"""Raised whenever the same seed gives other pixels; part of the default archives' names."""

# Tiles lie at most three folders below the root of an archive.
_ABOVE = 3
_BELOW = 4


def read_marker(root: str | Path) -> dict[str, Any] | None:
    """Return what the marker of a simulated archive says, or None where there is none.

    Whatever a dataset would read from ``root`` counts: the marker is found where ``root`` is a link to a simulated
    archive, lies inside one, holds one in a sub-folder, or holds links to its folders or files.

    Args:
        root: Folder that serves as the root of an archive.

    Returns:
        ``dataset``, ``generator_version``, ``seed``, ``tile_size``, ``tiles`` and ``tiles_by_region``.

    Raises:
        DataError: If there is a marker that cannot be read.
    """
    for folder in _places(Path(root).expanduser()):
        marker = folder / MARKER_NAME
        if marker.is_file():
            try:
                content = parse_json(marker.read_bytes())
            except (OSError, ValueError) as error:
                raise DataError(f"cannot read {marker}: {error}; simulate the archive again") from error
            if not isinstance(content, dict):
                raise DataError(f"{marker} is not the marker of a simulated archive; simulate the archive again")
            return content
    return None


def _places(root: Path) -> Iterator[Path]:
    """Folders that may hold the marker, the likeliest first; a link to itself is no error here."""
    yield from _with_parents(Path(os.path.realpath(root)))
    for name, folders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        yield folder
        if folder.is_symlink():
            yield from _with_parents(Path(os.path.realpath(folder)))
        linked = next((file for file in files if os.path.islink(os.path.join(name, file))), None)
        if linked is not None:
            yield from _with_parents(Path(os.path.realpath(folder / linked)).parent)
        too_deep = len(folder.relative_to(root).parts) >= _BELOW
        folders[:] = [] if too_deep else sorted(f for f in folders if not f.startswith("."))


def _with_parents(folder: Path) -> list[Path]:
    return [folder, *folder.parents[:_ABOVE]]
