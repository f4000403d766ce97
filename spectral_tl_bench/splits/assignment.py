"""Which tiles of a protocol train, which select the model, and which are scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from spectral_tl_bench.config.domains import attribute_column
from spectral_tl_bench.splits.blocks import draw
from spectral_tl_bench.splits.buffered_holdout import buffered_holdout_if_possible
from spectral_tl_bench.utils.errors import ProtocolError
from spectral_tl_bench.utils.hashing import text_digest

if TYPE_CHECKING:
    import pandas as pd

    from spectral_tl_bench.config.protocols import Protocol
    from spectral_tl_bench.splits.neighbors import TileLayout

HeldOutRule = Literal["cells", "blocks"]
"""How source tiles are held out: cells with a margin around them, or whole blocks without one."""

IN_DOMAIN_COLUMN = "indomain"


@dataclass(frozen=True)
class Split:
    """Rows of a dataset's index.

    Attributes:
        training: Source tiles that train.
        held_out: Source tiles that select the model.
        target: Tiles that are scored, each once.
        subdomains: Sub-domain of every tile of the index, by the tile's name.
        origin: Who drew an in-domain split, "authors" or "blocked"; None for a transfer between domains.
        margin: Source tiles within one tile of a held-out one; they take no part.
        rule: How source tiles were held out.
    """

    training: np.ndarray
    held_out: np.ndarray
    target: np.ndarray
    subdomains: dict[str, str]
    origin: str | None
    margin: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    rule: HeldOutRule = "blocks"

    @property
    def tiles(self) -> np.ndarray:
        """Rows of every tile that takes part."""
        return np.concatenate([self.training, self.held_out, self.target])

    def digest(self, index: pd.DataFrame) -> str:
        """Digest of the tiles' names and sub-domains in each part: lists that change make another run."""
        names = index["tile"].astype(str).to_numpy()
        text = ";".join(
            ",".join(f"{name}={self.subdomains[name]}" for name in sorted(names[rows]))
            for rows in (self.training, self.held_out, self.target)
        )
        return text_digest(text)


def split_tiles(
    protocol: Protocol, index: pd.DataFrame, held_out_fraction: float, places: TileLayout | None = None
) -> Split:
    """Apply a protocol to an index.

    Args:
        protocol: Says which tiles are source and target.
        index: Index of the dataset, every split.
        held_out_fraction: Share of the source tiles that select the model.
        places: Where the tiles of the index lie; None where that is unknown, or to hold out whole blocks all the same.

    Raises:
        ProtocolError: If a column is missing, source or target selects no tile, they overlap, or the source cannot
            spare any block.
    """
    transfer = protocol.transfer
    by = attribute_column(index.columns, transfer.by)
    if by not in index.columns:
        raise ProtocolError(
            f"{protocol.name}: 'by: {transfer.by}' is not among the index's columns: "
            f"{', '.join(map(str, index.columns))}"
        )
    source = transfer.source.select(index).to_numpy()
    target = transfer.target.select(index).to_numpy()
    for name, mask, domain in (("source", source, transfer.source), ("target", target, transfer.target)):
        if not mask.any():
            columns = {attribute: attribute_column(index.columns, attribute) for attribute in domain.where}
            columns = {attribute: column for attribute, column in columns.items() if column in index.columns}
            present = "; ".join(
                f"{attribute} has {', '.join(sorted(map(str, index[column].unique()))[:8])}"
                for attribute, column in columns.items()
            )
            raise ProtocolError(f"{protocol.name} selects no {name} tiles ({domain}){present and f': {present}'}")
    if (source & target).any():
        raise ProtocolError(
            f"{protocol.name}: {int((source & target).sum())} tiles are both source and target; "
            "a tile that trains must not test"
        )
    rows = np.flatnonzero(source)
    rule: HeldOutRule = "cells"
    groups = index[by].iloc[rows].astype(str).tolist()
    sides = buffered_holdout_if_possible(groups, None if places is None else places.take(rows), held_out_fraction)
    if sides is None:
        rule, held = "blocks", held_out_tiles(index.iloc[rows], by, held_out_fraction)
        margin = np.zeros(len(rows), dtype=bool)
    else:
        held, margin = sides == "held_out", sides == "margin"
    if not held.any():
        if len(rows) > 1 and len(set(groups)) == len(rows):
            raise ProtocolError(
                f"{protocol.name}: 'by: {transfer.by}' has another value for each source tile, so that none can be "
                "held out for its sub-domain; choose a column whose values several tiles share"
            )
        raise ProtocolError(
            f"{protocol.name}: the source has too few spatial blocks to hold any tile out; "
            "give the tiles a 'block' column with at least two values"
        )
    origin = None
    if IN_DOMAIN_COLUMN in transfer.source.where:
        origin = str(index[f"{IN_DOMAIN_COLUMN}_source"].iloc[rows[0]])
    names = index["tile"].astype(str)
    subdomains = dict(zip(names, index[by].astype(str), strict=True))
    return Split(rows[~held & ~margin], rows[held], np.flatnonzero(target), subdomains, origin, rows[margin], rule)


def held_out_tiles(index: pd.DataFrame, by: str, fraction: float) -> np.ndarray:
    """Choose the source tiles that select models and never train.

    Whole blocks are held out, so that fewer of them have a training tile for a neighbour; each sub-domain gives its
    share. The choice depends on the tiles alone, never on a run's seed, so that all runs select on the same tiles.

    Args:
        index: The source tiles, with ``block`` and ``tile``.
        by: Column that names the sub-domain.
        fraction: Share of the tiles to hold out.

    Returns:
        Boolean, one per row.
    """
    held_out = np.zeros(len(index), dtype=bool)
    for _, rows in index.reset_index(drop=True).groupby(by, sort=True):
        blocks = rows["block"].astype(str)
        held_out[rows.index[blocks.isin(draw(Counter(blocks), fraction))]] = True
    return held_out


def domains_of(split: Split, index: pd.DataFrame, positions: np.ndarray) -> pd.Series:
    """Sub-domain of each of some rows of the index."""
    return index["tile"].iloc[positions].astype(str).map(split.subdomains)
