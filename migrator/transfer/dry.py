"""The dry run: a wrapper on the path of the real run, which fetches a sample and keeps nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Protocol

from migrator.archive.planning import Twins
from migrator.archive.records import State, Work
from migrator.errors import Interrupted, MigratorError
from migrator.events import Listener, Notice, ignore
from migrator.transfer.fetch import Fetcher, Tried
from migrator.transfer.journal import Journal
from migrator.transfer.meter import Meter
from migrator.transfer.protocols import Archive, Ledger, Source
from migrator.transfer.result import Fetch, RunOptions, RunResult
from migrator.transfer.run import run
from migrator.transfer.stop import Stop
from migrator.transfer.watched import Watched

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


class DryLedger(Ledger, Protocol):
    """What a dry run asks beyond a run."""

    def twins(
        self, run_id: int, how: str, limit: int, *, leftovers: bool = False
    ) -> Sequence[Twins]:
        """Give pairs of attachments that may be equal."""


class DryArchive(Archive, Protocol):
    """An archive that writes nothing."""

    @property
    def ledger(self) -> DryLedger:
        """The rows."""


async def dry_run(
    source: Source,
    archive: DryArchive,
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
                pairs = archive.ledger.twins(
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
