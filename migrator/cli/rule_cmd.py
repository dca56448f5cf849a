"""``migrator rule``: which file types the endpoint hands out."""

from __future__ import annotations

import click

from migrator.cli._common import App, note, open_beside, pass_app, print_table
from migrator.errors import ConfigError


@click.group()
def rule() -> None:
    """Set which file types the endpoint hands out, by the last extension of the name.

    A type without a rule is handed out only to a client that says that staff has reviewed it.
    """


@rule.command("list")
@pass_app
def list_(app: App) -> None:
    """List all rules."""
    _, archive = open_beside(app)
    with archive:
        rules = archive.access.rules()
    rows = [(f".{name}", found.verdict, found.note) for name, found in sorted(rules.items())]
    print_table(("EXTENSION", "RULE", "NOTE"), rows)


@rule.command("set")
@click.argument("extension", metavar="EXT")
@click.argument("verdict", type=click.Choice(["allow", "block"]))
@click.option("--note", "remark", default="", help="Why; shown by `rule list`.")
@pass_app
def set_(app: App, extension: str, verdict: str, remark: str) -> None:
    """Allow or block all files whose names end in EXT.

    \b
    Example:
      migrator rule set log allow --note "our own devices write them"
    """
    name = _extension(extension)
    _, archive = open_beside(app)
    with archive:
        archive.access.set_rule(name, verdict, remark)
    note(f"Files named *.{name}: {verdict}.")


@rule.command()
@click.argument("extension", metavar="EXT")
@pass_app
def unset(app: App, extension: str) -> None:
    """Remove the rule for EXT: its files want a review again."""
    name = _extension(extension)
    _, archive = open_beside(app)
    with archive:
        if not archive.access.unset_rule(name):
            raise ConfigError(f"There is no rule for .{name}; `migrator rule list` shows all.")
    note(f"Files named *.{name}: staff must review them.")


def _extension(text: str) -> str:
    """Bring an extension into the form of the rules: lower case, without its dot."""
    name = text.strip().removeprefix(".").lower()
    if not name or not name.isprintable() or any(char in name for char in "./ "):
        raise click.BadParameter("must be one extension, such as pdf", param_hint="EXT")
    return name
