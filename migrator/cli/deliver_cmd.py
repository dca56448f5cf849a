"""``migrator deliver``: put the archive's files into a live Tickiti."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrator.cli.common import (
    App,
    apply_config,
    from_archive,
    halted,
    note,
    open_beside,
    pass_app,
    write,
)
from migrator.errors import ConfigError, Interrupted
from migrator.text import NAMED, brief, counted, find_id, human_bytes, human_duration, shown

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config, DeliverConfig
    from migrator.deliver.check import Report
    from migrator.deliver.client import Client, Server
    from migrator.deliver.errand import Options
    from migrator.deliver.run import Result
    from migrator.events import Listener
    from migrator.pull.options import Stop

T = TypeVar("T")
STATES = ("refused", "too_large", "failed", "pending")


@click.command()
@click.option(
    "--canary",
    metavar="TICKET",
    help="Write into this ticket (id, or number in Kayako or Tickiti) alone, for a first look.",
)
@click.option("--yes", is_flag=True, help="Write. Without it nothing is written.")
@click.option(
    "--ticket", "tickets", multiple=True, metavar="TICKET", help="Only this ticket; repeatable."
)
@click.option(
    "--department",
    "departments",
    multiple=True,
    metavar="ID|TITLE",
    shell_complete=from_archive("departments"),
    help="Only tickets of this department; repeatable.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Write into N tickets at most.")
@click.option("--threads", is_flag=True, help="Also deliver the texts of each ticket, as a file.")
@click.option("--recheck", is_flag=True, help="Try again what Tickiti refused, or lost since.")
@click.option(
    "--create",
    metavar="QUEUE",
    default="",
    help="Make tickets in this queue for those without a number; read above first.",
)
@click.option(
    "--trust-numbers",
    is_flag=True,
    help="Write also where subject or requester of a ticket are others in Tickiti.",
)
@click.option("--match", is_flag=True, help="Propose ticket numbers as a CSV file to look through.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --match and --list: where to write it. [stdout]",
)
@click.option(
    "--list", "listed", is_flag=True, help="List each file and what became of it, as CSV."
)
@click.option("--verify", is_flag=True, help="Read back what was delivered, byte for byte.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="With --verify: only N files by chance."
)
@click.option("--undo", is_flag=True, help="Remove the notes that were written; asks for --yes.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as the last line, in JSON.")
@pass_app
def deliver(
    app: App,
    /,
    *,
    canary: str | None,
    yes: bool,
    match: bool,
    output: Path | None,
    listed: bool,
    verify: bool,
    sample: int | None,
    undo: bool,
    as_json: bool,
    **narrowed: Any,
) -> int:
    """Put the files of the archive into a live Tickiti, each once, mailing nobody.

    On its own it is a dry run: it asks Tickiti what it can do, looks at every ticket, and says what
    it would write. Each ticket then gets internal notes that hold its files. It first reads what is
    there, and reads back what it writes: it may be interrupted and run again at any time, and never
    writes anything twice. Tickets need numbers ([tickiti] ticket_numbers); --match proposes them.
    Deliver one ticket with --canary and look into Tickiti's sent mail before you deliver all. The
    token comes from TICKITI_TOKEN or [deliver]. `migrator help deliver.md` leads through the weeks
    before and the day.

    --create makes tickets that are closed and not public, with the author as originator. Nobody
    knows what else a Tickiti mails about new tickets. So first switch off the AI assistant's
    auto-send and auto-draft and the templates auto_response, ticket_notification and
    ticket_closed, use a queue without a mailbox, and try it with --canary.

    \b
    Examples:
      migrator deliver --match -o map.csv
      migrator deliver
      migrator deliver --canary 17
      migrator deliver --yes
      migrator deliver --verify --sample 200
      migrator deliver --undo --yes
    """
    if match + verify + undo + listed + (canary is not None) > 1:
        raise click.UsageError("--canary, --match, --list, --verify, --undo exclude each other.")
    if canary is not None and (yes or narrowed["tickets"]):
        one = "--yes" if yes else "--ticket"
        raise click.UsageError(f"--canary writes into one ticket alone: leave {one} out.")
    if (sample and not verify) or (output and not (match or listed)):
        raise click.UsageError("--sample goes with --verify, -o with --match and --list.")
    if listed:
        return _list(app, output)
    config = app.load(need_source=False)
    settings = _settings(config, writes=yes or canary is not None)
    if match:
        return _match(app, settings, output)
    if verify or undo:
        return _check(app, settings, sample=sample, undo=undo, yes=yes, as_json=as_json)
    writes = yes or canary is not None
    with _opened(app, config, writes=writes) as archive:
        if writes:
            app.started()
        if canary is not None:
            narrowed |= {"tickets": (canary,), "canary": True}
        options = options_from(config, archive, writes=writes, **narrowed)

        async def work(client: Client, listener: Listener, stop: Stop) -> tuple[Server, Result]:
            return await _deliver(client, archive, options, listener, stop)

        server, result = _at_work(app, settings, work)
        return _conclude(archive, options, server, result, canary=canary, as_json=as_json)


async def _deliver(
    client: Client, archive: Archive, options: Options, listener: Listener, stop: Stop
) -> tuple[Server, Result]:
    from migrator.deliver.client import look
    from migrator.deliver.run import deliver as carry

    server = await look(client)
    server.refuse()
    return server, await carry(client, archive, server, options, listener=listener, stop=stop)


async def deliver_within(config: Config, archive: Archive, listener: Listener, stop: Stop) -> int:
    """Deliver what is new after a sync, in its event loop; print it and return the exit code.

    The first delivery into a Tickiti is for a person to watch.
    """
    settings = _settings(config, writes=True)
    if settings.url not in archive.queries.targets():
        note(
            f"Nothing was ever delivered to {settings.url}: run `migrator deliver` by hand first",
            level="warning",
        )
        return 3
    options = options_from(config, archive, writes=True)
    async with connected(config.deliver, listener, stop, config) as client:
        server, result = await _deliver(client, archive, options, listener, stop)
    return _conclude(archive, options, server, result, canary=None, as_json=False)


def demonstrate(app: App, settings: DeliverConfig, archive: Archive) -> None:
    """Deliver everything for the demo, and print what ``deliver --yes`` does."""
    from migrator.deliver.errand import Options

    helpdesk = archive.queries.helpdesk()
    options = Options(
        target=settings.url,
        helpdesk=helpdesk.address if helpdesk else "",
        author=settings.author,
        max_upload=settings.max_upload,
        concurrency=settings.concurrency,
        writes=True,
    )

    async def work(client: Client, listener: Listener, stop: Stop) -> tuple[Server, Result]:
        return await _deliver(client, archive, options, listener, stop)

    server, result = _at_work(app, settings, work)
    _conclude(archive, options, server, result, canary=None, as_json=False)


def _settings(config: Config, *, writes: bool) -> DeliverConfig:
    """Return the configured Tickiti; raise ConfigError for what is missing."""
    from migrator.config import TOKEN

    found = config.deliver
    missing = [] if found.url else ["deliver.url: the address of your Tickiti"]
    if not found.token.get_secret_value():
        missing.append(f"deliver.token: an API key of it; or set {TOKEN} in the environment")
    if writes and not found.author:
        missing.append("deliver.author: the e-mail address of the account that writes the notes")
    if missing:
        raise ConfigError("\n  ".join([f"{config.path} does not say where to deliver:", *missing]))
    return found


@contextmanager
def _opened(app: App, config: Config, *, writes: bool) -> Iterator[Archive]:
    """Open the archive: beside a run for a dry run, else like a run."""
    from migrator.archive import open_archive
    from migrator.cli.textfile import measured

    _, archive = open_beside(app)
    if writes:
        archive.close()
        archive = open_archive(config.archive.path, command="deliver")
        with archive, measured(config, archive):
            apply_config(archive, config)
            yield archive
        return
    with archive:
        yield archive


def options_from(
    config: Config,
    archive: Archive,
    *,
    writes: bool,
    tickets: tuple[str, ...] = (),
    departments: tuple[str, ...] = (),
    limit: int | None = None,
    threads: bool = False,
    recheck: bool = False,
    trust_numbers: bool = False,
    create: str = "",
    canary: bool = False,
) -> Options:
    """Translate configuration and command line into the options of a delivery."""
    from migrator.deliver.errand import Options

    settings, helpdesk = config.deliver, archive.queries.helpdesk()
    known = [(one.department_id, one.title) for one in archive.access.queues()]
    return Options(
        target=settings.url,
        helpdesk=helpdesk.address if helpdesk else "",
        author=settings.author,
        max_upload=settings.max_upload,
        pages=settings.pages,
        concurrency=settings.concurrency,
        writes=writes,
        tickets=frozenset(_ticket(archive, one) for one in tickets) if tickets else None,
        departments=frozenset(find_id("department", one, known) for one in departments)
        if departments
        else None,
        limit=limit,
        deleted=config.tickiti.serve_deleted,
        recheck=recheck,
        trust=trust_numbers,
        threads=threads,
        create=create,
        canary=canary,
    )


def _ticket(archive: Archive, wanted: str) -> int:
    """Return the ticket of an id or a number; raise ConfigError for none, or for several."""
    found = archive.threads.named(wanted)
    if not found:
        raise ConfigError(
            f"The archive has no ticket {brief(wanted)!r}. A ticket goes by Kayako's id, by the "
            "number that Kayako showed, such as ABC-123-45678, or by its number in Tickiti."
        )
    if len(found) > 1:
        listed = ", ".join(f"{one.id} ({brief(one.subject, 40)})" for one in found[:NAMED])
        raise ConfigError(
            f"{brief(wanted)!r} means more than one ticket: {listed}. Give one of these ids."
        )
    return found[0].id


def _at_work(
    app: App,
    settings: DeliverConfig,
    work: Callable[[Client, Listener, Stop], Coroutine[Any, Any, T]],
) -> T:
    """Run work with a client, progress on stderr and a way to stop it."""
    from migrator.cli.progress import progress
    from migrator.cli.pulling import drive

    with progress(app.log_format) as listener:

        async def within(stop: Stop) -> T:
            async with connected(settings, listener, stop, app.config) as client:
                return await work(client, listener, stop)

        return drive(within)


def connected(
    settings: DeliverConfig, listener: Listener, stop: Stop, config: Config | None
) -> Any:
    """Return the client of the configured Tickiti, as a context manager.

    It heeds pauses of the archive of ``config``.
    """
    from migrator.deliver.client import connect

    return connect(
        settings.url,
        settings.token.get_secret_value(),
        concurrency=settings.concurrency,
        per_second=settings.requests_per_second,
        timeout=settings.timeout,
        patience=settings.patience,
        listener=listener,
        sleep=stop.sleep,
        halted=halted(config.archive.path) if config is not None else None,
    )


def _conclude(
    archive: Archive,
    options: Options,
    server: Server,
    result: Result,
    *,
    canary: str | None,
    as_json: bool,
) -> int:
    """Print what was done or would be; return the exit code."""
    from migrator.report.text import undeliverable

    counts = counts_of(archive, options, result)
    rest = {} if options.partial else archive.queries.not_to_deliver(deleted=options.deleted)
    outside = undeliverable(rest, options.pages)
    if not_held := {} if options.partial else archive.queries.not_held():
        told = ", ".join(f"{n:,} {state}" for state, n in not_held.items())
        outside.append(
            f"Files of tickets that the archive does not hold: {told}. "
            "`migrator report` names them."
        )
    lines = _lines(options, server, result, counts, outside, canary=canary)
    click.echo("\n".join(lines))
    if as_json:
        click.echo(json.dumps(counts))
    if result.ended_by is not None:
        raise result.ended_by
    is_open = options.partial or bool(result.troubles) or any(counts[state] for state in STATES)
    return 3 if is_open and options.writes else 0


def counts_of(archive: Archive, options: Options, result: Result) -> dict[str, int]:
    """Return the numbers of files: what the ledger says, in a dry run what was seen."""
    from migrator.deliver.run import totals_of

    totals = totals_of(archive, options)
    held = {state: count.n for state, count in totals.items()}
    new = result.files["delivered"]
    if options.writes:
        already = max(0, held.get("delivered", 0) - new)
        return {
            "delivered": new,
            "already": already,
            **{state: held.get(state, 0) for state in STATES},
        }
    files = result.files
    # Not every file is looked at again: not what was refused before, without --recheck.
    unseen = {state: max(0, n - result.before[state]) for state, n in held.items()}
    already = unseen.get("delivered", 0) + files["already"]
    seen = {one: unseen.get(one, 0) + files[one] for one in ("refused", "too_large", "failed")}
    rest = sum(held.values()) - already - sum(seen.values())
    return {"delivered": 0, "already": already, **seen, "pending": max(0, rest)}


def _lines(
    options: Options,
    server: Server,
    result: Result,
    counts: dict[str, int],
    outside: list[str],
    *,
    canary: str | None,
) -> Iterator[str]:
    notes = "note" if result.notes == 1 else "notes"
    yield f"Tickiti at {options.target}. {server.told()}"
    if not options.writes:
        yield (
            f"Dry run, nothing was written. Looked at {result.tickets:,} tickets with files to "
            f"deliver: {result.notes:,} internal {notes} would hold {result.files['pending']:,} "
            f"files, {human_bytes(result.bytes)}. At {result.reading * 1000:.0f} ms for a request "
            f"and 2 MiB in a second this takes about {human_duration(result.seconds())}."
        )
    else:
        yield (
            f"Written: {result.notes:,} internal {notes} with {counts['delivered']:,} files, "
            f"{human_bytes(result.bytes)}, each read back; {result.requests:,} requests."
        )
    if result.created:
        yield f"Tickets made{'' if options.writes else ' then'}: {result.created:,}."
    if result.texts:
        texts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in result.texts.items())
        yield f"Texts of tickets, each a file: {texts}."
    told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
    yield f"Files of these tickets: {sum(counts.values()):,} = {told}"
    yield from outside
    if result.troubles:
        yield "\nTo look at:"
        yield from (f"  {shown(line)}" for line in result.troubles[:50])
        more = len(result.troubles) + result.untold - 50
        if more > 0:
            yield f"  and {more:,} more"
    if result.ended_by is None:  # else that comes first
        yield from _next(options, result, counts, canary=canary)


def _next(
    options: Options, result: Result, counts: dict[str, int], *, canary: str | None
) -> Iterator[str]:
    """Yield what to do next."""
    from migrator.deliver.run import UNMAPPED

    if options.writes and (result.troubles or any(counts[state] for state in STATES)):
        yield (
            "`migrator deliver --list` has each file. What Tickiti does not have is in the "
            "archive: `migrator serve` shows it, `migrator handover` copies it."
        )
    if options.writes and canary is None and options.partial:
        yield "Only a part was asked for: `migrator deliver --yes` delivers the rest."
    if canary is not None and counts["delivered"] + counts["already"]:
        seen = "; so far it lists none about this ticket" if result.silent else ""
        yield (
            "\nLook at this ticket in Tickiti now, and into its sent mail (Mail, Sent mail): "
            f"there must be none{seen}. Then: migrator deliver --yes"
        )
    elif not options.writes and result.notes:
        missing = "" if options.author else "Set deliver.author, the account that writes. "
        yield f"\n{missing}Next: migrator deliver --canary TICKET writes into one ticket alone."
    elif any(line.endswith(UNMAPPED) for line in result.troubles):
        yield (
            "\nNext: migrator deliver --match -o proposed.csv proposes numbers for tickets without "
            "one. Add the lines that are right to the file that ticket_numbers in [tickiti] names."
        )


def _match(app: App, settings: DeliverConfig, output: Path | None) -> int:
    from migrator.deliver.match import HEAD, Proposal, propose

    if output is not None and output.is_file() and len(output.read_bytes().splitlines()) > 1:
        raise ConfigError(
            f"{str(output)!r} exists, and somebody may have corrected it. Name another file, or "
            "remove this one."
        )
    _, archive = open_beside(app)
    with archive:
        queries = archive.queries
        wanted = [
            ticket
            for one in queries.tickets_to_deliver(settings.url)
            if queries.mapped_number(one) is None
            and (ticket := archive.threads.ticket(one)) is not None
        ]
        found: list[Proposal] = []

        async def work(client: Client, _listener: Listener, stop: Stop) -> None:
            async for _, proposal in propose(client, wanted):
                if stop.asked:
                    raise Interrupted("interrupted; nothing was written")
                found.extend([proposal] if proposal else [])

        _at_work(app, settings, work)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(HEAD)
    lines.writerows([shown(cell) for cell in one.cells()] for one in found)
    write([text.getvalue()], output)
    doubts = sum(bool(one.doubt) for one in found)
    note(
        f"Proposed numbers: {counted(len(found), 'ticket', len(wanted))}, {doubts:,} of them "
        "doubtful. Look through the file; where a line is right, empty its cell doubt, else drop "
        "the line. Then name it as ticket_numbers in [tickiti]"
    )
    return 0 if len(found) == len(wanted) and not doubts else 3


def _list(app: App, output: Path | None) -> int:
    from dataclasses import astuple, fields

    from migrator.archive.records import DeliveredLine

    def pieces(archive: Archive) -> Iterator[str]:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow([field.name for field in fields(DeliveredLine)])
        for one in archive.queries.delivered_lines():
            lines.writerow(["" if v is None else shown(str(v)) for v in astuple(one)])
            yield text.getvalue()
            text.seek(0)
            text.truncate()
        yield text.getvalue()

    _, archive = open_beside(app)
    with archive:
        write(pieces(archive), output)
    return 0


def _check(
    app: App, settings: DeliverConfig, *, sample: int | None, undo: bool, yes: bool, as_json: bool
) -> int:
    from migrator.deliver import check

    with _opened(app, app.load(need_source=False), writes=yes or not undo) as archive:

        async def work(client: Client, listener: Listener, stop: Stop) -> Report:
            if undo:
                return await check.undo(client, archive, settings.url, writes=yes, stop=stop)
            return await check.verify(
                client,
                archive,
                settings.url,
                sample=sample,
                most=settings.max_upload,
                listener=listener,
                stop=stop,
            )

        report = _at_work(app, settings, work)
    counts = dict(report.counts)
    would = "would be " if undo and not yes else ""
    told = ", ".join(f"{n:,} {would}{name}" for name, n in counts.items()) or "nothing"
    if report.chosen_from:
        told += f", by chance out of {report.chosen_from:,}"
    if undo:
        if not yes:
            told += "; without --yes nothing was changed"
        click.echo(f"Notes in {settings.url}: {told}")
    else:
        click.echo(f"Read back from {settings.url}: {told}, {human_bytes(report.bytes)}")
    click.echo("".join(f"  {shown(line)}\n" for line in report.lines[:50]), nl=False)
    if as_json:
        click.echo(json.dumps(counts))
    if report.ended_by is not None:
        raise report.ended_by
    if counts.keys() & {"differs", "vanished"}:
        return 6
    return 3 if counts.keys() & {"unasked", "left"} else 0
