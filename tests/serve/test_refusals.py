"""Every error of the documented page, and which one wins when several apply."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def run_curl(url: str, body: object, token: str | None) -> tuple[int, dict[str, object]]:
    """Post like the example of the documentation does; return the status and the envelope."""
    command = ["curl", "-sS", "-X", "POST", url, "-w", "\n%{http_code}"]
    command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    text, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(text)


@pytest.fixture(scope="module")
def shelf(desk: Desk) -> dict[str, int]:
    """Attachments of each kind, on ticket 1 in queue 3 and on ticket 2 in queue 4."""
    lost = desk.attach("lost.pdf", b"lost on the disk")
    desk.blob(lost).unlink()
    return {
        "plain": desk.attach("a.pdf", b"x"),
        "blocked": desk.attach("a.exe", b"x"),
        "review": desk.attach("a.log", b"x"),
        "lost": lost,
        "blocked_absent": desk.attach("b.exe", None),
        "review_absent": desk.attach("b.log", None),
        "other": desk.attach("c.exe", b"x", ticket=2, department=4),
    }


@curl
@pytest.mark.parametrize(
    ("ticket", "which", "expected"),
    [
        (None, "plain", (422, "validation_failed")),
        ("1", None, (422, "validation_failed")),
        ("999", "plain", (404, "not_found")),
        ("1", "99999999", (404, "not_found")),
        ("1", "other", (404, "not_found")),
        ("1", "lost", (404, "not_found")),
        ("1", "blocked", (403, "attachment_blocked")),
        ("1", "review", (403, "attachment_review_required")),
    ],
)
def test_curl_gets_each_documented_error(
    desk: Desk, shelf: dict[str, int], ticket: str | None, which: str, expected: tuple[int, str]
) -> None:
    """Each error of the page comes with its status, its code and a message, to plain curl."""
    body = {"ticket_number": ticket, "response_attachment_id": shelf.get(which, which)}
    answer = run_curl(desk.url, {k: v for k, v in body.items() if v is not None}, desk.staff)
    assert (answer[0], answer[1]["error"]) == expected
    assert answer[1]["ok"] is False
    assert answer[1]["message"]


@curl
def test_curl_gets_a_file_and_the_errors_of_tokens(desk: Desk, shelf: dict[str, int]) -> None:
    """401 and the three reasons of 403 forbidden, beside the file that a good token gets."""
    body = {"ticket_number": "1", "response_attachment_id": str(shelf["plain"])}
    assert run_curl(desk.url, body, desk.staff)[0] == 200
    for token in (None, "14|wrong", "nonsense"):
        status, answer = run_curl(desk.url, body, token)
        assert (status, answer["error"]) == (401, "unauthenticated")
    for token in (
        desk.token("settings:read"),
        desk.token(queues=[4]),
        desk.token(is_staff=False),
    ):
        status, answer = run_curl(desk.url, body, token)
        assert (status, answer["error"]) == (403, "forbidden")


@curl
def test_curl_gets_413_for_a_large_file(open_desk: OpenDesk) -> None:
    """A file over the limit is refused with its size, which a newer client reads."""
    with open_desk(max_download=10) as desk:
        body = {"ticket_number": "1", "response_attachment_id": desk.attach("a.zip", bytes(11))}
        status, answer = run_curl(desk.url, body, desk.staff)
    assert (status, answer["error"], answer["data"]) == (
        413,
        "attachment_too_large",
        {"file_size": 11, "ranged": True},
    )


@dataclass
class Asking:
    """A request, right but for what a case changes."""

    method: str = "POST"
    path: str = "/api/v1/tickets/attachment"
    token: str = "staff"
    ticket: str | None = "1"
    which: str = "plain"
    content: bytes | None = None
    content_type: str = "application/json"
    more: dict[str, object] = field(default_factory=dict)


HUGE = b" " * 70_000
ORDER = {
    "path before token": (Asking(path="/api/v1/nothing", token="none"), 404, "not_found"),
    "method before token": (Asking(method="PUT", token="none"), 405, "method_not_allowed"),
    "path before method": (Asking(method="PUT", path="/x"), 404, "not_found"),
    "token before body": (Asking(token="none", content=HUGE), 401, "unauthenticated"),
    "ability before staff": (Asking(token="guest without ability"), 403, "lacks the ability"),
    "ability before body": (Asking(token="no ability", content=b"{"), 403, "lacks the ability"),
    "staff before body": (Asking(token="guest", content=HUGE), 403, "not a staff account"),
    "length before type": (Asking(content=HUGE, content_type="text/html"), 413, "payload_too_"),
    "type before syntax": (Asking(content=b"{", content_type="text/html"), 422, "content_type"),
    "syntax before fields": (Asking(content=b"[1]"), 422, "must be a JSON object"),
    "fields before ticket": (Asking(ticket="999", more={"intent": 1}), 422, "validation_failed"),
    "ticket before queue": (Asking(ticket="999", token="queue 4"), 404, "no ticket"),
    "ticket before attachment": (Asking(ticket="999", which="0"), 404, "no ticket"),
    "queue before attachment": (Asking(token="queue 4", which="99999999"), 403, "queue"),
    "queue before rules": (Asking(token="queue 4", which="blocked"), 403, "queue"),
    "attachment before rules": (Asking(which="other"), 404, "no such attachment"),
    "rules before file": (Asking(which="blocked_absent"), 403, "attachment_blocked"),
    "review before file": (Asking(which="review_absent"), 403, "attachment_review_required"),
}


@pytest.fixture(scope="module")
def tokens(desk: Desk) -> dict[str, str]:
    """Tokens by what is wrong with them."""
    return {
        "staff": desk.staff,
        "none": "0|no",
        "no ability": desk.token("mail:write"),
        "guest": desk.token(is_staff=False),
        "guest without ability": desk.token("mail:write", is_staff=False),
        "queue 4": desk.token(queues=[4]),
    }


@pytest.mark.parametrize("case", ORDER)
def test_first_failing_check_answers(
    desk: Desk, shelf: dict[str, int], tokens: dict[str, str], case: str
) -> None:
    """Of two wrongs the one that Tickiti checks first is told."""
    asking, status, words = ORDER[case]
    body = {
        "ticket_number": asking.ticket,
        "response_attachment_id": shelf.get(asking.which, asking.which),
        **asking.more,
    }
    answer = desk.client.request(
        asking.method,
        desk.base + asking.path,
        content=asking.content if asking.content is not None else json.dumps(body).encode(),
        headers={
            "Content-Type": asking.content_type,
            "Authorization": f"Bearer {tokens[asking.token]}",
        },
    )
    assert answer.status_code == status
    assert words in answer.text
    assert answer.json()["ok"] is False
    assert answer.headers["content-type"] == "application/json"


def test_size_is_told_after_the_rules_and_the_file(open_desk: OpenDesk) -> None:
    """Review and a missing file come before 413."""
    with open_desk(max_download=10) as desk:
        assert desk.get(desk.attach("a.log", bytes(11))).status_code == 403
        lost = desk.attach("a.zip", bytes(12))
        desk.blob(lost).unlink()
        assert desk.get(lost).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused_with_allow(desk: Desk, method: str) -> None:
    """405 names the one method and comes as JSON."""
    answer = desk.client.request(method, desk.url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["content-type"] == "application/json"
    if method != "HEAD":
        assert answer.json()["error"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/tickets/attachment/x",
        "/api//v1",
        "/%00",
        "/<script>",
        "/api/v1/tickets/closed",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_are_json_too(desk: Desk, method: str, path: str) -> None:
    """No path redirects, no path answers HTML, no path is echoed."""
    answer = desk.client.request(method, desk.base + path)
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/json"
    assert "script" not in answer.text


BAD_HEADERS = (
    "", "Bearer", "Bearer |", "Bearer 1|", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer{}",
    "Bearer 99999999999999999999|x", "Bearer ²|x", "Bearer -1|x", "Bearer 999|x",
    "Bearer " + "9" * 5000 + "|x",
)  # fmt: skip


@pytest.mark.parametrize("header", BAD_HEADERS, ids=range(len(BAD_HEADERS)))
def test_bad_tokens_are_all_the_same(desk: Desk, header: str) -> None:
    """Whatever is wrong with a token, the answer is the same 401 with a challenge."""
    value = header.format(desk.staff).encode()
    answer = desk.client.post(desk.url, json={}, headers={b"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {
        "ok": False,
        "error": "unauthenticated",
        "message": "A valid token is needed: send the header Authorization: Bearer YOUR_TOKEN.",
    }


def test_secret_of_another_token_does_not_open(desk: Desk) -> None:
    """A secret belongs to its number."""
    number = desk.token().partition("|")[0]
    secret = desk.staff.partition("|")[2]
    assert desk.get(1, token=f"{number}|{secret}").status_code == 401


def test_scheme_is_taken_in_any_case(desk: Desk) -> None:
    """HTTP schemes have no case."""
    headers = {"Authorization": f"bEARER  {desk.staff}"}
    assert desk.client.post(desk.url, json={}, headers=headers).status_code == 422


def test_two_tokens_are_none(desk: Desk) -> None:
    """A request that names two tokens is nobody's."""
    headers = httpx.Headers([("Authorization", f"Bearer {desk.staff}")] * 2)
    assert desk.client.post(desk.url, json={}, headers=headers).status_code == 401


def test_write_implies_read(desk: Desk, shelf: dict[str, int]) -> None:
    """A tickets:write token downloads, as documented."""
    assert desk.get(shelf["plain"], token=desk.token("tickets:write")).status_code == 200


def test_expired_and_revoked_tokens_are_refused_at_once(desk: Desk, shelf: dict[str, int]) -> None:
    """Expiry counts from its second, revocation from the next request."""
    now = int(time.time())
    assert desk.get(shelf["plain"], token=desk.token(expires_at=now - 1)).status_code == 401
    token = desk.token(expires_at=now + 3600)
    assert desk.get(shelf["plain"], token=token).status_code == 200
    assert desk.archive.access.revoke(int(token.partition("|")[0]))
    assert desk.get(shelf["plain"], token=token).status_code == 401


def test_queues_of_a_token_are_mapped_queues(open_desk: OpenDesk) -> None:
    """A department stands for itself until it is mapped, then for its queue."""
    with open_desk() as desk:
        attachment = desk.attach("a.pdf", b"x", ticket=9, department=7)
        desk.archive.access.map_queue(7, 12, "Sales")
        assert desk.get(attachment, ticket=9, token=desk.token(queues=[12])).status_code == 200
        assert desk.get(attachment, ticket=9, token=desk.token(queues=[7])).status_code == 403
        assert desk.get(attachment, ticket=9, token=desk.token(queues=[])).status_code == 403


def test_last_use_of_a_token_is_noted(open_desk: OpenDesk) -> None:
    """An administrator sees which tokens are in use."""
    with open_desk() as desk:
        desk.post({})
        used = [token.last_used_at for token in desk.archive.access.tokens()]
    assert used[0] is not None
    assert abs(used[0] - time.time()) < 60
