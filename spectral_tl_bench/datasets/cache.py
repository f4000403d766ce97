"""Where what is known of an archive's files is kept: beside them, or in the user's cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.hashing import text_digest


def cache_folders(root: Path) -> tuple[Path, Path]:
    """Beside the archive, so that whoever shares it shares what is kept; else the user's own cache, by the root."""
    path = os.path.abspath(root)
    mine = text_digest(os.path.realpath(path))
    return Path(path, ".spectral_tl_bench"), cache_dir() / "index" / mine


def keep(root: Path, store: Callable[[Path], bool]) -> None:
    """Store something beside an archive where that is allowed, else in the user's cache.

    Args:
        root: Folder of the archive.
        store: Writes into a folder; False where that cannot be written.
    """
    beside, own = cache_folders(root)
    if _is_read_only(beside.parent) or not store(beside):
        store(own)


def _is_read_only(root: Path) -> bool:
    """Whether nobody has the right to write; asked of the mode, since the superuser could and yet should not."""
    return not root.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
