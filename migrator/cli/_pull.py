"""What the commands that pull share: a source, and what a run wants to know."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from migrator.cli._common import settings_from
from migrator.cli._drive import drive, threads
from migrator.events import Listener, Notice
from migrator.kayako.settings import KayakoSettings
from migrator.kayako.source import Source
from migrator.kayako.urls import safe
from migrator.transfer.fetch import Fetcher
from migrator.transfer.result import MOST_GAPS, ChangeLimit, DeletionLimit, RunOptions, RunResult
from migrator.transfer.run import run
from migrator.transfer.stop import Stop
from migrator.transfer.sync import SyncOptions, plan
from migrator.transfer.walk import Scope

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config

T = TypeVar("T")


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
        page_size=kayako.page_size,
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
    **wishes: bool,
) -> RunResult:
    """Do one sync: what is new, or everything when that is due.

    ``wishes`` are flags of :func:`options_from`.
    """
    options = options_from(config, Scope(), kind="sync", **wishes)
    sync = SyncOptions(config.sync.margin, config.sync.full_pass_every, full)
    decided = plan(archive.ledger, options, sync, now=int(time.time()))
    if decided.increment is None:
        listener(Notice(f"whole pass: {decided.why}"))
    options = replace(options, increment=decided.increment)
    return await pull_within(settings_from(config), archive, options, listener, stop)
