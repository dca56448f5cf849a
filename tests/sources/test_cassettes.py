"""Recorded exchanges of every shape, replayed without a network and read as they always were.

``MIGRATOR_RECORD=1 pytest tests/sources/test_cassettes.py`` records them anew; cassettes/README.md
says where each comes from.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx
import pytest
import vcr
from vcr.errors import CannotOverwriteExistingCassetteException

from migrator.errors import NotFound, SourceRefused, WrongTicket
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer, calls, files, model
from migrator.sources.base import Attachment, Department, Post, TicketStatus
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.signing import Credentials, KayakoSettings

yaml: Any = importlib.import_module("yaml")  # vcrpy brings it, without types
T = TypeVar("T")
Interaction = dict[str, Any]

CASSETTES = Path(__file__).parents[2] / "cassettes"
RECORD = os.environ.get("MIGRATOR_RECORD") == "1"
HOST = "help.example.com"
URL = f"http://{HOST}/api/index.php"
REPLAY_KEYS = Credentials("the-key-of-a-replay", "the-secret-of-a-replay")
SIGNED = ["apikey", "salt", "signature"]
NOW = 1_700_000_000
PNG_SHA256 = "29be9ef9bc6f6a08c7d514035e29c1b751d2f4b697bb6c8317361f9a08163c07"
BINARY = bytes(range(256)) + b"\xfb\xef\xbe\xff\xff\xfe"


# The helpdesk that is recorded: small, made by hand, and always the same


def helpdesk(*switches: str, **faults: int) -> Helpdesk:
    """Make it; ``faults`` names the attachment that each of them hits."""
    desk = Helpdesk(SandboxOptions(tickets=0, faults=frozenset(switches)))
    for department in (
        model.Department(1, "Support & Hilfe"),
        model.Department(2, "Sales", type="private", parent_id=1),
        model.Department(3, "Live Chat", app="livechat"),
    ):
        desk.departments[department.id] = department
    for status in (
        model.Status(1, "Open"),
        model.Status(2, "Closed", resolved=True),
        model.Status(3, "Waiting for parcel", department_id=2),
    ):
        desk.statuses[status.id] = status
    for ticket_id, department_id, status_id in ((3, 1, 1), (4, 2, 2), (6, 1, 2)):
        ticket = model.Ticket(
            id=ticket_id,
            mask=f"ABC-123-0000{ticket_id}",
            department_id=department_id,
            status_id=status_id,
            subject="Ends with ]]> & <b>tags</b>",
            user="Jane Döe",
            created_at=NOW + ticket_id,
            last_activity=NOW + 100 * ticket_id,
            user_id=9,
        )
        question = model.Post(0, 0, NOW + ticket_id, 2, "My printer smokes.")
        desk.add_ticket(ticket, [question, replace(question, creator=1, text="<p>Unplug it.</p>")])
    first, second = (desk.posts_of(3)[n] for n in (0, 1))
    for post, name, data in (
        (first, "printer.log", b"smoke\n"),
        (first, "Foto ü ]]>.jpg", BINARY),
        (second, "empty.txt", b""),
        (desk.posts_of(6)[0], "order.csv", b"1;2\n"),
    ):
        source = files.Source("given", given=data)
        desk.insert(desk.posts[post.id], name, source, NOW)
    for fault, attachment_id in faults.items():
        desk.attachments[attachment_id] = replace(desk.attachments[attachment_id], fault=fault)
    return desk


PRINTER_LOG = Attachment(1, 3, 1, "printer.log", 6, "text/log", NOW)
FOTO = Attachment(2, 3, 1, "Foto ü ]]>.jpg", len(BINARY), "image/jpeg", NOW)
EMPTY = Attachment(3, 3, 2, "empty.txt", 0, "text/plain", NOW)


# Recording and replaying


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


READABLE = type("Readable", (yaml.SafeDumper,), {})
yaml.add_representer(str, _text, READABLE)


def serialize(cassette: dict[str, Any]) -> str:
    """Write a cassette, its documents line by line, so that it can be read and reviewed."""
    return str(yaml.dump(cassette, Dumper=READABLE, allow_unicode=True, sort_keys=False, width=99))


def deserialize(text: str) -> Any:
    """Read a cassette."""
    return yaml.safe_load(text)


def scrub_request(request: Any) -> Any:
    """Keep of a request what a reply depends on, at a host that does not exist."""
    parts = urlsplit(request.uri)
    request.uri = urlunsplit((parts.scheme, HOST, parts.path, parts.query, ""))
    request.headers = {k: v for k, v in request.headers.items() if k.lower() == "content-type"}
    return request


def scrub_response(response: Any) -> Any:
    """Drop what differs from one recording to the next."""
    dropped = {"date", "server"}
    response["headers"] = {k: v for k, v in response["headers"].items() if k.lower() not in dropped}
    return response


RECORDER = vcr.VCR(
    cassette_library_dir=str(CASSETTES),
    serializer="readable",
    path_transformer=vcr.VCR.ensure_suffix(".yaml"),
    record_mode=vcr.mode.ALL if RECORD else vcr.mode.NONE,
    match_on=["method", "path", "query", "body"],
    filter_query_parameters=SIGNED,
    filter_post_data_parameters=SIGNED,
    before_record_request=scrub_request,
    before_record_response=scrub_response,
)
RECORDER.register_serializer(
    "readable", SimpleNamespace(serialize=serialize, deserialize=deserialize)
)


@contextmanager
def sandbox(desk: Helpdesk, keys: Credentials | None) -> Iterator[KayakoSettings]:
    """Serve a helpdesk, to be recorded."""
    with SandboxServer(desk) as server:
        keys = keys or Credentials(server.api_key, server.secret_key)
        yield KayakoSettings(server.url, keys)


@contextmanager
def documentation(desk: str) -> Iterator[KayakoSettings]:
    """Serve the sample of Kayako's documentation that is kept in a file, to be recorded."""
    body = (Path(__file__).parent / "data" / desk).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Log nothing: the target would show a signature."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/api/index.php"
            yield KayakoSettings(url, REPLAY_KEYS)
        finally:
            server.shutdown()
            thread.join()


def play(
    name: str,
    call: Callable[[Client], Awaitable[T]],
    *,
    of: Helpdesk | str | None = None,
    keys: Credentials | None = None,
) -> T:
    """Replay a cassette; or record it, from a helpdesk or from a sample in a file."""

    async def main(settings: KayakoSettings) -> T:
        # vcrpy stands in httpx's own transports.
        inner = httpx.AsyncHTTPTransport()
        async with Client(replace(settings, attempts=1), inner=inner) as source:
            return await call(source)

    if not RECORD:
        with RECORDER.use_cassette(name) as cassette:
            result = asyncio.run(main(KayakoSettings(URL, REPLAY_KEYS)))
            assert cassette.all_played
            return result
    (CASSETTES / f"{name}.yaml").unlink(missing_ok=True)
    recorded = documentation(of) if isinstance(of, str) else sandbox(of or helpdesk(), keys)
    with recorded as settings, RECORDER.use_cassette(name):
        return asyncio.run(main(settings))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a replay reach no network, and a recording always happen at the same time."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(calls, "time", SimpleNamespace(time=lambda: NOW + 5))
    if not RECORD:

        def refuse(*_args: object) -> None:
            raise AssertionError("a replay must not connect to anything")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)


class Sink(bytearray):
    """Keeps what it is given."""

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        self.extend(data)

    def abort(self) -> None:
        """Forget them."""
        self.clear()


# The shapes


def test_departments() -> None:
    """GET /Base/Department."""
    assert play("departments", lambda source: source.departments()) == [
        Department(1, "Support & Hilfe"),
        Department(2, "Sales", type="private", parent_id=1),
        Department(3, "Live Chat", app="livechat"),
    ]


def test_statuses() -> None:
    """GET /Tickets/TicketStatus."""
    assert play("statuses", lambda source: source.statuses()) == [
        TicketStatus(1, "Open"),
        TicketStatus(2, "Closed", resolved=True),
        TicketStatus(3, "Waiting for parcel", department_id=2),
    ]


def test_tickets() -> None:
    """GET /Tickets/Ticket/ListAll, two pages of it."""

    async def call(source: Client) -> list[int]:
        first = await source.tickets_page([1, 2], [1, 2, 3], count=2, start=0)
        assert first[0].subject == "Ends with ]]> & <b>tags</b>"
        assert first[0].full_name == "Jane Döe"
        assert [ticket.last_activity for ticket in first] == [NOW + 300, NOW + 400]
        rest = await source.tickets_page([1, 2], [1, 2, 3], count=2, start=2)
        return [ticket.id for ticket in first + rest]

    assert play("tickets", call) == [3, 4, 6]


def test_ticket_count() -> None:
    """GET /Tickets/Ticket/GetTicketCount."""
    assert play("ticket_count", lambda source: source.ticket_count([1, 2], [1, 2, 3])) == 3


def test_ticket_count_absent() -> None:
    """The same on a server that takes the name of the call for a ticket id."""
    found = play(
        "ticket_count_absent",
        lambda source: source.ticket_count([1, 2], [1, 2, 3]),
        of=helpdesk("no_count"),
    )
    assert found is None


def test_ticket() -> None:
    """GET /Tickets/Ticket/{id}, with its posts."""
    ticket = play("ticket", lambda source: source.ticket(3))
    assert (ticket.id, ticket.display_id, ticket.department_id) == (3, "ABC-123-00003", 1)
    question = Post(
        1, 3, NOW + 3, 2, "Jane Döe", "user9@example.com", False, False, True, "My printer smokes."
    )
    assert ticket.posts == (
        question,
        replace(
            question,
            id=2,
            creator=1,
            full_name="Jane Staff",
            email="staff@help.example.com",
            text="<p>Unplug it.</p>",
        ),
    )


def test_merged_ticket() -> None:
    """The id of a merged ticket: answered by the survivor, listed empty, refused with 400."""
    desk = helpdesk()
    desk.merge(6, into=3)

    async def call(source: Client) -> int:
        assert await source.attachments(6) == []
        with pytest.raises(WrongTicket):
            await source.fetch(6, 4, Sink)
        return (await source.ticket(6)).id

    assert play("merged_ticket", call, of=desk) == 3


def test_attachments() -> None:
    """GET /Tickets/TicketAttachment/ListAll/{ticket}, with and without rows."""

    async def call(source: Client) -> list[Attachment]:
        assert await source.attachments(4) == []
        return await source.attachments(3)

    assert play("attachments", call) == [PRINTER_LOG, FOTO, EMPTY]


def test_contents() -> None:
    """GET /Tickets/TicketAttachment/{ticket}/{id}, with bytes and of an empty file."""

    async def call(source: Client) -> None:
        fetched = await source.fetch(3, 2, Sink)
        assert (fetched.contents.attachment, bytes(fetched.sink)) == (FOTO, BINARY)
        empty = await source.fetch(3, 3, Sink)
        assert empty.contents.attachment == EMPTY
        assert not empty.contents.present

    play("contents", call)


def test_upload_and_delete() -> None:
    """POST and DELETE /Tickets/TicketAttachment, and what is to be seen in between."""

    async def call(source: Client) -> None:
        made = await source.upload(3, 2, "a+b & c.bin", BINARY)
        assert made == Attachment(
            5, 3, 2, "a+b & c.bin", len(BINARY), "application/octet-stream", NOW + 5
        )
        assert made in await source.attachments(3)
        assert bytes((await source.fetch(3, 5, Sink)).sink) == BINARY
        await source.delete_attachment(3, 5)
        with pytest.raises(NotFound):
            await source.fetch(3, 5, Sink)

    play("upload_and_delete", call)


def test_post_attachments() -> None:
    """GET /Tickets/TicketPost/ListAll/{ticket}/{post} as servers answer it: posts."""
    found = play("post_attachments", lambda source: source.post_attachments(3, 1, Sink))
    assert [(contents.attachment, bytes(sink)) for contents, sink in found] == [
        (PRINTER_LOG, b"smoke\n"),
        (FOTO, BINARY),
    ]


def test_post_attachments_documented() -> None:
    """The same call as it is documented: attachments alone."""
    found = play(
        "post_attachments_documented",
        lambda source: source.post_attachments(3, 1, Sink),
        of=helpdesk("doc_shape"),
    )
    assert [(contents.attachment, bytes(sink)) for contents, sink in found] == [
        (PRINTER_LOG, b"smoke\n"),
        (FOTO, BINARY),
    ]


@pytest.mark.parametrize("call", ["get", "ticketpost"])
def test_documentation(call: str) -> None:
    """The literal samples of the documentation, which close their CDATA twice."""

    async def ask(source: Client) -> tuple[Attachment, Sink]:
        if call == "get":
            contents, sink, _ = await source.fetch(1, 1, Sink)
        else:
            ((contents, sink),) = await source.post_attachments(1, 1, Sink)
        return contents.attachment, sink

    attachment, sink = play(f"documentation_{call}", ask, of=f"seed_{call}.xml")
    assert attachment == Attachment(1, 1, 1, "icon_chart.gif", 541, "image/gif", 1_296_645_496)
    assert hashlib.sha256(sink).hexdigest() == PNG_SHA256


def test_missing_file() -> None:
    """A file that the server lost: empty contents, by themselves or below a sentence."""

    async def call(source: Client) -> None:
        for attachment_id in (1, 2):
            contents, sink, _ = await source.fetch(3, attachment_id, Sink)
            assert contents.attachment.filesize > 0
            assert not contents.present
            assert not sink

    play("missing_file", call, of=helpdesk(missing_file=1, remote_sentence=2))


def test_noise() -> None:
    """Warnings before a list, before contents and after them."""

    async def call(source: Client) -> None:
        listed = await source.attachments(3)
        assert {one.notes for one in listed} == {("noise_around_xml",)}
        for attachment_id, data in ((1, b"smoke\n"), (2, BINARY)):
            contents, sink, _ = await source.fetch(3, attachment_id, Sink)
            assert contents.notes == ("noise_around_xml",)
            assert bytes(sink) == data

    play("noise", call, of=helpdesk("stray_warning", warning_before=1, text_after=2))


def test_not_found() -> None:
    """404 for a ticket and for an attachment."""

    async def call(source: Client) -> None:
        with pytest.raises(NotFound, match="Ticket not Found"):
            await source.ticket(99)
        with pytest.raises(NotFound, match="Attachment not Found"):
            await source.fetch(3, 99, Sink)

    play("not_found", call)


def test_wrong_ticket() -> None:
    """400 for an attachment of another ticket."""
    with pytest.raises(WrongTicket):
        play("wrong_ticket", lambda source: source.fetch(4, 1, Sink))


def test_unauthorised() -> None:
    """401 for a key that is not known."""
    with pytest.raises(SourceRefused, match="FAILED TO AUTHENTICATE"):
        play("unauthorised", lambda source: source.departments(), keys=REPLAY_KEYS)


def test_api_off() -> None:
    """403 with nothing else while the API is switched off."""
    with pytest.raises(SourceRefused, match="switched off"):
        play("api_off", lambda source: source.departments(), of=helpdesk("api_off"))


# The cassettes themselves


def interactions() -> Iterator[tuple[str, Interaction]]:
    """Give all that is recorded, with the name of its cassette."""
    for path in sorted(CASSETTES.glob("*.yaml")):
        for one in deserialize(path.read_text("utf-8"))["interactions"]:
            yield path.stem, one


def texts(one: Interaction) -> Iterator[str]:
    """Give all texts of an interaction: as they stand, and decoded from whatever they are in."""
    body = one["response"]["body"]["string"]
    sent = one["request"]["body"] or ""
    for value in (str(one), body, sent, one["request"]["uri"]):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        yield text
        yield unquote(text)
        for run in re.findall(r"[A-Za-z0-9+/]{16,}", unquote(text)):
            yield base64.b64decode(run[: len(run) // 4 * 4]).decode("latin-1")


@pytest.mark.skipif(RECORD, reason="looked at once they are recorded")
def test_no_credentials_in_cassettes() -> None:
    """No cassette holds a key, or the name of a credential with a value."""
    with SandboxServer(Helpdesk()) as server:
        keys = [server.api_key, server.secret_key, REPLAY_KEYS.api_key, REPLAY_KEYS.secret_key]
    named = re.compile(r"\b(apikey|signature|salt)\b\W{0,6}\w", re.IGNORECASE)
    for name, one in interactions():
        for text in texts(one):
            assert not any(key in text for key in keys), name
            assert not named.search(text), name


@pytest.mark.skipif(RECORD, reason="looked at once they are recorded")
def test_nobody_is_named_in_cassettes() -> None:
    """Every mail address and every host in a cassette is an example."""
    address = re.compile(r"[\w.+-]+@([\w-]+\.)+\w{2,}")
    for name, one in interactions():
        assert urlsplit(one["request"]["uri"]).netloc == HOST, name
        for text in texts(one):
            for found in address.finditer(text):
                assert found[0].endswith("example.com"), (name, found[0])


@pytest.mark.skipif(RECORD, reason="looked at once they are recorded")
def test_cassettes_are_small_and_explained() -> None:
    """Every cassette is small, is played by a test, and has its line in the README."""
    readme = (CASSETTES / "README.md").read_text("utf-8")
    tests = Path(__file__).read_text("utf-8")
    for path in CASSETTES.glob("*.yaml"):
        assert path.stat().st_size < 16 * 1024, path.name
        assert f"`{path.name}`" in readme
        assert f'"{path.stem}"' in tests or path.stem.startswith("documentation_")


@pytest.mark.skipif(RECORD, reason="a recording asks a server")
def test_a_replay_asks_nobody() -> None:
    """A question that is not in a cassette is not sent anywhere."""
    with pytest.raises(CannotOverwriteExistingCassetteException):
        play("departments", lambda source: source.statuses())
