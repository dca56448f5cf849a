"""Syncs: what the next one looks at, and how far they have come.

A whole pass lists the attachments of every ticket. Between two of them a sync looks only at
tickets that were active since; attachments that arrive without any activity, merges and deletions
are for the next whole pass to find. :func:`repeat` syncs again and again, through outages.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from migrator.archive import Archive
from migrator.archive.queries import Queries
from migrator.archive.records import Mark, RunInfo
from migrator.errors import ArchiveBusy, Interrupted, MigratorError, SourceError, SourceRefused
from migrator.hours import Halted
from migrator.pull.options import MOST_DEBTS, RunOptions, RunResult, Stop
from migrator.sources.base import Increment
from migrator.sources.pace import GLANCE

WATERMARK = "watermark"
WHOLE = "full_pass"
SUCCESS = "success"

GAPS_WAIT = 86_400.0
"""Seconds after which a whole pass that left gaps is repeated, if it is not due before."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Options of syncs; durations in seconds.

    ``margin`` is how far behind the watermark a sync looks back: a source stamps a ticket with the
    time when a request began, and its attachments may appear a good while later.
    """

    margin: float = 3600.0
    full_pass_every: float = 7 * 86_400.0
    full: bool = False


class NextPass(NamedTuple):
    """What the next sync does: an increment, or with None a whole pass, and ``why``."""

    increment: Increment | None
    why: str


def next_pass(queries: Queries, run: RunOptions, sync: SyncOptions, *, now: int) -> NextPass:
    """Return what the next sync must look at.

    When in doubt everything: that costs work, but the opposite mistake would hide files.
    """
    watermark, full_pass = queries.mark(WATERMARK), queries.mark(WHOLE)
    if sync.full:
        return NextPass(None, "asked for")
    if watermark is None or full_pass is None:
        return NextPass(None, "there was none yet")
    last = queries.run(full_pass.run_id)
    if (why := _doubt(watermark, full_pass, last, run, now)) is not None:
        return NextPass(None, why)
    gaps = bool(last is not None and _gaps(last))
    every = min(sync.full_pass_every, GAPS_WAIT) if gaps else sync.full_pass_every
    if now - full_pass.value >= every:
        return NextPass(None, "the last one left gaps" if gaps else "it is due")
    return NextPass(_increment(queries, watermark, math.ceil(sync.margin)), "")


def _doubt(
    watermark: Mark, full_pass: Mark, last: RunInfo | None, run: RunOptions, now: int
) -> str | None:
    """Return why the records of the last passes cannot be relied on."""
    if now < full_pass.value or now < watermark.value:
        return "our clock was set back"
    if last is None or last.source != run.source_name:
        return "the helpdesk has another address"
    if run.scope.include_trash and not last.scope.get("include_trash"):
        return "the trash is included now"
    return None


def _increment(queries: Queries, watermark: Mark, margin: int) -> Increment:
    run = queries.run(watermark.run_id)
    summary: Mapping[str, object] = (run.summary if run else None) or {}
    return Increment(
        watermark.value - margin,
        owed=tuple(int(key) for key in _named(summary, "unlisted")),
        unreadable={int(key): text for key, text in _named(summary, "unreadable").items()},
    )


def _gaps(run: RunInfo) -> bool:
    summary = run.summary or {}
    return any(_named(summary, name) for name in ("unlisted", "unreadable", "articles_missing"))


def _named(summary: Mapping[str, object], kind: str) -> dict[str, str]:
    found = summary.get(kind)
    return found if isinstance(found, dict) else {}


def set_marks(archive: Archive, result: RunResult, options: RunOptions, now: int) -> None:
    """Record how far a pass has come that was not interrupted.

    What it could not list is named in the record of its run, so that the next one asks again. A
    pass with more of that, or one that did not walk to its end, moves no mark. An incremental
    pass never moves the watermark back.
    """
    if result.ended_by is not None or not options.scope.whole:
        return
    if result.watermark is not None and len(result.unlisted) <= MOST_DEBTS:
        value = result.watermark
        if options.increment is None:
            archive.ledger.set_mark(WHOLE, result.started, run_id=result.run_id)
        elif (old := archive.queries.mark(WATERMARK)) is not None:
            value = max(value, old.value)
        archive.ledger.set_mark(WATERMARK, value, run_id=result.run_id)
    if result.proven:
        archive.ledger.set_mark(SUCCESS, now, run_id=result.run_id)


JITTER = 0.1
"""The jitter of a pause, as a fraction: many jobs start at full hours."""

Sleep = Callable[[float], Awaitable[None]]


class Tell(Protocol):
    """A function that prints a sentence; ``level`` is info or warning."""

    def __call__(self, text: str, level: str = "info") -> None:
        """Print it."""


async def repeat(
    sync: Callable[[int], Awaitable[RunResult]],
    *,
    every: float,
    stop: Stop,
    tell: Tell,
    sleep: Sleep | None = None,
    clock: Callable[[], float] = time.monotonic,
    spread: Callable[[float, float], float] = random.uniform,
    halted: Halted = lambda: None,
    begins: Callable[[float], float] = lambda seconds: seconds,
) -> None:
    """Call ``sync`` with the number of the round (0 is the first), about ``every`` seconds.

    While ``halted`` returns anything, no round begins. ``begins`` returns in how many seconds one
    will that is due in so many.

    A source that is out and an archive that another run holds are reported and waited for;
    returns when asked to stop between two rounds. Raises what waiting cannot help: errors of the
    archive, the safety limit, in the first round also a busy archive and a source that refuses
    our keys, and Interrupted when a round was stopped.
    """
    sleep = sleep or stop.sleep
    number = 0
    while True:
        try:
            await _halt(halted, tell, sleep)
        except Interrupted:
            return
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
        tell(f"the next sync begins in {round(begins(left))} s")
        try:
            await sleep(left)
        except Interrupted:
            return
        number += 1


async def _halt(halted: Halted, tell: Tell, sleep: Sleep) -> None:
    """Wait as long as no request may be made: nobody holds the archive meanwhile."""
    told = ""
    while (halt := halted()) is not None:
        if halt.text != told:
            tell(told := halt.text)
        await sleep(GLANCE if halt.wait is None else min(halt.wait, GLANCE))


def _passes(error: MigratorError, *, first: bool) -> bool:
    if isinstance(error, ArchiveBusy | SourceRefused):
        return not first
    return isinstance(error, SourceError)
