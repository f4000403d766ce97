"""Signals that ask the process to end: recorded at once, followed when the work so far is on disk."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from spectral_tl_bench.utils.errors import InterruptedRunError

# Schedulers announce preemption by SIGTERM or, as Slurm's --signal is mostly used, SIGUSR1.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()))


class Interruption:
    """Records whether a signal has asked the process to end."""

    def __init__(
        self, on_signal: Callable[[], None] | None = None, signals: tuple[signal.Signals, ...] = SIGNALS
    ) -> None:
        """Handle no signal yet.

        Args:
            on_signal: Called once, at the first signal.
            signals: The signals to handle.
        """
        self._signals = signals
        self.signal: signal.Signals | None = None
        self._received: signal.Signals | None = None
        self._handling = False
        self._on_signal = on_signal

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def end_if_requested(self, place: str) -> None:
        """End the run; called where the work so far is on disk.

        Args:
            place: How far the run is, for the message.

        Raises:
            InterruptedRunError: If a signal has come.
        """
        if self.signal is not None:
            raise InterruptedRunError(self.signal, place)

    def adopt(self, number: int) -> None:
        """Take over the signal that another process of the run received; 0 is none."""
        if number and self.signal is None:
            self.signal = signal.Signals(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == self._received == signal.SIGINT:
            # A second Ctrl-C ends at once; schedulers repeat their signals and wait.
            raise InterruptedRunError(self._received, "without waiting for a checkpoint")
        if self._received is None:
            self._received = signal.Signals(number)
            if self._on_signal is not None:
                self._on_signal()
        self.adopt(number)

    def install(self) -> None:
        """Handle signals from now on."""
        self._handling = True
        for number in self._signals:
            signal.signal(number, self._handle)

    def reinstall(self) -> None:
        """Handle signals again after a library has installed its own handlers.

        Lightning's handler of SIGTERM communicates with the other processes at any point of a step.
        """
        if self._handling:
            self.install()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals inside the block and restore the previous handlers after it; nested blocks change nothing."""
        if self._handling or threading.current_thread() is not threading.main_thread():
            # Python delivers signals to the main thread alone.
            yield
            return
        before = {number: signal.getsignal(number) for number in self._signals}
        self.signal = self._received = None
        self.install()
        try:
            yield
        finally:
            self._handling = False
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise inside the block, as Ctrl-C does, so that files are closed and one line explains the end.

    Raises:
        InterruptedRunError: When the signal comes.
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
