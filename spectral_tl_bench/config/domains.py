"""Source and target of a transfer: which tiles of an index either side has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import field_validator, model_validator

from spectral_tl_bench.sensors import BandSelection
from spectral_tl_bench.utils.errors import ProtocolError
from spectral_tl_bench.utils.validation import Value

if TYPE_CHECKING:
    import pandas as pd


CUTS = ("rows", "columns")
"""Attributes of tiles that are cut from scenes."""
_STRETCH = re.compile(r"(\d{1,9})\s*-\s*(\d{1,9})", re.ASCII)


def renamed(attribute: str) -> str:
    """Name in the index of a user's column whose name is one of the index's own, such as ``part``."""
    return f"{attribute} (of the table)"


def attribute_column(columns: Collection[Any], attribute: str) -> str:
    """Column of an index, or of what becomes one, that holds an attribute of a protocol.

    Args:
        columns: Names of the columns.
        attribute: Name in the protocol file.
    """
    own = renamed(attribute)
    return own if own in columns else attribute


def cuts(columns: Collection[Any], attribute: str) -> bool:
    """Whether an attribute is a stretch of rows or columns of the scenes that tiles are cut from.

    Args:
        columns: Columns of the index; one of the user's own of that name comes first.
        attribute: Name in the protocol file.
    """
    return attribute in CUTS and attribute not in columns and "part" in columns


def _lying_in(parts: pd.Series, attribute: str, wanted: Iterable[str]) -> pd.Series:
    """Which tiles lie wholly in one of some stretches such as "0-300": from row 0 up to, and without, row 300."""
    import pandas as pd

    axis = CUTS.index(attribute)
    starts = parts.map(lambda part: part[axis])
    ends = starts + parts.map(lambda part: part[axis + 2])
    lying = pd.Series(False, index=parts.index)
    for lines in wanted:
        match = _STRETCH.fullmatch(lines.strip())
        if match is None or int(match[1]) >= int(match[2]):
            raise ProtocolError(f"{attribute}: {lines!r} is no stretch of a scene; write 0-300 for the first 300")
        lying |= (starts >= int(match[1])) & (ends <= int(match[2]))
    return lying


class Domain(Value):
    """The tiles whose attributes have one of the wanted values, every attribute at once.

    Attributes:
        where: Attribute (a column of the tile index) to the values that qualify, compared as text.
        bands: Bands that these tiles show; None for all that are used.
    """

    where: dict[str, tuple[str, ...]]
    bands: BandSelection | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_plain_mapping(cls, value: Any) -> Any:
        """Accept ``{season: spring}`` and ``{season: [summer, autumn]}`` as people write them."""
        if not isinstance(value, dict) or (set(value) <= {"where", "bands"} and isinstance(value.get("where"), dict)):
            return value
        for key, wanted in value.items():
            if key != "bands" and any(
                isinstance(v, dict | list) for v in (wanted if isinstance(wanted, list) else [wanted])
            ):
                raise ValueError(f"{key}: give a value or a list of values")
        return {
            "where": {
                str(key): tuple(str(v) for v in (wanted if isinstance(wanted, list | tuple) else [wanted]))
                for key, wanted in value.items()
                if key != "bands"
            },
            **({"bands": value["bands"]} if "bands" in value else {}),
        }

    @field_validator("where")
    @classmethod
    def _not_empty(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not value:
            raise ValueError("name at least one attribute and its values")
        return value

    def select(self, index: pd.DataFrame) -> pd.Series:
        """Return the boolean mask of the index rows that belong to this domain.

        Args:
            index: Tile index of a dataset.

        Raises:
            ProtocolError: If an attribute is not a column of the index.
        """
        import pandas as pd

        mask = pd.Series(True, index=index.index)
        for attribute, wanted in self.where.items():
            column = attribute_column(index.columns, attribute)
            if cuts(index.columns, attribute):
                mask &= _lying_in(index["part"], attribute, wanted)
                continue
            if column not in index.columns:
                raise ProtocolError(
                    f"attribute {attribute!r} is not in the tile index; it has: {', '.join(map(str, index.columns))}"
                )
            mask &= index[column].astype(str).isin(wanted)
        return mask

    def unmatched(self, index: pd.DataFrame) -> Iterator[str]:
        """Name the wanted values that no row of an index has, with the nearest that there is.

        Args:
            index: Tile index of a dataset.
        """
        for attribute, wanted in self.where.items():
            column = attribute_column(index.columns, attribute)
            if cuts(index.columns, attribute):
                empty = (lines for lines in wanted if not _lying_in(index["part"], attribute, (lines,)).any())
                yield from (f"no tile lies in {attribute} {lines} of a scene" for lines in empty)
            if column not in index.columns:
                continue
            values = dict.fromkeys(index[column].astype(str))
            for value in dict.fromkeys(wanted):
                if value not in values:
                    yield f"no tile has {attribute} = {value!r}{_nearest(value, values)}"

    def __str__(self) -> str:
        return ", ".join(f"{attribute} = {' | '.join(wanted)}" for attribute, wanted in self.where.items())


def _nearest(value: str, values: Iterable[str]) -> str:
    """The value that was probably meant; the first few where none is near."""
    folded = {there.strip().casefold(): there for there in values}
    near = difflib.get_close_matches(value.strip().casefold(), folded, n=1)
    if near:
        return f"; is {folded[near[0]]!r} meant?"
    few = [repr(there) for there in islice(values, 8)]
    return f"; there is {', '.join(few)}" if few else ""


class Transfer(Value):
    """One row of a protocol file: train on ``source``, test on ``target``.

    Attributes:
        title: What it asks, for a table's heading.
        source: Tiles that train (a tenth of them is held out for model selection).
        target: Tiles that test, never seen before.
        by: Attribute whose values name the target sub-domains, one table row each.
        tiles: Published numbers of source and target tiles, for ``data check``.
    """

    title: str = ""
    source: Domain
    target: Domain
    by: str
    tiles: tuple[int, int] | None = None
