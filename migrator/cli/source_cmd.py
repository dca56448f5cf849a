"""A sink for the attachments that are fetched by hand, which keeps a file.

``migrator source``: Kayako's attachment calls by hand, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.blobs import durable
from migrator.cli.common import (
    ID,
    App,
    note,
    pass_app,
    print_table,
    settings_from,
    tell_retry,
)
from migrator.errors import ConfigError, NotFound
from migrator.sources.base import HashSink
from migrator.text import human_bytes, iso_time, shown

if TYPE_CHECKING:
    from migrator.sources.kayako.client import Client


class FileSink(HashSink):
    """A sink that becomes a file in ``folder`` when it is kept; OSError ends here."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        with _writing(folder):
            self._file = durable.NewFile(folder / f".migrator-{secrets.token_hex(8)}")

    def write(self, data: bytes, /) -> None:
        """Take the next bytes; raises ConfigError when they cannot be written."""
        super().write(data)
        with _writing(self._folder):
            self._file.write(data)

    def keep(self, target: Path) -> None:
        """Give the file its name, whole and on disk; an existing file stays as it is."""
        with _writing(target):
            try:
                self._file.publish(target, durable.PRIVATE_FILE, replace=False)
            except FileExistsError:
                raise ConfigError(
                    f"{str(target)!r} is there already and stays as it is; name another "
                    "with --output."
                ) from None
            durable.sync_dir(target.parent)
        self._file.close()

    def abort(self) -> None:
        """Remove the temporary file; harmless when called again."""
        self._file.close()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(f"Cannot write {str(path)!r}: {exc.strerror}.") from exc


_UNSAFE = frozenset('/\\:*?"<>|')
_NAME_BYTES = 200


@click.group()
def source() -> None:
    """Kayako by hand: list, get, upload or delete one attachment."""


@source.command("list")
@click.argument("ticket", type=ID)
@click.option("--post", type=ID, help="Only this post's; reads the files and shows their SHA-256.")
@pass_app
def list_(app: App, ticket: int, post: int | None) -> None:
    """List the attachments of TICKET, a ticket id of Kayako."""
    if post is None:
        asyncio.run(_list(app, ticket))
    else:
        asyncio.run(_list_post(app, ticket, post))


async def _list(app: App, ticket: int) -> None:
    async with _source(app) as kayako:
        found = await kayako.attachments(ticket)
    rows = [
        (
            str(a.id),
            str(a.post_id),
            f"{a.filesize:,}",
            a.filetype,
            iso_time(a.created_at),
            a.filename,
        )
        for a in found
    ]
    print_table(("ID", "POST", "BYTES", "TYPE", "CREATED", "NAME"), rows)


async def _list_post(app: App, ticket: int, post: int) -> None:
    async with _source(app) as kayako:
        found = await kayako.post_attachments(ticket, post, HashSink)
    rows = [
        (
            str(c.attachment.id),
            f"{c.size:,}",
            sink.sha256 if c.present else "no bytes",
            c.attachment.filename,
        )
        for c, sink in found
    ]
    print_table(("ID", "BYTES", "SHA-256", "NAME"), rows)


@source.command()
@click.argument("ticket", type=ID)
@click.argument("attachment", type=ID)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; an existing file stays. [its own name, made safe]",
)
@pass_app
def get(app: App, ticket: int, attachment: int, output: Path | None) -> None:
    """Fetch ATTACHMENT of TICKET into a file; prints a line for `sha256sum -c`.

    \b
    Example:
      migrator source get 120 4711
    """
    asyncio.run(_get(app, ticket, attachment, output))


async def _get(app: App, ticket: int, attachment: int, output: Path | None) -> None:
    folder = output.parent if output else Path()
    with contextlib.ExitStack() as stack:

        def make() -> FileSink:
            sink = FileSink(folder)
            stack.callback(sink.abort)  # one for each try
            return sink

        async with _source(app) as kayako:
            contents, sink, _ = await kayako.fetch(ticket, attachment, make)
        declared = contents.attachment.filesize
        if not contents.present and declared:
            raise NotFound(
                f"Kayako lists {declared:,} bytes for attachment {attachment}, but has none."
            )
        if contents.size != declared:
            note(f"Kayako lists {declared:,} bytes, but sent {contents.size:,}.", level="warning")
        target = output or Path(safe_name(contents.attachment.filename, attachment))
        sink.keep(target)
    click.echo(f"{sink.sha256}  {shown(str(target))}")


@source.command()
@click.argument("ticket", type=ID)
@click.argument("post", type=ID)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@pass_app
def upload(app: App, ticket: int, post: int, file: Path) -> None:
    """Add FILE to POST of TICKET; prints the id of the new attachment.

    It is sent once: after a lost answer, look with `migrator source list` before trying again.
    """
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"Cannot read {str(file)!r}: {exc.strerror}.") from exc
    name = os.fsencode(file.name).decode("utf-8", "replace")
    asyncio.run(_upload(app, ticket, post, name, data))


async def _upload(app: App, ticket: int, post: int, name: str, data: bytes) -> None:
    async with _source(app) as kayako:
        made = await kayako.upload(ticket, post, name, data)
    note(f"Kayako has it as attachment {made.id}: {made.filename}, {made.filesize:,} bytes.")
    if made.filesize != len(data):
        note(f"But the file has {len(data):,} bytes.", level="warning")
    click.echo(str(made.id))


@source.command()
@click.argument("ticket", type=ID)
@click.argument("attachment", type=ID)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_app
def delete(app: App, ticket: int, attachment: int, *, yes: bool) -> None:
    """Delete ATTACHMENT of TICKET at Kayako, for good; asks first."""
    asyncio.run(_delete(app, ticket, attachment, sure=yes))


async def _delete(app: App, ticket: int, attachment: int, *, sure: bool) -> None:
    async with _source(app) as kayako:
        found = [a for a in await kayako.attachments(ticket) if a.id == attachment]
        if not found:
            raise NotFound(f"Ticket {ticket} has no attachment {attachment}.")
        size = human_bytes(found[0].filesize)
        what = f"attachment {attachment} of ticket {ticket}: {shown(found[0].filename)}, {size}"
        if not sure and not _confirmed(what):
            raise ConfigError("Nothing was deleted. Answer y, or give --yes.")
        await kayako.delete(ticket, attachment)
    note(f"Deleted {what}.")


def _confirmed(what: str) -> bool:
    try:
        return click.confirm(f"Delete {what}, at Kayako and for good?", err=True)
    except click.Abort:  # no terminal to ask on, or Ctrl-C: both are no yes
        click.echo(err=True)
        return False


def _source(app: App) -> Client:
    from migrator.sources.kayako.client import Client

    return Client(settings_from(app.load()), listener=tell_retry)


def safe_name(name: str, attachment: int) -> str:
    """Make a plain file name of what a stranger called a file; never a path, hidden or empty."""
    plain = "".join(c if c.isprintable() and c not in _UNSAFE else "_" for c in name)
    plain = plain.lstrip(".- ").rstrip(". ")
    while len(plain.encode()) > _NAME_BYTES:
        stem, dot, extension = plain.rpartition(".")
        plain = f"{stem[:-1]}{dot}{extension}" if stem else plain[:-1]
    return plain or f"attachment-{attachment}"
