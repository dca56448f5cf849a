"""Threads that read the archive, so that no query holds up the event loop or other clients.

Each client has a share of the threads, and the clients take turns. A query ends when its time is
over or its client has gone. Where queries have a pace, they keep it while the event loop is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect

from migrator.archive import Archive, Stop
from migrator.serve.bounds import Share
from migrator.serve.refusals import Refusal, too_slow

T = TypeVar("T")

_AGAIN: Final = 0.05
"""Seconds until a query is told to stop once more: one that was about to begin was not met."""


class Readers:
    """The threads that read an archive for one face; used by one event loop."""

    def __init__(
        self,
        archive: Archive,
        share: Share | None = None,
        *,
        patient: bool = False,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """Read ``archive``, a served one; with ``patient`` when others leave a processor free.

        ``used`` returns the seconds of a processor that the event loop used so far.
        """
        self._archive = archive
        self._share = share or Share()
        yields = _yield_to_others if patient else None
        self._used = used
        self._threads = ThreadPoolExecutor(self._share.threads, "reader", yields)
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """By client, the one whose turn it is first."""

    async def run(
        self,
        client: Hashable,
        gone: asyncio.Future[None],
        work: Callable[[], T],
        *,
        bounded: bool = True,
    ) -> T:
        """Return what ``work`` returns, which reads in a thread; ``gone`` is done without a client.

        Raises what it raises, ClientDisconnect, and Refusal: 503 ``too_busy`` when no thread is
        free in time, 503 ``query_timeout`` when it takes too long, unless it is not ``bounded``.
        """
        await self._turn(client, gone)
        stop = Stop()
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        try:
            task = loop.run_in_executor(self._threads, context.run, self._work, work, stop)
        except BaseException:
            self._leave(client)
            raise
        rest = self._rest(loop)
        task.add_done_callback(lambda _: rest(self._leave, client))
        try:
            limit = self._share.seconds if bounded else None
            ends: set[asyncio.Future[Any]] = {task, gone}
            await asyncio.wait(ends, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                self._end(task, stop)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise too_slow()

    def _rest(self, loop: asyncio.AbstractEventLoop) -> Callable[..., object]:
        """Return a function that calls what it is given once the pace of queries allows it."""
        began, busy = loop.time(), self._used()

        def rest(then: Callable[..., object], *given: object) -> None:
            took = loop.time() - began
            # What is left of the processor does not help: all threads share one Python.
            paced = self._share.pace if self._used() - busy > took / 4 else 0
            loop.call_later(paced * self._running.total() - took, then, *given)

        return rest

    def _work(self, work: Callable[[], T], stop: Stop) -> T:
        with self._archive.stopped_by(stop):
            return work()

    def _end(self, task: asyncio.Future[T], stop: Stop) -> None:
        """Stop a task, whose end nobody waits for."""
        if task.done():
            if not task.cancelled():
                task.exception()  # looked at, or asyncio would log it
            return
        stop.set()
        task.get_loop().call_later(_AGAIN, self._end, task, stop)

    async def _turn(self, client: Hashable, gone: asyncio.Future[None]) -> None:
        """Wait until the client may have a thread, and take it."""
        share = self._share
        if self._running.total() < share.threads and self._running[client] < share.each:
            self._running[client] += 1
            return
        if sum(map(len, self._waiting.values())) >= share.waiting:
            raise _busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await asyncio.wait(
                {turn, gone}, timeout=share.patience, return_when=asyncio.FIRST_COMPLETED
            )
        except BaseException:
            if turn.done():
                self._leave(client)
            raise
        finally:
            if not turn.done():
                self._waiting[client].remove(turn)
                if not self._waiting[client]:
                    del self._waiting[client]
        if gone.done():
            if turn.done():
                self._leave(client)
            raise ClientDisconnect
        if not turn.done():
            raise _busy()

    def _leave(self, client: Hashable) -> None:
        """Release a thread, and give it to the next client that may have one."""
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        for other, turns in self._waiting.items():
            if self._running[other] < self._share.each:
                self._running[other] += 1
                turns.popleft().set_result(None)
                del self._waiting[other]
                if turns:
                    self._waiting[other] = turns  # behind all others
                return


def _yield_to_others() -> None:
    if sys.platform == "linux":  # where each thread has a priority of its own
        with contextlib.suppress(OSError):
            os.nice(5)


def _busy() -> Refusal:
    return Refusal(
        503,
        "too_busy",
        "Too many queries are running. Try again in a moment.",
        headers=[(b"retry-after", b"5")],
    )
