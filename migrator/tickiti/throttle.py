"""A bound on wrong tokens per address: guessing is answered with 429 after a while."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 20
"""Wrong tokens from one address within WINDOW before they are answered with 429."""

WINDOW: Final = 60
"""Seconds from the first wrong token until an address is forgiven."""

ADDRESSES: Final = 10_000
"""Addresses remembered; beyond that the one that failed first is forgotten."""


class Throttle:
    """Counts what fails, by address; used by all threads of a server.

    ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        window: float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}
        """Address to the end of its window and its failures in it, the oldest window first."""

    def failed(self, address: str) -> int:
        """Count a failure; return 0, or the seconds to wait where there were too many."""
        key, now = _key(address), self._clock()
        with self._lock:
            until, count = self._counts.get(key, (0.0, 0))
            if until <= now:
                # Taken out first, so that the order stays that of the windows.
                self._counts.pop(key, None)
                until, count = now + self._window, 0
                if len(self._counts) >= ADDRESSES:
                    del self._counts[next(iter(self._counts))]
            self._counts[key] = (until, count + 1)
        return 0 if count < self._failures else max(1, -int((now - until) // 1))


def _key(address: str) -> str:
    """Return what stands for one client: the address, of IPv6 the network that one gets whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # what a trusted proxy says need not be an address
        return address[:64]
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found, 64), strict=False))
