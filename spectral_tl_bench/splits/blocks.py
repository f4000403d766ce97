"""Blocks of neighbouring tiles: what must fall on the same side when tiles are held out.

Neighbouring tiles show the same fields, in the same light; held out tile by tile, they would flatter every score.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

LONGEST_RUN = 16
"""Tiles in a run where a sub-domain has plenty."""

FEWEST_BLOCKS = 10
"""Blocks that a sub-domain should have, so that a tenth of it can be held out."""

_CELL_SIZES = (3, 2, 1)


def draw(sizes: Mapping[str, int], share: float) -> set[str]:
    """Draw blocks that together hold about a share of the tiles.

    Args:
        sizes: Tiles in each block.
        share: Share of all tiles.

    Returns:
        The blocks drawn: at least one, and never all, so none of a single block. They follow from the names alone; a
        digest draws them, random-looking, yet the same everywhere.
    """
    order = sorted(sizes, key=lambda block: hashlib.sha256(block.encode()).hexdigest())
    wanted = share * sum(sizes.values())
    drawn: set[str] = set()
    taken = 0
    for block in order[:-1]:
        # Take the next block only while that brings the share closer to what is wanted.
        if drawn and abs(taken + sizes[block] - wanted) >= abs(taken - wanted):
            break
        drawn.add(block)
        taken += sizes[block]
    return drawn


def runs(groups: Sequence[str]) -> list[str]:
    """Cut each sub-domain into runs of consecutive tiles, for archives that number their tiles along the scene.

    Args:
        groups: Sub-domain of each tile; tiles of one sub-domain in the order of their numbers.

    Returns:
        The block of each tile. Runs are 16 tiles long, shorter where that would leave fewer than ten blocks.
    """
    sizes = Counter(groups)
    seen: Counter[str] = Counter()
    blocks = []
    for group in groups:
        length = min(LONGEST_RUN, max(1, sizes[group] // FEWEST_BLOCKS))
        blocks.append(f"{group}-{seen[group] // length:03d}")
        seen[group] += 1
    return blocks


def cells(groups: Sequence[str], columns: Sequence[int], rows: Sequence[int]) -> list[str]:
    """Cut each sub-domain into square cells of a tile grid.

    Args:
        groups: Sub-domain of each tile.
        columns: Column of each tile in the grid.
        rows: Row of each tile in the grid.

    Returns:
        The block of each tile. Cells are 3 x 3 tiles, smaller where that would leave fewer than ten blocks.
    """

    def cell(size: int, position: int) -> str:
        return f"{groups[position]}-{columns[position] // size}-{rows[position] // size}"

    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    blocks = [""] * len(groups)
    for positions in members.values():
        sizes = (s for s in _CELL_SIZES if len({cell(s, p) for p in positions}) >= FEWEST_BLOCKS)
        size = next(sizes, _CELL_SIZES[-1])
        for position in positions:
            blocks[position] = cell(size, position)
    return blocks
