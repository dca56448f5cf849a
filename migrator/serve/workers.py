"""Several processes that serve together: one socket each, one parent that replaces them."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn, TypeVar, cast

from migrator import errors
from migrator.errors import MigratorError
from migrator.serve.server import STOP_SIGNALS, heard, listen, url_of

Work = Callable[[socket.socket], None]
"""Serves on a socket until SIGTERM; called in a process of its own."""

T = TypeVar("T")

SOON: Final = 3.0
"""Seconds: a worker that ends sooner cannot work, and is not started again."""

_log = logging.getLogger(__name__)


def serve_workers(
    work: Work,
    *,
    workers: int,
    host: str,
    port: int,
    secure: bool = False,
    soon: float = SOON,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run ``work`` in so many processes on one address until SIGINT or SIGTERM.

    They get SIGTERM then, and once more for every further signal. One that ends by itself is
    replaced. ``on_ready`` gets the URL, which is ``https`` when ``secure``. Call it from the main
    thread, with no connection to the archive open: they would share it. Raises ConfigError when
    the address cannot be listened on, MigratorError when a worker ends within ``soon`` seconds.
    """
    listeners = listen_together(host, port, workers)
    try:
        parent = _Parent(work, listeners, soon)
        before = {each: signal.signal(each, parent.stop) for each in heard()}
        try:
            parent.start()
            (on_ready or (lambda _: None))(url_of(listeners[0], "https" if secure else "http"))
            parent.mind()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
    finally:
        for listener in listeners:
            listener.close()


def listen_together(host: str, port: int, number: int) -> list[socket.socket]:
    """Listen with several sockets on one address, so that the kernel spreads the clients.

    All belong to the parent: clients waiting at the socket of a dead worker are not lost.
    Raises ConfigError, also when another server has the address.
    """
    first = listen(host, port)  # alone: beside others that share it would be none of ours
    if sys.platform != "linux":  # elsewhere the last socket would get all clients
        return [first, *(first.dup() for _ in range(number - 1))]
    port = first.getsockname()[1]
    first.close()
    return [listen(host, port, shared=True) for _ in range(number)]


def apart(work: Callable[[], T]) -> T:
    """Return what ``work`` returns, a value of JSON; it is called in a process of its own.

    So threads that it begins, as those of a library, are not in this process, which may fork
    later. Raises the MigratorError that it raises.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            with open(write, "w", encoding="utf-8") as told:  # noqa: PTH123 - a descriptor
                try:
                    answer: list[object] = [work(), None, None]
                except MigratorError as error:
                    answer = [None, type(error).__name__, str(error)]
                json.dump(answer, told)
        except BaseException as error:  # noqa: BLE001 - nothing of the parent's must run in a child
            if not isinstance(error, KeyboardInterrupt):
                _log.error("It failed: %s: %a", type(error).__name__, str(error))
        finally:
            os._exit(0)
    os.close(write)
    try:
        with open(read, encoding="utf-8") as told:  # noqa: PTH123
            text = told.read()
    finally:
        os.waitpid(pid, 0)
    if not text:
        raise MigratorError("The server could not begin; the reason is above.")
    value, kind, reason = json.loads(text)
    if kind is not None:
        raise getattr(errors, kind)(reason)
    return cast("T", value)


class _Parent:
    """The parent of the workers."""

    def __init__(self, work: Work, listeners: list[socket.socket], soon: float) -> None:
        self._soon = soon
        self._work = work
        self._listeners = listeners
        self._workers: dict[int, tuple[int, float]] = {}
        """Process id to the number of its socket and when it began."""
        self._stopping = False

    def start(self) -> None:
        """Start all workers."""
        for number in range(len(self._listeners)):
            self._start_one(number)

    def mind(self) -> None:
        """Replace workers that end, until all have stopped on request."""
        reason = None
        while self._workers:
            pid, status = os.wait()
            number, began = self._workers.pop(pid, (None, 0.0))
            if self._stopping or number is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            how = f"ended with {code}" if code >= 0 else f"was ended by signal {-code}"
            if time.monotonic() - began < self._soon:
                reason = f"A worker {how} as soon as it had begun; the reason is above."
                self.stop()
                continue
            _log.error("A worker %s; another one takes its place.", how)
            self._start_one(number)
        if reason:
            raise MigratorError(reason)

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Stop all workers gracefully; the second time at once."""
        self._stopping = True
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)

    def _start_one(self, number: int) -> None:
        # Blocked, or a signal would find a child that is not registered, or one that is no
        # worker yet and would pass it on to the others.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            if self._stopping:
                return
            pid = os.fork()
            if pid == 0:
                self._work_in_child(number)
            self._workers[pid] = number, time.monotonic()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _work_in_child(self, number: int) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C at the terminal is for the parent, which passes it on once
            for each in heard():
                signal.signal(each, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            for other, listener in enumerate(self._listeners):
                if other != number:
                    listener.close()
            self._work(self._listeners[number])
            code = 0
        except KeyboardInterrupt:
            code = 130
        except MigratorError as error:
            code = error.exit_code
            _log.error("%s", error)
        except BaseException as error:  # noqa: BLE001 - nothing of the parent's must run in a child
            _log.error("A worker failed: %s: %a", type(error).__name__, str(error))
        finally:
            os._exit(code)
