"""Errors that a user can mend: one line that says what is wrong and what to do.

The command line prints the message without a traceback and ends with ``exit_status``.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


_LONGEST = 2_000
"""Characters of a line: a name in a file may be as long as the file."""


def one_line(text: str) -> str:
    """Text on one line without what would move the cursor: a name in a file may hold anything."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation error in one line, beginning with the field it is in."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    # A key that nobody knows may be any text.
    return " ".join((f"{where}: {message}" if where else message).split())


def _rebuilt(cls: type[SpectralBenchError], message: str, attributes: dict[str, Any]) -> SpectralBenchError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class SpectralBenchError(Exception):
    """Wrong usage or bad input; the message names the fix."""

    exit_status = 2

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses build their message of other arguments, which Python would not find when a worker sends one.
        return _rebuilt, (type(self), str(self), self.__dict__)


class UnknownNameError(SpectralBenchError):
    """A name that is in no registry; the message names the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str) -> None:
        """Build the message.

        Args:
            kind: What was asked for, in the singular ("method", "protocol").
            name: The name that is not known.
            known: Every known name.
            hint: Where to see them all, as a command.
        """
        near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.5)
        guess = f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}:{guess} {hint}".replace(":  ", ": "))


class ProtocolError(SpectralBenchError):
    """A protocol file that cannot be read, is incomplete or selects nothing."""


class DataError(SpectralBenchError):
    """An archive or a tile that cannot be used as it is."""


class CheckpointError(SpectralBenchError):
    """Weights that do not fit the model they are loaded into."""


class RecordError(SpectralBenchError):
    """A run folder that cannot be read or written."""


class RunFailedError(SpectralBenchError):
    """A run that started properly and did not finish."""

    exit_status = 1


class RunInUseError(SpectralBenchError):
    """A run that another process is at."""

    exit_status = 1


class EndedByTheFirstError(SpectralBenchError):
    """Ends the other processes of a run where the first one ends: it says why, they say nothing."""

    def __init__(self, exit_status: int) -> None:
        """Take over the first one's exit status."""
        super().__init__("the first process of this run has ended")
        self.exit_status = exit_status


class InterruptedRunError(SpectralBenchError):
    """A run that was asked to end by a signal; the same command goes on with it."""

    def __init__(self, received: signal.Signals, place: str) -> None:
        """Build the message.

        Args:
            received: The signal.
            place: How far the run was.
        """
        super().__init__(f"stopped by {received.name} ({place}); the same command goes on from there")
        self.exit_status = 128 + (received if received != getattr(signal, "SIGUSR1", None) else signal.SIGTERM)
