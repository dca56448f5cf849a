"""The dry run: it walks the path of the real run, fetches a sample and keeps nothing.

The source it asks counts what it is asked, and remembers what it has answered before.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from migrator.archive import Archive
from migrator.archive.queries import Twins
from migrator.archive.records import State, Work
from migrator.errors import Interrupted, MigratorError
from migrator.events import Listener, Notice, ignore
from migrator.plan.estimate import Meter
from migrator.plan.journal import Journal
from migrator.pull.fetch import Fetcher, Tried
from migrator.pull.options import Fetch, RunOptions, RunResult, Stop
from migrator.pull.protocols import Source
from migrator.pull.run import run
from migrator.sources.base import Attachment, Department, Fetched, FetchSink, Ticket, TicketStatus

S = TypeVar("S", bound=FetchSink)


class Watched:
    """Passes every call on to ``source``, but lists that ``journal`` has of an unchanged ticket.

    ``asked`` counts the calls that were passed on: ``pages``, ``lists``, ``fetches`` and
    ``others``. ``lists`` measures those. ``remembered`` counts the lists that were not asked.
    """

    def __init__(self, source: Source, journal: Journal | None = None) -> None:
        self._source = source
        self._journal = journal
        self._activity: dict[int, int] = {}
        self.asked: Counter[str] = Counter()
        self.lists = Meter()
        self.remembered = 0

    async def departments(self) -> list[Department]:
        """List all departments."""
        self.asked["others"] += 1
        return await self._source.departments()

    async def statuses(self) -> list[TicketStatus]:
        """List all ticket statuses."""
        self.asked["others"] += 1
        return await self._source.statuses()

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[Ticket]:
        """List tickets in an order, from a row on."""
        self.asked["pages"] += 1
        page = await self._source.tickets_page(
            department_ids, status_ids, count=count, start=start, sort=sort, order=order
        )
        if self._journal is not None:
            self._activity.update((ticket.id, ticket.last_activity) for ticket in page)
        return page

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        """Count tickets; None where the source cannot."""
        self.asked["others"] += 1
        return await self._source.ticket_count(department_ids, status_ids)

    async def ticket(self, ticket_id: int) -> Ticket:
        """Give a ticket, or the one it was merged into."""
        self.asked["others"] += 1
        ticket = await self._source.ticket(ticket_id)
        if self._journal is not None:
            self._activity[ticket.id] = ticket.last_activity
        return ticket

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        """List a ticket's attachments, those of an unchanged ticket from the journal."""
        activity = self._activity.get(ticket_id, 0)
        if self._journal is not None:
            known = self._journal.find(ticket_id, activity)
            if known is not None:
                self.remembered += 1
                return known
        self.asked["lists"] += 1
        started = time.monotonic()
        found = await self._source.attachments(ticket_id)
        self.lists.add(time.monotonic() - started)
        if self._journal is not None:
            self._journal.add(ticket_id, activity, found)
        return found

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment."""
        self.asked["fetches"] += 1
        return await self._source.fetch(ticket_id, attachment_id, make_sink)


SAMPLE = 20
"""Attachments that a dry run fetches, unless told otherwise."""
LARGEST = 32 * 1024 * 1024
"""An attachment above this many bytes is not worth the wait in a sample."""


class Sampled:
    """Fetches the first few attachments and leaves the state of all as it is."""

    def __init__(self, fetch: Fetch, limit: int = SAMPLE) -> None:
        self._fetch = fetch
        self._left = limit
        self.meter = Meter()

    async def __call__(self, work: Work) -> Tried | None:
        """Fetch one of the sample; always None, for nothing is to be written down."""
        if self._left <= 0 or work.declared_size > LARGEST:
            return None
        self._left -= 1
        await self.measure(work)
        return None

    async def measure(self, work: Work) -> str | None:
        """Fetch one and give its hash; None when it cannot be had."""
        started = time.monotonic()
        tried = await self._fetch(work)
        if tried is None or tried.outcome.state is not State.STORED:
            return None
        self.meter.add(time.monotonic() - started, tried.received)
        return tried.outcome.sha256


@dataclass(slots=True)
class Likeness:
    """Of pairs that may be equal, how many were compared, their bytes, and those of equal ones."""

    pairs: int = 0
    bytes: int = 0
    equal: int = 0

    def share(self, unknown: float) -> float:
        """Give the share of bytes that were equal; ``unknown`` when nothing was compared."""
        return self.equal / self.bytes if self.bytes else unknown


@dataclass(slots=True)
class Dry:
    """What a dry run came to.

    ``asked`` counts its requests by kind, ``lists`` and ``fetches`` tell how long those took.
    ``remembered`` tickets were listed by an earlier dry run. ``by_name`` and ``by_size`` tell what
    came of comparing attachments that have the same name and size, or only the same size.
    """

    result: RunResult
    asked: Counter[str]
    lists: Meter
    fetches: Meter
    remembered: int = 0
    by_name: Likeness = field(default_factory=Likeness)
    by_size: Likeness = field(default_factory=Likeness)


async def dry_run(
    source: Source,
    archive: Archive,
    options: RunOptions,
    *,
    pool: Executor | None = None,
    sample: int = 0,
    journal: Journal | None = None,
    listener: Listener = ignore,
    stop: Stop | None = None,
) -> Dry:
    """List everything as a run does, fetch a few attachments, and tell how it went.

    ``archive`` is to be one that writes nothing. ``sample`` more attachments are fetched to see
    how many are equal. ``journal`` is what earlier dry runs have listed, and grows.
    """
    stop = stop or Stop()
    watched = Watched(source, journal)
    sampled = Sampled(Fetcher(watched, archive.blobs, pool))
    lists_only = replace(options, posts=False)
    result = await run(watched, archive, sampled, lists_only, listener=listener, stop=stop)
    dry = Dry(result, watched.asked, watched.lists, sampled.meter, watched.remembered)
    if sample and result.ended_by is None:
        listener(Notice(f"comparing up to {sample:,} attachments that may be equal"))
        comparing = _Comparing(sampled, stop)
        try:
            for likeness, how, most in (
                (dry.by_size, "size", sample // 2),
                (dry.by_name, "name", sample),
            ):
                pairs = archive.queries.twins(
                    result.run_id, how, sample, leftovers=options.scope.whole
                )
                await comparing(pairs, likeness, most=most, at_once=options.concurrency)
            if stop.asked:
                raise Interrupted("interrupted while files were compared")
        except MigratorError as error:
            result.ended_by = error
    return dry


class _Comparing:
    """Fetches pairs, hardly one of them twice, until it has fetched as many as it may."""

    def __init__(self, sampled: Sampled, stop: Stop) -> None:
        self._sampled = sampled
        self._stop = stop
        self._spent = 0
        self._hashes: dict[int, str | None] = {}

    async def __call__(
        self, pairs: Sequence[Twins], likeness: Likeness, *, most: int, at_once: int
    ) -> None:
        left = iter([one for one in pairs if one.one.declared_size <= LARGEST])

        async def work() -> None:
            for pair in left:
                cost = sum(one.id not in self._hashes for one in (pair.one, pair.other))
                if self._stop.asked or self._spent + cost > most:
                    return
                await self._compare(pair, likeness)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
        except* MigratorError as errors:
            raise errors.exceptions[0] from None

    async def _compare(self, pair: Twins, likeness: Likeness) -> None:
        if pair.sha256 is not None:
            self._hashes[pair.other.id] = pair.sha256
        first, second = await self._hash(pair.one), await self._hash(pair.other)
        if first is None or second is None:
            return
        likeness.pairs += 1
        likeness.bytes += pair.one.declared_size
        likeness.equal += pair.one.declared_size * (first == second)

    async def _hash(self, work: Work) -> str | None:
        if work.id not in self._hashes:
            self._spent += 1
            self._hashes[work.id] = await self._sampled.measure(work)
        return self._hashes[work.id]
