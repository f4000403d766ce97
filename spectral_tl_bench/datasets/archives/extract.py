"""Unpacking downloaded archives without trusting what they say about paths."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spectral_tl_bench.utils.errors import DataError
from spectral_tl_bench.utils.paths import path_inside

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def is_archive(name: str) -> bool:
    """Tell from a file's name whether :func:`unpack` can open it."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file.

    Every member's path is checked before the first byte is written. Only plain files and folders are accepted: links
    and devices have no place in a data set.

    Args:
        archive: The file.
        folder: Where its members go; made if need be.

    Raises:
        DataError: If the file is damaged, needs more space than there is, or holds a member that would leave
            ``folder``, a link or a device.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, folder)
        else:
            _unpack_tar(archive, folder)
    except _BROKEN as error:
        raise DataError(f"cannot unpack {archive}: {error}; delete it and download again") from error
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {folder}: {error}") from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        members = [member for member in source.infolist() if not member.is_dir()]
        for member in members:
            # Unix permissions sit in the upper half; a zip from elsewhere leaves the file type zero.
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(archive, member.filename, "is a link or device")
        targets = [_target(archive, member.filename, folder) for member in members]
        _require_space(archive, folder, sum(member.file_size for member in members))
        for member, target in zip(members, targets, strict=True):
            with source.open(member) as content:
                _write(content, target)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as source:
        members = [member for member in source.getmembers() if not member.isdir()]
        for member in members:
            if not member.isreg():
                raise _unsafe(archive, member.name, "is a link or device")
        targets = [_target(archive, member.name, folder) for member in members]
        _require_space(archive, folder, sum(member.size for member in members))
        for member, target in zip(members, targets, strict=True):
            with _tar_content(source, member) as content:
                _write(content, target)


@contextmanager
def _tar_content(source: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    content = source.extractfile(member)
    if content is None:
        raise tarfile.TarError(f"{member.name} has no content")
    with content:
        yield content


def _target(archive: Path, name: str, folder: Path) -> Path:
    target = path_inside(folder, name)
    if target is None:
        raise _unsafe(archive, name, "leaves the folder")
    return target


def _unsafe(archive: Path, member: str, why: str) -> DataError:
    return DataError(f"{archive} is not safe to unpack: its member {member!r} {why}; unpack it by hand if you trust it")


def _require_space(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{archive} unpacks to {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free")


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
