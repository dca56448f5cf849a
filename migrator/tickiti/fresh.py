"""Small settings that are kept in memory for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SHARE: Final = 20
"""A value stays for so many times as long as it took to read: that bounds what reading costs."""


class Fresh(Generic[T]):
    """A value that is read again when it is ``live`` seconds old, or more if reading takes long.

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
        """Until when it is good, and the value."""

    def __call__(self) -> T:
        """Return the value."""
        began, kept = self._clock(), self._kept
        if kept is None or began >= kept[0]:
            value = self._read()
            now = self._clock()
            kept = (now + max(self._live, _SHARE * (now - began)), value)
            self._kept = kept
        return kept[1]
