"""``migrator token``: who may read from the endpoint."""

from __future__ import annotations

import click

from migrator.cli._common import ID, App, duration, note, now, open_beside, pass_app, print_table
from migrator.errors import ConfigError
from migrator.text import iso_time

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
@click.option("--queue", "queues", type=ID, multiple=True, help="Only these queues. [all]")
@click.option("--not-staff", is_flag=True, help="The owner is no member of the staff.")
@click.option("--expires", callback=duration, metavar="DURATION", help="Such as 90d. [never]")
@pass_app
def create(
    app: App,
    *,
    name: str,
    abilities: tuple[str, ...],
    queues: tuple[int, ...],
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
    _, archive = open_beside(app)
    with archive:
        made, plaintext = archive.access.create_token(
            name.strip(),
            abilities=abilities,
            queues=queues or None,
            is_staff=not not_staff,
            expires_at=None if expires is None else now() + int(expires),
        )
    until = f", until {iso_time(made.expires_at)}" if made.expires_at else ""
    note(f"Token {made.id} for {made.name}{until}. It is shown only now: only a hash is kept.")
    click.echo(plaintext)


@token.command("list")
@pass_app
def list_(app: App) -> None:
    """List all tokens, without their secrets."""
    _, archive = open_beside(app)
    with archive:
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
@click.argument("token_id", metavar="ID", type=ID)
@pass_app
def revoke(app: App, token_id: int) -> None:
    """Revoke the token ID; its next request is refused."""
    _, archive = open_beside(app)
    with archive:
        if not archive.access.revoke(token_id):
            raise ConfigError(f"There is no token {token_id} that could be revoked.")
    note(f"Token {token_id} is revoked.")
