"""Signing in and out, and what a session is worth."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside
from migrator.archive.records import State
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.web import build_pages
from migrator.serve.web.sessions import IDLE, LONGEST, Board, Sessions
from tests.web.conftest import OpenDesk
from tests.web.desks import Desk, Visitor, hidden

PAGES = ["/", "/status", "/tickets/1", "/attachments/1", "/attachments/1/download"]


@pytest.mark.parametrize("path", PAGES)
def test_strangers_see_the_form_and_nothing_else(stranger: Visitor, path: str) -> None:
    """Every page leads to the form, which leads back to it."""
    answer = stranger.get(path + "?a=b%20c")
    assert answer.status_code == 303
    assert answer.text == ""
    shown = stranger.get(answer.headers["location"])
    assert shown.status_code == 200
    assert hidden(shown.text)["next"] == f"{path}?a=b%20c"


def test_good_token_opens_a_session(desk: Desk, stranger: Visitor) -> None:
    """The cookie is for this host alone, out of reach of scripts, and not sent across sites."""
    answer = stranger.sign_in(desk.token(), back="/status?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/status?x=1")
    cookie = next(
        one for one in answer.headers.get_list("set-cookie") if one.startswith("migrator_session=")
    )
    attributes = {one.strip().lower() for one in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/", f"max-age={LONGEST}"} <= attributes
    assert "secure" not in attributes
    assert stranger.get("/").status_code == 200


def test_cookies_are_for_tls_alone_where_there_is_tls(tmp_path: Path) -> None:
    """Under https the cookie is Secure, and its prefix keeps neighbours from setting it."""

    async def visit(archive: Archive, token: str) -> list[str]:
        pages = httpx.ASGITransport(build_pages(archive, EndpointSettings()))
        async with httpx.AsyncClient(transport=pages, base_url="https://desk.test") as client:
            shown = await client.get("/sign-in")
            fields = {**hidden(shown.text), "token": token}
            answer = await client.post("/sign-in", data=fields)
            assert (await client.get("/")).status_code == 200
            return [*shown.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")]

    with open_archive(tmp_path / "archive", command="test") as archive:
        _, token = archive.access.create_token(
            "x", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        cookies = asyncio.run(visit(archive, token))
    assert {cookie.split("=")[0] for cookie in cookies} == {"__Host-form", "__Host-session"}
    assert all("; Secure" in cookie and "; HttpOnly" in cookie for cookie in cookies)


def test_secret_is_in_no_cookie_and_no_page(desk: Desk, stranger: Visitor) -> None:
    """A session names its token; the secret stays with its owner."""
    token = desk.token()
    answer = stranger.sign_in(token)
    secret = token.split("|")[1]
    assert secret not in str(answer.headers)
    assert secret not in stranger.get("/").text


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("unknown", 401),
        ("garbage", 401),
        ("empty", 401),
        ("line end", 401),
        ("expired", 401),
        ("revoked", 401),
        ("unable", 403),
        ("no staff", 403),
    ],
)
def test_bad_token_is_told(desk: Desk, stranger: Visitor, kind: str, status: int) -> None:
    """The form comes again with the reason, announced to screen readers, and no session."""
    tokens = {
        "unknown": "999999|secret",
        "garbage": "¡\udcffhello".encode("utf-8", "replace").decode(),
        "empty": " ",
        "line end": "1|a\r\nx-evil: 1",
        "expired": desk.token(expires_at=1),
        "revoked": desk.token(),
        "unable": desk.token(abilities=("mail:read",)),
        "no staff": desk.token(is_staff=False),
    }
    if kind == "revoked":
        desk.archive.access.revoke(int(tokens[kind].split("|")[0]))
    answer = stranger.sign_in(tokens[kind])
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert "migrator_session" not in str(answer.headers)
    assert stranger.get("/").status_code == 303


@pytest.mark.parametrize(
    "back", ["//evil.test", "/\\evil.test", "https://evil.test", "javascript:x", "/a\r\nx: y", ""]
)
def test_nobody_is_led_away_after_signing_in(desk: Desk, stranger: Visitor, back: str) -> None:
    """Only our own paths are gone back to."""
    assert stranger.sign_in(desk.token(), back=back).headers["location"] == "/"


def test_form_of_another_site_signs_nobody_in(desk: Desk, stranger: Visitor) -> None:
    """Without the cookie that came with the form, and its seal, a good token is of no use."""
    token = desk.token()
    fields = hidden(stranger.get("/sign-in").text)
    assert stranger.post("/sign-in", data={"token": token}).status_code == 403
    assert stranger.post("/sign-in", data={"token": token, "form": "é"}).status_code == 403
    stranger.cookies.clear()
    assert stranger.post("/sign-in", data={**fields, "token": token}).status_code == 403


def test_signing_out_ends_every_copy_of_the_session(visitor: Visitor) -> None:
    """The cookie is dropped, and worthless where somebody kept it."""
    kept = visitor.cookies["migrator_session"]
    answer = visitor.sign_out()
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "migrator_session" not in visitor.cookies
    visitor.cookies.set("migrator_session", kept)
    assert visitor.get("/").status_code == 303


def test_foreign_form_signs_nobody_out(visitor: Visitor) -> None:
    """A form that is not our own does nothing; nor does a link."""
    assert visitor.post("/sign-out", data={"form": "0" * 64}).status_code == 403
    assert visitor.post("/sign-out", data={"other": "1"}).status_code == 403
    assert visitor.get("/sign-out").status_code == 405
    assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("part", range(5))
def test_changed_cookie_is_no_session(visitor: Visitor, part: int) -> None:
    """Every part of the cookie is under its seal."""
    parts = visitor.cookies["migrator_session"].split(".")
    parts[part] = parts[part][:-1] + ("1" if parts[part][-1] != "1" else "2")
    visitor.cookies.clear()
    visitor.cookies.set("migrator_session", ".".join(parts))
    assert visitor.get("/").status_code == 303


def test_revoked_token_ends_its_sessions_at_once(desk: Desk, stranger: Visitor) -> None:
    """The next click after a revocation leads to the form."""
    token = desk.token()
    stranger.sign_in(token)
    assert stranger.get("/").status_code == 200
    desk.archive.access.revoke(int(token.split("|")[0]))
    assert stranger.get("/").status_code == 303


def test_session_ends_when_idle_and_at_last_anyway() -> None:
    """An unused session is over after an hour, a used one after twelve."""
    now = [1000.0]
    sessions = Sessions(clock=lambda: now[0])
    session = sessions.open(7)
    assert sessions.read(sessions.write(session)) == session
    assert sessions.renewed(session) is None
    now[0] += IDLE - 1
    assert sessions.read(sessions.write(session)) == session
    while now[0] < 1000 + LONGEST - IDLE:
        renewed = sessions.renewed(session)
        assert renewed is not None
        session = renewed
        assert sessions.read(sessions.write(session)) == session
        now[0] += IDLE - 1
    now[0] = 1000 + LONGEST
    session = sessions.renewed(session) or session
    assert sessions.read(sessions.write(session)) is None
    idle = sessions.open(7)
    now[0] += IDLE
    assert sessions.read(sessions.write(idle)) is None


def test_a_page_that_refreshes_itself_keeps_no_session_alive(tmp_path: Path) -> None:
    """Only what somebody asks for counts: a status that nobody looks at is signed out in time."""
    now = [1000.0]
    pages = partial(build_pages, sessions=Sessions(clock=lambda: now[0]))
    with (
        open_archive(tmp_path / "archive", command="test") as archive,
        open_beside(tmp_path / "archive") as beside,
        BackgroundServer(pages(beside, EndpointSettings())) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        visitor.sign_in(Desk(archive, server.url).token())
        now[0] += IDLE - 1
        assert "set-cookie" not in visitor.get("/status?auto=1").headers
        now[0] += 1
        assert visitor.get("/status?auto=1").headers["location"].startswith("/sign-in")
        visitor.sign_in(Desk(archive, server.url).token())
        now[0] += IDLE - 1
        assert "set-cookie" in visitor.get("/status").headers


def test_seals_are_for_one_purpose_one_thing_and_one_process() -> None:
    """A seal cannot be used for anything it was not made for."""
    sessions = Sessions()
    seal = sessions.seal("review", "nonce", 12)
    assert sessions.sealed(seal, "review", "nonce", 12)
    assert not sessions.sealed(seal, "review", "nonce", 1)
    assert not sessions.sealed(seal, "form", "nonce", 12)
    assert not sessions.sealed(seal, "review", "nonc", "e", 12)
    assert not Sessions().sealed(seal, "review", "nonce", 12)


def test_ended_sessions_are_forgotten_when_their_time_is_over() -> None:
    """The list of those who signed out does not grow for ever."""
    now = [1000.0]
    sessions = Sessions(clock=lambda: now[0])
    sessions.end(sessions.open(1))
    now[0] += LONGEST
    sessions.end(sessions.open(2))
    assert len(sessions.ended) == 1


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"token=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"a=1&" * 30, "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_of_ours_is_refused(
    stranger: Visitor, body: bytes, kind: str, status: int
) -> None:
    """Other types, long bodies and many fields get a page that says so."""
    answer = stranger.post("/sign-in", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert "<h1>" in answer.text


@pytest.fixture
def two_queues(desk: Desk, stranger: Visitor) -> tuple[Visitor, int, int]:
    """Somebody who sees queue 3 alone, and a file there and one in queue 4."""
    desk.ticket(31, subject="Seen", department=3)
    desk.ticket(41, subject="Hidden away", department=4)
    seen = desk.attach("seen.txt", b"seen", ticket=31)
    unseen = desk.attach("unseen.txt", b"unseen", ticket=41)
    desk.attach("unseen-failure.txt", None, ticket=41, state=State.FAILED)
    stranger.sign_in(desk.token(queues=[3]))
    return stranger, seen, unseen


def test_queues_bound_everything(two_queues: tuple[Visitor, int, int]) -> None:
    """What the token may not see is in no list, no count, no page, and looks as if not there."""
    visitor, seen, unseen = two_queues
    assert visitor.get(f"/attachments/{seen}/download").content == b"seen"
    found = visitor.get("/", params={"q": "n"}).text
    assert "Seen" in found
    assert "Hidden" not in found
    assert "Queue 4" not in found
    assert "unseen" not in visitor.get("/", params={"q": "unseen", "in": "filename"}).text.replace(
        'value="unseen"', ""
    ).replace("Search: unseen", "")
    status = visitor.get("/status").text
    assert "unseen-failure" not in status
    for there, nowhere in (
        ("/tickets/41", "/tickets/424242"),
        (f"/attachments/{unseen}", "/attachments/424242"),
        (f"/attachments/{unseen}/download", "/attachments/424242/download"),
        (f"/attachments/{unseen}/view", "/attachments/424242/view"),
    ):
        one, other = visitor.get(there), visitor.get(nowhere)
        assert one.status_code == 404
        assert one.text == other.text
    form = {**hidden(visitor.get("/").text), "intent": "review_ok"}
    assert visitor.post(f"/attachments/{unseen}", data=form).status_code == 404


def test_counts_of_the_status_are_those_of_the_queues(open_desk: OpenDesk) -> None:
    """A token for one queue is shown the sums and the failures of that queue."""
    with open_desk() as desk, Visitor(base_url=desk.url, timeout=20) as visitor:
        desk.attach("a.txt", b"12345", ticket=90, department=8)
        desk.attach("other.txt", None, ticket=90, department=8, state=State.MISSING)
        desk.attach("b.txt", b"12345", ticket=91, department=9)
        desk.attach("c.txt", None, ticket=91, department=9, state=State.MISSING)
        visitor.sign_in(desk.token(queues=[9]))
        page = " ".join(visitor.get("/status").text.split())
    found = re.findall(r'<th scope="row">(\w+)<.*?<td class="number">(\d+)</td>', page)
    expected = {"stored": "1", "missing": "1", "listed": "2"}
    assert {state: n for state, n in found if n != "0"} == expected
    assert "c.txt" in page
    assert "other.txt" not in page


def test_sessions_of_forked_processes_are_the_same() -> None:
    """A cookie of one process is good at another, until either ends the session."""
    board = Board()
    here = Sessions(board=board)
    there = copy.copy(here)  # what a fork makes of it: the key and the file are the same
    there.ended, there.board = {}, copy.copy(board)
    cookies = [here.write(here.open(1)) for _ in range(3)]
    assert all(there.read(cookie) for cookie in cookies)
    for ending, cookie in zip((here, there), cookies, strict=False):
        session = ending.read(cookie)
        assert session is not None
        ending.end(session)
    for sessions in (here, there):
        assert [sessions.read(cookie) is None for cookie in cookies] == [True, True, False]
    board.close()


STRESS = """
    import multiprocessing, os, sys, threading
    from migrator.serve.web.sessions import Board, Sessions

    sys.setswitchinterval(1e-6)
    sessions = Sessions(board=Board())
    opened = [sessions.open(1) for _ in range(4000)]
    cookies = [sessions.write(one) for one in opened]
    all_ended = multiprocessing.get_context("fork").Barrier(2)

    def visit(first):
        for number in range(first, len(opened), 8):
            sessions.end(opened[number])
            assert sessions.read(cookies[number]) is None
            sessions.read(cookies[-1 - number])

    def work(first):
        threads = [threading.Thread(target=visit, args=(first + 2 * n,)) for n in range(4)]
        for one in threads: one.start()
        for one in threads: one.join()
        all_ended.wait(60)

    def fork(task):
        pid = os.fork()
        if pid == 0:
            try:
                task()
                os.write(1, b"%d\\n" % sum(sessions.read(one) is not None for one in cookies))
            finally:
                os._exit(0)
        return pid

    both = [fork(lambda: work(0)), fork(lambda: work(1))]
    for pid in both: os.waitpid(pid, 0)
    os.waitpid(fork(lambda: None), 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_no_sign_out_is_lost_among_workers_under_stress() -> None:
    """4,000 sessions end in two processes with four threads each: none is admitted again.

    Neither by the two, nor by one that takes the place of a worker that died.
    """
    script = [sys.executable, "-W", "error", "-c", textwrap.dedent(STRESS)]
    ran = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    assert (ran.stderr, ran.stdout.split()) == ("", ["0", "0", "0"])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_a_board_leaves_no_file_open() -> None:
    """Whoever makes and closes boards for ever does not run out of descriptors."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        Board().close()
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 50
