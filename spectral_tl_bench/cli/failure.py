"""Whatever ends a command, as the one line that a person reads and the exit status that a script reads."""

from __future__ import annotations

import traceback
from typing import Any

import typer

from spectral_tl_bench.utils.errors import RunFailedError, SpectralBenchError, one_line

# Typer brings click's exceptions along in some versions and takes those of click in others.
_USAGE: Any = typer.BadParameter.__mro__[2]

_ABORTED = 130
"""What a shell reports of a command that was interrupted."""


def failure(error: BaseException) -> tuple[str, int]:
    """Say what ended a command.

    Args:
        error: What was raised.

    Returns:
        One line, and the exit status: 2 for wrong usage and bad input, 1 for a run that failed.
    """
    if isinstance(error, SpectralBenchError):
        return one_line(str(error)), error.exit_status
    if isinstance(error, _USAGE):
        return one_line(_usage(error)), SpectralBenchError.exit_status
    if isinstance(error, OSError):
        # Paths that cannot be used wherever one is named, and TorchGeo's DatasetNotFoundError.
        return one_line(_system(error)), SpectralBenchError.exit_status
    if isinstance(error, typer.Abort):
        return "stopped by SIGINT", _ABORTED
    if isinstance(error, MemoryError):
        return one_line(f"not enough memory: {error}"), RunFailedError.exit_status
    return one_line(_unexpected(error)), RunFailedError.exit_status


def _usage(error: Any) -> str:
    message = error.format_message().rstrip(".")
    near = list(getattr(error, "possibilities", None) or ())[:2]
    if near:
        message = f"{error.message}. Did you mean {' or '.join(near)}?"
    context = getattr(error, "ctx", None)
    where = "" if context is None else f"; `{context.command_path} --help` explains"
    return f"{message[:1].lower()}{message[1:]}{where}".replace("?;", "?")


def _system(error: OSError) -> str:
    if error.strerror is None or error.filename is None:
        return str(error) or type(error).__name__
    return f"cannot use {error.filename}: {error.strerror}"


def _unexpected(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{where}: {error}; --debug before the command shows the traceback"
