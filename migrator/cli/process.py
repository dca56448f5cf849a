"""The process itself: its three streams, its signals and its event loop.

Telling may fail, work does not: streams that are closed, full or gone never end a command that
works. SIGINT, SIGTERM and SIGHUP are the same wish, except those that were ignored at the start, as
under nohup.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from migrator.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], object]

INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEAN_UP = 20.0
"""Seconds in which an interrupted command must end, or it is ended as it is."""
STOP = 45.0
"""Seconds in which one that was asked to stop must: requests in flight may finish."""


class Telling(io.FileIO):
    """A descriptor that takes every text; what cannot be written is dropped.

    ``lost`` is the first error. With ``strict`` it is raised, once: as BrokenPipeError when the
    reader has gone, else as ConfigError. ``needed`` says that the command failed without it.
    """

    def __init__(self, fd: int, *, strict: bool = False) -> None:
        super().__init__(fd, "w", closefd=False)
        self.strict = self.needed = strict
        self.lost: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write the next bytes, or drop them."""
        size = memoryview(data).nbytes
        if self.strict and self.lost is not None:
            return size
        try:
            while (written := super().write(data)) is None:  # not blocking, and full for now
                select.select([], [self], [])
        except OSError as error:
            first, self.lost = self.lost is None, self.lost or error
            if self.strict and first:
                self.refuse()
            return size
        return written

    def refuse(self) -> NoReturn:
        """Raise what was lost as an error for the user."""
        error = self.lost or OSError(errno.EIO, os.strerror(errno.EIO))
        if error.errno == errno.EPIPE:
            raise BrokenPipeError(*error.args)
        raise ConfigError(f"Cannot write to stdout: {reason(error)}.") from error


def reason(error: OSError) -> str:
    """Return in words why a stream could not be written."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)


def telling(stream: object) -> Telling | None:
    """Return the descriptor below a stream of :func:`begin`; None for another stream."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Telling) else None


def begin() -> None:
    """Give the process streams that can always be written, and signals that end it with 130."""
    for fd in range(3):
        try:
            os.get_inheritable(fd)  # raises for a closed one
        except OSError:
            # Held from now on, so that no file of ours gets the number, and printing writes into
            # it. Opened the wrong way round, it refuses what it is used for, as a closed one does.
            os.open(os.devnull, os.O_WRONLY if fd == 0 else os.O_RDONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _stream(1, sys.stdout, strict=True)
    sys.stderr = _stream(2, sys.stderr, strict=False)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, _give_up)
    sys.unraisablehook = _unraisable


def _stream(fd: int, before: Any, *, strict: bool) -> io.TextIOWrapper:
    raw = Telling(fd, strict=strict)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=raw.isatty(),
    )


def end(code: int) -> NoReturn:
    """Exit with a code that a late signal does not change."""
    _on_all_signals(lambda *_: os._exit(code))  # a thread may still wait for the network
    atexit.register(_on_all_signals, signal.SIG_IGN)  # all threads have ended
    # Python remembers a KeyboardInterrupt that a string of code ended with, as in making a
    # dataclass, and would end by SIGINT; the next string makes it forget.
    eval("0")  # noqa: S307
    sys.exit(code)


def _on_all_signals(handler: Any) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


def interrupt(_number: int = 0, _frame: FrameType | None = None) -> NoReturn:
    """Raise KeyboardInterrupt; a second signal ends the process as it is."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is interrupt:
            signal.signal(number, _give_up)
    _end_within(CLEAN_UP)
    raise KeyboardInterrupt


def _end_within(seconds: float) -> None:
    if signal.getsignal(signal.SIGALRM) is _give_up:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)  # what is in the archive is safe at every moment


def _unraisable(unraisable: sys.UnraisableHookArgs, /) -> None:
    """End the process when an interrupt came where Python would drop it, as in ``__del__``."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)


@contextmanager
def on_signals(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals with ``handler`` during the block; ignored ones stay ignored.

    Only the main thread gets signals: in others the block changes nothing.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    before = {n: then for n, then in before.items() if then not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, then in before.items():
            signal.signal(number, then)


def run_loop(main: Coroutine[Any, Any, T], ask: Callable[[], None] | None = None) -> T:
    """Return what a coroutine comes to, in an event loop of its own.

    A signal calls ``ask`` in the loop, which makes it end by itself; without one, the coroutine
    is cancelled and KeyboardInterrupt raised. No signal ever raises inside the loop, which could
    then wait for ever. The third one ends the process as it is.
    """
    import asyncio  # not for the commands that only print

    came = done = 0
    wake: Callable[[], object] = lambda: None  # noqa: E731

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > 2:
            _give_up(_number, _frame)
        _end_within(STOP if ask else CLEAN_UP)
        wake()

    async def guarded() -> T:
        nonlocal wake
        loop = asyncio.get_running_loop()
        task = loop.create_task(main)

        def pass_on() -> None:
            nonlocal done
            while done < came:
                done += 1
                (ask or task.cancel)()

        wake = lambda: loop.call_soon_threadsafe(pass_on)  # noqa: E731
        wake()
        try:
            return await task
        finally:
            wake = lambda: None  # noqa: E731

    with on_signals(on_signal, *STOP_SIGNALS), asyncio.Runner() as runner:
        try:
            result = runner.run(guarded())
        except asyncio.CancelledError:
            if not came:
                raise
    if done < came or (came and not ask):
        raise KeyboardInterrupt
    if came:
        _end_within(0)  # what was asked to stop has; what it tells may take its time
    return result
