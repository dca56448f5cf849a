"""``migrator token``, ``rule`` and ``queue``: who may read what, and under which queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from migrator.cli.common import (
    ID,
    App,
    duration,
    from_archive,
    note,
    now,
    open_beside,
    pass_app,
    print_table,
)
from migrator.errors import ConfigError, MigratorError
from migrator.text import extension_of, find_id, iso_time, name_key

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.archive.records import Queue


@contextmanager
def _changing(app: App) -> Iterator[Archive]:
    """Open the archive for a change, which servers of its bucket must learn of."""
    config, archive = open_beside(app)
    with archive:
        yield archive
        if config.archive.publish:
            from migrator.cli.publish_cmd import tell_published

            tell_published(archive, config)


ABILITIES = ("tickets:read", "tickets:write", "workflow:read", "workflow:write")


@click.group()
def token() -> None:
    """Create, list and revoke tokens of the endpoint."""


@token.command()
@click.option("--name", required=True, help="Whose or what for; shown by `token list`.")
@click.option(
    "--ability",
    "abilities",
    type=click.Choice(ABILITIES),
    multiple=True,
    required=True,
    help="tickets:write includes reading. May be given twice.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="ID|NAME",
    shell_complete=from_archive("queues"),
    help="Only these queues. [all]",
)
@click.option("--not-staff", is_flag=True, help="The owner is no member of the staff.")
@click.option("--expires", callback=duration, metavar="DURATION", help="Such as 90d. [never]")
@pass_app
def create(
    app: App,
    *,
    name: str,
    abilities: tuple[str, ...],
    queues: tuple[str, ...],
    not_staff: bool,
    expires: float | None,
) -> None:
    """Create a token and print it, once, as the last line of stdout.

    \b
    Example:
      migrator token create --name reader --ability tickets:read --expires 90d
    """
    if not name.strip() or not name.isprintable():
        raise click.BadParameter("must be one line of text", param_hint="--name")
    with open_beside(app)[1] as archive:
        known = archive.access.queues()
        named = [(one.queue_id, one.name) for one in known]
        only = [find_id("queue", one, named) for one in queues] or None
        made, plaintext = archive.access.create_token(
            name.strip(),
            abilities=abilities,
            queues=only,
            is_staff=not not_staff,
            expires_at=None if expires is None else now() + int(expires),
        )
    until = f", until {iso_time(made.expires_at)}" if made.expires_at else ""
    warn_of_queues(known, only)
    note(f"Token {made.id} for {made.name}{until}. It is shown only now: only a hash is kept.")
    try:
        click.echo(plaintext)
    except (OSError, MigratorError):  # nobody has seen it, so nobody may use it
        with open_beside(app)[1] as archive:
            archive.access.revoke(made.id)
        note(f"Token {made.id} could not be printed and is revoked.", level="warning")
        raise
    with _changing(app):
        pass


class Doubt(NamedTuple):
    """Something that may let people see more than a queue's id or name says.

    ``meant`` is True where the operator has mapped all of it so.
    """

    queues: set[int]
    sentence: str
    meant: bool


def queue_doubts(queues: Iterable[Queue]) -> list[Doubt]:
    """Return the queues that stand for several departments, and names of several queues."""
    by_id, by_name = defaultdict(list), defaultdict(list)
    for one in queues:
        by_id[one.queue_id].append(one)
        by_name[name_key(one.name)].append(one)
    doubts = []
    for queue_id, group in by_id.items():
        if len(group) > 1:
            named = " and ".join(f"{one.department_id} ({one.title})" for one in group)
            text = f"Queue {queue_id} stands for the departments {named}: "
            text += "whoever may see one of them may see all"
            if own := [str(one.department_id) for one in group if not one.mapped]:
                text += f". Nothing maps {' and '.join(own)}, whose own id this is: map it too"
            doubts.append(Doubt({queue_id}, f"{text}.", meant=not own))
    for group in by_name.values():
        if len(ids := sorted({one.queue_id for one in group})) > 1:
            named = " and ".join(map(str, ids))
            text = f"Queues {named} have one name, {group[0].name}: who asks for it gets all."
            doubts.append(Doubt(set(ids), text, meant=all(one.mapped for one in group)))
    return doubts


def warn_of_queues(queues: Iterable[Queue], only: Collection[int] | None = None) -> None:
    """Tell the doubts about queues, or about those of ``only``; warn of what nobody meant."""
    for doubt in queue_doubts(queues):
        if only is None or not doubt.queues.isdisjoint(only):
            note(doubt.sentence, level="info" if doubt.meant else "warning")


@token.command("list")
@pass_app
def list_tokens(app: App) -> None:
    """List all tokens, without their secrets."""
    with open_beside(app)[1] as archive:
        rows = [
            (
                str(made.id),
                made.name,
                " ".join(sorted(made.abilities)),
                "all" if made.queues is None else " ".join(map(str, sorted(made.queues))),
                "yes" if made.is_staff else "no",
                iso_time(made.expires_at) or "never",
                iso_time(made.last_used_at) or "never",
                f"revoked {iso_time(made.revoked_at)}" if made.revoked_at else "",
            )
            for made in archive.access.tokens()
        ]
    head = ("ID", "NAME", "ABILITIES", "QUEUES", "STAFF", "EXPIRES", "LAST USED", "")
    print_table(head, rows)


@token.command()
@click.argument("which", metavar="ID|NAME", shell_complete=from_archive("tokens"))
@pass_app
def revoke(app: App, which: str) -> None:
    """Revoke a token by its id or name; its next request is refused."""
    with _changing(app) as archive:
        valid = [(one.id, one.name) for one in archive.access.tokens() if not one.revoked_at]
        token_id = find_id("valid token", which, valid)
        archive.access.revoke(token_id)
    note(f"Token {token_id} is revoked.")


@click.group()
def rule() -> None:
    """Set which file types the endpoint hands out, by the last extension of the name.

    A type without a rule is handed out only to a client that states that staff has reviewed it.
    """


def _extension(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return an extension as the rules have it: lower case, without its dot."""
    name = value.strip().removeprefix(".")
    extension = extension_of(f".{name}")
    if not extension or not name.isprintable() or any(char in name for char in "./ "):
        raise click.BadParameter("must be one extension, such as pdf", ctx, param)
    return extension


@rule.command("list")
@pass_app
def list_rules(app: App) -> None:
    """List all rules."""
    with open_beside(app)[1] as archive:
        rules = archive.access.rules()
    rows = [(f".{name}", found.verdict, found.note) for name, found in sorted(rules.items())]
    print_table(("EXTENSION", "RULE", "NOTE"), rows)


@rule.command("set")
@click.argument(
    "extension", metavar="EXT", callback=_extension, shell_complete=from_archive("rules")
)
@click.argument("verdict", type=click.Choice(["allow", "block"]))
@click.option("--note", "remark", default="", help="Why; shown by `rule list`.")
@pass_app
def set_rule(app: App, extension: str, verdict: str, remark: str) -> None:
    """Allow or block all files whose names end in EXT.

    \b
    Example:
      migrator rule set log allow --note "our own devices write them"
    """
    with _changing(app) as archive:
        archive.access.set_rule(extension, verdict, remark)
    note(f"Files named *.{extension}: {verdict}.")


@rule.command("unset")
@click.argument(
    "extension", metavar="EXT", callback=_extension, shell_complete=from_archive("rules")
)
@pass_app
def unset_rule(app: App, extension: str) -> None:
    """Remove the rule for EXT: its files need a review again."""
    with _changing(app) as archive:
        if not archive.access.unset_rule(extension):
            raise ConfigError(f"There is no rule for .{extension}; `migrator rule list` shows all.")
    note(f"Files named *.{extension}: staff must review them.")


@click.group()
def queue() -> None:
    """Map Kayako's departments to queues of Tickiti.

    A department without a queue keeps its own id and title. [tickiti.queues] in the
    configuration takes precedence over `queue map`.
    """


@queue.command("list")
@pass_app
def list_queues(app: App) -> None:
    """List all departments with their queues."""
    with open_beside(app)[1] as archive:
        queues = archive.access.queues()
    rows = [
        (str(q.department_id), q.title, str(q.queue_id), q.name, f"{q.tickets:,}") for q in queues
    ]
    warn_of_queues(queues)
    print_table(("DEPARTMENT", "TITLE", "QUEUE", "NAME", "TICKETS"), rows)


@queue.command("map")
@click.argument("which", metavar="DEPARTMENT", shell_complete=from_archive("departments"))
@click.option("--id", "queue_id", type=ID, required=True, help="Id of the queue.")
@click.option("--name", required=True, help="Name of the queue.")
@pass_app
def map_queue(app: App, which: str, queue_id: int, name: str) -> None:
    """Map DEPARTMENT, an id or title of Kayako, to a queue.

    \b
    Example:
      migrator queue map 3 --id 12 --name Sales
    """
    if not name.strip() or not name.isprintable():
        raise click.BadParameter("must be one line of text", param_hint="--name")
    with _changing(app) as archive:
        department = _department(app, archive, which)
        archive.access.map_queue(department, queue_id, name.strip())
        warn_of_queues(archive.access.queues(), {queue_id})
    note(f"Department {department} is queue {queue_id}, {name.strip()}.")


@queue.command("unmap")
@click.argument("which", metavar="DEPARTMENT", shell_complete=from_archive("departments"))
@pass_app
def unmap_queue(app: App, which: str) -> None:
    """Remove the queue of DEPARTMENT: it gets its own id and title again."""
    with _changing(app) as archive:
        department = _department(app, archive, which)
        if not archive.access.unmap_queue(department):
            raise ConfigError(f"Department {department} has no queue; `migrator queue list`.")
        warn_of_queues(archive.access.queues(), {department})
    note(f"Department {department} keeps its own id and title.")


def _department(app: App, archive: Archive, which: str) -> int:
    """Return the id of a department whose queue the configuration does not name."""
    department = find_id(
        "department", which, [(one.department_id, one.title) for one in archive.access.queues()]
    )
    config = app.load(need_source=False)
    if department in config.tickiti.queues:
        raise ConfigError(
            f"{config.path} maps department {department} in [tickiti.queues], which comes first. "
            "Change it there."
        )
    return department
