"""Tokens and small settings against a clock."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from starlette.types import Scope

from migrator.archive.records import Rule, Token
from migrator.errors import ArchiveBusy
from migrator.serve.auth import Authenticator, holds
from migrator.serve.cache import TimedCache
from migrator.serve.catalog import Gate, gate
from migrator.serve.refusals import Refusal

SCOPE: Scope = {"headers": [(b"authorization", b"Bearer 14|secret")]}
TOKEN = Token(14, "x", frozenset({"tickets:read"}), None, True, 0, None, None, None)


class Tokens:
    """A store of one token that counts the notes of its use."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.touched: list[int] = []
        self.busy = False

    def secret_hash(self, token_id: int, /) -> tuple[Token, str] | None:
        return self.token, hashlib.sha256(b"secret").hexdigest()

    def id_of(self, secret_sha256: str, /) -> int | None:
        known = hashlib.sha256(b"secret").hexdigest()
        return self.token.id if secret_sha256 == known else None

    def touch(self, token_id: int, at: int, /) -> None:
        self.touched.append(at)
        if self.busy:
            raise ArchiveBusy("locked")


def test_last_use_is_written_once_a_minute() -> None:
    """A busy client costs one write a minute, also right after a restart of the server."""
    tokens, times = Tokens(replace(TOKEN, last_used_at=950)), iter([1000, 1010, 1069, 1070, 1200])
    door = Authenticator(tokens, clock=lambda: next(times))
    for _ in range(5):
        door.admit(SCOPE, "tickets:read")
    assert tokens.touched == [1010, 1070, 1200]


def test_busy_checkpoint_does_not_cost_a_request() -> None:
    """A note that cannot be written is left for some seconds later."""
    tokens, times = Tokens(TOKEN), iter([1000, 1004, 1005])
    tokens.busy = True
    door = Authenticator(tokens, clock=lambda: next(times))
    for _ in range(3):
        assert door.admit(SCOPE, "tickets:read") is tokens.token
    assert tokens.touched == [1000, 1005]


def test_token_ends_in_the_second_of_its_expiry() -> None:
    """The expiry is the first second in which a token is no longer good."""
    door = Authenticator(Tokens(replace(TOKEN, expires_at=1000)), clock=iter([999, 1000]).__next__)
    door.admit(SCOPE, "tickets:read")
    with pytest.raises(Refusal) as caught:
        door.admit(SCOPE, "tickets:read")
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("ability", "granted"),
    [
        ("tickets:read", {"tickets:write"}),
        ("tickets:read", {"tickets:read"}),
        ("tickets:write", {"tickets:write"}),
    ],
)
def test_abilities_that_suffice(ability: str, granted: set[str]) -> None:
    """An ability is enough for itself, and write for read."""
    assert holds(replace(TOKEN, abilities=frozenset(granted)), ability)


@pytest.mark.parametrize(
    ("ability", "granted"),
    [
        ("tickets:write", {"tickets:read"}),
        ("tickets:read", {"mail:write"}),
        ("tickets:read", {"tickets"}),
        ("tickets:read", set()),
    ],
)
def test_abilities_that_do_not_suffice(ability: str, granted: set[str]) -> None:
    """Read does not imply write, and families keep to themselves."""
    assert not holds(replace(TOKEN, abilities=frozenset(granted)), ability)


def test_settings_are_read_again_after_a_second() -> None:
    """A change takes effect within a second, and until then costs nothing."""
    values, times = iter("ab"), iter([5.0, 5.0, 5.9, 6.0, 6.0])
    fresh = TimedCache(lambda: next(values), clock=lambda: next(times))
    assert [fresh(), fresh(), fresh()] == ["a", "a", "b"]


def test_what_takes_long_to_read_is_kept_longer() -> None:
    """A twentieth of the time at most goes into reading a value, however many ask for it."""
    values, times = iter("ab"), iter([5.0, 7.0, 46.9, 47.0, 48.0])
    fresh = TimedCache(lambda: next(values), clock=lambda: next(times))
    assert [fresh(), fresh(), fresh()] == ["a", "a", "b"]


def test_rule_judges_the_last_extension_in_any_case() -> None:
    """The text after the last dot decides, lower-cased; no rule means review."""
    rules = {"gz": Rule("gz", "block"), "pdf": Rule("pdf", "allow")}
    verdicts = {name: gate(rules, name) for name in ("A.TAR.GZ", "gz.pdf", "pdf", "a.b", "")}
    assert list(verdicts.values()) == [Gate.BLOCK, Gate.ALLOW] + [Gate.REVIEW] * 3


def test_session_lives_and_dies_with_its_token() -> None:
    """What was admitted once is admitted again until its token is revoked, expired or limited."""
    tokens = Tokens(TOKEN)
    door = Authenticator(tokens, clock=lambda: 1000)
    assert door.readmit(14, "tickets:read") is TOKEN
    for changed, status in (
        (replace(TOKEN, revoked_at=999), 401),
        (replace(TOKEN, expires_at=1000), 401),
        (replace(TOKEN, abilities=frozenset()), 403),
        (replace(TOKEN, is_staff=False), 403),
    ):
        tokens.token = changed
        with pytest.raises(Refusal) as caught:
            door.readmit(14, "tickets:read")
        assert caught.value.status == status
