"""Request bodies of every kind: malformed, mistyped, huge, cut."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.serve.conftest import Desk


def post(
    desk: Desk, content: bytes | Iterator[bytes], kind: str = "application/json"
) -> httpx.Response:
    """Post raw bytes with a good token."""
    headers = {"Authorization": f"Bearer {desk.staff}", "Content-Type": kind}
    return desk.client.post(desk.url, content=content, headers=headers)


@pytest.mark.parametrize("empty", [None, "", "  ", "\t\n"])
def test_missing_and_empty_fields_are_named_all_at_once(desk: Desk, empty: str | None) -> None:
    """One answer names every field that is missing, null or blank."""
    for body in ({}, {"ticket_number": empty, "response_attachment_id": empty}):
        answer = desk.post(body)
        assert (answer.status_code, answer.json()["error"]) == (422, "validation_failed")
        assert answer.json()["errors"] == {
            name: [f"The {name} field is required."]
            for name in ("ticket_number", "response_attachment_id")
        }


@pytest.mark.parametrize("wrong", [True, False, 1.5, [], ["1"], {}, {"a": 1}])
def test_wrong_types_are_told(desk: Desk, wrong: object) -> None:
    """Booleans, fractions, arrays and objects are no ids, and a non-string is no intent."""
    body = {"ticket_number": wrong, "response_attachment_id": wrong, "intent": wrong}
    answer = desk.post(body)
    assert answer.status_code == 422
    kind = "field must be a string or an integer."
    assert answer.json()["errors"] == {
        "ticket_number": [f"The ticket_number {kind}"],
        "response_attachment_id": [f"The response_attachment_id {kind}"],
        "intent": ["The intent field must be a string."],
    }
    assert "ticket_number" in answer.json()["message"]


MALFORMED = (
    b"{", b"nonsense", b"{'a': 1}", b"\xff\xfe", b'{"ticket_number": "\xe4"}',
    b"[" * 60_000, b'{"a":' * 10_000, b'{"ticket_number": %s}' % (b"9" * 5000),
)  # fmt: skip


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_json_is_a_validation_failure(desk: Desk, content: bytes) -> None:
    """Broken JSON, broken UTF-8, endless nesting and endless numbers are told, not choked on."""
    answer = post(desk, content)
    assert answer.status_code == 422
    assert answer.json()["errors"] == {"body": ["The request body is not valid JSON."]}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_an_empty_body_is_an_empty_object(desk: Desk, content: bytes) -> None:
    """No body, and what PHP makes of an empty array, name no field; each missing one is told."""
    answer = post(desk, content)
    assert answer.status_code == 422
    assert {"ticket_number", "response_attachment_id"} <= set(answer.json()["errors"])


IN_ADDRESS = [
    ("ticket_number=7", b"{}", {"response_attachment_id"}),
    ("ticket_number=7&intent=x", b"[]", {"response_attachment_id"}),
    ("ticket_number=7&offset=-1", b'{"offset": 1}', {"response_attachment_id"}),
    ("ticket_number=7&offset=-1", b"", {"response_attachment_id", "offset"}),
    ("intent[a][]=b", b'{"ticket_number": 7}', {"response_attachment_id", "intent"}),
    ("a" + "[a]" * 50 + "=b", b"", {"body"}),
    ("a=%ff", b"", {"query"}),
    ("_=1&&=&a&a[b]=c&ticket_number=&[]=", b"", {"ticket_number", "response_attachment_id"}),
]


@pytest.mark.parametrize(("query", "body", "wrong"), IN_ADDRESS, ids=range(len(IN_ADDRESS)))
def test_fields_in_the_address_join_those_of_the_body(
    desk: Desk, query: str, body: bytes, wrong: set[str]
) -> None:
    """As in Laravel, which looks into the body first."""
    headers = {"Authorization": f"Bearer {desk.staff}", "Content-Type": "application/json"}
    answer = desk.client.post(f"{desk.url}?{query}", content=body, headers=headers)
    assert (answer.status_code, set(answer.json()["errors"])) == (422, wrong)


@pytest.mark.parametrize("content", [b"[1]", b"null", b'"text"', b"1", b"NaN"])
def test_json_that_is_no_object_is_told(desk: Desk, content: bytes) -> None:
    """Only an object can hold fields."""
    answer = post(desk, content)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["body"]


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
)
def test_other_content_types_are_told(desk: Desk, kind: str) -> None:
    """The content type has to be JSON, as documented."""
    answer = post(desk, b"{}", kind)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["content_type"]


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json ;x=y"],
)
def test_json_types_are_taken_with_parameters(desk: Desk, kind: str) -> None:
    """Parameters and upper case do not make it something else; a byte order mark is no error."""
    answer = post(desk, b"\xef\xbb\xbf{}", kind)
    assert "ticket_number" in answer.json()["errors"]


def test_body_of_the_largest_size_is_read(desk: Desk) -> None:
    """64 KiB exactly are read, one byte more is 413, with a declared length or in chunks."""
    full = json.dumps({"ticket_number": "x", "response_attachment_id": "1"}).encode()
    full += b" " * (64 * 1024 - len(full))
    assert post(desk, full).status_code == 404
    for content in (full + b" ", iter([full, b" "]), iter([b" " * 50_000] * 40)):
        answer = post(desk, content)
        assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")


def test_long_body_is_refused_before_it_is_sent(desk: Desk) -> None:
    """A client that asks before it sends too much is spared the sending."""
    address = httpx.URL(desk.base)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as client:
        client.sendall(
            b"POST /api/v1/tickets/attachment HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n"
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n"
            + f"Authorization: Bearer {desk.staff}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


HOPELESS = [
    "abc",
    "²",
    "\uff11",
    "-1",
    "1.0",
    "1e3",
    "0x1",
    "1 2",
    "\x00",
    "9" * 30,
    "9" * 5000,
    "1'--",
    "null",
]


@pytest.mark.parametrize("text", HOPELESS, ids=range(len(HOPELESS)))
def test_ids_that_nothing_can_have_are_not_found(desk: Desk, text: str) -> None:
    """Text that is no id is an id of nothing: 404, whatever it looks like."""
    good = desk.attach("a.txt", b"x")
    assert desk.get(text).status_code == 404
    assert desk.get(good, ticket=text).status_code == 404


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400])
def test_numbers_of_any_size_are_not_found(desk: Desk, number: int) -> None:
    """Numbers beyond those of the database are ids of nothing."""
    good = desk.attach("a.txt", b"x")
    assert desk.get(number).status_code == 404
    assert desk.get(good, ticket=number).status_code == 404


@pytest.mark.parametrize("text", [b"\\ud800", b"a\\udfff", b"\\uD800\\u0041"])
def test_half_a_character_is_no_json(desk: Desk, text: bytes) -> None:
    """JSON can spell a lone surrogate, which PHP cannot read; a whole pair is a character."""
    body = b'{"ticket_number": "%b", "response_attachment_id": "1"}'
    assert list(post(desk, body % text).json()["errors"]) == ["body"]
    assert post(desk, body % b"\\ud83d\\ude00").status_code == 404


def test_whole_numbers_are_taken_however_they_are_written(desk: Desk) -> None:
    """PHP divides, and sends 98.0; an invisible mark at the end of a line is no part of an id."""
    good = desk.attach("a.txt", b"x")
    for ticket, number in ((1.0, float(good)), ("\ufeff1\n", f" {good}\u200b"), (1, str(good))):
        assert desk.get(number, ticket=ticket).status_code == 200


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["1", "review_ok", *HOPELESS])
)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {}, optional={"ticket_number": JSON, "response_attachment_id": JSON, "intent": JSON}
)
RELAXED = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@RELAXED
@given(body=FIELDS | JSON)
def test_no_json_body_is_a_server_error(desk: Desk, body: object) -> None:
    """Any JSON whatsoever gets an envelope with a client's status."""
    answer = post(desk, json.dumps(body).encode())
    assert answer.status_code in {403, 404, 422}
    assert answer.json()["ok"] is False


@RELAXED
@given(content=st.binary(max_size=200))
def test_no_bytes_are_a_server_error(desk: Desk, content: bytes) -> None:
    """Any bytes whatsoever get an envelope with a client's status."""
    assert post(desk, content).status_code in {404, 422}
