"""Paths that somebody else wrote, in a protocol, a table or an archive: they stay in their folder."""

from __future__ import annotations

import os
from itertools import chain, takewhile
from pathlib import Path, PurePosixPath


def path_inside(folder: Path, name: str) -> Path | None:
    """Join a folder and an untrusted path; None where the path is absolute or climbs out of the folder.

    Links are not looked at; see :func:`leads_out`.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and path.parts[0].endswith(":")
    if path.is_absolute() or drive or ".." in path.parts or not path.parts or "\0" in name:
        return None
    return folder.joinpath(*path.parts)


def leads_out(folder: Path, path: Path) -> bool:
    """Whether a path below a folder is, or lies behind, a link to somewhere else; the folder itself may be a link."""
    steps = takewhile(lambda step: step != folder, chain([path], path.parents))
    if not any(os.path.islink(step) for step in steps):
        return False
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
