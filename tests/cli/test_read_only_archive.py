"""Commands on an archive that cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def contents(root: Path) -> dict[Path, tuple[int, bytes]]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def frozen(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take away the right to write the archive."""
    may = os.access
    archive = home / "archive"

    def access(path: str | Path, mode: int) -> bool:
        return may(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(archive))

    monkeypatch.setattr(os, "access", access)
    return archive


@pytest.mark.parametrize(
    "command",
    ["status", "status --json", "report", "report --format csv", "token list", "queue list"],
)
def test_what_only_reads_works(cli: Cli, frozen: Path, command: str) -> None:
    """Looking needs no right to write, and leaves no trace."""
    before = contents(frozen)
    code, out, err = cli(*command.split())
    assert (code, err) == (0, "") or command.startswith("report")
    assert out
    assert contents(frozen) == before


def test_what_writes_says_why_not(cli: Cli, frozen: Path) -> None:
    """A token is not made silently nowhere: exit code 7, and what to do."""
    code, out, err = cli("token", "create", "--name", "n", "--ability", "tickets:read")
    assert (code, out) == (7, "")
    assert "open for reading only" in err


def test_other_queues_of_the_configuration_are_told(cli: Cli, home: Path, frozen: Path) -> None:
    """Where the archive cannot take over what the configuration says, the user hears of it."""
    with (home / "config.toml").open("a") as config:
        config.write('\n[tickiti.queues]\n"3" = { id = 99, name = "Sales" }\n')
    code, out, err = cli("queue", "list")
    assert code == 0
    assert "99" not in out
    assert "The archive is read-only: queues" in err
