"""Spatial hold-out with a buffer between training and held-out tiles: cells of neighbours with a margin around them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from spectral_tl_bench.splits.neighbors import TileLayout

MOST_CELLS = 4
"""Cells that a stretch of land gives at most: more would cost more margin than they tell."""
LARGEST_MARGIN = 0.1
"""Share of a stretch's tiles that the margin may take, unless even one cell costs more."""
_LEAST_STAYING = 0.5
"""A stretch that would keep less gives nothing."""


def buffered_holdout(groups: Sequence[str], places: TileLayout, share: float) -> np.ndarray:
    """Hold out a share of the tiles, in cells, with a margin of the tiles within reach of them.

    Each sub-domain gives its share of every stretch of land that it has. A stretch is cut into an even grid of cells;
    taken are up to four separate cells, those that cost the fewest tiles of margin for each tile they
    hold: where a stretch is a rectangle, its corners. Fewer and larger cells serve where the margin would take more
    than a tenth of the stretch. The choice depends on the places alone; a digest settles what is alike.

    Args:
        groups: Sub-domain of each tile.
        places: Where each tile lies.
        share: Share of the tiles to hold out.

    Returns:
        For each tile "training", "held_out" or "margin". No training tile is a neighbour of a held-out one. A stretch
        that would keep less than half of its tiles holds none out.
    """
    neighbours = [set(near.tolist()) for near in places.neighbours()]
    held_out: set[int] = set()
    for members, cells in _stretches(np.array(groups), places, share):
        held_out |= _choose(members, cells, share, neighbours)
    sides = np.full(len(groups), "training", dtype=object)
    sides[sorted(_around(held_out, neighbours))] = "margin"
    sides[sorted(held_out)] = "held_out"
    return sides


def buffered_holdout_if_possible(groups: Sequence[str], places: TileLayout | None, share: float) -> np.ndarray | None:
    """Hold out tiles as :func:`buffered_holdout` does, where that is possible.

    Returns:
        As of :func:`buffered_holdout`; None where places are unknown or give less than half of the share.
    """
    if places is None:
        return None
    sides = buffered_holdout(groups, places, share)
    return sides if (sides == "held_out").sum() >= share / 2 * len(sides) else None


_Cells = Mapping[int, Mapping[str, set[int]]]
"""By how many cells are wanted: the tiles of each cell."""


def _stretches(groups: np.ndarray, places: TileLayout, share: float) -> Iterator[tuple[set[int], _Cells]]:
    """The tiles that give a share together, and the ways to cut them into cells."""
    blocks = places.blocks
    for group in sorted(set(groups.tolist())):
        inside = groups == group
        small: dict[str, set[int]] = {}
        for sheet in sorted(set(places.sheets[inside].tolist())):
            rows = np.flatnonzero(inside & (places.sheets == sheet))
            name = f"{group} {sheet}"
            if len(rows) * share < 1 and blocks is None:
                small[name] = set(rows.tolist())
            elif blocks is None:
                wanted = range(MOST_CELLS, 0, -1)
                yield set(rows.tolist()), {n: _cut(rows, places.boxes[rows], n / share, name) for n in wanted}
            else:
                given: dict[str, set[int]] = {}
                for row in rows.tolist():
                    given.setdefault(f"{name} {blocks[row]}", set()).add(row)
                yield set(rows.tolist()), {max(1, round(len(given) * share)): given}
        if small:
            # Too few tiles each to be cut: some of these stretches are taken whole.
            yield set().union(*small.values()), {max(1, round(len(small) * share)): small}


def _cut(rows: np.ndarray, boxes: np.ndarray, cells: float, name: str) -> dict[str, set[int]]:
    """Cut tiles into about so many cells, as square as they can be and as even."""
    low = boxes[:, :2].min(axis=0)
    extent = boxes[:, 2:].max(axis=0) - low
    across, up = np.maximum(1, np.rint(extent / np.median(boxes[:, 2:] - boxes[:, :2], axis=0)))
    columns = int(np.clip(np.rint(np.sqrt(cells * across / up)), 1, across))
    lines = int(np.clip(np.rint(cells / columns), 1, up))
    columns = int(np.clip(np.rint(cells / lines), 1, across))
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    places = np.floor((middle - low) / extent * (columns, lines)).astype(int)
    found: dict[str, set[int]] = {}
    for row, (column, line) in zip(rows.tolist(), places.tolist(), strict=True):
        found.setdefault(f"{name} {column} {line}", set()).add(row)
    return found


def _around(tiles: set[int], neighbours: Sequence[set[int]]) -> set[int]:
    """The neighbours of tiles that are none of them."""
    return set().union(*(neighbours[tile] for tile in tiles)) - tiles


def _choose(members: set[int], ways: _Cells, share: float, neighbours: Sequence[set[int]]) -> set[int]:
    """The tiles of a stretch that are held out."""
    chosen: set[int] = set()
    for number, cells in ways.items():
        chosen = _take(cells, share * len(members), number, neighbours)
        if len(_around(chosen, neighbours) & members) <= LARGEST_MARGIN * len(members):
            break
    lost = chosen | (_around(chosen, neighbours) & members)
    return chosen if len(members) - len(lost) >= _LEAST_STAYING * len(members) else set()


def _take(cells: Mapping[str, set[int]], wanted: float, number: int, neighbours: Sequence[set[int]]) -> set[int]:
    """Take cells, the cheapest first, as long as each brings the number of tiles closer to what is wanted."""
    usual = wanted / number
    fitting = {name: tiles for name, tiles in cells.items() if 0.5 * usual <= len(tiles) <= 1.5 * usual} or cells
    left = dict(fitting)
    taken: set[int] = set()
    while left:
        margin = _around(taken, neighbours)
        free = {name: tiles for name, tiles in left.items() if tiles.isdisjoint(margin)} or left
        cheapest = min(free, key=partial(_cost, tiles=left, taken=taken, neighbours=neighbours))
        size = len(left.pop(cheapest))
        if taken and abs(len(taken) + size - wanted) >= abs(len(taken) - wanted):
            break
        taken |= fitting[cheapest]
    return taken


def _cost(
    name: str, tiles: Mapping[str, set[int]], taken: set[int], neighbours: Sequence[set[int]]
) -> tuple[float, int, str]:
    """Tiles of margin that a cell costs, for each that it holds and in all; a digest settles what is alike."""
    more = len(_around(tiles[name] | taken, neighbours) - _around(taken, neighbours))
    return round(more / len(tiles[name]), 6), more, hashlib.sha256(name.encode()).hexdigest()
