"""Runs against a server that turns everybody away for a while, in any form, again and again."""

from __future__ import annotations

import random

import httpx
import pytest

from migrator.archive import Archive
from migrator.errors import SourceDown
from migrator.events import AttachmentSettled, PaceChanged, Paused
from migrator.sources.pace import MISSES_IN_A_ROW, waits
from tests.pull.doubles import problems, states
from tests.pull.test_outage import FETCH, World

PAGE = "<html><head><title>Forbidden</title></head><body>Your address is blocked.</body></html>"
LOGIN = {"Location": "https://login.example.com/?next=/api/index.php"}
BANS: dict[str, tuple[int, dict[str, str], str]] = {
    "403 page": (403, {}, PAGE),
    "403 empty": (403, {}, ""),
    "403 json": (403, {}, '{"error": "blocked"}'),
    "403 and a pause": (403, {"Retry-After": "20"}, PAGE),
    "302 log-in": (302, LOGIN, ""),
    "302 maintenance": (302, {"Location": "/maintenance.html"}, ""),
    "307 itself": (307, {"Location": "/api/index.php"}, ""),
    "401 empty": (401, {}, ""),
    "401 basic": (401, {"WWW-Authenticate": "Basic"}, PAGE),
    "401 Kayako": (401, {}, "FAILED TO AUTHENTICATE"),
    "420": (420, {}, "Enhance Your Calm"),
    "429": (429, {}, PAGE),
    "429 in no time": (429, {"Retry-After": "0"}, PAGE),
    "503": (503, {}, PAGE),
    "503 and a pause": (503, {"Retry-After": "30"}, PAGE),
    "500": (500, {}, ""),
    "502": (502, {}, PAGE),
    "508": (508, {}, "Resource Limit Is Reached"),
    "509": (509, {}, PAGE),
    "521": (521, {}, PAGE),
    "525": (525, {}, PAGE),
    "529": (529, {}, PAGE),
    "530": (530, {}, PAGE),
    "404 page": (404, {}, PAGE),
    "404 empty": (404, {}, ""),
    "405 captcha": (405, {}, PAGE),
    "202 challenge": (202, {}, ""),
    "418": (418, {}, "no"),
    "451": (451, {}, PAGE),
    "200 page": (200, {}, PAGE),
    "200 empty": (200, {}, ""),
    "200 no database": (
        200,
        {},
        "Warning: mysqli: Too many connections in /a on line 3",
    ),
    "reset": (0, {}, ""),
}
"""What servers, firewalls and hosts send to whom they do not want."""


class Ban:
    """A server that turns everybody away now and then, in stretches of time.

    Each begins after so many answers, lasts for so many seconds, and has a form.
    """

    def __init__(self, world: World, *stretches: tuple[int, float, str]) -> None:
        self.world = world
        self.stretches = list(stretches)
        self.answers = 0
        self.end = 0.0
        self.form = ""
        self.refused: list[int] = []
        world.wrong = self.answer

    def answer(self, _path: str) -> httpx.Response | None:
        """Answer in place of the server during a stretch."""
        now = self.world.clock.now
        if now >= self.end:
            if not self.stretches or self.answers < self.stretches[0][0]:
                self.answers += 1
                return None
            self.answers = 0
            _, seconds, self.form = self.stretches.pop(0)
            self.end = now + seconds
            self.refused.append(0)
        self.refused[-1] += 1
        status, headers, text = BANS[self.form]
        if not status:
            raise httpx.ReadError("reset")
        return httpx.Response(status, headers=headers, text=text)


QUICK = {"403 page", "302 log-in", "508"}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    "form",
    [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in BANS],
)
def test_a_ban_in_mid_run_costs_time_only(archive: Archive, form: str, concurrency: int) -> None:
    """Any form, for a minute: exit 0, no attachment blamed, slower, and few requests into it."""
    world = World(archive, tickets=12, concurrency=concurrency)
    ban = Ban(world, (30, 60.0, form))
    with world.server:
        result = world.pull()
    assert (result.exit_code, result.ended_by, result.unlisted) == (0, None, {})
    assert world.whole()
    assert {one.state for one in world.ear.of(AttachmentSettled)} == {"stored"}
    assert 0 < ban.refused[0] <= MISSES_IN_A_ROW + concurrency + 8
    if concurrency > 1:
        assert min(one.limit for one in world.ear.of(PaceChanged)) < concurrency
    assert Paused(0.0) in world.ear.of(Paused) or world.ear.of(Paused)[-1].asked


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 14))]
)
def test_bans_at_random_blame_no_attachment(archive: Archive, seed: int) -> None:
    """Forms, lengths and times at random: exit 0, everything stored, few requests into each."""
    rng = random.Random(seed)
    world = World(archive, tickets=30, concurrency=rng.choice([1, 2, 4, 8]))
    ban = Ban(
        world,
        *(
            (
                rng.randint(10, 60) if not number else rng.randint(1, 40),
                rng.choice([rng.uniform(0.05, 5.0), rng.uniform(5.0, 90.0)]),
                rng.choice(list(BANS)),
            )
            for number in range(8)
        ),
    )
    with world.server:
        result = world.pull()
    assert (result.exit_code, result.ended_by, result.unlisted) == (0, None, {})
    assert problems(archive) == dict.fromkeys(world.desk.truth)
    assert world.whole()
    assert len(ban.refused) >= 3
    for count in ban.refused:
        assert count <= MISSES_IN_A_ROW + 2 * world.concurrency + 8


@pytest.mark.parametrize("form", ["403 page", "302 log-in", "401 Kayako", "200 page", "508"])
def test_a_ban_that_stays_ends_the_run_in_true_words(archive: Archive, form: str) -> None:
    """Exit 4 after the patience, with what the server says; nothing is held against a file."""
    world = World(archive, tickets=12)
    ban = Ban(world, (30, 1e9, form))
    with world.server:
        result = world.pull()
    assert result.exit_code == 4
    assert isinstance(result.ended_by, SourceDown)
    said = str(result.ended_by)
    status, headers, text = BANS[form]
    assert (f"HTTP {status}" in said) or status == 200
    assert text.partition("<body>")[2][:20] in said or headers.get("Location", "?")[:20] in said
    assert "run the same command again" in said
    assert set(states(archive).values()) <= {"stored", "pending"}
    assert ban.refused[0] <= MISSES_IN_A_ROW + 2 * world.concurrency + len(list(waits(120)))
    assert 80 <= sum(world.waited) <= 121


@pytest.mark.parametrize("form", ["403 page", "302 log-in", "405 captcha", "404 page", "404 empty"])
def test_one_refused_attachment_is_its_own(archive: Archive, form: str) -> None:
    """While everything else is answered, it alone fails, after two tries; nobody waits for it."""
    world = World(archive, tickets=12)
    bad = max(world.desk.truth)
    status, headers, text = BANS[form]

    def wrong(path: str) -> httpx.Response | None:
        found = FETCH.search(path)
        refused = found is not None and int(found[1]) == bad
        return httpx.Response(status, headers=headers, text=text) if refused else None

    world.wrong = wrong
    with world.server:
        result = world.pull()
    assert result.exit_code == 3
    assert [key for key, state in states(archive).items() if state != "stored"] == [bad]
    assert world.line.fetches()[bad] <= 4
    assert world.waited == []


def test_a_ban_at_the_start_is_told_at_once(archive: Archive) -> None:
    """Whoever never answered is not waited for: the address or a key is wrong."""
    world = World(archive, tickets=3)
    ban = Ban(world, (0, 1e9, "401 basic"))
    with world.server:
        result = world.pull()
    assert result.exit_code == 4
    assert "kayako.http_user" in str(result.ended_by)
    assert world.waited == []
    assert ban.refused[0] <= 4
