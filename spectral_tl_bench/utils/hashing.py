"""Digests: the first hexadecimal digits of a SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def text_digest(text: str, digits: int = 16) -> str:
    """Digest of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def json_digest(value: Any, digits: int = 10) -> str:
    """Digest of a value as canonical JSON: sorted keys, no blanks.

    Raises:
        ValueError: If it holds NaN or infinity.
    """
    return text_digest(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False), digits)


def file_digest(path: Path, digits: int = 16) -> str:
    """Digest of a file's content.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:digits]
