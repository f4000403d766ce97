"""Where the bench keeps what it can compute again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the user's cache folder; it need not exist yet.

    ``SPECTRAL_TL_BENCH_CACHE`` names it; otherwise it is ``spectral_tl_bench`` under ``XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    chosen = os.environ.get("SPECTRAL_TL_BENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "spectral_tl_bench"
