"""Writing files: at once or not at all, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from spectral_tl_bench.utils.errors import RecordError, RunInUseError
from spectral_tl_bench.utils.paths import leads_out, path_inside


def prepare_folder(folder: Path) -> None:
    """Make a folder if it is not there and check that files can be written into it.

    Raises:
        RecordError: If it cannot be made or written.
    """
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "a file of that name is in the way" if isinstance(error, FileExistsError) else error.strerror
        raise RecordError(f"cannot write to folder {folder}: {reason}; choose another with --out") from error


def check_writable(folder: Path, option: str = "--out") -> None:
    """Check that a folder can be made or written into, and change nothing.

    Args:
        folder: The folder.
        option: What names another one, for the message.

    Raises:
        RecordError: If it cannot.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        reason = f"{place} is no folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EACCES)
    else:
        return
    raise RecordError(f"cannot write to folder {folder}: {reason}; choose another with {option}")


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a run's folder, whoever named it.

    Args:
        folder: The run's folder.
        name: The file's path relative to it.

    Raises:
        RecordError: If it lies elsewhere: the name leads out of the folder, or the file is a link that does.
    """
    path = path_inside(folder, name)
    if path is None:
        raise RecordError(f"{name!r} is no file in {folder}: it leads out of that folder")
    if leads_out(folder, path):
        raise RecordError(f"{path} is a link out of the run's folder; put the file itself there")
    return path


LOCK = ".lock"
"""File by which one process holds a folder."""

_TEMPORARY = re.compile(r"\..+-[0-9a-f]{32}|\.tmp[A-Za-z0-9]{6}")
"""Names of files that are being written: our own, and those that safetensors makes beside its file."""


def remove_temporary_files(folder: Path, name: str | None = None) -> None:
    """Delete the temporary files that a process which was killed left in a folder.

    Args:
        folder: The folder; no other process may be writing into it, or to the file ``name``.
        name: Delete those of one file alone.
    """
    pattern = _TEMPORARY if name is None else re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{32}}(\.\w+)*")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def remove_empty_folders(folder: Path, top: Path) -> None:
    """Delete a folder and those that hold it, below ``top``, as far as nothing is in them."""
    with contextlib.suppress(OSError):
        while folder != top and top in folder.parents:
            folder.rmdir()
            folder = folder.parent


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path`` that takes its place when the block ends well, and goes when it does not.

    Raises:
        RecordError: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Libraries that write through a file of their own may leave it to the user alone, whatever the umask.
        temporary.chmod(stat.S_IMODE(mode))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_regular_file(path: Path, most: int) -> bytes:
    """Read a file of bounded size; a pipe or a device, which might never end, is not opened.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: If it is missing, cannot be read, is no ordinary file, or is larger.
    """
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    if state.st_size > most:
        raise OSError(errno.EFBIG, f"it is {state.st_size / 2**20:.0f} MiB large", str(path))
    return path.read_bytes()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        RecordError: If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for one process at a time.

    Raises:
        RunInUseError: If another process holds it.
    """
    with _locked(folder / LOCK, folder):
        yield


@contextlib.contextmanager
def exclusive_file(path: Path) -> Iterator[None]:
    """Hold a file that is to be written, and delete what a killed process left of its temporary files.

    Raises:
        RunInUseError: If another process holds it.
    """
    prepare_folder(path.parent)
    with _locked(path.with_name(f".{path.name}.lock"), path):
        remove_temporary_files(path.parent, path.name)
        yield


@contextlib.contextmanager
def _locked(file: Path, held: Path) -> Iterator[None]:
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunInUseError(f"another process is at {held}; wait for it, or choose another --out") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()
