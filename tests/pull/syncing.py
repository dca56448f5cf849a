"""Syncing with a helpdesk in memory, by a clock of the tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from migrator.archive import Archive
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.pull.sync import SyncOptions, next_pass
from migrator.sources.kayako.source import KayakoSource
from tests.pull.doubles import Desk, Ear

SOURCE = "https://help.example.com"
DAY = 86_400
NOW = 1_000_000
"""Our clock in these tests; tickets are active around 1,000."""


class Living(Desk):
    """A helpdesk whose tickets were active one after the other."""

    def __init__(self, tickets: int = 0, files: int = 1) -> None:
        super().__init__(tickets, files)
        for number in list(self.tickets):
            self.touch(number, 1000 + number)

    def touch(self, number: int, at: int) -> None:
        """Let a ticket be active."""
        self.tickets[number] = replace(self.tickets[number], last_activity=at)

    def reply(self, number: int, at: int) -> int:
        """Let a reply with a file come in; gives the id of the file."""
        self.touch(number, at)
        return self.attach(number, b"reply at %d" % at)


def sync(
    desk: Desk,
    archive: Archive,
    *,
    now: int = NOW,
    margin: float = 0,
    every: float = 7 * DAY,
    full: bool = False,
    ear: Ear | None = None,
    stop: Stop | None = None,
    source: str = SOURCE,
    **options: Any,
) -> RunResult:
    """Sync as the command does, by a clock that stands still."""
    how = {name: options.pop(name) for name in ("page_size", "looks") if name in options}
    asked = RunOptions(source, kind="sync", **{"concurrency": 2, **options})
    helpdesk = KayakoSource(desk, concurrency=asked.concurrency, **how)
    decided = next_pass(archive.queries, asked, SyncOptions(margin, every, full), now=now)
    asked = replace(asked, increment=decided.increment)
    desk.calls.clear()

    async def main() -> RunResult:
        fetch = Fetcher(helpdesk, archive.blobs, None)
        listener = ear or Ear()
        return await run(
            helpdesk, archive, fetch, asked, listener=listener, stop=stop, clock=lambda: now
        )

    return asyncio.run(main())


def mark(archive: Archive, name: str) -> int | None:
    found = archive.queries.mark(name)
    return None if found is None else found.value


def marks(archive: Archive) -> tuple[int | None, int | None, int | None]:
    """Give watermark, full pass and success."""
    return mark(archive, "watermark"), mark(archive, "full_pass"), mark(archive, "success")
