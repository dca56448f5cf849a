"""Asking a run to end: first politely, then at once."""

from __future__ import annotations

import asyncio

from migrator.errors import Interrupted


class Stop:
    """Set by a signal, watched by the run.

    After ``ask`` no new request starts and those in flight may finish; after a second ``ask``
    they are dropped. Nothing that is already in the archive is touched by either.
    """

    def __init__(self) -> None:
        self.soft = asyncio.Event()
        self.hard = asyncio.Event()

    def ask(self) -> None:
        """Ask once more."""
        if self.soft.is_set():
            self.hard.set()
        self.soft.set()

    @property
    def asked(self) -> bool:
        """Whether the run should come to its end."""
        return self.soft.is_set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless asked to stop: then raise Interrupted.

        The pauses between two tries use this, so that stopping never waits for a slow server's
        Retry-After.
        """
        try:
            await asyncio.wait_for(self.soft.wait(), seconds)
        except TimeoutError:
            return
        raise Interrupted("interrupted; progress is saved, the same command goes on from here")
