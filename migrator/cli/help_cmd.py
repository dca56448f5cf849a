"""``migrator help``: the commands, the help of one, or a page of the manual."""

from __future__ import annotations

import difflib
from importlib.resources import files
from typing import TYPE_CHECKING

import click

from migrator.cli import COMMANDS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_SUFFIX = ".md"


def topics() -> dict[str, str]:
    """Return the titles of the manual's pages by their topic, which is the name of the file."""
    found = {}
    for page in files("migrator").joinpath("docs").iterdir():
        if page.name.endswith(_SUFFIX):
            with page.open(encoding="utf-8") as text:
                found[page.name.removesuffix(_SUFFIX)] = text.readline().lstrip("# ").strip()
    return dict(sorted(found.items()))


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete commands and topics; after a command with subcommands, those."""
    from click.shell_completion import CompletionItem

    within = ctx.find_root()
    words = ctx.params.get(param.name or "") or ()
    for word in words:
        command = within.command
        found = command.get_command(within, word) if isinstance(command, click.Group) else None
        if found is None:
            return []
        within = click.Context(found, within, word)
    if words:
        return within.command.shell_complete(within, incomplete)
    told = topics() | COMMANDS
    return [CompletionItem(name, help=told[name]) for name in told if name.startswith(incomplete)]


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]", shell_complete=_complete)
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> None:  # noqa: A001 - the command's name
    """Show the help of a command, or a page of the manual.

    Without a word, lists the commands and the pages. On a terminal, a page is shown in the pager
    that PAGER names. Where a command and a page have one name, `migrator help NAME.md` shows the
    page.

    \b
    Examples:
      migrator help run
      migrator help token create
      migrator help buckets
    """
    root, pages = ctx.find_root(), topics()
    if not words:
        formatter = root.make_formatter()
        with formatter.section("Manual, as `migrator help TOPIC`"):
            formatter.write_dl(list(pages.items()))
        click.echo(f"{root.get_help()}\n\n{formatter.getvalue()}", nl=False)
    elif words[0] in COMMANDS:
        with root.command.make_context("migrator", [*words, "--help"], obj=ctx.obj) as again:
            root.command.invoke(again)
    elif (topic := "-".join(words).lower().removesuffix(_SUFFIX)) in pages:
        page = files("migrator").joinpath("docs", topic + _SUFFIX)
        click.echo_via_pager(page.read_text(encoding="utf-8").rstrip("\n"))
    else:
        near = difflib.get_close_matches(topic, [*COMMANDS, *pages], n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        ctx.fail(
            f"There is no command and no page of the manual {' '.join(words)!r}.{hint}\n"
            "`migrator help` lists them all."
        )
