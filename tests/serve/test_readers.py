"""No query holds up anybody else: clients share the readers, and what takes too long is stopped."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect

from migrator.archive import Archive, Stop, open_archive, open_beside
from migrator.archive.checkpoint import Checkpoint, ServedCheckpoint
from migrator.archive.records import Response
from migrator.archive.threads import Threads
from migrator.errors import QueryStopped
from migrator.serve.bounds import Share
from migrator.serve.catalog import Catalog, EndpointSettings
from migrator.serve.readers import Readers
from migrator.serve.refusals import Refusal
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
from tests.serve.conftest import OpenDesk
from tests.serve.test_inline import PNG

CALLS: dict[str, Any] = {
    "tickets/query": {"search_object": {"criteria": [{"mode": "subject", "tokens": ["nowhere"]}]}},
    "tickets/responses/query": {"created_by_email": "nobody@nowhere.test"},
    "tickets/queues": {},
}
"""Calls that read all tickets, or all responses."""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Open an archive as a server does."""
    path = tmp_path / "archive"
    with open_archive(path, command="test"):
        pass
    with open_beside(path) as beside:
        yield beside.served()


def until_done(work: Callable[[asyncio.Future[None]], Awaitable[None]]) -> None:
    """Run a test in a loop, with a client that stays until it is told to go."""

    async def running() -> None:
        await work(asyncio.get_running_loop().create_future())

    asyncio.run(running())


def endless(archive: Archive) -> object:
    """Query for ever, by what any statement may do."""
    while True:
        archive.queries.runs()


def test_query_that_takes_too_long_is_stopped_and_told(archive: Archive) -> None:
    """Its client reads 503 query_timeout, and its thread is free for others."""
    readers = Readers(archive, Share(threads=1, each=1, seconds=0.05))

    async def work(gone: asyncio.Future[None]) -> None:
        for _ in range(3):
            with pytest.raises(Refusal) as refused:
                await readers.run("one", gone, lambda: endless(archive))
            assert (refused.value.status, refused.value.code) == (503, "query_timeout")

    until_done(work)


def test_query_of_a_client_that_has_gone_stops(archive: Archive) -> None:
    """Nobody waits for it, so it ends, also where it only waited for its turn."""
    readers = Readers(archive, Share(threads=1, each=1, seconds=300))
    begun, ended = threading.Event(), threading.Event()

    def query() -> None:
        begun.set()
        try:
            endless(archive)
        except QueryStopped:
            ended.set()
            raise

    async def work(gone: asyncio.Future[None]) -> None:
        first = asyncio.create_task(readers.run("one", gone, query))
        second = asyncio.create_task(readers.run("one", gone, query))
        await asyncio.to_thread(begun.wait)
        begun.clear()
        gone.set_result(None)
        for each in (first, second):
            with pytest.raises(ClientDisconnect):
                await each
        assert await asyncio.to_thread(ended.wait, 60)
        assert not begun.is_set()

    until_done(work)


def test_one_statement_that_takes_long_is_interrupted(tmp_path: Path) -> None:
    """Not only between statements: SQLite itself gives up."""
    with open_archive(tmp_path / "archive", command="test") as made:
        path = made.path / "checkpoint.db"
    served, stop = ServedCheckpoint(path, Checkpoint.connect, lambda *_: None), Stop()

    def query() -> None:
        with served.stopped_by(stop), pytest.raises(QueryStopped):
            served.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                "SELECT count(*) FROM n"
            )

    thread = threading.Thread(target=query)
    thread.start()
    while thread.is_alive():
        stop.set()
        thread.join(0.05)
    assert served.execute("SELECT 1") == [(1,)], "of another thread"
    served.close()


def test_clients_take_turns_and_have_a_share(archive: Archive) -> None:
    """A client with many slow queries leaves threads to others, who need not wait for all."""
    readers = Readers(archive, Share(threads=3, each=2))
    slow, order = threading.Event(), list[str]()

    async def work(gone: asyncio.Future[None]) -> None:
        many = [asyncio.create_task(readers.run("many", gone, slow.wait)) for _ in range(20)]
        await asyncio.sleep(0)
        for name in ("a", "b", "a"):
            await readers.run(name, gone, partial(order.append, name))
        assert not any(each.done() for each in many)
        slow.set()
        await asyncio.gather(*many)

    until_done(work)
    assert order == ["a", "b", "a"]


def test_queries_keep_their_pace_while_the_loop_is_busy(archive: Archive) -> None:
    """The next one begins later, however short they are; of a loop that is idle, at once."""
    busy = Readers(archive, Share(threads=1, each=1, pace=0.2), used=time.monotonic)
    idle = Readers(archive, Share(threads=1, each=1, pace=60, patience=5), used=lambda: 0)

    async def work(gone: asyncio.Future[None]) -> None:
        began = time.monotonic()
        for readers in (busy, busy, busy, idle, idle):
            await readers.run("one", gone, lambda: None)
        assert time.monotonic() - began >= 0.4

    until_done(work)


def test_too_many_waiting_queries_are_refused(archive: Archive) -> None:
    """Beyond the bound, and after the patience, a client reads 503 too_busy."""
    readers = Readers(archive, Share(threads=1, each=1, waiting=1, patience=0.05))
    slow = threading.Event()

    async def work(gone: asyncio.Future[None]) -> None:
        first = asyncio.create_task(readers.run("one", gone, slow.wait))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(readers.run("two", gone, slow.wait))
        await asyncio.sleep(0)
        for late in (readers.run("three", gone, slow.wait), waiting):
            with pytest.raises(Refusal) as refused:
                await late
            assert (refused.value.status, refused.value.code) == (503, "too_busy")
        slow.set()
        await first
        await readers.run("three", gone, slow.wait)

    until_done(work)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make an archive that takes longer than a moment to search; return it and a token."""
    path = tmp_path_factory.mktemp("many") / "archive"
    with open_archive(path, command="test") as archive:
        _, token = archive.access.create_token(
            "test", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        with closing(sqlite3.connect(path / "checkpoint.db")) as db:
            numbers = range(1, 50_001)
            ticket = "INSERT INTO tickets (id, department_id) VALUES (?, 1)"
            db.executemany(ticket, ((number,) for number in numbers))
            post = "INSERT INTO posts (id, ticket_id, created_at) VALUES (?, ?, 0)"
            db.executemany(post, ((number, number) for number in numbers))
            db.commit()
    return path, token


@pytest.mark.parametrize("path", CALLS)
def test_slow_query_is_an_error_in_the_envelope(many: tuple[Path, str], path: str) -> None:
    """Never an empty list, which would look as if there was nothing."""
    root, token = many
    with (
        open_beside(root) as beside,
        BackgroundServer(build_app(beside, EndpointSettings(), Share(seconds=0.001))) as server,
    ):
        answer = httpx.post(
            f"{server.url}/api/v1/{path}",
            json=CALLS[path],
            headers={"Authorization": f"Bearer {token}"},
        )
    assert (answer.status_code, answer.json()["error"]) == (503, "query_timeout")
    assert answer.json().keys() == {"ok", "error", "message"}


class Counted:
    """Threads of an archive that count how often the names of a ticket are read."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.reads = 0

    def unique_names(self, ticket_id: int) -> frozenset[str]:
        """Count."""
        self.reads += 1
        return self._threads.unique_names(ticket_id)


def test_names_of_a_ticket_are_read_once_for_all_its_images(open_desk: OpenDesk) -> None:
    """The time for many posts with images grows with their number, not with its square."""
    with open_desk() as desk:
        for number in range(5):
            desk.attach(f"image{number}.png", PNG, post=50 + number)
        counted = Counted(desk.archive.threads)
        rows = desk.archive.threads.attachments_of_ticket(1)
        desk.archive.threads = counted  # type: ignore[assignment]
        catalog = Catalog(desk.archive, EndpointSettings())
        names = catalog.names()
        for row in rows:
            post = Response(
                id=row.post_id,
                ticket_id=1,
                ticket_number="1",
                queue_id=3,
                created_at=0,
                author_name="",
                author_email="",
                staff=False,
                is_private=False,
                is_html=True,
                text=f'<img src="cid:{row.filename}@1">',
                note=None,
            )
            assert catalog.inline_images(post, [row], names) == {row.id}
        assert counted.reads == 1


def test_searches_of_texts_hold_up_each_other_only(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While many of them take for ever, all other calls are answered."""
    ends, find = threading.Event(), Threads.find

    def slow(self: Threads, *given: Any, **asked: Any) -> Any:
        assert "content" not in asked or ends.wait(30)
        return find(self, *given, **asked)

    def search(mode: str) -> dict[str, Any]:
        return {"search_object": {"criteria": [{"mode": mode, "tokens": ["text"]}]}}

    monkeypatch.setattr(Threads, "find", slow)
    with open_desk() as desk, ThreadPoolExecutor(12) as pool:
        stored = desk.attach("a.pdf", b"x")
        token = desk.token()
        searches = [
            pool.submit(
                desk.call, "tickets/query", search("content"), token=(token, desk.staff)[n % 2]
            )
            for n in range(12)
        ]
        for _ in range(5):
            assert desk.get(stored).status_code == 200
            assert desk.data("tickets/query", search("subject")) == []
            assert desk.data("tickets/show", {"ticket_id": 1})["responses"]
        assert not any(one.done() for one in searches)
        ends.set()
        assert [one.result().status_code for one in searches] == [200] * 12
