"""Syncing again and again, through everything that passes."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from migrator.errors import ArchiveBusy, Interrupted, MigratorError, SourceError, SourceRefused
from migrator.transfer.result import RunResult
from migrator.transfer.stop import Stop

JITTER = 0.1
"""How far a pause differs from what was asked, as a fraction: many clocks strike at full hours."""

Sleep = Callable[[float], Awaitable[None]]


class Tell(Protocol):
    """Says a sentence to the user; ``level`` is info or warning."""

    def __call__(self, text: str, level: str = "info") -> None:
        """Say it."""


async def repeat(
    sync: Callable[[int], Awaitable[RunResult]],
    *,
    every: float,
    stop: Stop,
    tell: Tell,
    sleep: Sleep | None = None,
    clock: Callable[[], float] = time.monotonic,
    spread: Callable[[float, float], float] = random.uniform,
) -> None:
    """Call ``sync`` with the number of the round (0 is the first), about ``every`` seconds.

    A source that is out and an archive that another run holds are told and waited for; returns
    when asked to stop between two rounds. Raises what no waiting helps against: errors of the
    archive, the safety limit, in the first round also a busy archive and a source that refuses
    our keys, and Interrupted when a round was stopped.
    """
    sleep = sleep or stop.sleep
    number = 0
    while True:
        began = clock()
        try:
            result = await sync(number)
            if result.ended_by is not None:
                raise result.ended_by
        except MigratorError as error:
            if not _passes(error, first=number == 0):
                raise
            tell(f"round {number + 1}: {error}", "warning")
        pause = every * spread(1 - JITTER, 1 + JITTER)
        left = max(pause - (clock() - began), every * JITTER)
        tell(f"the next sync begins in {round(left)} s")
        try:
            await sleep(left)
        except Interrupted:
            return
        number += 1


def _passes(error: MigratorError, *, first: bool) -> bool:
    if isinstance(error, ArchiveBusy | SourceRefused):
        return not first
    return isinstance(error, SourceError)
