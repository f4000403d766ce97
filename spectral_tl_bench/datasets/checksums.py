"""What the files of a tile contain, as digests: another once a pixel changes, the same for a copy elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_tl_bench.datasets.io.formats import decisive_metadata

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class TileChecksums:
    """Digests of a tile's two halves.

    Attributes:
        image: Digest of the image.
        label: Digest of the label map.
        codes: Codes that occur in the label map.
    """

    image: str
    label: str
    codes: tuple[int, ...]


def data_fingerprint(checksums: Mapping[str, TileChecksums]) -> str:
    """Identify data by their content.

    Args:
        checksums: Tiles by their names.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=8)
    for tile in sorted(checksums):
        digest.update(f"{tile}\0{checksums[tile].image}\0{checksums[tile].label}\n".encode())
    return digest.hexdigest()


def of_pixels(pixels: np.ndarray) -> str:
    """Digest of an array, the same whatever the machine's byte order."""
    digest = hashlib.blake2b(f"{pixels.dtype.kind} {pixels.shape}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def of_file(path: str) -> str:
    """Digest of a file's bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()


def of_sidecar(path: str) -> str | None:
    """Digest of a file beside a raster; None where it has only statistics, which any viewer may write.

    Raises:
        OSError: If it cannot be read.
        DataError: If it is damaged.
    """
    if not path.lower().endswith(".aux.xml"):
        return of_file(path)
    text = decisive_metadata(path)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest() if text else None


def together(digests: Sequence[str]) -> str:
    """One digest for several; a single one stays as it is."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.blake2b("".join(digests).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def file_stamp(paths: Sequence[str]) -> str:
    """What changes whenever one of some files does, unless someone takes care that it does not."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
            stamps.append(f"{status.st_size} {status.st_mtime_ns} {status.st_ino}")
        except OSError:
            # Reading it says so by name.
            stamps.append("missing")
    return " ".join(stamps)
