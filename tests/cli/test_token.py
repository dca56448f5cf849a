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
        *("--queue", "3", "--queue", "support", "--not-staff", "--expires", "90d"),
    )
    assert code == 0
    number, _, secret = out.splitlines()[-1].partition("|")
    assert len(secret) >= 40
    assert secret not in err
    with open_beside(home / "archive") as archive:
        (token,) = archive.access.tokens()
    assert str(token.id) == number
    assert (token.name, token.abilities) == ("reader", frozenset({"tickets:read"}))
    assert (token.queues, token.is_staff) == (frozenset({3, 1}), False)
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
    cli("token", "create", "--name", "two", "--ability", "tickets:read", "--queue", "3")
    cli("token", "revoke", "1")
    code, out, _ = cli("token", "list")
    head, first, second = out.splitlines()
    assert code == 0
    assert head.split()[:3] == ["ID", "NAME", "ABILITIES"]
    assert first.split()[:5] == ["1", "one", "tickets:read", "all", "yes"]
    assert "revoked 2" in first
    assert second.split()[:4] == ["2", "two", "tickets:read", "3"]
    assert secret.partition("|")[2] not in out


def test_a_token_is_revoked_once(cli: Cli, home: Path) -> None:
    """Revoking tells what happened; there is nothing to revoke twice."""
    cli("token", "create", "--name", "n", "--ability", "tickets:read")
    assert cli("token", "revoke", "1")[0] == 0
    assert cli("token", "revoke", "1").refused("no valid token '1'; there are: none")
    assert cli("token", "revoke", "99999999999999999999").refused("no valid token")


def test_a_token_is_revoked_by_its_name(cli: Cli, home: Path) -> None:
    """A name that several valid ones share is refused with their ids; revoked ones do not count."""
    for name in ("reader", "Reader", "2"):
        cli("token", "create", "--name", name, "--ability", "tickets:read")
    made = cli("token", "revoke", "reader")
    assert made.refused("'reader' means more than one valid token: 1 (reader), 2 (Reader).")
    assert cli("token", "revoke", "2").refused("2 (Reader), 3 (2)"), "an id, and a name"
    assert cli("token", "revoke", "#2")[0] == 0
    assert cli("token", "revoke", " READER ")[0] == 0
    with open_beside(home / "archive") as archive:
        assert [one.id for one in archive.access.tokens() if not one.revoked_at] == [3]


def test_a_token_for_a_queue_that_is_none_is_refused(cli: Cli, home: Path) -> None:
    """It would see nothing; those there are get named, and no token is made."""
    (home / "config.toml").write_text('[tickiti.queues]\n"1" = { id = 12, name = "Help" }\n')
    for queue in ("99", "1", "support"):
        made = cli("token", "create", "--name", "n", "--ability", "tickets:read", "--queue", queue)
        assert made.refused("there are: 3 (Sal\\u202ees), 12 (Help)")
    assert len(cli("token", "list")[1].splitlines()) == 1


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
