"""When a server is down: stop asking, look now and then whether it is back, give up in the end.

A server that fails on some attachments and one that is gone look the same to a single request.
What tells them apart is whether anybody gets a proper answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from migrator.errors import (
    Again,
    NotXml,
    ServerFailed,
    SourceDown,
    SourceError,
    SourceUnreachable,
    Throttled,
)
from migrator.events import Listener, Notice, ignore
from migrator.kayako.pace import Pacer, Sleep

MISSES: Final = (SourceUnreachable, Throttled, ServerFailed, NotXml)
"""What a server that is down, or shows a page about its maintenance, makes of a request."""
MISSES_IN_A_ROW: Final = 20
"""Failed requests without a proper answer among them, after which the server is looked for."""
LONGEST_TRUST: Final = 16 * MISSES_IN_A_ROW
"""Cap of the failures that a server which was there when looked for may have before the next."""
FIRST_WAIT: Final = 5.0
"""Seconds before the second look for a server that is gone; three times as long each time."""
LONGEST_WAIT: Final = 120.0
"""Cap of the wait between two looks, in seconds."""


def waits(patience: float) -> Iterator[float]:
    """Give the seconds between looks for a server that is gone; they add up to ``patience``."""
    wait, left = FIRST_WAIT, patience
    while left > 0:
        yield min(wait, left)
        left -= wait
        wait = min(3 * wait, LONGEST_WAIT)


class Breaker:
    """Counts failures in a row over all calls; sits out an outage on behalf of all of them.

    ``probe`` makes one request that no gate holds back, and raises SourceError unless it gets a
    proper answer. A server that never answered is not waited for: its address is wrong.
    ``answers`` and ``outages`` count the proper answers and the outages that are over.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        pacer: Pacer,
        *,
        patience: float,
        listener: Listener = ignore,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._probe = probe
        self._pacer = pacer
        self._patience = patience
        self._listener = listener
        self._sleep = sleep
        self._misses = 0
        self._trust = MISSES_IN_A_ROW
        self._trusted = 0
        self.answers = 0
        self._tries = 0
        self._newest = 0  # of the tries that were answered
        self.outages = 0
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> int:
        """Take note that a call is tried; gives the number of the try."""
        self._tries += 1
        return self._tries

    def answered(self, number: int = 0) -> None:
        """Take note of a proper answer to a try, by default to the last one that began."""
        self.answers += 1
        self._newest = max(self._newest, number or self._tries)
        self._misses = self._trusted = 0
        self._trust = MISSES_IN_A_ROW

    async def failed(self, error: SourceError) -> None:
        """Take note of a failed request; returns when the server is there, as far as we know.

        Raises SourceDown when it stays away, and what ends the waiting, such as Interrupted.
        """
        if not isinstance(error, MISSES):
            self.answered()
            return
        self._misses += 1
        if self._trusted:
            self._trusted -= 1
        elif self.answers and self._misses >= MISSES_IN_A_ROW:
            await self._look()

    async def explains(self, error: SourceError, *, number: int, outages: int) -> bool:
        """Tell whether an outage is why a call has failed.

        ``outages`` were over when it began, ``number`` is that of its last try. If no later try
        was answered, the server is looked for, and waited for: an answer on its way while the
        server went away proves nothing. Raises as :meth:`failed` does.
        """
        if not isinstance(error, MISSES):
            return False
        unanswered = self.answers > 0 and self._newest < number
        if self.outages == outages and unanswered and not self._trusted:
            await self._look()
        return self.outages > outages

    async def aclose(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        """Look for the server; all who ask at the same time wait for the same look."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_once())
            self._looking.add_done_callback(_heeded)
            self._pacer.close_until(self._looking)
        looking = self._looking
        await asyncio.wait([looking])
        looking.result()

    async def _look_once(self) -> None:
        await self._look_until_there()
        self._looking = None  # after a failure it stays: nobody is to start all over again

    async def _look_until_there(self) -> None:
        error = await self._missing()
        if error is None:
            self._trust = min(2 * self._trust, LONGEST_TRUST)
            self._trusted = self._trust
            return
        for wait in waits(self._patience):
            await self._wait(wait, error)
            error = await self._missing()
            if error is None:
                self._listener(Notice("the source answers again; going on"))
                self.outages += 1
                self._misses = 0
                return
        patience = self._patience
        waited = f"{patience / 60:.0f} min" if patience >= 120 else f"{patience:.0f} s"
        raise SourceDown(
            f"the source did not come back within {waited}: {error}. "
            "Progress is saved; once the helpdesk answers, the same command goes on from here"
        )

    async def _wait(self, wait: float, error: SourceError) -> None:
        # Many who lost the same server must not come back together.
        wait *= 0.8 + 0.2 * random.random()  # noqa: S311 - jitter, not a secret
        wait = max(wait, self._pacer.held)
        reason = error.problem.replace("_", " ")
        text = f"the source does not answer ({reason}); asking again in {wait:.0f} s"
        self._listener(Notice(text, "warning"))
        await self._sleep(wait)

    async def _missing(self) -> SourceError | None:
        """Look once; give the error if the server is not there."""
        try:
            await self._probe()
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            return error
        return None


def _heeded(task: asyncio.Task[None]) -> None:
    """Look at a task's error: whoever waited for it may have been cancelled meanwhile."""
    if not task.cancelled():
        task.exception()
