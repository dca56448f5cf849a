"""Both URL forms lead to the same call, and nothing else leads anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from migrator.sandbox.kayako.messages import POST_MAX, Request, parse

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client

FORM = "application/x-www-form-urlencoded"


def request(target: str, *, verb: str = "GET", kind: str = "", body: bytes = b"") -> Request:
    """Parse a request that is no refusal."""
    parsed = parse(verb, target, kind, body)
    assert isinstance(parsed, Request)
    return parsed


@pytest.mark.parametrize(
    "target",
    [
        "/api/index.php?e=/Tickets/Ticket/1&salt=s",
        "/api/index.php?e=%2FTickets%2FTicket%2F1&salt=s",
        "/api/index.php?salt=s&e=/Tickets/Ticket/1",
        "/api/index.php?/Tickets/Ticket/1&salt=s",
        "/api/index.php?/Tickets//Ticket///1/&salt=s",
        "/api/index.php/Tickets/Ticket/1?salt=s",
        "/api/index.php?e=/Tickets/x=5/Ticket/1&salt=s",
    ],
)
def test_forms_of_a_url(target: str) -> None:
    """All ways to name a call are one; slashes collapse, named arguments go."""
    parsed = request(target)
    assert parsed.segments == ("Tickets", "Ticket", "1")
    assert parsed.path == "/Tickets/Ticket/1"
    assert parsed.query["salt"] == "s"


def test_e_is_decoded_a_second_time() -> None:
    """What is still encoded after PHP's own decoding is decoded once more."""
    parsed = request("/api/index.php?e=/Tickets/Ticket/ListAll/1%252C2")
    assert parsed.segments[-1] == "1,2"


def test_e_in_a_form() -> None:
    """A POST may carry its route in the form."""
    body = urlencode({"e": "/Tickets/TicketAttachment"}).encode()
    parsed = request("/api/index.php", verb="POST", kind=FORM, body=body)
    assert parsed.segments == ("Tickets", "TicketAttachment")


def test_form_keeps_every_byte() -> None:
    """Bytes that are not UTF-8 arrive as they were sent."""
    for body in (b"filename=M%FCller", b"filename=M\xfcller"):
        form = request("/api/index.php", verb="POST", kind=FORM, body=body).form
        assert form["filename"].encode(errors="surrogateescape") == b"M\xfcller"


def test_form_is_read_for_post_and_put_alone() -> None:
    """A GET has no form, an unknown content type none either, and one too large arrives empty."""
    target, body = "/api/index.php?e=/Tickets/Ticket", b"a=1"
    assert request(target, verb="PUT", kind=FORM, body=body).form == {"a": "1"}
    assert request(target, verb="GET", kind=FORM, body=body).form == {}
    assert request(target, verb="POST", kind="text/plain", body=body).form == {}
    huge = b"a=1&b=" + b"x" * POST_MAX
    assert request(target, verb="POST", kind=FORM, body=huge).form == {}


def test_multipart() -> None:
    """A multipart form is as good as any other."""
    body = (
        b'--b\r\nContent-Disposition: form-data; name="ticketid"\r\n\r\n5\r\n'
        b'--b\r\nContent-Disposition: form-data; name="contents"\r\n\r\nQU+/\r\n'
        b"--b\r\nContent-Disposition: form-data\r\n\r\nnameless\r\n--b--\r\n"
    )
    kind = "multipart/form-data; boundary=b"
    form = request("/api/index.php", verb="POST", kind=kind, body=body).form
    assert form == {"ticketid": "5", "contents": "QU+/"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (json.dumps({"salt": "s", "n": 1}).encode(), {"salt": "s"}),
        (b"", {}),
        (b"[1]", {}),
        (b"{broken", {}),
        (b"\xff", {}),
    ],
)
def test_json(body: bytes, expected: dict[str, str]) -> None:
    """A JSON body gives its texts, a broken one nothing."""
    assert request("/api/index.php?e=/x", kind="application/json", body=body).json == expected


@pytest.mark.parametrize("path", ["/Tickets/Ticket/<b>", "/Tickets/Ticket/a'b", "/Tickets/é"])
def test_disallowed_characters(client: Client, path: str) -> None:
    """Other characters than Kayako allows get an HTML page with 400."""
    answer = client.send("GET", f"{client.script}?e={quote(path)}")
    assert answer.status == 400
    assert "disallowed characters" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/Nothing/Here", "/Tickets/Nothing", "/Tickets", ""])
def test_unknown_app(client: Client, path: str) -> None:
    """An unknown app or controller gets an HTML page with 404, not XML."""
    answer = client.get(path)
    assert answer.status == 404
    assert "SWIFT App does not exist" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")


def test_other_places(client: Client) -> None:
    """Outside of the script there is only the web server."""
    answer = client.send("GET", "/staff/index.php")
    assert (answer.status, "<h1>Not Found</h1>" in answer.text) == (404, True)


def test_standard_form_on_the_wire(client: Client) -> None:
    """The standard form works as the query form does."""
    signed = urlencode(client.credentials())
    standard = client.send("GET", f"{client.script}?/Base/Department&{signed}")
    path_info = client.send("GET", f"{client.script}/Base/Department?{signed}")
    assert standard.body == path_info.body == client.get("/Base/Department").body
    assert standard.status == 200
