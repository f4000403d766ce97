"""Formatting of values for tables: CSV, Markdown, and the terminal.

Names in a record may be any text. In a CSV they must not start a formula, in Markdown and the terminal they must not be
markup, and nowhere may they move the cursor or change the direction of writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from rich.text import Text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet calculate (OWASP, CSV injection), in both widths."""

_MARKUP = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {sign: f"\\{sign}" for sign in ("\\", "|", "`", "*", "[", "]", "~", "!")}
)


class Markdown(str):
    """A cell that is Markdown already, such as a link of our own."""


def plain(text: str) -> str:
    """Text on one line without what a terminal or a browser would carry out: control and direction characters."""
    if text.isprintable():
        return text
    return "".join(" " if c.isspace() else c for c in text if c.isspace() or c.isprintable())


def as_text(value: object) -> str:
    """A cell as a person reads it: two decimals for fractions, a dash for what is undefined."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "-"
    if isinstance(value, float | np.floating):
        return f"{value:.2f}"
    return plain(str(value))


def to_text(value: object) -> str:
    """A value in Markdown, whose markup it is not."""
    if isinstance(value, Markdown):
        return str(value)
    text = as_text(value).translate(_MARKUP)
    # Underscores within words are no markup; those at an end are.
    return f"\\{text}" if text.startswith("_") else text


def to_markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a GitHub table, numbers aligned right."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    lines = [[to_text(name) for name in frame.columns], ["---:" if number else "---" for number in numeric]]
    lines += [[to_text(value) for value in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _safe(value: Any) -> Any:
    """A cell of a CSV that no spreadsheet takes for a formula: text that would start one gets an apostrophe."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if value.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def to_csv(frame: pd.DataFrame, decimals: int | None = None) -> bytes:
    """Return a frame as CSV, UTF-8.

    Args:
        frame: The table.
        decimals: Digits of fractions; None keeps them all.
    """
    safe = frame.copy()
    # By place: two classes of one name are two columns.
    safe.columns = pd.RangeIndex(frame.shape[1])
    for place in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[place].dtype):
            safe[place] = safe[place].map(_safe)
    safe.columns = pd.Index([_safe(str(name)) for name in frame.columns])
    number = None if decimals is None else f"%.{decimals}f"
    return safe.to_csv(index=False, float_format=number, lineterminator="\n").encode()


def terminal(value: object) -> Text:
    """A cell for rich, whose markup it is not."""
    from rich.text import Text

    return Text(as_text(value))


def count(number: int, what: str) -> str:
    """``1 leaderboard`` or ``3 leaderboards``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
