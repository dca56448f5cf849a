"""``migrator sandbox``: look-alikes of Kayako and Tickiti to rehearse on."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from migrator.cli.common import duration, note, size, write
from migrator.cli.process import STOP_SIGNALS, on_signals

if TYPE_CHECKING:
    from migrator.sandbox.kayako import Helpdesk, SandboxServer, Truth
    from migrator.sandbox.tickiti import Tickiti


_AMOUNT: Final[dict[str, Any]] = {"show_default": True, "type": click.IntRange(0)}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=int,
    show_default="8481, or 8482 with --tickiti",
    help="Port; 0 takes a free one.",
)
@click.option(
    "--tickets",
    default=40,
    show_default=True,
    type=click.IntRange(0),
    help="Tickets of the helpdesk.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed, the same helpdesk.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME",
    help="Switch a fault on, or all of a kind of files: post, customfield, article, step, linked; "
    "`all` for these, those of tickets, and more. "
    "With --tickiti also NAME@3 for the third call that it fits, NAME@2-4, NAME@2-, NAME%10 for "
    "one call in ten; `all` for every fault of single calls, one after another, `harmless` for "
    "those in spite of which every file can be delivered.",
)
@click.option("--list-faults", is_flag=True, help="List the faults and exit; * is in `all`.")
@click.option(
    "--departments",
    default=4,
    show_default=True,
    type=click.IntRange(4),
    help="Departments with tickets, in Kayako.",
)
@click.option("--notes", **_AMOUNT, default=2, help="Notes on each closed ticket, in Kayako.")
@click.option("--field-files", **_AMOUNT, default=6, help="Files in custom fields, in Kayako.")
@click.option("--articles", **_AMOUNT, default=6, help="Articles of the knowledge base.")
@click.option("--steps", **_AMOUNT, default=4, help="Steps of the troubleshooter.")
@click.option("--links", **_AMOUNT, default=6, help="Files that texts link to, in Kayako.")
@click.option("--latency", callback=duration, metavar="50ms", help="Wait before each reply.")
@click.option(
    "--big",
    multiple=True,
    callback=size,
    metavar="200MiB",
    help="Add one file of this size, in Kayako.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result of a perfect run here, as JSON: files of all kinds by their id in the "
    "archive, and the gaps: tickets that are not seen, or not their custom fields. With "
    "--tickiti, what there is at the end: responses, files, tags, and the mails that were sent.",
)
@click.option("--tickiti", is_flag=True, help="Serve a look-alike of Tickiti instead.")
@click.option(
    "--generation",
    type=click.Choice(["june", "uploads", "july", "october"]),
    default="october",
    show_default=True,
    help="The version of Tickiti's API.",
)
@click.option(
    "--mapping",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the number of each Kayako ticket in Tickiti here, as CSV.",
)
def sandbox(
    *,
    host: str,
    port: int | None,
    tickets: int,
    seed: int,
    faults: tuple[str, ...],
    list_faults: bool,
    departments: int,
    notes: int,
    field_files: int,
    articles: int,
    steps: int,
    links: int,
    latency: float | None,
    big: tuple[int, ...],
    truth: Path | None,
    tickiti: bool,
    generation: str,
    mapping: Path | None,
) -> None:
    """Serve a Kayako Classic look-alike, with faults by switch, until Ctrl-C.

    Prints a config.toml that fits it on stdout.

    With --tickiti, serves a look-alike of Tickiti that can be written to. It has the tickets of the
    Kayako look-alike with the same seed and size, with numbers of its own, and no files. It counts
    each mail that a real one would send. GET /sandbox there tells what it holds by now; POST
    {"faults": ["NAME"]} to it for other faults, {"forget_keys": true} for no idempotency keys.

    \b
    Examples:
      migrator sandbox --fault all > config.toml
      migrator sandbox --tickets 2000 --latency 50ms --big 200MiB
      migrator sandbox --departments 200 --fault short_queries
      migrator sandbox --articles 500 --fault article --truth truth.json
      migrator sandbox --tickiti --mapping map.csv --fault lost_answer@2 >> config.toml
    """
    from migrator.errors import ConfigError
    from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
    from migrator.sandbox.tickiti import Tickiti

    if list_faults:
        _list_faults(tickiti=tickiti)
        return
    if mapping is not None and not tickiti:
        raise click.UsageError("--mapping is for --tickiti")
    try:
        options = SandboxOptions(
            seed=seed,
            tickets=tickets,
            faults=frozenset(() if tickiti else faults),
            latency=latency or 0.0,
            big=big,
            departments=departments,
            notes=notes,
            field_files=field_files,
            articles=articles,
            steps=steps,
            links=links,
        )
        helpdesk = Helpdesk.build(options)
        port = (8482 if tickiti else 8481) if port is None else port
        if tickiti:
            target = Tickiti(
                generation=generation,
                faults=faults,
                seed=seed,
                latency=options.latency,
                host=host,
                port=port,
            )
            _serve_tickiti(target, helpdesk, truth, mapping)
            return
        if truth is not None:
            _write_truth(helpdesk, truth)
        server = SandboxServer(helpdesk, host, port)
    except ValueError as error:
        wanted = "--tickiti --list-faults" if tickiti else "--list-faults"
        raise ConfigError(f"{error}; see `migrator sandbox {wanted}`") from error
    with _serving(server):
        others = sum(map(len, helpdesk.truths.values())) - len(helpdesk.truth)
        has = f"{len(helpdesk.truth):,} attachments, {others:,} other files"
        noted = f"{len(helpdesk.seen_notes):,} notes and time tracks"
        _wait(server.config, f"Sandbox with {has}, {noted} at {server.url}")


def _list_faults(*, tickiti: bool) -> None:
    from migrator.sandbox import kayako
    from migrator.sandbox import tickiti as target

    lines, in_all = kayako.ALL_FAULTS, kayako.IN_ALL
    if tickiti:
        lines = {name: fault.summary for name, fault in target.FAULTS.items()}
        in_all = target.IN_ALL
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{'*' if name in in_all else ' '} {name:<{width}}  {text}")


def _serve_tickiti(
    server: Tickiti, helpdesk: Helpdesk, truth: Path | None, mapping: Path | None
) -> None:
    """Serve a Tickiti that has the tickets of a helpdesk, with numbers of its own."""
    lines = ["kayako_ticket_id,ticket_number\n"]
    for ticket in sorted(helpdesk.tickets.values(), key=lambda one: one.id):
        closed = helpdesk.statuses[ticket.status_id].resolved
        made = server.add_ticket(
            ticket.subject, ticket.email, status="closed" if closed else "open"
        )
        lines.append(f"{ticket.id},{made.number}\n")
    told = ""
    if mapping is not None:
        write(lines, mapping)
        told += "# To deliver, take away the # below, or put both where they belong in yours:\n"
        told += '# author = "migration@example.com"\n'
        told += f"# [tickiti]\n# ticket_numbers = {json.dumps(str(mapping.resolve()))}\n"
    with _serving(server):
        _wait(
            f'[deliver]\nurl = "{server.url}"\ntoken = "{server.token}"\n{told}',
            f"Tickiti sandbox with {len(server.tickets):,} tickets at {server.url}",
        )
        if truth is not None:
            write([json.dumps(server.truth, indent=2) + "\n"], truth)
    note(f"Mails that a real Tickiti would have sent: {len(server.mails):,}.")


@contextlib.contextmanager
def _serving(server: SandboxServer | Tickiti) -> Iterator[None]:
    from migrator.errors import ConfigError

    with contextlib.ExitStack() as running:
        try:
            running.enter_context(server)
        except OSError as error:
            host, port = server.address
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        yield


def _wait(config: str, told: str) -> None:
    """Print what fits a server, and wait until somebody ends it."""
    ended = threading.Event()
    # From here on, so that a signal that comes meanwhile is not lost.
    with on_signals(lambda *_: ended.set(), *STOP_SIGNALS):
        click.echo(config, nl=False)
        sys.stdout.flush()
        note(f"{told}; Ctrl-C ends it.")
        ended.wait()


def _write_truth(helpdesk: Helpdesk, path: Path) -> None:
    told: dict[str, object] = {
        str(attachment_id): {
            "state": truth.state,
            "problem": truth.problem,
            "sha256": truth.sha256,
            "size": truth.size,
            "faults": list(truth.faults),
            "kind": kind,
        }
        for attachment_id, kind, truth in sorted(_truths(helpdesk), key=itemgetter(0))
    }
    if gaps := {**helpdesk.gaps, **helpdesk.field_gaps}:
        told["gaps"] = {str(ticket_id): fault for ticket_id, fault in sorted(gaps.items())}
    write([json.dumps(told, indent=2) + "\n"], path)


def _truths(helpdesk: Helpdesk) -> Iterator[tuple[int, str, Truth]]:
    """Yield every file that a run can learn of, under the ids that an archive gives it."""
    from migrator.sources.kayako import articles, fields, links

    unread = helpdesk.field_gaps
    for kind, truths in helpdesk.truths.items():
        for key, truth in truths.items():
            if kind == "linked":
                for ticket_id in helpdesk.tickets_with(key):
                    yield links.id_of(ticket_id, key), kind, truth
            elif kind == "customfield":
                ticket_id, field_id = fields.parts_of(key)
                if ticket_id not in unread:
                    yield fields.id_of(ticket_id, field_id), kind, truth
            else:
                yield articles.BASES.get(kind, 0) + int(key), kind, truth
