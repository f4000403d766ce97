"""The terminal, opened when something is printed: rich takes a while to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Where commands print text as it is, without markup.

    A name in a file or on the command line may be any text: characters that move the cursor or change the direction of
    writing are left out.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            visible = text if text.isprintable() else "".join(c for c in text if c.isprintable() or c in "\n\t")
            return super().render_str(visible, **options)

    return PlainConsole(markup=False, emoji=False, highlight=False)
