"""The real process against a server that bans it again and again, on real connections."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from migrator.selftest.rig import CONCURRENCY, Rig
from migrator.sources.pace import MISSES_IN_A_ROW
from tests.faults.conftest import MakeRig, rig
from tests.pull.test_ban import BANS

__all__ = ["rig"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FORMS = ["403 page", "302 log-in", "429", "503", "508", "521"]


class Gate(ThreadingHTTPServer):
    """A web server before the helpdesk, which bans after so many answers for so many seconds."""

    def __init__(self, one: Rig, bans: list[tuple[int, float, str]]) -> None:
        super().__init__(("127.0.0.1", 0), Guard)
        self.behind = urlsplit(one.server.url)
        self.bans = list(bans)
        self.guarding = threading.Lock()
        self.answers = 0
        self.until = 0.0
        self.form = ""
        self.refused: list[int] = []

    def banned(self) -> str | None:
        """Return the form in which a request is refused; None when it is let through."""
        with self.guarding:
            now = time.monotonic()
            if now >= self.until:
                if not self.bans or self.answers < self.bans[0][0]:
                    self.answers += 1
                    return None
                self.answers = 0
                _, seconds, self.form = self.bans.pop(0)
                self.until = now + seconds
                self.refused.append(0)
            self.refused[-1] += 1
            return self.form


class Guard(BaseHTTPRequestHandler):
    """Passes a request on, or refuses it."""

    protocol_version = "HTTP/1.1"
    server: Gate

    def do_GET(self) -> None:
        """Answer one request."""
        if (form := self.server.banned()) is not None:
            status, headers, text = BANS[form]
            self.reply(status, headers, text.encode())
            return
        inner = http.client.HTTPConnection(self.server.behind.netloc, timeout=30)
        try:
            inner.request("GET", self.path)
            answer = inner.getresponse()
            self.reply(answer.status, {}, answer.read())
        finally:
            inner.close()

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Send a reply."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def gate(one: Rig, *bans: tuple[int, float, str]) -> Iterator[Gate]:
    """Put a gate before the helpdesk of a rig, in its configuration, too."""
    with Gate(one, list(bans)) as made:
        config = one.folder / "config.toml"
        url = one.server.url.replace(f":{made.behind.port}", f":{made.server_address[1]}")
        text = config.read_text().replace(one.server.url, url)
        config.write_text(text.replace('patience = "10s"', 'patience = "60s"'))
        serving = threading.Thread(target=made.serve_forever, daemon=True)
        serving.start()
        try:
            yield made
        finally:
            made.shutdown()
            serving.join()


def whole(one: Rig) -> bool:
    """Return whether every attachment is stored with the right bytes.

    Texts link to files by the address behind the gate, which is another host's.
    """
    rows = one.rows()
    return all(
        (rows[key].state.value, rows[key].sha256) == (true.state, true.sha256)
        for key, true in one.helpdesk.truth.items()
    )


def test_bans_at_random_cost_time_only(rig: MakeRig) -> None:
    """Every form once, for some seconds: exit 0, all stored, few requests into any ban.

    Meanwhile `status` says that the run is paused.
    """
    one = rig(tickets=60)
    dice = random.Random(5)
    bans = [(dice.randint(20, 45), dice.uniform(0.2, 4.0), form) for form in FORMS]
    bans[0] = (30, 8.0, FORMS[0])
    with gate(one, *bans) as guard, one.start("run") as child:
        child.wait_until(lambda: bool(guard.refused))
        paused, until = "", time.monotonic() + 7
        while "paused, " not in paused and time.monotonic() < until:
            paused = one.finish("status").out
        ended = child.wait()
    assert ended.code == 0, ended
    assert "paused, " in paused
    assert len(guard.refused) == len(FORMS)
    assert max(guard.refused) <= MISSES_IN_A_ROW + 2 * CONCURRENCY + 8
    assert whole(one)
    assert {row.problem for row in one.rows().values()} == {None}


def test_a_ban_that_stays_is_told_and_the_run_resumes(rig: MakeRig) -> None:
    """Exit 4 after the patience, in the words of the server; nothing is blamed, and it goes on."""
    one = rig(tickets=20)
    with gate(one, (30, 1e6, "302 log-in")) as guard:
        config = one.folder / "config.toml"
        config.write_text(config.read_text().replace('"60s"', '"3s"'))
        ended = one.expect(4, "run")
        assert "redirects to https://login.example.com/ (HTTP 302)" in ended.out + ended.err
        assert {row.state.value for row in one.rows().values()} <= {"stored", "pending"}
        assert guard.refused[0] <= MISSES_IN_A_ROW + 2 * CONCURRENCY + 8
        guard.until = 0.0
        one.expect(0, "run")
    assert whole(one)
