"""Wrong tokens are bounded by address, good ones are not; notes of use wait for nobody."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from migrator.archive import Access, Archive, open_archive, open_beside
from migrator.archive.checkpoint import BUSY_TIMEOUT, NAME, Checkpoint
from migrator.errors import ArchiveBusy
from migrator.serve.auth import Throttle
from migrator.serve.bounds import FAILURES
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app

PATH = "/api/v1/tickets/attachment"


class Clock:
    """A clock that goes when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def token_of(archive: Archive, **more: object) -> str:
    facts: dict[str, object] = {"queues": None, "is_staff": True, "expires_at": None} | more
    made = archive.access.create_token("n", abilities=["tickets:read"], **facts)  # type: ignore[arg-type]
    return made[1]


def test_failures_beyond_the_bound_have_to_wait_for_the_window() -> None:
    """The bound is a number of failures in a window that begins with the first of them."""
    clock = Clock()
    throttle = Throttle(failures=2, window=60, clock=clock)
    waits = []
    for seconds in (0, 10, 10, 39.5, 0.5, 0):
        clock.now += seconds
        waits.append(throttle.failed("192.0.2.1"))
    assert waits == [0, 0, 40, 1, 0, 0]


def test_addresses_count_by_themselves() -> None:
    """One address pays for its own failures; of IPv6 a whole /64 is one, also behind a scope."""
    throttle = Throttle(failures=1, clock=Clock())
    assert throttle.failed("192.0.2.1") == 0
    assert throttle.failed("192.0.2.2") == 0
    assert throttle.failed("::ffff:192.0.2.1") > 0
    assert throttle.failed("2001:db8::1") == 0
    assert throttle.failed("2001:db8::ffff:2%eth0") > 0
    assert throttle.failed("2001:db8:0:1::1") == 0
    assert throttle.failed("unknown") == 0


def test_memory_of_addresses_is_bounded() -> None:
    """The address whose window is the oldest is forgotten first."""
    throttle = Throttle(failures=1, addresses=2, clock=Clock())
    for address in ("a", "b", "c"):
        assert throttle.failed(address) == 0
    assert throttle.failed("c") > 0
    assert throttle.failed("b") > 0
    assert throttle.failed("a") == 0, "forgotten"


def test_guessing_is_answered_with_429_and_a_good_token_is_not(tmp_path: Path) -> None:
    """After the bound wrong tokens get 429 with Retry-After and the envelope; good ones pass."""
    with (
        open_archive(tmp_path, command="test") as archive,
        BackgroundServer(build_app(archive, EndpointSettings())) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        good = token_of(archive)

        def ask(token: str | None) -> httpx.Response:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return client.post(PATH, json={}, headers=headers)

        assert [ask("1|x").status_code for _ in range(FAILURES)] == [401] * FAILURES
        answer = ask("1|x")
        assert answer.status_code == 429
        assert answer.json()["ok"] is False
        assert answer.json()["error"] == "too_many_requests"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert ask(good).status_code == 422
        assert ask(None).status_code == 401
        assert ask(token_of(archive, expires_at=1)).status_code == 401


def test_revoked_and_expired_tokens_are_refused_with_the_next_request(tmp_path: Path) -> None:
    """A revocation by another process counts at once, without a restart."""
    with (
        open_archive(tmp_path, command="test") as archive,
        open_beside(tmp_path) as beside,
        BackgroundServer(build_app(beside, EndpointSettings())) as server,
    ):
        good, expired = token_of(archive), token_of(archive, expires_at=1)

        def ask(token: str) -> int:
            bearer = {"Authorization": f"Bearer {token}"}
            return httpx.post(server.url + PATH, json={}, headers=bearer, timeout=20).status_code

        assert (ask(good), ask(expired)) == (422, 401)
        assert archive.access.tokens()[0].last_used_at
        assert archive.access.revoke(1)
        assert ask(good) == 401


def test_last_use_waits_for_no_writer(tmp_path: Path) -> None:
    """While a run is in a transaction the note fails at once, and later it is written."""
    with open_archive(tmp_path, command="test") as run:
        token_of(run)
        db = Checkpoint.connect(tmp_path / NAME)
        beside = Access(db)
        with run.ledger.atomic():
            begun = time.monotonic()
            with pytest.raises(ArchiveBusy):
                beside.touch(1, 5000)
            assert time.monotonic() - begun < BUSY_TIMEOUT / 2
        beside.touch(1, 5000)
        assert run.access.tokens()[0].last_used_at == 5000
        settings = [db.one(f"PRAGMA {name}") for name in ("busy_timeout", "synchronous")]
        assert settings == [(10_000,), (2,)]
        db.close()
