"""``migrator doctor``: try everything that a run will need, and say what to change."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import click

from migrator.cli.access_cmd import queue_doubts
from migrator.cli.common import App, pass_app, print_retry, settings_from
from migrator.cli.disk import Finding, check, clock, fail, is_obstructed, limits, ok, warn
from migrator.cli.process import run_loop
from migrator.cli.serve_cmd import doubts
from migrator.errors import (
    ArchiveMissing,
    ConfigError,
    MigratorError,
    NotFound,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
)
from migrator.sources.base import HashSink
from migrator.sources.kayako.signing import safe
from migrator.text import human_bytes, shown

if TYPE_CHECKING:
    from migrator.config import Config
    from migrator.hours import Hours
    from migrator.sources.base import Attachment, Department
    from migrator.sources.kayako.client import Client
    from migrator.sources.kayako.signing import KayakoSettings, UrlForm
    from migrator.sources.kayako.walk import Helpdesk

Connect = Callable[["KayakoSettings"], "Client"]
TICKETS_TRIED = 30
FETCHES_TRIED = 3
_LOCAL = re.compile(r"http://(localhost|127\.[0-9.]+|\[::1\])[:/]")


@click.command()
@pass_app
def doctor(app: App) -> int:
    """Try the connection, the keys and the disk; say what to change.

    Reads only, and leaves nothing behind. Exits with the code of the first thing that prevents a
    run: 2 for the configuration, 4 for the source, 7 for the disk.
    """
    return run_loop(examine(app.load()))


def _connect(settings: KayakoSettings) -> Client:
    from migrator.sources.kayako.client import Client

    return Client(settings, listener=print_retry)


async def examine(config: Config, connect: Connect = _connect) -> int:
    """Print all findings and return the exit code; ``connect`` opens the helpdesk."""
    code = 0
    async for finding in _findings(config, connect):
        click.echo(f"{finding.mark:<4}  {shown(finding.text)}")
        code = code or finding.exit_code
    click.echo("\nReady: `migrator plan` comes next." if code == 0 else "\nNot ready yet.")
    return code


async def _findings(config: Config, connect: Connect) -> AsyncIterator[Finding]:
    settings = dataclasses.replace(settings_from(config, by_hand=True), attempts=2)
    yield ok(f"address: {settings.url}")
    if settings.url.startswith("http:") and not _LOCAL.match(settings.url):
        yield warn("address: without https anybody on the network path can read keys and files")
    if not settings.url.endswith("/api/index.php"):
        yield warn("address: Kayako's API URL usually ends in /api/index.php")
    working: UrlForm | None = None
    async for form, finding in _url_forms(settings, connect):
        working = working or form
        yield finding
    if working:
        async for finding in _source(connect(dataclasses.replace(settings, url_form=working))):
            yield finding
    async for finding in _archive(config, safe(settings.url)):
        yield finding
    for finding in check(config.archive.path):
        yield finding
    now = time.time()
    hours = _hours(config.hours, now)
    for finding in (*limits(config.kayako.concurrency), *clock(now), *hours):
        yield finding
    for doubt in doubts(config.tickiti):
        yield warn(f"serve: {doubt}")


def _hours(hours: Hours, now: float) -> Iterator[Finding]:
    """Say what applies at this time; the few requests of this command do not wait."""
    if hours.windows:
        closes = hours.closes(now)
        if not hours.open(now):
            yield warn(
                f"hours: runs wait until {hours.told(hours.opens(now))}{hours.place}: it is "
                "outside of kayako.windows; doctor asks all the same"
            )
        else:
            end = f"until {hours.told(closes)}{hours.place}" if closes else "at any time"
            yield ok(f"hours: requests may be made {end}")
    if rate := hours.rate(now):
        yield ok(f"bandwidth: {human_bytes(rate)} a second now")


async def _url_forms(
    settings: KayakoSettings, connect: Connect
) -> AsyncIterator[tuple[UrlForm | None, Finding]]:
    """Try both forms of addresses, the configured one first."""
    from migrator.sources.kayako.signing import UrlForm

    configured = settings.url_form
    other = UrlForm.STANDARD if configured is UrlForm.QUERY else UrlForm.QUERY
    error = await _try_form(settings, configured, connect)
    if error is None:
        yield configured, ok(f'connection, key and signature: accepted (url_form "{configured}")')
        spare = (
            "works, too"
            if await _try_form(settings, other, connect) is None
            else "does not work here"
        )
        yield None, ok(f'url_form "{other}" {spare}')
    elif isinstance(error, SourceUnreachable):  # the other form will not answer either
        yield None, fail(str(error), error.exit_code)
    elif await _try_form(settings, other, connect) is None:
        text = f'url_form "{configured}" does not work here, "{other}" does: change it ({error})'
        yield other, fail(text, ConfigError.exit_code)
    else:
        known = isinstance(error, SourceRefused | ServerFailed | Throttled)
        hint = "" if known else ". Is kayako.url the API URL?"
        yield None, fail(str(error).rstrip(".") + hint, error.exit_code)


async def _try_form(
    settings: KayakoSettings, form: UrlForm, connect: Connect
) -> SourceError | None:
    async with connect(dataclasses.replace(settings, url_form=form)) as source:
        try:
            await source.departments()
        except SourceError as exc:
            return exc
    return None


async def _source(client: Client) -> AsyncIterator[Finding]:
    from migrator.sources.kayako.walk import look_around

    async with client as source:
        try:
            helpdesk = await look_around(source)
        except SourceError as exc:
            yield fail(str(exc), exc.exit_code)
            return
        yield _departments([one for one in helpdesk.departments if one.app == "tickets"])
        yield ok(f"statuses: {len(helpdesk.statuses)}")
        for problem in helpdesk.problems:
            yield warn(f"{problem}; tickets of what is missing can be found only by id")
        async for finding in _tickets(source, helpdesk):
            yield finding
        async for finding in _besides(source):
            yield finding


async def _besides(source: Client) -> AsyncIterator[Finding]:
    """Say what the helpdesk has beside tickets and their posts, and what no API gives."""
    from migrator.sources.kayako import articles
    from migrator.sources.kayako.source import BEYOND

    yield ok("notes and time tracks of tickets: they come with the tickets, and have no files")
    for kind, name in (("article", "knowledge base"), ("step", "troubleshooter")):
        try:
            found = await articles.count(source, kind)
            yield ok(f"{name}: {found:,} {'articles' if kind == 'article' else 'steps'}")
        except NotFound:
            yield ok(f"{name}: this helpdesk does not offer it")
        except SourceError as exc:
            yield warn(f"{name}: {exc}")
    try:
        fields = await source.field_definitions()
        held = f"{fields.fields:,}, of which {fields.files:,} hold files"
        yield ok(f"custom fields of tickets: {held}; passwords are neither kept nor counted")
    except NotFound:
        yield ok("custom fields: this helpdesk does not offer them")
    except SourceError as exc:
        yield warn(f"custom fields: {exc}")
    yield warn(f"no API gives: {BEYOND}")


async def _archive(config: Config, address: str) -> AsyncIterator[Finding]:
    """Check which helpdesk the archive belongs to, if there is one, and who sees its queues."""
    from migrator.archive import open_beside
    from migrator.pull.identity import see_address

    if is_obstructed(config.archive.path):
        return  # is told with what else is wrong with the disk
    try:
        with open_beside(config.archive.path) as archive:
            see_address(archive, address, moved=False)
            if (known := archive.queries.helpdesk()) is not None:
                yield ok(f"archive: belongs to {known.address}")
            mapped = config.tickiti.queues
            queues = [
                dataclasses.replace(one, queue_id=to.id, name=to.name, mapped=True)
                if (to := mapped.get(one.department_id))
                else one
                for one in archive.access.queues()
            ]
            for doubt in queue_doubts(queues):
                yield (ok if doubt.meant else warn)(f"queues: {doubt.sentence}")
    except ArchiveMissing:
        return
    except MigratorError as exc:
        yield fail(f"archive: {exc}", exc.exit_code)


def _departments(departments: list[Department]) -> Finding:
    titles = ", ".join(f"{one.title} ({one.id})" for one in departments[:20])
    return ok(f"departments: {titles}" + (", ..." if len(departments) > 20 else ""))


async def _tickets(source: Client, helpdesk: Helpdesk) -> AsyncIterator[Finding]:
    from migrator.sources.base import Scope
    from migrator.sources.kayako.walk import page_of

    area = helpdesk.areas(Scope())[0]
    try:
        latest = await page_of(source, area, 0, TICKETS_TRIED, sort="ticketid", order="DESC")
    except SourceError as exc:
        yield fail(str(exc), exc.exit_code)
        return
    yield await _count(source, helpdesk)
    if len(latest) > TICKETS_TRIED:
        yield warn("tickets: this server sends all in one page; a run can handle that")
    yield await _one_attachment(source, [ticket.id for ticket in latest[:TICKETS_TRIED]])


async def _count(source: Client, helpdesk: Helpdesk) -> Finding:
    from migrator.sources.base import Scope
    from migrator.sources.kayako.walk import count_tickets

    try:
        total = await count_tickets(source, helpdesk, Scope())
    except SourceError as exc:
        return warn(f"{exc} A run cannot check that it met them all")
    if total is None:
        return warn("tickets: this server cannot count them; a run lists until none is left")
    return ok(f"tickets: {total:,}")


async def _one_attachment(source: Client, tickets: list[int]) -> Finding:
    """Fetch one attachment of the latest tickets; a broken file does not mean a broken server."""
    errors: list[SourceError] = []
    for ticket in tickets:
        try:
            found = await source.attachments(ticket)
            if found:
                return await _fetch(source, ticket, min(found, key=lambda one: one.filesize))
        except SourceError as exc:
            errors.append(exc)
            if len(errors) == FETCHES_TRIED:
                break
    if errors:
        return fail(f"attachments: {errors[-1]}", errors[-1].exit_code)
    return warn(f"attachments: none in the latest {len(tickets)} tickets, so none was tried")


async def _fetch(source: Client, ticket: int, attachment: Attachment) -> Finding:
    contents, sink, _ = await source.fetch(ticket, attachment.id, HashSink)
    what = f"attachment {attachment.id} of ticket {ticket}"
    if contents.size != attachment.filesize:
        return warn(
            f"{what}: {contents.size:,} bytes came where {attachment.filesize:,} are listed; "
            "a run records such files in the ledger"
        )
    return ok(f"{what}: {human_bytes(contents.size)}, SHA-256 {sink.sha256}")
