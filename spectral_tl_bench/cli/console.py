"""The terminal, opened when something is printed: rich takes a while to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Where commands print: text as it is, for a name in a file or on the command line may look like markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)
