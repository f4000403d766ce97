"""What there is, one line each: methods, protocols, backbones, datasets."""

from __future__ import annotations

import dataclasses
import inspect

from rich.table import Table

from spectral_tl_bench.backbones.registry import backbone_entry, backbone_names
from spectral_tl_bench.datasets import DATASETS, dataset_class
from spectral_tl_bench.methods import Method, method_class, method_names
from spectral_tl_bench.protocols import shipped_protocols


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    return table


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")


def _options(cls: type[Method]) -> str:
    return " ".join(f"{f.name}={f.default}" for f in dataclasses.fields(cls) if f.init)


def methods() -> Table:
    """Installed methods with their summaries and options."""
    table = _table("name", "what it does", "options for --set")
    for name in method_names():
        cls = method_class(name)
        table.add_row(name, _summary(cls), _options(cls))
    return table


def protocols() -> Table:
    """Shipped protocols with source, target and published tile counts."""
    table = _table("name", "train on", "test on", "tiles", "table rows by")
    for protocol in shipped_protocols().values():
        transfer = protocol.transfer
        tiles = " / ".join(map(str, transfer.tiles)) if transfer.tiles else ""
        table.add_row(protocol.name, str(transfer.source), str(transfer.target), tiles, transfer.by)
    return table


def backbones() -> Table:
    """Registered backbones."""
    table = _table("name", "what it is")
    for name in backbone_names():
        table.add_row(name, backbone_entry(name).summary)
    return table


def datasets() -> Table:
    """Archives that can be read."""
    table = _table("name", "what it holds")
    for name in DATASETS:
        table.add_row(name, dataset_class(name).title)
    return table
