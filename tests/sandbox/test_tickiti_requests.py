"""How the look-alike of Tickiti reads requests: as PHP and Laravel do."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any

import pytest

from migrator.sandbox.tickiti import Limits
from migrator.sandbox.tickiti.laravel import is_address
from tests.sandbox.tickiti_caller import Caller, calling, taken

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"ticket_id": 1}',
        b'{"ticket_id": 1, "note": "\xe9"}',
        b'{"ticket_id": 1, "note": NaN}',
        b'{"ticket_id": 1, "note": "\\ud800"}',
        b'{"ticket_id": 1, "note": ["\\udc00 x"]}',
        b'{"ticket_id": 1',
        b'{"ticket_id": 1} x',
        b"[1]",
        b"1",
        b"",
        b"[" * 100_000,
        b'{"ticket_id": 18446744073709551617}',
        b'{"ticket_id": ""}',
        b'{"ticket_id": []}',
        b'{"ticket_id": true}',
        b'{"ticket_id": 1.5}',
    ],
)
def test_bodies_that_say_nothing(body: bytes) -> None:
    """What PHP cannot read counts as missing, as a whole: 422."""
    with calling() as caller:
        caller.tickiti.add_ticket("A")
        assert caller.post("tickets/show", content=body, headers=JSON).status_code == 422


def test_bodies_that_are_read() -> None:
    """Ids are numbers or strings of digits, strings are trimmed, and pairs of surrogates fit."""
    with calling() as caller:
        caller.tickiti.add_ticket("A")
        for body in ('{"ticket_id": "1"}', '{"ticket_id": " 1\\n", "x": "\\ud83d\\ude00"}'):
            sent = caller.post("tickets/show", content=body.encode(), headers=JSON)
            assert sent.status_code == 200
        plain = {"Content-Type": "text/plain"}
        body = json.dumps({"ticket_id": 1})
        assert caller.post("tickets/show", content=body, headers=plain).status_code == 422


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("ann@example.com", True),
        ("ann+tag.x@sub.example.co.uk", True),
        ("ann@localhost", True),
        ("o'brien_1@example.com", True),
        ("jörg@müller.example", True),
        ("ann", False),
        ("ann@", False),
        ("@example.com", False),
        ("ann@@example.com", False),
        ("a nn@example.com", False),
        ("ann.@example.com", False),
        (".ann@example.com", False),
        ("a..n@example.com", False),
        ("ann@example..com", False),
        ("ann@-example.com", False),
        ("Ann <ann@example.com>", False),
        ("ann@example.com, bo@example.com", False),
        ("a" * 65 + "@example.com", False),
    ],
)
def test_addresses(address: str, fits: bool) -> None:
    """Laravel's rule takes what mail servers would, and not what old helpdesks have, too."""
    assert is_address(address) is fits


# Uploads


def _form(filename: str | None, contents: bytes, name: str = "file", more: str = "") -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{named}{more}\r\n'
    return head.encode() + b"Content-Type: x/y\r\n\r\n" + contents + b"\r\n--b--\r\n"


def _posted(caller: Caller, body: bytes, content_type: str = "") -> Any:
    kind = content_type or "multipart/form-data; boundary=b"
    return caller.post("tickets/attachment-upload", content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a.txt", "a.txt"),
        (" a.txt ", " a.txt "),
        ("a.txt.", "a.txt."),
        ("../../etc/passwd", "passwd"),
        ("C:\\files\\a.txt", "a.txt"),
        ('a\\"b.txt', 'a"b.txt'),
        ("a%22b.txt", "a%22b.txt"),
        ("a.txt\0.png", "a.txt"),
        ("x" * 300, "x" * 300),
        ("büro 😀.txt", "büro 😀.txt"),
        ("semi;colon.txt", "semi;colon.txt"),
    ],
)
def test_names_as_php_keeps_them(filename: str, name: str) -> None:
    """What follows the last slash or backslash, up to a NUL, and nothing decoded."""
    with calling() as caller:
        assert taken(_posted(caller, _form(filename, b"abc")))["name"] == name


@pytest.mark.parametrize(
    "body",
    [
        _form("", b"abc"),
        _form(None, b"abc"),
        _form("a.txt", b"abc", name="upload"),
        _form("a.txt", b"abc", name="file[]"),
        _form(None, b"abc", more="; filename*=UTF-8''a.txt"),
        _form("a.txt", b"abc").removesuffix(b"--b--\r\n"),
        b"",
        b"nothing",
    ],
)
def test_forms_without_a_file(body: bytes) -> None:
    """No part named file with a filename, or none that ends: 422, and nothing is kept."""
    with calling() as caller:
        answer = _posted(caller, body)
        assert answer.status_code == 422
        assert answer.json()["errors"] == {"file": ["The file field is required."]}
        assert list(caller.tickiti.desk.folder.iterdir()) == []


def test_the_other_forms() -> None:
    """An empty file is one, the last of two counts, and a boundary may be missing or quoted."""
    with calling() as caller:
        empty = taken(_posted(caller, _form("a.txt", b"")))
        assert empty["file_size"] == 0
        assert empty["sha256"] == hashlib.sha256(b"").hexdigest()
        two = _form("a.txt", b"a").removesuffix(b"--b--\r\n") + _form("b.txt", b"bb")
        assert taken(_posted(caller, two))["name"] == "b.txt"
        quoted = _posted(caller, _form("a.txt", b"a"), 'multipart/form-data; boundary="b"')
        assert taken(quoted)["file_size"] == 1
        assert _posted(caller, _form("a", b"a"), "multipart/form-data").status_code == 422
        assert _posted(caller, _form("a", b"a"), "application/json").status_code == 422


def test_an_upload_in_chunks() -> None:
    """A body without a length is read to its end."""
    with calling() as caller:
        body = _form("a.bin", bytes(range(256)) * 1000)
        pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        told = taken(caller.post("tickets/attachment-upload", content=pieces, headers=kind))
        assert told["file_size"] == 256_000


def test_an_upload_that_ends_in_the_middle() -> None:
    """A client that goes away leaves nothing behind."""
    with calling() as caller:
        host, port = caller.tickiti.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                b"POST /api/v1/tickets/attachment-upload HTTP/1.1\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + _form("a", b"abc")[:-9]
            )
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert list(caller.tickiti.desk.folder.iterdir()) == []
        assert caller.tickiti.requests == []


def test_chunks_that_are_none() -> None:
    """A body that cannot be read ends the connection, and nothing else."""
    with calling() as caller:
        host, port = caller.tickiti.url.removeprefix("http://").split(":")
        head = b"POST /api/v1/tickets HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head + b"zz\r\n")
            assert connection.recv(1) == b""
        assert caller.ok("token")


def test_the_same_bytes_are_kept_once() -> None:
    """A second upload changes nothing; each answer has the name that was sent."""
    with calling() as caller:
        first, second = caller.reference("a.txt", b"abc"), caller.reference("b.txt", b"abc")
        assert (first["sha256"], second["name"]) == (second["sha256"], "b.txt")
        assert len(list(caller.tickiti.desk.folder.iterdir())) == 1


def test_blocked_types() -> None:
    """Blocked by the last extension, whatever its case; others are taken, with a rule or not."""
    with calling() as caller:
        for name in ("a.exe", "a.txt.EXE", "a.docm"):
            answer = caller.upload(name, b"abc")
            assert (answer.status_code, answer.json()["error"]) == (403, "attachment_blocked")
        for name in ("a.txt", "a.exe.txt", "exe", "a.log", "a."):
            assert caller.upload(name, b"abc").status_code == 200
        caller.tickiti.desk.blocked.add("log")
        assert caller.upload("a.log", b"abc").status_code == 403


# Limits


@pytest.mark.parametrize(
    ("limits", "size", "status"),
    [
        (Limits(file=1000), 1000, 200),
        (Limits(file=1000), 1001, 413),
        (Limits(upload_max=1000), 1001, 422),
        (Limits(post_max=1000), 1000, 422),
        (Limits(post_max=1000), 500, 200),
        (Limits(proxy=1000), 1000, 413),
    ],
)
def test_limits_of_uploads(limits: Limits, size: int, status: int) -> None:
    """The file counts for Tickiti and PHP's limit of files, the request for the other two."""
    with calling(limits=limits) as caller:
        answer = caller.upload("a.txt", b"a" * size)
        assert answer.status_code == status
        html = limits.proxy is not None
        assert ("html" in answer.headers["Content-Type"]) is html


def test_limits_of_other_requests() -> None:
    """Over PHP's limit for requests, a request is empty; a proxy refuses it."""
    with calling(limits=Limits(post_max=1000)) as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket, content="x" * 1000).status_code == 422
        caller.tickiti.limits.proxy = 900
        assert caller.note(ticket, content="x" * 900).status_code == 413
        assert len(caller.tickiti.responses(ticket)) == 1


@pytest.mark.slow
def test_25_mib_are_taken_and_not_a_byte_more() -> None:
    """The largest file of the API goes in, and comes back in one answer."""
    with calling() as caller:
        largest = b"a" * (25 << 20)
        assert caller.upload("a.txt", largest + b"a").status_code == 413
        ticket = caller.tickiti.add_ticket("A")
        caller.note(ticket, attachments=[caller.reference("a.txt", largest)])
        (file,) = caller.tickiti.files(ticket)
        read = caller.ok("tickets/attachment", ticket_id=1, response_attachment_id=file.id)
        assert read["file_size"] == len(largest)
