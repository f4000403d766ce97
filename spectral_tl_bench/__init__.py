"""Datasets, protocols and a benchmark for adapting foundation models to spectral sensors across regions and seasons.

Importing this package is cheap: the parts that need torch are imported when they are first asked for.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "Backbone": "backbones",
    "Band": "sensors",
    "Method": "methods",
    "Protocol": "config.protocols",
    "RunRecord": "records",
    "RunSpec": "config.spec",
    "Sensor": "sensors",
    "load_protocols": "config.protocols",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("spectral-tl-bench")
    except PackageNotFoundError:
        return "0+unknown"  # a source tree that was never installed
