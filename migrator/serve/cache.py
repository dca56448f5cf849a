"""Caches in memory: until the archive changes, or for a short time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST: Final = 1000
"""Values kept; beyond that the oldest is forgotten."""


class Version:
    """A value that changes with the archive, read once per turn of the event loop.

    A request is answered in a later turn than it arrives, so it never gets an older version.
    """

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read
        self._known: object = None

    def __call__(self) -> object:
        """Return the version as of this turn."""
        if self._known is None:
            self._known = self._read()
            asyncio.get_running_loop().call_soon(self._forget)
        return self._known

    def _forget(self) -> None:
        self._known = None


class VersionCache(Generic[K, V]):
    """Values by key, all of one version of the archive; used by one thread.

    After a change by any process, the next lookup finds the cache empty. So an answer is never
    older than its request, which matters for a revoked token, and costs one read of the archive's
    counter of changes instead of queries.
    """

    def __init__(self, version: Version, most: int = MOST) -> None:
        self._version = version
        self._most = most
        self._seen: object = None
        self._kept: dict[K, V] = {}

    def __call__(self, key: K, find: Callable[[], V]) -> V:
        """Return the cached value, else what ``find`` returns; its errors are not cached."""
        kept = self._current()
        return kept[key] if key in kept else self._keep(kept, key, find())

    async def wait(self, key: K, find: Callable[[], Awaitable[V]]) -> V:
        """Return the cached value, else wait for what ``find`` returns."""
        kept = self._current()
        return kept[key] if key in kept else self._keep(kept, key, await find())

    def _current(self) -> dict[K, V]:
        """Return the values of the current version."""
        now = self._version()
        if now != self._seen:
            # Before reading: a value newer than its version is only dropped too early.
            self._kept = {}
            self._seen = now
        return self._kept

    def _keep(self, kept: dict[K, V], key: K, found: V) -> V:
        if len(kept) >= self._most:
            del kept[next(iter(kept))]
        kept[key] = found
        return found


T = TypeVar("T")

_LONGER: Final = 20
"""A value is kept this multiple of the time it took to read, which bounds the cost of reading."""


class TimedCache(Generic[T]):
    """A value that is read again when it is ``live`` seconds old, or more if reading takes long.

    ``clock`` returns seconds that never go back. Errors of ``read`` pass through.
    """

    def __init__(
        self,
        read: Callable[[], T],
        *,
        live: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._live = live
        self._clock = clock
        self._kept: tuple[float, T] | None = None
        """When it expires, and the value."""

    def __call__(self) -> T:
        """Return the value."""
        began, kept = self._clock(), self._kept
        if kept is None or began >= kept[0]:
            value = self._read()
            now = self._clock()
            kept = (now + max(self._live, _LONGER * (now - began)), value)
            self._kept = kept
        return kept[1]
