"""Being a good guest: how many requests at once, how many a second, and when to hold back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Sleep = Callable[[float], Awaitable[None]]


class Pacer:
    """Lets requests start, never more than ``concurrency`` at once.

    With ``per_second`` above 0 the starts are spaced evenly instead of coming in bursts, because
    a burst is what hurts a small PHP server. A server that asks for a pause gets it from all
    requests, not only from the one it told.
    """

    def __init__(
        self,
        concurrency: int,
        per_second: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._interval = 1.0 / per_second if per_second > 0 else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next_start = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots for the time of a request, once its turn to start has come."""
        async with self._slots:
            await self._wait_for_turn()
            yield

    def hold(self, seconds: float) -> None:
        """Let no request start during the next ``seconds``."""
        self._next_start = max(self._next_start, self._clock() + seconds)

    async def _wait_for_turn(self) -> None:
        # A hold may come while we sleep, so look again; without a limit this loop ends at once.
        while (wait := self._next_start - self._clock()) > 0:
            await self._sleep(wait)
        if self._interval:
            self._next_start = self._clock() + self._interval
