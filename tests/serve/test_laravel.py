"""What clients get used to from an HTTP server in front of a Laravel application."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from migrator.archive.records import PostRow, TicketRow
from migrator.errors import ArchiveDamaged

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

SHOW = "/api/v1/tickets/show"


@pytest.fixture(scope="module", autouse=True)
def filled(desk: Desk) -> Desk:
    """Keep a ticket, and one whose thread is longer than what is sent at once."""
    desk.write(TicketRow(1, 3, subject="Grüße/☃"), PostRow(10, 1, text="a/b"))
    desk.write(TicketRow(2, 3), *[PostRow(n, n, text="x" * 3000) for n in range(20, 60)])
    return desk


def bearer(desk: Desk) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.staff}"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tickets/show", {"ticket_number": "1"}),
        ("tickets/show", {"ticket_number": "2"}),
        ("tickets/responses/query", {}),
        ("tickets/query", {}),
        ("tickets/queues", {}),
        ("tickets/staff", {}),
        ("tickets/show", {}),
        ("tickets/nothing", {}),
    ],
)
def test_json_is_compact_and_ascii(desk: Desk, path: str, body: object) -> None:
    """As PHP writes it, but for the slashes: short, long and refusing answers alike."""
    text = desk.call(path, body).text
    assert text == json.dumps(json.loads(text), separators=(",", ":"))
    assert text.isascii()


def test_download_is_compact_too(desk: Desk) -> None:
    """The metadata and the bytes stand in one compact object."""
    text = desk.get(desk.attach("a/b.pdf", b"%PDF-1.4 " + bytes(300_000))).text
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


@pytest.mark.parametrize(
    "path",
    [SHOW + "/", "/" + SHOW, "/api//v1/tickets///show", "//api/v1/tickets/show//?x=//y/", SHOW],
)
def test_slashes_too_many_change_nothing(desk: Desk, path: str) -> None:
    """Doubled slashes and one at the end are those of a base address: no redirect, no 404."""
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {desk.staff}"]
    head += ["Content-Type: application/json", "Content-Length: 21", "Connection: close", "", ""]
    with plain(desk) as client:
        client.sendall("\r\n".join(head).encode() + b'{"ticket_number":"1"}')
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b'"id":"1"' in answer


def plain(desk: Desk) -> socket.socket:
    address = httpx.URL(desk.base)
    return socket.create_connection((address.host, address.port or 80), timeout=10)


ACCEPTED = (
    "Bearer {number}|{secret}", "Bearer {secret}", "bearer {secret}", "BEARER  {number}|{secret}",
    "Bearer {secret}, Basic eHg6eQ==", "Basic eHg6eQ==, Bearer {number}|{secret}",
    "Bearer wrong, Bearer {secret}",
)  # fmt: skip
REFUSED = (
    "Bearer {number}", "Bearer |{secret}", "Bearer x|{secret}", "Bearer {secret}x", "Bearer",
    "Bearer{secret}", "{number}|{secret}", "Basic {secret}", "Bearer {secret}, Bearer wrong",
    "Bearer 999|{secret}", "Bearer {number}|{secret}|", "Bearer ,{secret}",
)  # fmt: skip


@pytest.mark.parametrize("header", [*ACCEPTED, *REFUSED])
def test_authorization_is_read_as_laravel_reads_it(desk: Desk, header: str) -> None:
    """The last bearer token up to a comma, with its number or by its secret alone."""
    number, _, secret = desk.staff.partition("|")
    sent = {"Authorization": header.format(number=number, secret=secret).encode()}
    answer = desk.client.post(desk.base + SHOW, json={"ticket_id": 1}, headers=sent)  # type: ignore[arg-type]
    assert answer.status_code == (200 if header in ACCEPTED else 401)


def test_revoked_token_ends_without_its_number_too(open_desk: OpenDesk) -> None:
    """The secret alone opens nothing that its number would not."""
    with open_desk() as desk:
        token = desk.token()
        secret = token.partition("|")[2]
        assert desk.call("token", token=secret).status_code == 200
        assert desk.archive.access.revoke(int(token.partition("|")[0]))
        assert desk.call("token", token=secret).status_code == 401


def test_preflight_is_answered_for_any_site(desk: Desk) -> None:
    """A browser may ask for any method and any headers below /api/, without a token."""
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "post",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in (SHOW, "/api/v1/tickets/attachment", "/api/v1/nothing"):
        answer = desk.client.options(desk.base + path, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert answer.headers["access-control-max-age"] == "0"
        assert "Access-Control-Request-Method" in answer.headers["vary"]
        assert "content-length" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers
    assert desk.client.options(desk.base + "/healthz", headers=asked).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("tickets/queues", 200), ("tickets/show", 422), ("tickets/nothing", 404)]
)
def test_every_answer_of_the_api_may_be_read_by_any_site(
    desk: Desk, path: str, status: int
) -> None:
    """A script in a page sees files and errors alike; other addresses are not for it."""
    answer = desk.call(path)
    assert answer.status_code == status
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    health = desk.client.get(desk.base + "/healthz")
    assert "access-control-allow-origin" not in health.headers


def test_options_name_the_method(desk: Desk) -> None:
    """Without a browser's question OPTIONS tells what an address answers."""
    answer = desk.client.options(desk.base + SHOW)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (200, "POST", b"")
    assert desk.client.options(desk.base + "/api/v1/x").status_code == 404


def old(desk: Desk, path: str, body: bytes, *, method: str = "POST") -> tuple[bytes, bytes]:
    """Speak HTTP/1.0; return the head of the answer and all that follows."""
    lines = [f"{method} {path} HTTP/1.0", f"Authorization: Bearer {desk.staff}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    with plain(desk) as client:
        client.sendall("\r\n".join(lines).encode() + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


def test_http_1_0_gets_no_chunks(desk: Desk) -> None:
    """A long thread comes as plain bytes with their number, and the connection ends."""
    head, rest = old(desk, SHOW, b'{"ticket_number":"2"}')
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head
    assert b"content-length: %d" % len(rest) in head
    whole = desk.call("tickets/show", {"ticket_number": "2"})
    assert whole.headers["transfer-encoding"] == "chunked"
    assert rest == whole.content
    assert len(rest) > 100_000


def test_answer_that_breaks_off_is_none_in_http_1_0(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is sent, but an error."""

    def broken(self: object, response_ids: list[int]) -> object:
        if 30 in response_ids:
            raise ArchiveDamaged("broken")
        return {}

    with open_desk() as desk:
        desk.write(TicketRow(2, 3), *[PostRow(n, n, text="x" * 3000) for n in range(1, 60)])
        monkeypatch.setattr("migrator.archive.threads.Threads.attachments_of", broken)
        head, rest = old(desk, SHOW, b'{"ticket_number":"2"}')
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(rest)["error"] == "server_error"


PHP = r"""
$base = $argv[1]; $token = $argv[2];
$context = stream_context_create(['http' => ['method' => 'POST', 'ignore_errors' => true,
    'protocol_version' => $argv[3], 'header' =>
        "Authorization: Bearer $token\r\nContent-Type: application/json\r\nConnection: close\r\n",
    'content' => json_encode(['ticket_number' => '2'])]]);
$text = file_get_contents("$base//api/v1/tickets/show/", false, $context);
$found = json_decode($text, true, 512, JSON_THROW_ON_ERROR);
echo count($found['data']['responses']), ' ', json_encode($found) === str_replace('/', '\\/', $text)
    ? 'same' : 'other';
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_php_reads_long_answers(desk: Desk, version: str) -> None:
    """PHP's streams, old and new, get a whole thread, in the words that PHP would use."""
    command = ["php", "-r", PHP, "--", desk.base, desk.staff, version]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "40 same", done.stdout + done.stderr
