"""What malloc is told, where it is glibc's: elsewhere nothing is lost but some memory or speed.

What the commands that loop share: an event loop, signals and threads.

The options that narrow or widen a run, shared by ``run`` and ``plan``.

What the commands that pull share: a source, and what a run wants to know.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import re
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrator.cli._common import settings_from
from migrator.events import Listener, Notice
from migrator.pull.fetch import Fetcher
from migrator.pull.options import MOST_GAPS, ChangeLimit, DeletionLimit, RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.pull.sync import SyncOptions, plan
from migrator.sources import open_source
from migrator.sources.base import Scope
from migrator.sources.kayako.signing import KayakoSettings, safe

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config

# Of malloc.h:
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE = 1 << 20
_SPARE = 8 << 20


def share_one_heap() -> None:
    """Let no thread have a heap of its own: each would keep megabytes, while the GIL is shared."""
    _tell((_M_ARENA_MAX, 1))


def keep_blocks() -> None:
    """Take blocks of less than a megabyte from the heap, and keep some of it for the next ones.

    Otherwise malloc may ask the kernel for every block of 128 KiB or more, whose pages are then
    cleared and mapped one by one.
    """
    _tell((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _SPARE))


def _tell(*options: tuple[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):  # there is nothing to tell but glibc
        libc = ctypes.CDLL(None)
        for name, value in options:
            libc.mallopt(name, value)


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
    share_one_heap()
    return ThreadPoolExecutor(min(settings.concurrency, 4), thread_name_prefix="transfer")


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    """Read a date (UTC) or an age as Unix seconds; 0 when not given."""
    if value is None:
        return 0
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise click.BadParameter("is not a day of the calendar", ctx, param) from error
    from migrator.config import duration

    try:
        return int(time.time() - duration(value))
    except ValueError as error:
        text = "must be a day such as 2026-01-31 or an age such as 30d"
        raise click.BadParameter(text, ctx, param) from error


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one ``scope``."""

    @click.option(
        "--department",
        "departments",
        multiple=True,
        metavar="ID|TITLE",
        help="Only this department; may be given several times.",
    )
    @click.option(
        "--since",
        callback=_since,
        metavar="DAY|AGE",
        help="Only tickets active since then: 2026-01-31 or 30d.",
    )
    @click.option(
        "--limit-tickets", type=click.IntRange(1), metavar="N", help="Only the first N tickets."
    )
    @click.option("--include-trash", is_flag=True, help="Tickets in the trash too.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        departments: tuple[str, ...],
        since: int,
        limit_tickets: int | None,
        include_trash: bool,
        **kwargs: Any,
    ) -> Any:
        scope = Scope(
            departments=frozenset(departments) if departments else None,
            since=since,
            limit_tickets=limit_tickets,
            include_trash=include_trash,
        )
        return command(*args, scope=scope, **kwargs)

    return wrapped


def options_from(
    config: Config,
    scope: Scope,
    *,
    kind: str,
    recheck: bool = False,
    accept: bool = False,
    accept_changes: bool = False,
    moved: bool = False,
    every_id: bool = False,
) -> RunOptions:
    """Translate configuration and command line into what a run wants to know."""
    kayako = config.kayako
    return RunOptions(
        source_name=safe(kayako.url),
        kind=kind,
        scope=replace(scope, include_trash=scope.include_trash or kayako.include_trash),
        concurrency=kayako.concurrency,
        recheck=recheck,
        deletions=DeletionLimit(share=config.sync.max_deletions, accept=accept),
        changes=ChangeLimit(accept=accept_changes),
        moved=moved,
        posts=kayako.posts,
        most_gaps=None if every_id else MOST_GAPS,
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
        async with open_source(settings, pool=pool, listener=listener, sleep=stop.sleep) as source:
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetch, options, listener=listener, stop=stop)


async def sync_within(
    config: Config,
    archive: Archive,
    listener: Listener,
    stop: Stop,
    *,
    full: bool = False,
    **wishes: bool,
) -> RunResult:
    """Do one sync: what is new, or everything when that is due.

    ``wishes`` are flags of :func:`options_from`.
    """
    options = options_from(config, Scope(), kind="sync", **wishes)
    sync = SyncOptions(config.sync.margin, config.sync.full_pass_every, full)
    decided = plan(archive.queries, options, sync, now=int(time.time()))
    if decided.increment is None:
        listener(Notice(f"whole pass: {decided.why}"))
    options = replace(options, increment=decided.increment)
    return await pull_within(settings_from(config), archive, options, listener, stop)
