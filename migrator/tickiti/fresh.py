"""Small settings that are kept in memory for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value that is read again when it is ``live`` seconds old.

    ``clock`` gives seconds that never go back. Errors of ``read`` pass through.
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

    def __call__(self) -> T:
        """Return the value."""
        now = self._clock()
        if self._kept is None or now - self._kept[0] >= self._live:
            self._kept = (now, self._read())
        return self._kept[1]
