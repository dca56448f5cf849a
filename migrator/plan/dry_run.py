"""The dry run: a run that fetches only a sample and stores nothing.

Its source reuses the lists of earlier dry runs; its measurements give the estimate of a run.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from migrator.archive import Archive
from migrator.archive.queries import Twins
from migrator.archive.records import Outcome, State, Work
from migrator.errors import Interrupted, MigratorError, NotFound, SourceError
from migrator.events import Listener, Notice, ignore
from migrator.plan.plan_file import Journal
from migrator.pull.fetch import Fetcher
from migrator.pull.options import Fetch, RunOptions, RunResult, Stop
from migrator.pull.replies import ReplyCopy
from migrator.pull.run import run
from migrator.sources.base import (
    Attachment,
    Fetched,
    FetchSink,
    HasLimits,
    HoldsArticles,
    HoldsFields,
    Source,
    Ticket,
    for_each,
    raise_if_final,
)

S = TypeVar("S", bound=FetchSink)


MOST_WINDOWS = 16
"""The most windows of calls; when they are full, two become one."""

FEW = 0.2
"""The least spread, as a fraction: no server is steady for a whole day."""


@dataclass(slots=True)
class Window:
    """Some calls in a row: their number, seconds and decoded bytes."""

    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def include(self, other: Window) -> None:
        """Add the counts of another window."""
        self.calls += other.calls
        self.seconds += other.seconds
        self.bytes += other.bytes


@dataclass(slots=True)
class Meter(Window):
    """The durations of calls of one kind, in all and in windows of equally many calls.

    The windows show how much the pace of the server varies during a walk.
    """

    windows: list[Window] = field(default_factory=list)
    size: int = 1

    def add(self, seconds: float, size: int = 0) -> None:
        """Count one call."""
        call = Window(1, seconds, size)
        self.include(call)
        if not self.windows or self.windows[-1].calls >= self.size:
            if len(self.windows) == MOST_WINDOWS:
                self._halve()
            self.windows.append(Window())
        self.windows[-1].include(call)

    def _halve(self) -> None:
        self.size *= 2
        for left, right in zip(self.windows[::2], self.windows[1::2], strict=True):
            left.include(right)
        del self.windows[1::2]


class Remembering:
    """Passes every call on to ``source``, but takes lists of unchanged tickets from ``journal``.

    ``lists`` measures the requested lists, ``remembered`` counts the others.
    """

    def __init__(self, source: Source, journal: Journal | None = None) -> None:
        self._source = source
        self._journal = journal
        self.requests = source.requests
        self.pages = source.pages
        self.probe = source.probe
        self.directory = source.directory
        self.compare = source.compare
        self.list_tickets = source.list_tickets
        self.locate = source.locate
        self.thread = source.thread
        if isinstance(source, HoldsArticles):
            self.articles = source.articles
            self.fetch_other = source.fetch_other
        self.lists = Meter()
        self.remembered = 0

    async def attachments(self, ticket: Ticket) -> list[Attachment]:
        """Return a ticket's attachments, those of an unchanged ticket from the journal."""
        if self._journal is not None:
            known = self._journal.find(ticket.id, ticket.last_activity)
            if known is not None:
                self.remembered += 1
                return known
        started = time.monotonic()
        found = await self._source.attachments(ticket)
        self.lists.add(time.monotonic() - started)
        if self._journal is not None:
            self._journal.add(ticket.id, ticket.last_activity, found)
        return found

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment."""
        return await self._source.fetch(ticket_id, attachment_id, make_sink)


SAMPLE = 20
"""Attachments that a dry run fetches by default."""
LARGEST = 32 * 1024 * 1024
"""The most bytes of an attachment in a sample."""


class Sampled:
    """Fetches the first few attachments and leaves all states unchanged."""

    def __init__(self, fetch: Fetch, limit: int = SAMPLE) -> None:
        self._fetch = fetch
        self._left = limit
        self.meter = Meter()

    async def __call__(self, work: Work) -> Outcome | None:
        """Fetch one of the sample; return None, because nothing is recorded."""
        if self._left <= 0 or work.declared_size > LARGEST:
            return None
        self._left -= 1
        await self.measure(work)
        return None

    async def measure(self, work: Work) -> str | None:
        """Fetch one and return its hash; None when that fails."""
        started = time.monotonic()
        tried = await self._fetch(work)
        if tried is None or tried.state is not State.STORED:
            return None
        self.meter.add(time.monotonic() - started, tried.received)
        return tried.sha256


@dataclass(slots=True)
class Likeness:
    """The compared pairs that may be equal: their number, their bytes, the bytes of equal ones."""

    pairs: int = 0
    bytes: int = 0
    equal: int = 0

    def share(self, unknown: float) -> float:
        """Return the share of bytes that were equal; ``unknown`` when nothing was compared."""
        return self.equal / self.bytes if self.bytes else unknown


REPLIES = 20
"""Tickets whose replies a dry run weighs."""
_BLOCK = 4096
"""Bytes that a small file takes on most disks."""


@dataclass(slots=True)
class Weighed:
    """Replies as they would be kept: their number, their bytes, and those of whole blocks."""

    n: int = 0
    bytes: int = 0
    blocks: int = 0


async def _weigh_replies(
    source: Source, archive: Archive, tickets: Sequence[int], *, at_once: int, stop: Stop
) -> Weighed:
    """Weigh the replies of a few tickets from all over the helpdesk."""
    weighed, step = Weighed(), max(1, len(tickets) // REPLIES)

    async def weigh(ticket_id: int) -> None:
        with ReplyCopy(archive.blobs) as copy:
            try:
                await source.thread(ticket_id, copy)
            except SourceError as error:
                raise_if_final(error)
                return
            with copy.finish() as writer:
                weighed.n += 1
                weighed.bytes += writer.size
                weighed.blocks += -(-writer.size // _BLOCK) * _BLOCK

    some = sorted(tickets)[::step][:REPLIES]
    await for_each(some, weigh, workers=at_once, stopping=lambda: stop.asked)
    return weighed


@dataclass(slots=True)
class Dry:
    """The result of a dry run.

    ``asked`` counts its requests by kind, ``lists`` and ``fetches`` measure those, and ``pages``
    returns the expected requests for pages of a run over so many tickets. ``remembered`` tickets
    were listed by an earlier dry run. ``by_name`` and ``by_size`` are the results of
    comparing attachments with the same name and size, or only the same size. ``fields`` are the
    custom fields of tickets and those of them that hold files, None if not known; ``beyond`` is
    what the source cannot give. ``replies`` are a few of those that a run would keep.
    """

    result: RunResult
    asked: Counter[str]
    lists: Meter
    fetches: Meter
    pages: Callable[[int], int]
    remembered: int = 0
    by_name: Likeness = field(default_factory=Likeness)
    by_size: Likeness = field(default_factory=Likeness)
    fields: tuple[int, int] | None = (0, 0)
    beyond: str = ""
    replies: Weighed = field(default_factory=Weighed)


async def _count_fields(source: Source, listener: Listener) -> tuple[int, int] | None:
    """Return how many custom fields tickets have, and how many hold files; None if not known."""
    if not isinstance(source, HoldsFields):
        return 0, 0
    try:
        return await source.count_fields()
    except NotFound:
        listener(Notice("this helpdesk does not offer custom fields"))
        return 0, 0
    except SourceError as error:
        listener(Notice(f"custom fields: {error}", "warning"))
        return None


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
    """List everything as a run does, fetch a few attachments, and return the result.

    ``archive`` must be one that writes nothing. ``sample`` more attachments are fetched to find
    out how many are equal. ``journal`` holds the lists of earlier dry runs, and grows.
    """
    stop = stop or Stop()
    before = source.requests.copy()
    watched = Remembering(source, journal)
    sampled = Sampled(Fetcher(watched, archive.blobs, pool))
    lists_only = replace(options, posts=False, replies=False, custom_fields=False)
    result = await run(watched, archive, sampled, lists_only, listener=listener, stop=stop)
    fields: tuple[int, int] | None = None if options.custom_fields else (0, 0)
    if options.custom_fields and result.ended_by is None:
        fields = await _count_fields(source, listener)
    dry = Dry(
        result,
        source.requests - before,
        watched.lists,
        sampled.meter,
        source.pages,
        watched.remembered,
        fields=fields,
        beyond=source.beyond if isinstance(source, HasLimits) else "",
    )
    if options.posts and options.replies and result.ended_by is None:
        try:
            dry.replies = await _weigh_replies(
                source, archive, list(result.listed), at_once=options.concurrency, stop=stop
            )
        except MigratorError as error:
            result.ended_by = error
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
    dry.asked = source.requests - before
    return dry


class _Comparing:
    """Fetches pairs, hardly any attachment twice, up to a number of fetches."""

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

        await for_each(range(at_once), lambda _: work(), workers=at_once)

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


# The estimate of a run


@dataclass(frozen=True, slots=True)
class Ahead:
    """The work of a run: its requests of all kinds, the fetches among them and their bytes."""

    requests: int
    fetches: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected seconds, and their likely error."""

    seconds: float
    low: float
    high: float


def estimate(
    lists: Meter, fetches: Meter, ahead: Ahead, *, concurrency: int, per_second: float = 0.0
) -> Estimate | None:
    """Return the estimated duration of a run; None without measurements.

    Every request costs what a list costs (without lists: what a fetch cost), every byte what the
    fetches took beyond that. ``concurrency`` requests go on at the same time, and no more than
    ``per_second`` begin in a second (0: no limit). The spread is twice the standard deviation of
    the pace between windows, but never less than ``FEW``.
    """
    known = lists if lists.calls else fetches
    if (ahead.fetches and not fetches.calls) or (ahead.requests and not known.calls):
        return None
    per_request = known.seconds / known.calls if known.calls else 0.0
    moving = max(0.0, fetches.seconds - fetches.calls * per_request)
    per_byte = moving / fetches.bytes if fetches.bytes else 0.0
    seconds = (ahead.requests * per_request + ahead.bytes * per_byte) / concurrency
    if not seconds:
        return Estimate(0.0, 0.0, 0.0)
    unsure = math.hypot(
        ahead.requests * _deviation(known), ahead.bytes * _error(fetches, per_request, per_byte)
    )
    off = 1 + max(FEW, 2 * unsure / concurrency / seconds)
    least = ahead.requests / per_second if per_second else 0.0
    return Estimate(max(seconds, least), max(seconds / off, least), max(seconds * off, least))


def _deviation(meter: Meter) -> float:
    """Return the standard deviation of the seconds for a call, from window to window."""
    windows = meter.windows
    if len(windows) < 2:
        return 0.0
    mean = meter.seconds / meter.calls
    squares = sum(one.calls * (one.seconds / one.calls - mean) ** 2 for one in windows)
    return math.sqrt(squares / meter.calls * len(windows) / (len(windows) - 1))


def _error(fetches: Meter, per_request: float, per_byte: float) -> float:
    """Return the standard error of the seconds for a byte."""
    windows = fetches.windows
    if len(windows) < 2 or not fetches.bytes:
        return 0.0
    squares = sum(
        (one.seconds - one.calls * per_request - one.bytes * per_byte) ** 2 for one in windows
    )
    return math.sqrt(squares * len(windows) / (len(windows) - 1)) / fetches.bytes
