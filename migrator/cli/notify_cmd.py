"""``migrator notify``: who is told what happened, and a test of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from migrator.cli.common import App, now, pass_app
from migrator.errors import ArchiveError, ConfigError, SourceError
from migrator.text import iso_time, shown

if TYPE_CHECKING:
    from migrator.cli.notifying import Notifier
    from migrator.config import Config

SHOWN = 20
"""Messages that are named."""


@click.command()
@click.option("--test", "test", is_flag=True, help="Send a test through each channel.")
@pass_app
def notify(app: App, *, test: bool) -> int:
    """Show who is told of failures and losses, and what is still to be sent.

    With --test a test goes through each channel of [notify]; the ping goes to /log, which changes
    nothing about a check. Exits with 4 when one of them does not arrive. `migrator help notify.md`
    says what is told, and when.

    \b
    Examples:
      migrator notify
      migrator notify --test
    """
    from migrator.cli.notifying import notifier_of
    from migrator.cli.process import run_loop

    config = app.load(need_source=False)
    if not config.notify.tells:
        raise ConfigError(
            f"{config.path} names nobody to tell: set ping, webhook or command in [notify]."
        )
    notifier = notifier_of(app, config)
    if test:
        return run_loop(_test(notifier, config))
    _show(notifier, config)
    return 0


async def _test(notifier: Notifier, config: Config) -> int:
    from migrator.notify import Channels, example

    settings = notifier.settings
    channels = Channels(settings, clock=time.time)
    notice = example(str(config.archive.path), now())
    work = {to: channels.send(to, notice) for to in settings.keeping}
    if settings.ping:
        work["ping"] = channels.ping("notify", "log", uuid.uuid4(), notice.body["text"])
    results = dict(zip(work, await asyncio.gather(*work.values()), strict=True))
    for to, problem in results.items():
        click.echo(shown(f"{to:<8}  {problem or 'delivered'}"))
    return SourceError.exit_code if any(results.values()) else 0


def _show(notifier: Notifier, config: Config) -> None:
    from migrator.archive import open_read_only
    from migrator.notify import EVENTS

    settings = notifier.settings
    signed = "signed" if settings.webhook_key else "not signed"
    ways = {
        "ping": host_of(settings.ping),
        "webhook": settings.webhook and f"{host_of(settings.webhook)}, {signed}",
        "command": settings.command[0] if settings.command else "",
    }
    for name, where in ways.items():
        click.echo(shown(f"{name:<8}  {where or 'none'}"))
    try:
        with open_read_only(config.archive.path) as archive:
            waiting = archive.notices.waiting()
            last = archive.notices.latest(EVENTS)
    except ArchiveError as error:
        click.echo(f"Nothing is known of earlier messages: {error}")
        return
    if last is not None:
        click.echo(shown(f"Last: {iso_time(last.at)} {last.body['title']}"))
    click.echo(f"To be sent: {len(waiting):,}")
    for notice in waiting[:SHOWN]:
        where = ", ".join(notice.pending)
        click.echo(shown(f"  {iso_time(notice.at)} {notice.body['title']} ({where})"))


def host_of(url: str) -> str:
    """Return the host of an address, all else of which may be a secret."""
    return urlsplit(url).hostname or ""
