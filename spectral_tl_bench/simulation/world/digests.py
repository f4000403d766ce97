"""The pixels that default archives have on every processor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from spectral_tl_bench.simulation.marker import read_marker

DEFAULT_SIZE = 64
"""Side of the tiles of a default archive, px."""


@cache
def reference_digests() -> dict[str, dict[str, str]]:
    """SHA-256 of all pixels and labels by archive and draw, from ``digests.json``.

    ``benchmarks/write_archive_digests.py`` writes the file.
    """
    text = files("spectral_tl_bench.simulation.world").joinpath("digests.json").read_text(encoding="utf-8")
    digests: dict[str, dict[str, str]] = json.loads(text)
    return digests


def reference_digest(marker: Mapping[str, Any]) -> str | None:
    """The digest that an archive should have by its marker; None if it is not a default archive or a draw kept here."""
    if marker.get("factor") != 1.0 or marker.get("tile_size") != DEFAULT_SIZE or set(marker["shift"].values()) != {1.0}:
        return None
    return reference_digests().get(marker["dataset"], {}).get(str(marker["draw"]))


def reference_difference(root: str | Path) -> str | None:
    """One line if an archive differs from the published pixels of its draw, else None."""
    marker = read_marker(root)
    if marker is None or "draw" not in marker:
        return None
    expected = reference_digest(marker)
    if expected is None or expected == marker["digest"]:
        return None
    return (
        f"{marker['dataset']}, draw {marker['draw']}: the pixels differ from the reference of this version "
        f"({marker['digest'][:12]} instead of {expected[:12]}); scores on them do not compare with published ones"
    )
