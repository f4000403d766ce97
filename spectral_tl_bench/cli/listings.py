"""What there is, one line each: methods, protocols, backbones, datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spectral_tl_bench.config.protocols import shipped_protocols
from spectral_tl_bench.config.settings import settings as all_settings
from spectral_tl_bench.methods import method_options
from spectral_tl_bench.utils.registry import BACKBONES, DATASETS, METHODS, PluginError, Registry

if TYPE_CHECKING:
    from spectral_tl_bench.runs.parameter_counts import Account


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    return table


def _rows(table: Table, registry: Registry, more: Callable[[str], Sequence[str]] = lambda name: []) -> Table:
    """Add a row for each name: its summary and ``more``. A plugin that cannot be used gets a row that says why."""
    for name in registry.names():
        try:
            table.add_row(name, registry.summary(name), *more(name))
        except PluginError as error:
            table.add_row(name, str(error), style="red")
    return table


def methods() -> Table:
    """Installed methods with their summaries and options."""

    def options(name: str) -> list[str]:
        return [" ".join(f"{option}={value}" for option, value in method_options(name).items())]

    return _rows(_table("name", "what it does", "options for --set"), METHODS, options)


def parameters(accounts: Sequence[Account], details: str) -> Table:
    """Parameters of methods, without and with the decoder.

    Args:
        accounts: One a method.
        details: Backbone, sensor and decoder, for the title.
    """
    measured = all(account.gradient_receiving is not None for account in accounts)
    kinds = ["allocated", "trainable", *(["with gradient"] if measured else [])]
    remark = "Left: the adapted backbone. Right (+): with neck, UPerNet and classifier. Trainable: in any stage."
    if measured:
        remark += " With gradient: received one other than 0 in the first steps of a stage; yellow where some did not."
    else:
        remark += " Who receives a gradient was not measured on a backbone of this size: --gradients does."
    table = Table(title=f"Parameters: {details}", title_justify="left", caption=remark, caption_justify="left")
    table.add_column("method", no_wrap=True)
    for kind in [*kinds, *(f"+ {kind}" for kind in kinds)]:
        table.add_column(kind, justify="right")
    for account in accounts:
        counts = [account.allocated, account.trainable]
        if account.gradient_receiving is not None:
            counts.append(account.gradient_receiving)
        cells = [f"{n:,}" for decoder in (0, 1) for n in (count[decoder] for count in counts)]
        short = account.gradient_receiving is not None and account.gradient_receiving != account.trainable
        table.add_row(account.method, *cells, style="yellow" if short else None)
    return table


def protocols() -> Table:
    """Shipped protocols with source, target and published tile counts."""
    table = _table("name", "version", "train on", "test on", "tiles", "table rows by")
    for protocol in shipped_protocols().values():
        transfer = protocol.transfer
        tiles = " / ".join(map(str, transfer.tiles)) if transfer.tiles else ""
        version = str(protocol.file.version)
        table.add_row(protocol.name, version, str(transfer.source), str(transfer.target), tiles, transfer.by)
    return table


def backbones() -> Table:
    """Registered backbones."""
    return _rows(_table("name", "what it is"), BACKBONES)


ADAPTED = (
    "Methods have factors on learning_rate and backbones choose upsample (docs/recipes.md): run --dry-run shows what a "
    "run gets."
)


def settings() -> Group:
    """Training settings, one paragraph each: a table of them would need a very wide terminal."""
    lines: list[RenderableType] = []
    for setting in all_settings():
        head = Text(setting.name, style="bold")
        head.append(
            "  " + " · ".join(f"{preset} {value}" for preset, value in setting.presets.items()), style="not bold"
        )
        body = Text.assemble(setting.meaning, (f" ({setting.values})", "dim"))
        lines += [head, Padding(body, (0, 0, 0, 4))]
    return Group(*lines, Text(ADAPTED))


def settings_markdown() -> str:
    """The same as a Markdown table."""
    import pandas as pd

    from spectral_tl_bench.report.formatting import to_markdown

    rows = [
        {
            "setting": s.name,
            " / ".join(s.presets): " / ".join(s.presets.values()),
            "meaning": f"{s.meaning} ({s.values})",
        }
        for s in all_settings()
    ]
    return to_markdown(pd.DataFrame(rows))


def datasets() -> Table:
    """Archives that can be read."""
    return _rows(_table("name", "what it holds"), DATASETS)
