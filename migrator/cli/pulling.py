"""Shared by the commands that pull: options of a run, a source, an event loop, threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from migrator.cli.common import App, configured_hours, settings_from, share_one_heap
from migrator.cli.process import run_loop
from migrator.cli.progress import progress
from migrator.events import Event, Listener, Notice
from migrator.pull.fetch import Fetcher
from migrator.pull.options import MOST_GAPS, ChangeLimit, DeletionLimit, RunOptions, RunResult, Stop
from migrator.pull.progress import Progress
from migrator.pull.run import run
from migrator.pull.sync import SyncOptions, next_pass
from migrator.sources import open_source
from migrator.sources.base import Scope
from migrator.sources.kayako.signing import KayakoSettings, safe

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config

T = TypeVar("T")


def drive(work: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
    """Run ``work``; Ctrl-C and SIGTERM ask it to stop, a second one stops it at once."""
    stop = Stop()
    return run_loop(work(stop), stop.ask)


def threads(settings: KayakoSettings) -> ThreadPoolExecutor:
    """Return the pool that parses, hashes and writes: more threads only wait for the GIL."""
    share_one_heap()
    return ThreadPoolExecutor(min(settings.concurrency, 4), thread_name_prefix="transfer")


def at_work(
    app: App,
    settings: KayakoSettings,
    work: Callable[[Executor, Listener, Stop], Coroutine[Any, Any, T]],
) -> T:
    """Run work with threads, progress on stderr and a way to stop it."""
    with threads(settings) as pool, progress(app.log_format) as listener:
        return drive(lambda stop: work(pool, listener, stop))


def options_from(
    config: Config,
    scope: Scope,
    *,
    kind: str,
    recheck: bool = False,
    accept_deletions: bool = False,
    accept_changes: bool = False,
    moved: bool = False,
    every_id: bool = False,
) -> RunOptions:
    """Translate configuration and command line into the options of a run."""
    kayako = config.kayako
    return RunOptions(
        source_name=safe(kayako.url),
        kind=kind,
        scope=replace(scope, include_trash=scope.include_trash or kayako.include_trash),
        concurrency=kayako.concurrency,
        recheck=recheck,
        deletions=DeletionLimit(share=config.sync.max_deletions, accept=accept_deletions),
        changes=ChangeLimit(accept=accept_changes),
        moved=moved,
        posts=config.keeps_posts,
        replies=config.archive.keep_replies,
        linked=config.keeps_posts and kayako.linked_files,
        articles=kayako.knowledge_base,
        custom_fields=kayako.custom_fields,
        most_gaps=None if every_id else MOST_GAPS,
    )


def pull(
    settings: KayakoSettings, archive: Archive, options: RunOptions, listener: Listener
) -> RunResult:
    """Run one run from start to end."""
    return drive(lambda stop: pull_within(settings, archive, options, listener, stop))


async def pull_within(
    settings: KayakoSettings,
    archive: Archive,
    options: RunOptions,
    listener: Listener,
    stop: Stop,
) -> RunResult:
    """Run one run in an existing event loop."""
    progress = Progress(hours=configured_hours())

    def tell(event: Event, /) -> None:
        progress.take(event)
        listener(event)

    with threads(settings) as pool:
        async with open_source(settings, pool=pool, listener=tell, sleep=stop.sleep) as source:
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(
                source,
                archive,
                fetch,
                options,
                listener=listener,
                stop=stop,
                progress=progress,
                pool=pool,
            )


async def sync_within(
    config: Config,
    archive: Archive,
    listener: Listener,
    stop: Stop,
    *,
    full: bool = False,
    **wishes: bool,
) -> RunResult:
    """Run one sync: of what is new, or of everything when that is due.

    ``wishes`` are flags of :func:`options_from`.
    """
    options = options_from(config, Scope(), kind="sync", **wishes)
    sync = SyncOptions(config.sync.margin, config.sync.full_pass_every, full)
    decided = next_pass(archive.queries, options, sync, now=int(time.time()))
    if decided.increment is None:
        listener(Notice(f"whole pass: {decided.why}"))
    options = replace(options, increment=decided.increment)
    return await pull_within(settings_from(config), archive, options, listener, stop)
