"""``migrator source``: Kayako's attachment calls by hand, one at a time."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from migrator.blobs import durable
from migrator.cli.common import (
    ID,
    App,
    note,
    pass_app,
    print_retry,
    print_table,
    settings_from,
)
from migrator.cli.process import STOP_SIGNALS, on_signals, run_loop
from migrator.errors import ConfigError, Interrupted, NotFound, user_file
from migrator.sources.base import HashSink
from migrator.text import brief, human_bytes, iso_time, served_name, shown

if TYPE_CHECKING:
    from migrator.sources.kayako.client import Client


def _ticket_id(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read Kayako's id of a ticket, also with a # before it: it takes no other name of one."""
    found = re.fullmatch(r"#?0*([0-9]{1,18})", value.strip(), re.ASCII)
    if found is None:
        text = "is no ticket id: that is the number in its address, not ABC-123-45678"
        raise click.BadParameter(f"{brief(value)!r} {text}", ctx, param)
    return int(found[1])


class FileSink(HashSink):
    """A sink that becomes a file in ``folder`` when it is kept; it handles OSError."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        with user_file(folder, "write"):
            self._file = durable.NewFile(folder / f".migrator-{secrets.token_hex(8)}")

    def write(self, data: bytes, /) -> None:
        """Write the next bytes; raises ConfigError when that fails."""
        super().write(data)
        with user_file(self._folder, "write"):
            self._file.write(data)

    def keep(self, target: Path) -> None:
        """Sync the file and give it its name; an existing file stays as it is."""
        with user_file(target, "write"):
            try:
                self._file.publish(target, durable.PRIVATE_FILE, replace=False)
            except FileExistsError:
                raise ConfigError(
                    f"{str(target)!r} already exists and stays as it is; name another "
                    "with --output."
                ) from None
            durable.sync_dir(target.parent)

    def abort(self) -> None:
        """Remove what was not kept; harmless when called again."""
        self._file.close()


def asking(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Return a command for a coroutine that takes the configured Kayako first."""

    @functools.wraps(work)
    def command(app: App, **options: Any) -> None:
        async def main() -> None:
            from migrator.sources.kayako.client import Client

            async with Client(
                settings_from(app.load(), by_hand=True), listener=print_retry
            ) as kayako:
                await work(kayako, **options)

        run_loop(main())

    return pass_app(command)


@click.group()
def source() -> None:
    """Call Kayako by hand: list, get, upload or delete one attachment."""


@source.command("list")
@click.argument("ticket", callback=_ticket_id)
@click.option("--post", type=ID, help="Only this post's; reads the files and shows their SHA-256.")
@asking
async def list_(kayako: Client, ticket: int, post: int | None) -> None:
    """List the attachments of TICKET, a ticket id of Kayako."""
    if post is None:
        rows = [
            (
                str(a.id),
                str(a.post_id),
                f"{a.filesize:,}",
                a.filetype,
                iso_time(a.created_at),
                a.filename,
            )
            for a in await kayako.attachments(ticket)
        ]
        print_table(("ID", "POST", "BYTES", "TYPE", "CREATED", "NAME"), rows)
        return
    hashed = [
        (
            str(c.attachment.id),
            f"{c.size:,}",
            sink.sha256 if c.present else "no bytes",
            c.attachment.filename,
        )
        for c, sink in await kayako.post_attachments(ticket, post, HashSink)
    ]
    print_table(("ID", "BYTES", "SHA-256", "NAME"), hashed)


@source.command()
@click.argument("ticket", callback=_ticket_id)
@click.argument("attachment", type=ID)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; an existing file stays. [its own name, made safe]",
)
@asking
async def get(kayako: Client, ticket: int, attachment: int, output: Path | None) -> None:
    """Fetch ATTACHMENT of TICKET into a file; prints a line for `sha256sum -c`.

    \b
    Example:
      migrator source get 120 4711
    """
    with contextlib.ExitStack() as stack:

        def make() -> FileSink:
            sink = FileSink(output.parent if output else Path())
            stack.callback(sink.abort)
            return sink

        contents, sink, _ = await kayako.fetch(ticket, attachment, make)
        declared = contents.attachment.filesize
        if not contents.present and declared:
            raise NotFound(
                f"Kayako lists {declared:,} bytes for attachment {attachment}, but has none."
            )
        if contents.size != declared:
            note(f"Kayako lists {declared:,} bytes, but sent {contents.size:,}.", level="warning")
        target = output or Path(served_name(contents.attachment.filename, attachment))
        sink.keep(target)
    click.echo(f"{sink.sha256}  {shown(str(target))}")


@source.command()
@click.argument("ticket", callback=_ticket_id)
@click.argument("post", type=ID)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@asking
async def upload(kayako: Client, ticket: int, post: int, file: Path) -> None:
    """Add FILE to POST of TICKET; prints the id of the new attachment.

    It is sent once: after a lost answer, look with `migrator source list` before trying again.
    """
    data = _read(file)
    name = os.fsencode(file.name).decode("utf-8", "replace")
    made = await kayako.upload(ticket, post, name, data)
    note(f"Kayako has it as attachment {made.id}: {made.filename}, {made.filesize:,} bytes.")
    if made.filesize != len(data):
        note(f"But the file has {len(data):,} bytes.", level="warning")
    click.echo(str(made.id))


def _read(file: Path) -> bytes:
    with user_file(file):
        return file.read_bytes()


@source.command()
@click.argument("ticket", callback=_ticket_id)
@click.argument("attachment", type=ID)
@click.option("--yes", is_flag=True, help="Do not ask.")
@asking
async def delete(kayako: Client, ticket: int, attachment: int, *, yes: bool) -> None:
    """Delete ATTACHMENT of TICKET at Kayako, for good; asks first."""
    found = [a for a in await kayako.attachments(ticket) if a.id == attachment]
    if not found:
        raise NotFound(f"Ticket {ticket} has no attachment {attachment}.")
    size = human_bytes(found[0].filesize)
    what = f"attachment {attachment} of ticket {ticket}: {shown(found[0].filename)}, {size}"
    if not yes and not _confirmed(what):
        raise ConfigError("Nothing was deleted. Answer y, or give --yes.")
    await kayako.delete_attachment(ticket, attachment)
    note(f"Deleted {what}.")


def _interrupted(*_: object) -> NoReturn:
    raise Interrupted("Interrupted; nothing was deleted.")


def _confirmed(what: str) -> bool:
    try:
        with on_signals(_interrupted, *STOP_SIGNALS):  # the loop cannot hear them meanwhile
            return click.confirm(f"Delete {what}, at Kayako and for good?", err=True)
    except click.Abort:  # no terminal is no yes
        click.echo(err=True)
        return False
