"""A run that may bring so many bytes a second, over real HTTP and with a clock of our own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from migrator.archive import Archive
from migrator.config import size
from migrator.events import PaceChanged, Retrying
from migrator.hours import Hours, Rate, rates
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources import pace
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Ear

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
KIB = 1 << 10
BLOCK = 256 * KIB
"""Bytes that are read at once."""

Metered = tuple["Clock", list[tuple[float, int]]]
"""A clock, and what came at which second after the beginning."""


class Clock:
    """Time that passes only while somebody waits for bytes to be paid."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0.001)  # a turn for the sockets, too
        self.now = max(self.now, until)


class Meter(pace.Throttle):
    """Records when which bytes came: seconds from the beginning, and how many."""

    def __init__(self, rate: Rate, clock: Clock, came: list[tuple[float, int]]) -> None:
        super().__init__(rate, clock=clock, sleep=clock.sleep)
        self.clock, self.came, self.begun = clock, came, clock()

    async def spend(self, size: int) -> None:
        self.came.append((self.clock() - self.begun, size))
        await super().spend(size)


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Metered:
    """Let the throttles of all sources wait by our clock; gives it, and what came."""
    clock, came = Clock(NOON - 4), list[tuple[float, int]]()
    monkeypatch.setattr(pace, "Throttle", lambda rate, *, clock: Meter(rate, clock, came))
    return clock, came


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize(
    "setting",
    [
        ("200 KiB", 200 * KIB, 200 * KIB),
        ("00:00-12:00 512 KiB, else 64 KiB", 512 * KIB, 64 * KIB),
        ("00:00-12:00 100 B, else 2 MiB", 100, 2048 * KIB),
    ],
)
def test_a_run_brings_what_its_rate_allows(
    archive: Archive, metered: Metered, setting: tuple[str, int, int], workers: int
) -> None:
    """At each moment that much came, beside what was in hand; no request is slow or made again."""
    (clock, came), (text, early, late) = metered, setting
    hours = Hours(rates=rates(text, size), zone=ZoneInfo("UTC"))
    desk = Helpdesk.build(SandboxOptions(tickets=8, big=(8_000_000,)))
    ear = Ear()

    async def main(server: SandboxServer, pool: ThreadPoolExecutor) -> RunResult:
        settings = KayakoSettings(
            server.url,
            Credentials(server.api_key, server.secret_key),
            concurrency=workers,
            rate=lambda: hours.rate(clock()),
        )
        options = RunOptions(server.url, concurrency=workers)
        async with Client(settings, pool=pool, sleep=clock.sleep, clock=clock, listener=ear) as one:
            source = KayakoSource(one, concurrency=workers)
            fetcher = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetcher, options, listener=ear)

    with SandboxServer(desk) as server, ThreadPoolExecutor(2) as pool:
        assert asyncio.run(main(server, pool)).exit_code == 0
    assert ear.of(Retrying) == ear.of(PaceChanged) == []
    assert max(number for _, number in came) <= 2 * BLOCK  # which bounds the memory, too
    total, in_hand = 0, workers * BLOCK + 0.2 * max(early, late)
    for second, number in came:
        total += number
        assert total <= min(second, 4) * early + max(second - 4, 0) * late + in_hand
    assert total >= min(second, 4) * early + max(second - 4, 0) * late - in_hand
    assert total > 10_000_000
