"""Datasets, protocols and a benchmark for adapting foundation models to spectral sensors across regions and seasons.

Importing this package is cheap: the parts that need torch are imported when they are first asked for.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("spectral-tl-bench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "Band": "sensors",
    "Sensor": "sensors",
    "Protocol": "protocols",
    "load_protocols": "protocols",
    "Backbone": "backbones",
    "Method": "methods",
    "RunSpec": "spec",
    "RunRecord": "records",
    "run": "runner",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
