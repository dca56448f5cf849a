"""A real archive behind a real server, and the few verbs that the tests of this room need."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside
from migrator.archive.records import Department, Listed, Outcome, PostRow, State, TicketRow
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
from tests.blobs.layout import path_of

PATH = "/api/v1/tickets/attachment"
IDS = itertools.count(1000)


class Desk:
    """The archive as a run fills it, and a client of the endpoint that serves beside it."""

    def __init__(self, archive: Archive, url: str, client: httpx.Client) -> None:
        self.archive = archive
        self.url = url + PATH
        self.base = url
        self.client = client
        self.staff = self.token()

    def token(
        self,
        *abilities: str,
        queues: list[int] | None = None,
        is_staff: bool = True,
        expires_at: int | None = None,
    ) -> str:
        """Create a token and return its plain text."""
        return self.archive.access.create_token(
            "test",
            abilities=abilities or ("tickets:read",),
            queues=queues,
            is_staff=is_staff,
            expires_at=expires_at,
        )[1]

    def attach(
        self,
        name: str,
        data: bytes | None,
        *,
        ticket: int = 1,
        department: int = 3,
        post: int = 42,
        state: State = State.FAILED,
    ) -> int:
        """List an attachment and store its bytes, or settle it in ``state`` when there are none."""
        number, ledger = next(IDS), self.archive.ledger
        listed = Listed(number, ticket, post, name, "", len(data or b""), 0)
        with ledger.atomic():
            run = ledger.begin_run("run", source="test", scope={})
            ledger.put_departments([Department(department, f"Department {department}")])
            ledger.record_ticket(run.id, TicketRow(ticket, department), [listed])
        outcome = Outcome(number, state)
        if data is not None:
            with self.archive.blobs.writer() as writer:
                writer.write(data)
                blob = writer.commit()
            outcome = Outcome(
                number,
                State.STORED,
                sha256=blob.sha256,
                size=blob.size,
                mime_type=blob.mime_type,
            )
        with ledger.atomic():
            ledger.settle(outcome)
        return number

    def write(self, ticket: TicketRow, *posts: PostRow) -> None:
        """Keep a ticket and posts of it."""
        ledger = self.archive.ledger
        with ledger.atomic():
            run = ledger.begin_run("run", source="test", scope={})
            ledger.put_departments([Department(ticket.department_id, "Old department")])
            ledger.put_ticket(ticket)
            self.archive.threads.put(run.id, ticket, posts)

    def call(self, path: str, body: object = None, *, token: str | None = None) -> httpx.Response:
        """Call an address below /api/v1/."""
        bearer = {"Authorization": f"Bearer {self.staff if token is None else token}"}
        url = f"{self.base}/api/v1/{path}"
        return self.client.post(url, json={} if body is None else body, headers=bearer)

    def data(self, path: str, body: object = None, *, token: str | None = None) -> Any:
        """Call an address and return the data of its successful answer."""
        answer = self.call(path, body, token=token)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert document.keys() == {"ok", "data"}
        assert document["ok"] is True
        return document["data"]

    def blob(self, attachment: int) -> Path:
        """Return the file that holds an attachment's bytes, made writable."""
        row = self.archive.queries.attachment(attachment)
        assert row is not None
        assert row.sha256 is not None
        path = path_of(self.archive, row.sha256)
        path.chmod(0o600)
        return path

    def post(self, body: object, *, token: str | None = None) -> httpx.Response:
        """Ask for whatever ``body`` says."""
        bearer = {"Authorization": f"Bearer {self.staff if token is None else token}"}
        return self.client.post(self.url, json=body, headers=bearer)

    def get(
        self, attachment: object, *, ticket: object = "1", token: str | None = None, **more: object
    ) -> httpx.Response:
        """Ask for an attachment."""
        body = {"ticket_number": ticket, "response_attachment_id": attachment, **more}
        return self.post(body, token=token)


OpenDesk = Callable[..., AbstractContextManager[Desk]]


@contextlib.contextmanager
def _open(path: Path, settings: EndpointSettings) -> Iterator[Desk]:
    with (
        open_archive(path, command="test") as archive,
        open_beside(path) as beside,
        BackgroundServer(build_app(beside, settings)) as server,
        httpx.Client(timeout=20) as client,
    ):
        yield Desk(archive, server.url, client)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One server for the tests of a module that leave each other alone."""
    with _open(tmp_path_factory.mktemp("desk") / "archive", EndpointSettings()) as desk:
        yield desk


@pytest.fixture
def open_desk(tmp_path: Path) -> OpenDesk:
    """Servers with settings of one's own."""

    def opened(**settings: int) -> AbstractContextManager[Desk]:
        return _open(
            tmp_path / "archive",
            EndpointSettings(
                max_download=settings.get("max_download", 25 * 1024 * 1024),
                serve_deleted=bool(settings.get("serve_deleted", False)),
                posts_follow=bool(settings.get("posts_follow", False)),
            ),
        )

    return opened
