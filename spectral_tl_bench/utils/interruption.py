"""Signals that want a process to end: heard at once, obeyed when what was computed is safe."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from spectral_tl_bench.utils.errors import InterruptedRunError

# Schedulers announce preemption by SIGTERM or, as Slurm's --signal is mostly used, SIGUSR1.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))


CHECKPOINT_MINUTES = 10.0
"""From one checkpoint to the next where nobody says otherwise: what a kill may cost."""


class Interruption:
    """Whether somebody wants the process to end."""

    def __init__(self, tell: Callable[[], None] = lambda: None, signals: tuple[signal.Signals, ...] = SIGNALS) -> None:
        """Hear nothing yet.

        Args:
            tell: Called once, when the first signal comes.
            signals: What is heard.
        """
        self._signals = signals
        self.signal: signal.Signals | None = None
        self._own: signal.Signals | None = None
        self._listens = False
        self.tell = tell

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def end_if_asked(self, place: str) -> None:
        """End the run where everything so far is on disk.

        Args:
            place: How far it is.

        Raises:
            InterruptedRunError: If a signal has come.
        """
        if self.signal is not None:
            raise InterruptedRunError(self.signal, place)

    def hear_of(self, number: int) -> None:
        """Take over what another process of the run has heard; 0 is nothing."""
        if number and self.signal is None:
            self.signal = signal.Signals(number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == self._own == signal.SIGINT:
            # Whoever types Ctrl-C twice will not wait; schedulers repeat themselves and do.
            raise InterruptedRunError(self._own, "without waiting for a checkpoint")
        if self._own is None:
            self._own = signal.Signals(number)
            self.tell()
        self.hear_of(number)

    def listen(self) -> None:
        """Hear signals from now on."""
        self._listens = True
        for number in self._signals:
            signal.signal(number, self._hear)

    def listen_again(self) -> None:
        """Take signals back where a library has put itself in between.

        Lightning's own handler of SIGTERM talks to the other processes in the middle of whatever they are doing.
        """
        if self._listens:
            self.listen()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals inside the block; what they did before, they do again after it."""
        if threading.current_thread() is not threading.main_thread():
            # Python delivers signals to the main thread alone.
            yield
            return
        before = {number: signal.getsignal(number) for number in self._signals}
        self.listen()
        try:
            yield
        finally:
            self._listens = False
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise inside the block as Ctrl-C does, so that files are closed and a line says what happened.

    Raises:
        InterruptedRunError: When it comes.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise InterruptedRunError(signal.Signals(number), "nothing was under way that a checkpoint could keep")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
