"""A whole run, and what is served after it, of a source that is no Kayako."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside
from migrator.events import ignore
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.run import run
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
from migrator.sources import SOURCES, open_source
from tests.sources.folder import FolderBench, FolderSettings

FILES = {
    1: {"notes.txt": b"hello", "empty.txt": b""},
    2: {"photo.png": bytes(range(256)) * 2000},
    3: {},
    4: {"notes.txt": b"hello", "gr\u00f6\u00dfe.pdf": b"%PDF-1.4 \xff"},
}
"""The tickets of the folder and their files."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderBench:
    """Make a folder with a few tickets, and add its source to those there are."""
    monkeypatch.setitem(SOURCES, "FolderSettings", "tests.sources.folder")
    made = FolderBench(tmp_path / "helpdesk")
    for ticket, files in FILES.items():
        assert made.open(department=1 + ticket % 2) == ticket
        for name, data in files.items():
            made.attach(ticket, name, data)
    return made


def pull(bench: FolderBench, archive: Archive) -> RunResult:
    """Do one run, posts and all, as the command does."""

    async def main(pool: ThreadPoolExecutor) -> RunResult:
        options = RunOptions(bench.root.as_uri(), concurrency=2, posts=True)
        settings = FolderSettings(bench.root)
        async with open_source(settings, pool=pool, listener=ignore, sleep=asyncio.sleep) as source:
            return await run(source, archive, Fetcher(source, archive.blobs, pool), options)

    with ThreadPoolExecutor(2) as pool:
        return asyncio.run(main(pool))


def served(root: Path) -> dict[str, dict[str, bytes]]:
    """Read every file of every ticket over the endpoint: ticket number → name → bytes."""
    found: dict[str, dict[str, bytes]] = {}
    with open_beside(root) as archive:
        for extension in ("txt", "png", "pdf"):
            archive.access.set_rule(extension, "allow")
        _, token = archive.access.create_token(
            "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        with (
            BackgroundServer(build_app(archive, EndpointSettings())) as endpoint,
            httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=30) as client,
        ):

            def ask(path: str, **body: object) -> dict[str, object]:
                answer = client.post(f"{endpoint.url}/api/v1/{path}", json=body)
                assert answer.status_code == 200, answer.text
                data: dict[str, object] = answer.json()["data"]
                return data

            rows = client.post(f"{endpoint.url}/api/v1/tickets/query", json={}).json()["data"]
            for row in rows:
                number = str(row["number"])
                found[number] = {}
                shown = ask("tickets/show", ticket_number=number)
                for response in shown["responses"]:  # type: ignore[attr-defined]
                    for each in response["attachments"]:
                        data = ask(
                            "tickets/attachment",
                            ticket_number=number,
                            response_attachment_id=each["id"],
                        )
                        encoded = str(data["content_base64"])
                        found[number][each["name"]] = base64.b64decode(encoded)
    return found


def test_every_byte_of_a_folder_comes_out_of_the_endpoint(
    bench: FolderBench, tmp_path: Path
) -> None:
    """Pulled to the end, exit 0, and each file is served with its name and its bytes."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        result = pull(bench, archive)
        assert (result.ended_by, result.exit_code, result.proven) == (None, 0, True)
        assert (result.tickets, result.threads) == (4, 4)
    assert served(tmp_path / "archive") == {str(key): files for key, files in FILES.items()}


def test_what_happens_in_a_folder_is_followed(bench: FolderBench, tmp_path: Path) -> None:
    """New files come, merged tickets move, deleted ones are told, a lost file is missing."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        pull(bench, archive)
        bench.merge(4, into=3)
        bench.delete(2)
        lost = bench.attach(1, "lost.txt", b"12345")
        bench.lose(lost)
        result = pull(bench, archive)
        assert (result.ended_by, result.exit_code) == (None, 3)
        states = {(row.ticket_id, row.filename): row.state for row in archive.queries.rows()}
    assert states == {
        (1, "notes.txt"): "stored",
        (1, "empty.txt"): "stored",
        (1, "lost.txt"): "missing",
        (2, "photo.png"): "deleted",
        (3, "notes.txt"): "stored",
        (3, "gr\u00f6\u00dfe.pdf"): "stored",
    }
