"""Lines on a console, and time spans in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console, line: str) -> None:
    """Print a line as it is: names of files may look like markup, and scripts read whole lines."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def duration(seconds: float | None) -> str:
    """A time span in words; "-" where it is unknown.

    >>> [duration(s) for s in (None, 4.2, 72, 150, 3700, 200_000)]
    ['-', '4 s', '72 s', '2 min', '1 h 02 min', '2 d 8 h']
    """
    if seconds is None:
        return "-"
    if round(seconds) < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
