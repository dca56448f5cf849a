"""Whatever a client exceeds has an answer that says so, and the server goes on as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.archive import open_archive, open_beside
from migrator.serve import bounds, join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from tests.web.desks import Desk, Visitor

API = "/api/v1/tickets/"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Asked:
    """A request: of the API with a body, else of the pages, signed in."""

    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def call(path: str, **body: Any) -> Asked:
    """Call the API."""
    return Asked(API + path, json.dumps(body).encode(), JSON)


def raw(body: bytes) -> Asked:
    """Send the API something else."""
    return Asked(f"{API}query", body, JSON)


def criterion(mode: str, tokens: list[str]) -> Asked:
    """Search for tickets."""
    return call("query", search_object={"criteria": [{"mode": mode, "tokens": tokens}]})


def cursor(created: str, post: object) -> Asked:
    """Ask for a page of responses."""
    return call("responses/query", cursor={"created_at": created, "id": post})


def fetch(**fields: Any) -> Asked:
    """Ask for an attachment."""
    return call("attachment", **{"ticket_number": "1", "response_attachment_id": "1", **fields})


def _nested(depth: int) -> bytes:
    return b'{"a":' * (depth // 2) + b"[" * depth + b"]" * depth + b"}" * (depth // 2)


B = bounds
BEYOND: dict[str, tuple[int, Callable[[int], Asked]]] = {
    "target": (400, lambda n: Asked("/" + "a" * (B.MAX_HEAD + n))),
    "query string": (400, lambda n: Asked("/?q=" + "a" * (B.MAX_HEAD + n))),
    "header": (400, lambda n: Asked("/", headers={"x": "a" * (B.MAX_HEAD + n)})),
    "headers": (
        400,
        lambda n: Asked("/", headers={f"x{i}": "" for i in range(B.MAX_HEAD // 8)}),
    ),
    "cookies": (400, lambda n: Asked("/", headers={"cookie": "a=b;" * (B.MAX_HEAD // 4 + n)})),
    "body": (413, lambda n: raw(b" " * (B.MAX_BODY + n))),
    "values": (422, lambda n: raw(b'{"a":[' + b"1," * (B.MAX_VALUES + n) + b"1]}")),
    "empty lists": (422, lambda n: raw(b'{"a":[' + b"[]," * (B.MAX_VALUES + n) + b"1]}")),
    "depth": (422, lambda n: raw(b'{"a":' + b"[" * n)),
    "depth, closed": (422, lambda n: raw(_nested(B.MAX_DEPTH + n))),
    "digits": (422, lambda n: raw(b'{"row_limit":' + b"9" * (4300 + n) + b"}")),
    "fraction": (422, lambda n: raw(b'{"row_limit":1.5' + b"9" * n + b"}")),
    "exponent": (422, lambda n: raw(b'{"row_limit":1.5' + b"9" * n + b"}")),
    "rows": (422, lambda n: call("query", row_limit=B.MAX_ROWS + n)),
    "no rows": (422, lambda n: call("query", row_limit=1 - n)),
    "limit": (422, lambda n: call("responses/query", limit=B.MAX_LIMIT + n)),
    "list": (422, lambda n: call("responses/query", ticket_number=["1"] * (B.MAX_LIST + n))),
    "list of ids": (422, lambda n: call("responses/query", response_id=[1] * (B.MAX_LIST + n))),
    "criteria": (
        422,
        lambda n: call("query", search_object={"criteria": [{"mode": "x"}] * (B.MAX_LIST + n)}),
    ),
    "tokens": (422, lambda n: criterion("subject", [str(i) for i in range(B.MAX_TOKENS + n)])),
    "token": (200, lambda n: criterion("subject", ["ü" * n])),
    "number": (200, lambda n: criterion("ticket_number", ["9" * (18 + n)])),
    "day": (422, lambda n: criterion("created_from", ["9" * (4 + n) + "-01-01"])),
    "time of a cursor": (422, lambda n: cursor("9" * (18 + n), ["1"])),
    "id of a cursor": (422, lambda n: cursor("1", "9" * (18 + n))),
    "range": (422, lambda n: fetch(offset=0, length=B.MAX_RANGE + n)),
    "offset": (404, lambda n: fetch(offset=10**n)),
    "ticket": (404, lambda n: fetch(ticket_number="9" * (18 + n))),
    "attachment": (404, lambda n: fetch(response_attachment_id="9" * (18 + n))),
    "characters": (404, lambda n: call("show", ticket_number="9", max_body_chars=10 ** (18 + n))),
    "form": (413, lambda n: Asked("/sign-in", b"a" * (B.MAX_FORM + n), FORM)),
    "fields": (400, lambda n: Asked("/sign-in", b"a=b&" * (B.MAX_FIELDS + n) + b"a", FORM)),
    "search": (200, lambda n: Asked("/?q=" + "%C3%BC" * min(B.LONGEST_SEARCH + n, 2500))),
    "field of a search": (200, lambda n: Asked("/?in=" + "a" * n)),
    "page number": (200, lambda n: Asked(f"/tickets/1?after={'9' * (12 + n)}-1")),
    "id of a page": (404, lambda n: Asked("/tickets/" + "9" * (18 + n))),
    "ranges": (
        200,
        lambda n: Asked("/attachments/A/download", headers={"range": "bytes=0-0" + ",1-1" * n}),
    ),
    "place in a range": (
        200,
        lambda n: Asked("/attachments/A/download", headers={"range": f"bytes={'9' * (18 + n)}-"}),
    ),
    "seal": (200, lambda n: Asked("/attachments/A/download?ok=" + "a" * n)),
    "next page": (200, lambda n: Asked("/sign-in?next=/" + "/" * n)),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Serve a file; give somebody who may have it by the API and by the pages, and its id."""
    with (
        open_archive(tmp_path_factory.mktemp("desk") / "archive", command="test") as archive,
        open_beside(archive.path) as beside,
        BackgroundServer(join_faces(load_faces(), lambda: beside, EndpointSettings())) as server,
        Visitor(base_url=server.url, timeout=30) as visitor,
    ):
        desk = Desk(archive, server.url)
        token = desk.token()
        attachment = desk.attach("a.pdf", b"%PDF-1.4 a")
        visitor.sign_in(token)
        visitor.headers["authorization"] = f"Bearer {token}"
        yield visitor, attachment


@pytest.mark.parametrize(("status", "asked"), BEYOND.values(), ids=BEYOND)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(extra=st.integers(1, 3000))
def test_what_is_beyond_a_bound_is_told(
    served: tuple[Visitor, int], status: int, asked: Callable[[int], Asked], extra: int
) -> None:
    """By one or by thousands: a status of its own, never an error of ours, and others go on."""
    (visitor, attachment), request = served, asked(extra)
    path = request.path.replace("/attachments/A/", f"/attachments/{attachment}/")
    try:
        answer = visitor.request(
            "GET" if request.body is None else "POST",
            path,
            content=request.body,
            headers=request.headers,
        )
        assert answer.status_code == status
    except (httpx.WriteError, httpx.ReadError):  # hung up on while it still sent
        assert status in {400, 413}
    assert visitor.get("/healthz").status_code == 200
