"""Which of the Python files that a run folder names may run: those that this user has run before.

A run folder may come from anybody, and it names the files of methods, backbones and the like. Such a file runs only if
this user has run the same content at the same path, or passes ``--trust-code``. A ledger in the user's cache folder
holds one empty file for each; nothing in the run folder itself counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from spectral_tl_bench.utils.cache import cache_dir
from spectral_tl_bench.utils.errors import SpectralBenchError
from spectral_tl_bench.utils.hashing import file_digest, text_digest
from spectral_tl_bench.utils.registry import split_file

_USER = os.getuid() if hasattr(os, "getuid") else 0


def _entry(file: Path) -> Path:
    """The file of the ledger for a Python file as it is now."""
    identity = f"{os.path.realpath(file)}\0{file_digest(file, 64)}"
    return cache_dir() / "trusted_code" / text_digest(identity, 64)


def trust_code(names: Iterable[str]) -> None:
    """Note that this user has run the files among some names, ``path/to/file.py:NAME``; other names are left out.

    Args:
        names: Of methods, backbones, datasets, decoders, losses and samplers.
    """
    for file in filter(None, (split_file(name)[0] for name in names)):
        # Without the note the user is asked for --trust-code: nothing is lost.
        with contextlib.suppress(OSError):
            entry = _entry(file)
            entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            entry.touch(mode=0o600)


def require_trusted(source: Path, names: Iterable[str]) -> None:
    """Refuse files that a run folder names and this user has not run before.

    Args:
        source: The run folder, or the file in it, for the message.
        names: As for :func:`trust_code`.

    Raises:
        SpectralBenchError: If there is one; the message names it.
    """
    for file in filter(None, (split_file(name)[0] for name in names)):
        if not file.is_file():
            continue  # which is refused where it is loaded
        with contextlib.suppress(OSError):
            if _entry(file).stat().st_uid == _USER:
                continue
        raise SpectralBenchError(
            f"{source} names {file}, Python code that you have not run in this form before; read the file, and add "
            "--trust-code to run it"
        )
