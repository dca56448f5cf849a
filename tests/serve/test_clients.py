"""The generations of Tickiti's own client, call by call, over a helpdesk full of faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside
from migrator.archive.records import PostRow, TicketRow, note_id
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions
from migrator.pull.run import run
from migrator.pull.threads import NOTES
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
from migrator.sources.kayako import fields, links
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.serve.conftest import OpenDesk

MIB = 1024 * 1024
LIMIT = 200_000
FILES = {
    "small.pdf": b"%PDF-1.4 small",
    "empty.txt": b"",
    "review.log": b"a log",
    "limit.zip": os.urandom(LIMIT),
    "big.zip": os.urandom(LIMIT + 1),
    "näme ☃.txt": "☃".encode(),
}


class Client:
    """What all generations share: POST JSON to /api/v1/PATH, success judged by the status."""

    def __init__(self, call: Callable[..., httpx.Response]) -> None:
        self._call = call

    def ask(self, path: str, body: dict[str, object]) -> tuple[int, Any]:
        """Return the status and the document."""
        answer = self._call(path, body)
        return answer.status_code, answer.json()

    def files(self, ticket: str, **how: object) -> dict[str, str]:
        """Discover the attachments of a ticket: name → id."""
        status, shown = self.ask("tickets/show", {"ticket_number": ticket, **how})
        assert status == 200
        return {
            each["name"]: each["id"]
            for response in shown["data"]["responses"]
            for each in response["attachments"]
        }


def june(client: Client, ticket: str, attachment: str) -> bytes | str:
    """Download as the June 2026 client: whole, confirming a review when asked to."""
    body: dict[str, object] = {"ticket_number": ticket, "response_attachment_id": attachment}
    status, document = client.ask("tickets/attachment", body)
    if status == 403 and document["error"] == "attachment_review_required":
        status, document = client.ask("tickets/attachment", {**body, "intent": "review_ok"})
    if not 200 <= status < 300:
        assert document["message"]
        return str(document["error"])
    assert isinstance(document["data"]["content_base64"], str)
    return base64.b64decode(document["data"]["content_base64"])


def ranged(client: Client, body: dict[str, object], length: int) -> bytes | str:
    """Download in ranges until eof, the size, or an empty chunk, as the later clients do."""
    read = b""
    while True:
        status, document = client.ask(
            "tickets/attachment", {**body, "offset": len(read), "length": length}
        )
        if not 200 <= status < 300:
            return str(document["error"])
        data = document["data"]
        piece = base64.b64decode(data["content_base64"])
        read += piece
        if data.get("eof") or len(read) >= data["file_size"] or not piece:
            return read


def july(client: Client, ticket: str, attachment: str) -> bytes | str:
    """Download as the July 2026 client: in ranges from the first call."""
    body: dict[str, object] = {
        "ticket_number": ticket,
        "response_attachment_id": int(attachment),
        "intent": "review_ok",
    }
    return ranged(client, body, 8 * MIB)


def october(client: Client, ticket: str, attachment: str) -> bytes | str:
    """Download as the October 2026 client: whole, in ranges where the server says so."""
    body: dict[str, object] = {
        "ticket_id": ticket,
        "response_attachment_id": attachment,
        "intent": "review_ok",
    }
    status, document = client.ask("tickets/attachment", body)
    if status == 413 and document["error"] == "attachment_too_large" and document["data"]["ranged"]:
        return ranged(client, body, 65_537)
    if not 200 <= status < 300:
        return str(document["error"])
    data = document["data"]
    read = base64.b64decode(data["content_base64"])
    assert data["file_size"] <= len(read) or data.get("eof")
    assert data["sha256"] == hashlib.sha256(read).hexdigest()
    return read


@pytest.mark.parametrize("download", [june, july, october])
def test_each_generation_reads_every_file(
    open_desk: OpenDesk, download: Callable[[Client, str, str], bytes | str]
) -> None:
    """Small, empty and reviewed files arrive; only June's client goes without the large one."""
    with open_desk(max_download=LIMIT) as desk:
        for name, data in FILES.items():
            desk.attach(name, data)
        client = Client(desk.call)
        files = client.files("1")
        assert files.keys() == FILES.keys()
        for name, data in FILES.items():
            got = download(client, "1", files[name])
            large = download is june and name == "big.zip"
            assert got == ("attachment_too_large" if large else data), name
        assert download(client, "1", "99999") == "not_found"


def test_each_generation_lists_and_queries(open_desk: OpenDesk) -> None:
    """The other calls of the clients, with the bodies that they send."""
    with open_desk() as desk:
        desk.write(TicketRow(1, 3), *[PostRow(n, n, text="x") for n in range(1, 6)])
        token = desk.token("tickets:read", "workflow:read")
        client = Client(lambda path, body: desk.call(path, body, token=token))
        assert client.ask("workflow/queues", {})[1]["queues"][0]["id"] == "3"
        assert client.ask("tickets/queues", {})[1]["data"]["queues"][0]["id"] == "3"
        asked = {"ticket_id": 1, "fields": ["plain_text"], "max_body_chars": 2000}
        status, listed = client.ask("tickets/responses", asked)
        assert (status, len(listed["data"]["responses"])) == (200, 5)
        view = {"search_object": {"search_perspective": "All"}, "row_limit": 100}
        assert client.ask("tickets/query", view)[1]["data"][0]["number"] == 1
        rows: list[dict[str, object]] = []
        cursor = None
        while cursor is not None or not rows:
            body = {"limit": 2, "ticket_number": ["1"], **({"cursor": cursor} if cursor else {})}
            data = client.ask("tickets/responses/query", body)[1]["data"]
            rows += data["responses"]
            cursor = data["next_cursor"]
        assert [row["response_id"] for row in rows] == ["1", "2", "3", "4", "5"]


def tickets(client: Client) -> Iterator[str]:
    """Yield the ids of all tickets."""
    status, listed = client.ask("tickets/query", {"row_limit": 5000})
    assert status == 200
    yield from (row["id"] for row in listed["data"])


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("ability", ["tickets:read", "tickets:write"])
def test_reference_client_reads_and_is_told_that_it_cannot_write(
    open_desk: OpenDesk, ability: str
) -> None:
    """The reading steps of the client's own test, in its own language; slashes included."""
    with open_desk() as desk:
        desk.attach("notes.csv", b"id,name\n1,Ann\n", ticket=220009)
        desk.write(TicketRow(220009, 3), PostRow(42, 1, "Ann", staff=True, text="hi"))
        script = str(Path(__file__).with_name("reference_client.mjs"))
        command = ["node", script, desk.base + "//", desk.token(ability), "220009"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "all steps passed\n", done.stderr


def walk(client: Client) -> dict[int, bytes | str]:
    """Read all that the lists lead to with an ordinary client: tickets, threads, files."""
    found: dict[int, bytes | str] = {}
    for ticket in tickets(client):
        _, shown = client.ask("tickets/show", {"ticket_id": ticket})
        for response in shown["data"]["responses"]:
            for each in response["attachments"]:
                assert int(each["id"]) not in found
                found[int(each["id"])] = october(client, ticket, each["id"])
    return found


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def pull(server: SandboxServer, archive: Archive) -> None:
    """Pull everything from a pretended Kayako."""
    keys = Credentials(server.api_key, server.secret_key)
    settings = KayakoSettings(server.url, keys, concurrency=8, timeout=20, page_size=7)
    every = RunOptions(server.url, posts=True, custom_fields=True, articles=True, linked=True)

    async def main(pool: ThreadPoolExecutor) -> None:
        async with connect(settings, pool=pool, sleep=brief) as source:
            fetcher = Fetcher(source, archive.blobs, pool)
            await run(source, archive, fetcher, every)

    with ThreadPoolExecutor(4) as pool:
        asyncio.run(main(pool))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Helpdesk, Client]]:
    """Pull a helpdesk with every fault of every kind, and serve it to one who may see all."""
    helpdesk = Helpdesk.build(SandboxOptions(seed=5, tickets=50, faults=frozenset({"all"})))
    path = tmp_path_factory.mktemp("faulty") / "archive"
    with open_archive(path, command="test") as archive:
        with SandboxServer(helpdesk) as server:
            pull(server, archive)
        for rule in archive.access.rules().values():
            if rule.verdict == "block":
                archive.access.unset_rule(rule.extension)
        _, token = archive.access.create_token(
            "walker", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    with (
        open_beside(path) as beside,
        BackgroundServer(build_app(beside, EndpointSettings())) as endpoint,
        httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30) as client,
    ):
        yield (
            helpdesk,
            Client(lambda way, body: client.post(f"{endpoint.url}/api/v1/{way}", json=body)),
        )


def test_walk_over_a_faulty_helpdesk_gets_every_true_byte(faulty: tuple[Helpdesk, Client]) -> None:
    """Show, responses, attachment: of each kind of ticket file all that can be had, no other."""
    helpdesk, client = faulty
    truths, true = helpdesk.truths, dict[int, str | None]()
    for key, one in truths["post"].items():
        true[int(key)] = one.sha256
    for key, one in truths["customfield"].items():
        true[fields.id_of(*fields.parts_of(key))] = one.sha256
    for key, one in truths["linked"].items():
        for ticket in helpdesk.tickets_with(key) - {0}:
            true[links.id_of(ticket, key)] = one.sha256
    found = walk(client)
    hashes = {
        key: hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else data
        for key, data in found.items()
    }
    assert hashes == {key: sha256 for key, sha256 in true.items() if sha256}
    edges = (0, 10**15, fields.FIRST_ID, links.FIRST_LINKED, 10**16)
    held = [any(low < key < high for key in found) for low, high in pairwise(edges)]
    assert held == [True, False, True, True]  # those of articles belong to no ticket


def test_an_exporter_meets_every_note_once_and_all_answers_agree(
    faulty: tuple[Helpdesk, Client],
) -> None:
    """Pages of responses/query hold what show and responses tell, notes and time tracks too."""
    helpdesk, client = faulty
    exported: dict[str, dict[str, Any]] = {}
    cursor: Any = None
    while cursor is not None or not exported:
        body = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        data = client.ask("tickets/responses/query", body)[1]["data"]
        for row in data["responses"]:
            assert row["response_id"] not in exported
            exported[row["response_id"]] = row
        cursor = data["next_cursor"]
    shown: dict[str, dict[str, Any]] = {}
    for ticket in tickets(client):
        (one, two) = (
            client.ask(f"tickets/{call}", {"ticket_id": ticket})[1]["data"]["responses"]
            for call in ("show", "responses")
        )
        assert one == two
        shown |= {response["id"]: response | {"ticket_id": ticket} for response in one}
    assert shown.keys() == exported.keys()
    for response in shown.values():
        assert not (response["is_email_sourced"] and response["staff_response"])
    assert any(response["is_email_sourced"] for response in shown.values())
    for key, response in shown.items():
        assert response.items() <= exported[key].items()
    notes = {
        str(note_id(NOTES[note.kind], note.id)): note
        for note in helpdesk.seen_notes.values()
        if note.kind in NOTES
    }
    internal = {key for key in exported if 10**12 <= int(key) < 3 * 10**12}
    assert internal == notes.keys()
    for key, note in notes.items():
        row = exported[key]
        assert (row["ticket_id"], row["is_internal"]) == (str(note.of), True)
        assert row["created_by_name"] == (note.staff_name or helpdesk.name_of(note.staff_id))
        assert note.text in row["html"] or note.text == ""
