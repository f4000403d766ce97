"""In-domain references: which tiles train and which test when both come from everywhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from spectral_tl_bench.datasets.io.listing import walk
from spectral_tl_bench.splits.blocks import draw
from spectral_tl_bench.splits.buffered_holdout import buffered_holdout_if_possible
from spectral_tl_bench.splits.neighbors import TileLayout
from spectral_tl_bench.utils.errors import DataError

TEST_SHARE = 0.3


def assign(
    rows: Sequence[dict[str, Any]],
    keys: Sequence[Hashable],
    root: Path,
    archive: str,
    key_of_stem: Callable[[str], Hashable | None],
    group: str,
    places: TileLayout | None = None,
) -> None:
    """Add the columns ``indomain`` (train or test) and ``indomain_source`` (authors or blocked) to tiles.

    The authors' lists (``data_list/DFC_train_image_list.txt`` and so on: one image path a line) count where they lie
    anywhere under the root; their tiles are drawn one by one, so neighbours fall on both sides. Otherwise our own
    split of 70 to 30 within each sub-domain serves, the same on every machine: cells with a margin where it is known
    which tiles are neighbours, else whole blocks. A tile of the margin gets "margin".

    Args:
        rows: The archive's tiles with their ``block``; changed in place. A tile that no list names gets "unlisted".
        keys: What identifies each tile.
        root: Folder of the archive.
        archive: What the names of its lists start with, in lower case.
        key_of_stem: The tile that a listed file name means, or None where it is no name of this archive.
        group: Column that names the sub-domain.
        places: Where the tiles lie, if that is known.

    Raises:
        DataError: If a tile is in both lists.
    """
    listed = _author_lists(root, archive, key_of_stem)
    if listed.keys().isdisjoint(keys):
        groups = [row[group] for row in rows]
        held_out = buffered_holdout_if_possible(groups, places, TEST_SHARE)
        if held_out is None:
            sides = blocked_split(groups, [row["block"] for row in rows])
        else:
            sides = [{"training": "train", "held_out": "test"}.get(side, side) for side in held_out]
        source = "blocked"
    else:
        sides = [listed.get(key, "unlisted") for key in keys]
        source = "authors"
    for row, side in zip(rows, sides, strict=True):
        row["indomain"] = side
        row["indomain_source"] = source


def blocked_split(groups: Sequence[str], blocks: Sequence[str]) -> list[str]:
    """Split tiles 70 to 30 into "train" and "test", whole blocks at a time, within each sub-domain.

    Args:
        groups: Sub-domain of each tile.
        blocks: Block of each tile.

    Returns:
        The side of each tile. It follows from the blocks' names alone; a sub-domain of one block trains.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for group, block in zip(groups, blocks, strict=True):
        sizes[group][block] += 1
    test = {(group, block) for group, members in sizes.items() for block in draw(members, TEST_SHARE)}
    return ["test" if pair in test else "train" for pair in zip(groups, blocks, strict=True)]


def _author_lists(root: Path, archive: str, key_of_stem: Callable[[str], Hashable | None]) -> dict[Hashable, str]:
    """The side of each tile that the lists name; empty unless there is a train and a test list."""
    sides: dict[Hashable, str] = {}
    for file in walk(root, (".txt",)):
        name = file.stem.lower()
        side = next((side for side in ("train", "test") if side in name), None)
        if side is None or not name.startswith(archive) or "data_list" not in file.folders:
            continue
        try:
            lines = Path(file.path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the list {file.path}: {error}; fetch it again or remove it") from error
        for line in filter(None, map(str.strip, lines)):
            key = key_of_stem(PurePosixPath(line.replace("\\", "/")).stem)
            if key is None:
                continue
            if sides.setdefault(key, side) != side:
                raise DataError(
                    f"{file.path} lists {line}, which the other list under data_list names too; "
                    "a tile may train or test, not both"
                )
    return sides if set(sides.values()) == {"train", "test"} else {}
