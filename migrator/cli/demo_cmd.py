"""``migrator demo``: the whole story in one command, on the built-in sandbox."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.common import App, pass_app

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.archive.records import Row
    from migrator.sandbox.kayako import SandboxServer
    from migrator.sandbox.tickiti import Tickiti


@click.command()
@click.option(
    "--tickets",
    default=60,
    show_default=True,
    type=click.IntRange(1),
    help="Tickets of the helpdesk.",
)
@click.option(
    "--all-faults", is_flag=True, help="Faults that cost files, too; ends with exit code 3."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the archive here."
)
@click.option("--s3", is_flag=True, help="Keep the files in a SeaweedFS; needs [s3-test].")
@pass_app
def demo(app: App, *, tickets: int, all_faults: bool, keep: Path | None, s3: bool) -> int:
    """Show the whole story without a helpdesk: pull, ledger, endpoint, download, delivery.

    Starts a Kayako look-alike that misbehaves in many ways, pulls every attachment from it,
    prints the ledger, serves the archive as Tickiti would, and reads one file back. Then it
    delivers all files into a look-alike of a live Tickiti, and reads one back from there.
    """
    from migrator.archive import open_archive, open_beside
    from migrator.cli.progress import progress
    from migrator.cli.pulling import pull
    from migrator.cli.run_cmd import conclude
    from migrator.pull.options import RunOptions
    from migrator.sandbox.kayako import (
        HARMLESS_FAULTS,
        IN_ALL,
        Helpdesk,
        SandboxOptions,
        SandboxServer,
    )
    from migrator.sandbox.tickiti import Tickiti
    from migrator.serve.catalog import EndpointSettings
    from migrator.serve.server import BackgroundServer
    from migrator.serve.tickiti import build_app

    faults = IN_ALL if all_faults else HARMLESS_FAULTS
    helpdesk = Helpdesk.build(SandboxOptions(tickets=tickets, faults=faults))
    if s3 and keep is not None:
        raise click.UsageError("--s3 and --keep do not go together: the bucket ends with the demo.")
    with _folder(keep) as root, contextlib.ExitStack() as stack:
        _see_ours(root)
        if s3:
            stack.enter_context(_bucket(root))
        with SandboxServer(helpdesk) as server:
            _say(f"1. A Kayako Classic look-alike listens at {server.url}")
            click.echo(f"   {tickets:,} tickets, {len(faults):,} ways to misbehave")
            _say("2. migrator run")
            # An earlier demo's look-alike had another port.
            options = RunOptions(
                source_name=server.url, kind="demo", posts=True, linked=True, moved=True
            )
            with open_archive(root, command="demo") as archive:
                with progress(app.log_format) as listener:
                    result = pull(_settings(server), archive, options, listener)
                _say("3. The closing ledger")
                code = conclude(archive, result)
        _say("4. The archive answers as Tickiti does")
        with (
            open_beside(root) as archive,
            BackgroundServer(build_app(archive, EndpointSettings())) as endpoint,
        ):
            _download(archive, endpoint.url)
        with Tickiti() as live:
            _say(f"5. migrator deliver, into a look-alike of a live Tickiti at {live.url}")
            with open_archive(root, command="demo") as archive:
                _deliver(app, archive, live)
        if keep:
            click.echo(f"\nThe archive is in {keep}.")
    return code


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="migrator-demo-") as name:
        yield Path(name) / "archive"


@contextlib.contextmanager
def _bucket(root: Path) -> Iterator[None]:
    """Let the archive at ``root`` keep its files in a bucket of a real object store."""
    import os
    import uuid

    from migrator.blobs import Place, choose
    from migrator.errors import ConfigError
    from migrator.sandbox.bucket import BUCKET, ObjectStore

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "demo")
    with tempfile.TemporaryDirectory(prefix="migrator-demo-") as folder:
        store = ObjectStore(Path(folder))
        try:
            try:
                store.start()
            except (FileNotFoundError, TimeoutError) as error:
                raise ConfigError(f"{error}.") from error
            place = Place(f"s3://{BUCKET}/{uuid.uuid4().hex}", store.url, "us-east-1", True)
            choose(root, place)
            click.echo(f"   The files are in {place.url} at {store.url}")
            yield
        finally:
            store.kill()


def _see_ours(root: Path) -> None:
    """Raise ConfigError unless a directory is empty, missing, or made by an earlier demo."""
    from migrator.archive import open_beside
    from migrator.errors import ConfigError

    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    kinds = set()
    if (root / "checkpoint.db").is_file():
        with open_beside(root) as archive:
            kinds = {run.kind for run in archive.queries.runs(1000)}
    if kinds != {"demo"}:
        raise ConfigError(
            f"{str(root)!r} was not made by a demo and stays as it is: name a directory "
            "that is empty or does not exist yet."
        )


def _settings(server: SandboxServer) -> Any:
    from migrator.sources.kayako.signing import Credentials, KayakoSettings

    return KayakoSettings(server.url, Credentials(server.api_key, server.secret_key))


def _say(text: str) -> None:
    click.echo(f"\n{text}\n")


def _download(archive: Archive, url: str) -> None:
    """Download one file from the endpoint with a separate client, and compare the bytes."""
    import urllib.request

    row = _pick(archive)
    _, token = archive.access.create_token(
        "demo", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
    )
    asked = {"ticket_number": row.ticket_number, "response_attachment_id": str(row.id)}
    click.echo(f"   POST {url}/api/v1/tickets/attachment")
    click.echo(f"   {json.dumps(asked)}\n")
    request = urllib.request.Request(  # noqa: S310 - our own server, plain http
        f"{url}/api/v1/tickets/attachment",
        data=json.dumps(asked).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        data = json.load(response)["data"]
    content = base64.b64decode(data["content_base64"], validate=True)
    shown = {**data, "content_base64": data["content_base64"][:24] + "…"}
    for line in json.dumps(shown, indent=2, ensure_ascii=False).splitlines():
        click.echo(f"   {line}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != row.sha256 or len(content) != row.size:
        raise AssertionError("the endpoint sent other bytes than the archive holds")
    click.echo(f"\n   {len(content):,} bytes, SHA-256 as stored: byte for byte the same.")


def _deliver(app: App, archive: Archive, live: Tickiti) -> None:
    """Deliver everything, see that no mail went out, and read one file back."""
    from migrator.cli.deliver_cmd import demonstrate
    from migrator.config import DeliverConfig

    numbers = {}
    for ticket in archive.threads.all_tickets():
        if ticket.merged_into is None:
            made = live.add_ticket(ticket.subject, ticket.requester_email or "nobody@example.com")
            numbers[ticket.id] = str(made.number)
    archive.access.apply_config({}, numbers)
    settings = DeliverConfig.model_validate(
        {"url": live.url, "token": live.token, "author": "migration@example.com"}
    )
    demonstrate(app, settings, archive)
    row = next(  # an archive that is kept also knows the look-alikes of earlier demos
        one
        for one in archive.queries.delivered_lines()
        if one.state == "delivered" and one.target.startswith(live.url)
    )
    file = next(
        one for one in live.files(int(row.ticket_number or 0)) if str(one.id) == row.there_id
    )
    click.echo(f"\n   Attachment {row.there_id} of ticket {row.ticket_number} there: {file.name}")
    if hashlib.sha256(live.read(file)).hexdigest() != row.sha256:
        raise AssertionError("the live Tickiti has other bytes than the archive holds")
    click.echo(f"   {file.file_size:,} bytes, SHA-256 as stored. Mails sent: {len(live.mails)}.")


def _pick(archive: Archive) -> Row:
    """Return a file that needs no confirmation and is worth looking at."""
    from migrator.archive.records import State
    from migrator.serve.catalog import Gate, gate

    rules = archive.access.rules()
    rows = archive.queries.rows(states=[State.STORED])
    allowed = (row for row in rows if gate(rules, row.filename) is Gate.ALLOW and row.size)
    return next(allowed)
