"""The options of a run, the request to stop it, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from migrator.archive.records import Count, Outcome, Row, State, Work
from migrator.errors import Interrupted, MigratorError
from migrator.events import Listener, Notice, Tick, WorkExpected
from migrator.report.verdict import OPEN, Verdict
from migrator.sources.base import Increment, Listing, Scope, most_telling

TICK = 1.0
"""Seconds between two ticks: pauses are counted down in them."""


class Stop:
    """Set by a signal, watched by the run.

    After ``ask`` no new request starts and those in flight may finish; after a second ``ask``
    they are dropped. Nothing that is already in the archive is touched by either.
    """

    def __init__(self) -> None:
        self.soft = asyncio.Event()
        self.hard = asyncio.Event()

    def ask(self) -> None:
        """Ask the run to stop; the second time at once."""
        if self.soft.is_set():
            self.hard.set()
        self.soft.set()

    @property
    def asked(self) -> bool:
        """Whether the run should stop."""
        return self.soft.is_set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless asked to stop: then raise Interrupted.

        Pauses between two tries use this, so that stopping never waits for a server's Retry-After.
        """
        try:
            await asyncio.wait_for(self.soft.wait(), seconds)
        except TimeoutError:
            return
        raise Interrupted("interrupted, progress is saved: run the same command again; it resumes")

    async def guard(
        self, work: Coroutine[Any, Any, None], *, drain: float, listener: Listener
    ) -> None:
        """Await ``work``; once asked to stop, for ``drain`` seconds at most or until asked again.

        Then it is cancelled. Raises what it raised; sends ticks to the listener.
        """
        task = asyncio.create_task(work)
        soft, hard = asyncio.create_task(self.soft.wait()), asyncio.create_task(self.hard.wait())
        everything: set[asyncio.Task[Any]] = {
            task,
            soft,
            hard,
            asyncio.create_task(_tick(listener)),
        }
        try:
            await asyncio.wait([task, soft], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                listener(Notice("stopping: the requests in flight may finish; again: at once"))
                await asyncio.wait([task, hard], timeout=drain, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in everything:
                one.cancel()
            await asyncio.wait(everything)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise most_telling(error)


async def _tick(listener: Listener) -> None:
    while True:
        await asyncio.sleep(TICK)
        listener(Tick())


@asynccontextmanager
async def ticking(listener: Listener) -> AsyncIterator[None]:
    """Send ticks to the listener during the block."""
    task = asyncio.create_task(_tick(listener))
    try:
        yield
    finally:
        task.cancel()


Fetch = Callable[[Work], Awaitable[Outcome | None]]
"""Fetches one attachment; None leaves it as it is (a dry run does not fetch everything)."""


@dataclass(frozen=True, slots=True)
class DeletionLimit:
    """How many deletions one pass may accept: both bounds must be passed to stop it.

    ``share`` is a fraction of what is stored, ``floor`` a number of attachments.
    """

    share: float = 0.05
    floor: int = 20
    accept: bool = False

    def forbids(self, deleted: int, stored: int) -> bool:
        """Return whether so many deletions look like a fault of the list."""
        return not self.accept and deleted > self.floor and deleted > self.share * stored


@dataclass(frozen=True, slots=True)
class ChangeLimit:
    """How many held attachments one pass may list as other files.

    More than ``few`` stop it when they are more than ``share`` of those that were listed again,
    more than ``most`` always.
    """

    few: int = 5
    share: float = 0.05
    most: int = 100
    accept: bool = False

    def forbids(self, changed: int, seen: int) -> bool:
        """Return whether so many changes of ``seen`` look like another helpdesk."""
        many = changed > self.most or (changed > self.few and changed > self.share * seen)
        return many and not self.accept


MOST_DEBTS = 1000
"""The most unlisted tickets that the record of a run names for the next one."""


MOST_GAPS = 1000
"""Ticket ids in no list that are requested by default: each costs a light request."""


class Baseline(Protocol):
    """What a run is compared with at its end, such as an earlier plan."""

    def expected(self, counts: Mapping[State, Count], /) -> WorkExpected:
        """Return the work that is left of it, given what the ledger holds."""

    def compare(self, listed: Iterator[Row], /, *, whole: bool) -> Mapping[str, object]:
        """Return how ``listed`` differs, for the record of the run.

        ``listed`` is sorted by id; without ``whole`` nothing may be said to have vanished.
        """


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run.

    ``source_name`` is the address without credentials, for the records. ``drain`` is how long
    requests in flight may go on after the first request to stop, in seconds.
    With ``increment`` the pass looks at what is new instead of everything in scope. ``posts``
    keeps the posts of the tickets, too, ``linked`` the files that texts link to, and
    ``custom_fields`` their custom fields; ``replies`` keeps the replies with both as they came.
    ``fast`` looks only at tickets that are marked as having attachments: enough for an estimate,
    never for a pull. What is listed is compared with ``baseline``.
    Of ticket ids that no list names at most ``most_gaps`` are asked for; None sets no bound.
    With ``articles`` a pass over the whole helpdesk reads what belongs to no ticket, too; None says
    that nobody decided about it.
    ``moved`` declares that the helpdesk of the archive has another address now.
    """

    source_name: str
    kind: str = "run"
    scope: Scope = field(default_factory=Scope)
    concurrency: int = 8
    recheck: bool = False
    deletions: DeletionLimit = field(default_factory=DeletionLimit)
    changes: ChangeLimit = field(default_factory=ChangeLimit)
    moved: bool = False
    drain: float = 30.0
    increment: Increment | None = None
    posts: bool = False
    replies: bool = False
    linked: bool = False
    articles: bool | None = None
    custom_fields: bool = False
    fast: bool = False
    baseline: Baseline | None = None
    most_gaps: int | None = MOST_GAPS


@dataclass(slots=True)
class RunResult(Listing):
    """The result of a run, beside that of its listing.

    ``ended_by`` is what stopped the run early, if anything did. ``threads`` counts the
    tickets whose posts were read, and ``threads_missing`` maps those whose posts could not be
    read to the reason: the next run tries again. Files that they link to are not known.
    ``fields_missing`` is the same for custom fields, in which there may be files. ``articles``
    counts the articles and steps that were read, and ``articles_missing`` says by name what could
    not be read of them. ``drift`` is
    what differs from the baseline of the run, if it has one. ``changed`` are attachments that were
    listed as other files than those that we hold, ``again`` counts those that were listed as they
    were; ``contradicted`` means that they were too many. ``verdict`` is the state of the archive
    after it.
    """

    run_id: int = 0
    counts: dict[State, Count] = field(default_factory=dict)
    tickets: int = 0
    deleted: int = 0
    again: int = 0
    changed: set[int] = field(default_factory=set)
    contradicted: bool = False
    ended_by: MigratorError | None = None
    threads: int = 0
    threads_missing: dict[int, str] = field(default_factory=dict)
    articles: int = 0
    articles_missing: dict[str, str] = field(default_factory=dict)
    fields_missing: dict[int, str] = field(default_factory=dict)
    drift: Mapping[str, object] | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """The exit code of what ended the run early, else that of the verdict."""
        if self.ended_by is not None:
            return self.ended_by.exit_code
        return self.verdict.exit_code if self.verdict is not None else OPEN

    def summary(self) -> dict[str, object]:
        """Return what the ledger keeps of a run, beside its exit code."""
        drift = {"drift": self.drift} if self.drift is not None else {}
        return {
            "tickets": self.tickets,
            "unlisted": _first(self.unlisted),
            "unreadable": _first(self.unreadable),
            "short": self.short,
            "deleted": self.deleted,
            "changed": sorted(self.changed)[:MOST_DEBTS],
            "contradicted": self.contradicted,
            "threads": self.threads,
            "threads_missing": _first(self.threads_missing),
            "articles": self.articles,
            "articles_missing": dict(list(self.articles_missing.items())[:MOST_DEBTS]),
            "fields_missing": _first(self.fields_missing),
            "helpdesk_tickets": self.helpdesk_tickets,
            "unasked_ids": self.unasked,
            "ended_by": str(self.ended_by) if self.ended_by else None,
            "seconds": round(self.seconds, 3),
            **drift,
        }


def _first(gaps: dict[int, str]) -> dict[str, str]:
    return {str(key): gaps[key] for key in sorted(gaps)[:MOST_DEBTS]}
