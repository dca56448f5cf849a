"""Any reply to any call of a run: a sorted outcome, no foreign bytes, no untrue "complete".

The server is the look-alike. Between it and us stands a proxy that answers some requests itself,
with any status, headers and body, once or for ever. Posts are read as well: they tell of files
where a list is the empty one of another ticket, which nothing else can.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.archive import RowFilter, open_archive
from migrator.report.verdict import judge, look
from tests.pull.test_outage import World

pytestmark = pytest.mark.slow

HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
PAGE = b"<!DOCTYPE html><html><head><title>403</title></head><body>Access denied</body></html>"
EMPTY = {
    name: HEAD + b"<%s>\n</%s>" % (name.encode(), name.encode())
    for name in ("attachments", "tickets", "departments", "ticketstatuses", "posts")
}
BODIES = [
    b"", b" \n", PAGE, b"Ticket not Found", b"Attachment not Found", b"NO SALT PROVIDED!",
    b"FAILED TO AUTHENTICATE", b"Attachment does not belong to the specified ticket",
    b"Fatal error: Allowed memory size of 134217728 bytes exhausted", b"\x00\xff\xfe" * 50,
    b"<br />\n<b>Warning</b>: mysql_connect() in <b>/a.php</b> on line <b>3</b><br />\n",
    HEAD, HEAD + b"<attachments/>", HEAD + b"<tickets><totalcount>3</totalcount></tickets>",
    HEAD + b'<attachments xmlns="urn:x"><attachment><id>1</id></attachment></attachments>',
    HEAD + b"<tickets><error>no</error></tickets>", b'{"error": "maintenance"}',
    *EMPTY.values(),
]  # fmt: skip
CALLS = {
    "departments": "/Base/Department",
    "statuses": "/Tickets/TicketStatus",
    "page": "/Tickets/Ticket/ListAll/",
    "count": "/Tickets/Ticket/GetTicketCount/",
    "list": "/Tickets/TicketAttachment/ListAll/",
    "ticket": "/Tickets/Ticket/",
    "fetch": "/Tickets/TicketAttachment/",
}


def kind_of(path: str) -> str:
    """Name the call of a path, "" for those that nobody lies about here."""
    return next((name for name, start in CALLS.items() if path.startswith(start)), "")


@dataclass(frozen=True)
class Lie:
    """What comes in place of the server's reply to a call.

    ``times`` how often (None: always), to the ``nth`` request of that kind and those with the
    same path. ``body`` is a number in BODIES, or how much of the true reply comes, in percent;
    "other" is the reply to another request of the same kind.
    """

    call: str
    nth: int
    times: int | None
    status: int
    headers: tuple[tuple[str, str], ...]
    body: int | str


STATUSES = st.sampled_from(
    [200] * 4
    + [201, 204, 206, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 406, 408, 410, 413, 414]
    + [418, 425, 429, 451, 500, 501, 502, 503, 504, 507, 508, 509, 520, 521, 522, 525, 530, 599]
)
HEADERS = st.lists(
    st.sampled_from(
        [("Retry-After", "0"), ("Retry-After", "1"), ("Retry-After", "x"), ("Location", "/login"),
         ("Location", "//evil.example"), ("Location", "\x7f"), ("Content-Type", "text/html"),
         ("Content-Type", "image/png; charset=\xff"), ("X-Cache", "HIT"),
         ("WWW-Authenticate", "Basic"), ("Set-Cookie", "a=b")]
    ),
    max_size=2,
    unique_by=lambda pair: pair[0],
)  # fmt: skip
LIES = st.lists(
    st.builds(
        Lie,
        st.sampled_from(sorted(CALLS)),
        st.integers(0, 6),
        st.sampled_from([1, 1, 2, 9, None]),
        STATUSES,
        HEADERS.map(tuple),
        st.one_of(
            st.integers(0, len(BODIES) - 1),
            st.sampled_from(["other", "cut 10", "cut 60", "cut 95", "twice", "whole"]),
        ),
    ),
    min_size=1,
    max_size=3,
)


class Proxy(httpx.AsyncBaseTransport):
    """Stands before the server and lies."""

    def __init__(self, inner: httpx.AsyncBaseTransport, lies: list[Lie]) -> None:
        self.inner = inner
        self.lies = {lie: lie.times for lie in lies}
        self.aims: dict[Lie, str] = {}
        self.seen: dict[str, list[str]] = {name: [] for name in CALLS}
        self.replies: dict[str, bytes] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = str(request.url.params["e"])
        kind = kind_of(path)
        if not kind:
            return await self.inner.handle_async_request(request)
        if path not in self.seen[kind]:
            self.seen[kind].append(path)
        true = await self.inner.handle_async_request(request)
        lie = next((one for one in self.lies if self._aims_at(one, kind, path)), None)
        if lie is None:
            if true.status_code == 200 and kind != "count":
                body = await true.aread()
                self.replies[path] = body
                return httpx.Response(200, headers=_plain(true), content=body)
            return true
        if (left := self.lies[lie]) is not None:
            self.lies[lie] = left - 1
        return httpx.Response(
            lie.status, headers=_raw(lie.headers), content=await self._body(lie, kind, path, true)
        )

    def _aims_at(self, lie: Lie, kind: str, path: str) -> bool:
        if lie.call != kind or self.lies[lie] == 0:
            return False
        if lie not in self.aims and len(self.seen[kind]) > lie.nth:
            self.aims[lie] = path
        return self.aims.get(lie) == path

    async def _body(self, lie: Lie, kind: str, path: str, true: httpx.Response) -> bytes:
        if isinstance(lie.body, int):
            return BODIES[lie.body]
        whole = await true.aread()
        if lie.body == "other":
            others = [one for one in self.seen[kind] if one != path and one in self.replies]
            return self.replies[others[0]] if others else PAGE
        if lie.body == "twice":
            return whole * 2
        if lie.body.startswith("cut"):
            return whole[: len(whole) * int(lie.body[4:]) // 100]
        return whole

    async def aclose(self) -> None:
        await self.inner.aclose()


def _raw(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


def _plain(reply: httpx.Response) -> dict[str, str]:
    return {"Content-Type": reply.headers.get("content-type", "text/xml")}


@pytest.fixture(scope="module", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        yield


@contextmanager
def world() -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_archive(Path(folder) / "archive", command="test") as archive,
    ):
        made = World(archive, tickets=8, concurrency=2)
        with made.server:
            yield made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lies=LIES, runs=st.integers(1, 2))
def test_whatever_is_answered_nothing_untrue_comes_of_it(lies: list[Lie], runs: int) -> None:
    """Exit codes of the table, the server's own bytes, and complete only with all of them."""
    with world() as here:
        truth = {key: one.sha256 for key, one in here.desk.truth.items()}
        proxy: Proxy | None = None

        def between(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
            nonlocal proxy
            proxy = proxy or Proxy(inner, lies)
            proxy.inner = inner
            return proxy

        for _ in range(runs):
            result = here.pull(between=between, posts=True)
            assert result.exit_code in (0, 3, 4, 8), result.ended_by
            of_posts = RowFilter(kinds=frozenset({"post"}))
            rows = {row.id: row for row in here.archive.queries.rows(only=of_posts)}
            for row in rows.values():
                if row.sha256 is not None:
                    assert row.sha256 == truth.get(row.id), f"{row.id} has foreign bytes: {lies}"
            kind = judge(look(here.archive)).kind
            held = {key for key, row in rows.items() if row.state == "stored"}
            if kind == "complete" or result.exit_code == 0:
                assert held == truth.keys(), f"{kind}, exit {result.exit_code}: {lies}"
