"""What a safetensors file says of its weights, read without loading a tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from spectral_tl_bench.utils.errors import CheckpointError
from spectral_tl_bench.utils.hashing import file_digest
from spectral_tl_bench.utils.validation import parse_json

METADATA_KEY = "spectral_tl_bench"
"""Where a safetensors file of this package says what its weights belong to."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what :func:`save_weights` wrote, without the tensors.

    Raises:
        CheckpointError: If the file is missing, damaged or not from this package.
    """
    with opened(path) as file:
        return metadata_of(path, file)


@contextlib.contextmanager
def opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """Open a safetensors file inside the block.

    Args:
        path: The file.
        framework: "numpy", or "pt" where its tensors are to be torch's.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not readable as safetensors: {error}") from error


def metadata_of(path: Path, file: Any) -> dict[str, Any]:
    """What this package wrote about an open file.

    Raises:
        CheckpointError: If it wrote nothing, or that is damaged.
    """
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise CheckpointError(f"{path} was not written by a run; its metadata has no {METADATA_KEY} entry")
    try:
        metadata = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its metadata is not readable as JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path} is damaged: its metadata is no mapping")
    return metadata


def fingerprint(path: Path) -> str:
    """Digest of a file of weights, as a run records it.

    Raises:
        CheckpointError: If it is missing.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    return f"sha256:{file_digest(path)}"
