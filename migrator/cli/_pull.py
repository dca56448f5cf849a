"""What the commands that pull share: an event loop, signals, a thread pool and a source."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrator.cli._common import settings_from
from migrator.events import Listener, Notice
from migrator.kayako.settings import KayakoSettings
from migrator.kayako.source import Source
from migrator.kayako.urls import safe
from migrator.transfer.fetch import Fetcher
from migrator.transfer.result import DeletionLimit, RunOptions, RunResult
from migrator.transfer.run import run
from migrator.transfer.stop import Stop
from migrator.transfer.sync import SyncOptions, plan
from migrator.transfer.walk import Scope

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config

T = TypeVar("T")


def drive(work: Callable[[Stop], Awaitable[T]]) -> T:
    """Run ``work`` to its end; Ctrl-C and SIGTERM ask it to stop, a second one at once."""

    async def main() -> T:
        stop = Stop()
        loop = asyncio.get_running_loop()
        with suppress(RuntimeError, ValueError):  # only the main thread may catch signals
            loop.add_signal_handler(signal.SIGINT, stop.ask)
            loop.add_signal_handler(signal.SIGTERM, stop.ask)
        return await work(stop)

    return asyncio.run(main())


def threads(settings: KayakoSettings) -> ThreadPoolExecutor:
    """Make the pool that parses, hashes and writes: more threads only pass the GIL around."""
    return ThreadPoolExecutor(min(settings.concurrency, 4), thread_name_prefix="transfer")


def options_from(
    config: Config, scope: Scope, *, kind: str, recheck: bool = False, accept: bool = False
) -> RunOptions:
    """Translate configuration and command line into what a run wants to know."""
    kayako = config.kayako
    return RunOptions(
        source_name=safe(kayako.url),
        kind=kind,
        scope=replace(scope, include_trash=scope.include_trash or kayako.include_trash),
        page_size=kayako.page_size,
        concurrency=kayako.concurrency,
        recheck=recheck,
        deletions=DeletionLimit(share=config.sync.max_deletions, accept=accept),
        posts=kayako.posts,
    )


def pull(
    settings: KayakoSettings, archive: Archive, options: RunOptions, listener: Listener
) -> RunResult:
    """Do one run from start to end."""
    return drive(lambda stop: pull_within(settings, archive, options, listener, stop))


async def pull_within(
    settings: KayakoSettings,
    archive: Archive,
    options: RunOptions,
    listener: Listener,
    stop: Stop,
) -> RunResult:
    """Do one run in an event loop that is going on already."""
    with threads(settings) as pool:
        async with Source(
            settings, pool=pool, listener=listener, sleep=stop.sleep, patient=True
        ) as source:
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetch, options, listener=listener, stop=stop)


async def sync_within(
    config: Config,
    archive: Archive,
    listener: Listener,
    stop: Stop,
    *,
    full: bool = False,
    accept: bool = False,
) -> RunResult:
    """Do one sync: what is new, or everything when that is due."""
    options = options_from(config, Scope(), kind="sync", accept=accept)
    sync = SyncOptions(config.sync.margin, config.sync.full_pass_every, full)
    decided = plan(archive.ledger, options, sync, now=int(time.time()))
    if decided.increment is None:
        listener(Notice(f"whole pass: {decided.why}"))
    options = replace(options, increment=decided.increment)
    return await pull_within(settings_from(config), archive, options, listener, stop)
