"""``migrator token``."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from migrator.archive import open_beside
from tests.cli.conftest import Cli


def test_a_token_is_the_last_line_of_stdout(cli: Cli, home: Path) -> None:
    """What was asked for is in the archive; the text for people is on stderr."""
    code, out, err = cli(
        *("token", "create", "--name", "reader", "--ability", "tickets:read"),
        *("--queue", "3", "--queue", "4", "--not-staff", "--expires", "90d"),
    )
    assert code == 0
    number, _, secret = out.splitlines()[-1].partition("|")
    assert len(secret) >= 40
    assert secret not in err
    with open_beside(home / "archive") as archive:
        (token,) = archive.access.tokens()
    assert str(token.id) == number
    assert (token.name, token.abilities) == ("reader", frozenset({"tickets:read"}))
    assert (token.queues, token.is_staff) == (frozenset({3, 4}), False)
    assert token.expires_at is not None
    assert abs(token.expires_at - time.time() - 90 * 86_400) < 60


def test_a_plain_token_sees_all_and_never_expires(cli: Cli, home: Path) -> None:
    """Without options a token belongs to staff, sees all queues and does not expire."""
    assert cli("token", "create", "--name", "n", "--ability", "tickets:write")[0] == 0
    with open_beside(home / "archive") as archive:
        (token,) = archive.access.tokens()
    assert (token.queues, token.is_staff, token.expires_at) == (None, True, None)


def test_tokens_are_listed_without_secrets(cli: Cli, home: Path) -> None:
    """The list shows who may what, and what is revoked."""
    secret = cli("token", "create", "--name", "one", "--ability", "tickets:read")[1].strip()
    cli("token", "create", "--name", "two", "--ability", "tickets:read", "--queue", "7")
    cli("token", "revoke", "1")
    code, out, _ = cli("token", "list")
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split()[:3] == ["ID", "NAME", "ABILITIES"]
    assert first.split()[:5] == ["1", "one", "tickets:read", "all", "yes"]
    assert "revoked 2" in first
    assert second.split()[:4] == ["2", "two", "tickets:read", "7"]
    assert secret.partition("|")[2] not in out


def test_a_token_is_revoked_once(cli: Cli, home: Path) -> None:
    """Revoking tells what happened; there is nothing to revoke twice."""
    cli("token", "create", "--name", "n", "--ability", "tickets:read")
    assert cli("token", "revoke", "1")[0] == 0
    assert cli("token", "revoke", "1").refused("no token 1")
    assert cli("token", "revoke", "99999999999999999999").refused("not in the range")


@pytest.mark.parametrize(
    "argv",
    [
        ["--name", "n"],
        ["--ability", "tickets:read"],
        ["--name", "n", "--ability", "tickets:all"],
        ["--name", " ", "--ability", "tickets:read"],
        ["--name", "a\x1bb", "--ability", "tickets:read"],
        ["--name", "n", "--ability", "tickets:read", "--expires", "90"],
        ["--name", "n", "--ability", "tickets:read", "--queue", "x"],
    ],
)
def test_a_token_asked_for_wrongly(cli: Cli, home: Path, argv: list[str]) -> None:
    """Wrong options are usage errors, and no token is made."""
    assert cli("token", "create", *argv)[:2] == (2, "")
    assert len(cli("token", "list")[1].splitlines()) == 1


def test_tokens_want_an_archive(cli: Cli, tmp_path: Path) -> None:
    """Before the first run the text says so, with exit code 2."""
    (tmp_path / "config.toml").write_text("")
    code, _, err = cli("token", "list")
    assert code == 2
    assert "migrator run" in err
