"""The generations of Tickiti's own client, call by call, over a helpdesk full of faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside
from migrator.archive.records import PostRow, State, TicketRow
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions
from migrator.pull.run import run
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
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


def walk(client: httpx.Client, base: str) -> dict[int, bytes]:
    """Read all that the lists lead to with an ordinary client: tickets, threads, files."""
    found: dict[int, bytes] = {}
    rows = client.post(f"{base}/tickets/query", json={"row_limit": 5000}).json()["data"]
    for ticket in rows:
        shown = client.post(f"{base}/tickets/show", json={"ticket_id": ticket["id"]}).json()
        for response in shown["data"]["responses"]:
            for each in response["attachments"]:
                body = {"ticket_id": ticket["id"], "response_attachment_id": each["id"]}
                answer = client.post(f"{base}/tickets/attachment", json=body)
                if answer.json().get("error") == "attachment_review_required":
                    body["intent"] = "review_ok"
                    answer = client.post(f"{base}/tickets/attachment", json=body)
                assert answer.status_code == 200, answer.text
                data = answer.json()["data"]
                found[int(each["id"])] = base64.b64decode(data["content_base64"])
    return found


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def pull(server: SandboxServer, archive: Archive) -> None:
    """Do one run against a pretended Kayako."""
    keys = Credentials(server.api_key, server.secret_key)
    settings = KayakoSettings(server.url, keys, concurrency=8, timeout=20, page_size=7)

    async def main(pool: ThreadPoolExecutor) -> None:
        async with connect(settings, pool=pool, sleep=brief) as source:
            fetcher = Fetcher(source, archive.blobs, pool)
            options = RunOptions(server.url, posts=True, custom_fields=True)
            await run(source, archive, fetcher, options)

    with ThreadPoolExecutor(4) as pool:
        asyncio.run(main(pool))


def test_walk_over_a_faulty_helpdesk_gets_every_stored_byte(tmp_path: Path) -> None:
    """Show, responses, attachment for every ticket: all that is stored arrives, nothing else."""
    helpdesk = Helpdesk.build(SandboxOptions(seed=5, tickets=15, faults=frozenset({"all"})))
    path = tmp_path / "archive"
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
        found = walk(client, f"{endpoint.url}/api/v1")
        stored = {row.id: row for row in beside.queries.rows(states=[State.STORED])}
    assert len(stored) > 20
    assert found.keys() == stored.keys()
    for number, data in found.items():
        assert hashlib.sha256(data).hexdigest() == stored[number].sha256
        assert len(data) == stored[number].size
