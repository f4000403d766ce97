"""The command line in this process, as the console script runs it, and what a refusal must look like."""

import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from spectral_tl_bench.cli.main import main


class Result(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def _as_in_a_process_of_its_own():
    """Let warnings and log records go where they go without pytest: to standard error."""
    handlers, logging.root.handlers = logging.root.handlers, []
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)

        def show(message, category, filename, lineno, file=None, line=None):
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

        warnings.showwarning = show
        try:
            yield
        finally:
            logging.root.handlers = handlers


def command(capfd, *arguments):
    """Run ``spectral-bench`` with some arguments, through the function that the console script calls."""
    capfd.readouterr()
    status = 0
    with _as_in_a_process_of_its_own():
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code or 0
    return Result(status, *capfd.readouterr())


def content(folder):
    """Every file below a folder with what it holds; caches are left out, Python's too."""
    found = {}
    for name, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in (".spectral_tl_bench", "__pycache__")]
        for file in files:
            path = Path(name, file)
            found[path.relative_to(folder)] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


def refused(result, *parts):
    """One line on standard error that names what is wrong, exit status 2, no traceback."""
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert (result.status, len(lines)) == (2, 1), result
    assert lines[0].startswith("spectral-bench: ")
    assert "Traceback" not in result.err + result.out
    assert all(character.isprintable() for character in lines[0])
    for part in parts:
        assert part.lower() in lines[0].lower(), lines[0]


def each(table):
    """One test for each row: its name, what is written, and what the line must say."""
    return pytest.mark.parametrize(
        ("written", "parts"), [(w, p) for _, w, *p in table], ids=[name for name, *_ in table]
    )
