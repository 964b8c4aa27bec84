"""SIGINT and SIGTERM: the first stops a sweep at its next checkpoint, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "held", "interruptible", "stopping"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; Slurm, Kubernetes, spot preemption
_came: list[int] = []
"""Signals received during this command; other code may catch the exception that reports one."""
_held = False
_ECHO = 0.3  # seconds; a terminal and a launcher may both send the signal of one Ctrl-C


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; saved files are intact.

    Attributes:
      signal: number of the signal; the exit code is 128 more.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raises :class:`Interrupted` when a signal comes during a block."""
    before, recovering, leaving = sys.unraisablehook, False, False
    again: dict[threading.Timer, int] = {}

    def send_again(number: int) -> None:
        timer = threading.Timer(0.02, os.kill, (os.getpid(), number))
        again[timer] = number
        timer.start()

    def handle(number: int, frame: FrameType | None) -> None:
        _came.append(number)
        if _held:
            if len(_came) > 1:
                os._exit(128 + number)
        elif recovering:
            send_again(number)  # it came back before the hook ended, on a busy machine
        elif not leaving:
            raise Interrupted(number)

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        # JAX runs Python in the garbage collector, which drops exceptions: send the signal again.
        nonlocal recovering
        if isinstance(dropped.exc_value, Interrupted):
            recovering = True
            send_again(dropped.exc_value.signal)
            recovering = False
        else:
            before(dropped)

    sys.unraisablehook = hook
    _came.clear()
    try:
        with _handlers(handle):
            try:
                yield
                if _came and not again:  # other code caught the exception
                    raise Interrupted(_came[0])
                for timer, number in again.items():
                    if timer.is_alive():
                        raise Interrupted(number)  # the block ended before the signal came again
            finally:
                leaving = bool(again)
                for timer in list(again):  # none may fire after the handlers are restored
                    timer.cancel()
                    timer.join()
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within `interruptible`, delays the first signal to the end of the block.

    Used for imports, because an exception during the import of a compiled module can abort the
    process. A second signal ends the process at once.
    """
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False
    if _came:
        raise Interrupted(_came[0])


@contextlib.contextmanager
def stopping(tell: Callable[[int, bool], None]) -> Iterator[Callable[[], int]]:
    """Handles signals during a sweep: records the first, exits at the second.

    A Python handler runs only after the current chunk, and two equal signals could look like one.
    So a thread reads signals from a pipe, to which the interpreter's C handler writes.

    Args:
      tell: called with the number of the signal, and whether the process exits now. It exits
        without any clean-up, as after ``kill -9``.

    Yields:
      A function that returns the number of the received signal, or 0.
    """
    received: list[int] = _came[:1]
    if received:
        tell(received[0], False)
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # only the main thread can handle signals
        return
    source, sink = os.pipe()
    os.set_blocking(sink, False)

    def watch() -> None:
        first = 0.0
        while number := os.read(source, 1)[0]:
            if number not in SIGNALS:
                continue  # another signal that the program handles
            if not received:
                first = time.monotonic()
                received.append(number)
                tell(number, False)
            elif time.monotonic() - first > _ECHO:
                tell(number, True)
                os._exit(128 + number)

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
    watcher.start()
    try:
        with _handlers(lambda number, frame: None):
            yield lambda: received[0] if received else 0
    finally:
        signal.set_wakeup_fd(before)
        os.write(sink, b"\0")
        watcher.join()
        os.close(source)
        os.close(sink)


@contextlib.contextmanager
def _handlers(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Installs a handler for a block; ignored signals (``nohup``, ``&``) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {n: signal.getsignal(n) for n in SIGNALS}
    for number, handler in old.items():
        if handler not in (signal.SIG_IGN, None):
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in old.items():
            if handler is not None:
                signal.signal(number, handler)
