"""``migrator status``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import open_archive

Cli = Callable[..., "tuple[int, str, str]"]


def test_status_at_a_glance(cli: Cli, home: Path) -> None:
    """The text shows the archive, the last run and the sum."""
    code, out, err = cli("status")
    assert (code, err) == (0, "")
    assert str(home / "archive") in out
    assert "No run is at work." in out
    assert "with exit code 3" in out
    assert "listed              3           9 B" in out


def test_status_for_a_monitor(cli: Cli, home: Path) -> None:
    """The JSON has counts by state, the last run and who holds the archive."""
    code, out, _ = cli("status", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["archive"] == str(home / "archive")
    assert facts["held_by"] is None
    assert facts["exit_code"] == 3
    assert facts["states"]["stored"] == {"n": 1, "bytes": 3}
    assert facts["states"]["deleted"] == {"n": 0, "bytes": 0}
    assert facts["last_run"]["kind"] == "run"


def test_status_beside_a_run_names_it(cli: Cli, home: Path) -> None:
    """While a run holds the archive, status works and says who that is."""
    with open_archive(home / "archive", command="run --recheck"):
        _, out, _ = cli("status")
        facts = json.loads(cli("status", "--json")[1])
    assert f"In use by process {os.getpid()} on " in out
    assert "(run --recheck), since 2" in out
    assert facts["held_by"]["pid"] == os.getpid()
    assert "No run is at work." in cli("status")[1]


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff", b'{"since": "x"}'])
def test_a_lock_that_tells_nothing_is_still_a_lock(cli: Cli, home: Path, text: bytes) -> None:
    """The kernel's lock is believed, whatever the file says."""
    with open_archive(home / "archive", command="run"):
        (home / "archive" / "lock").write_bytes(text)
        code, out, _ = cli("status")
    assert code == 0
    assert "In use by process ?" in out


def test_the_text_of_a_dead_owner_is_no_lock(cli: Cli, home: Path) -> None:
    """After a SIGKILL the owner's text stays, and counts for nothing."""
    lock = home / "archive" / "lock"
    lock.write_text('{"pid": 1}')
    assert "No run is at work." in cli("status")[1]
    lock.unlink()
    assert "No run is at work." in cli("status")[1]


def test_status_before_the_first_run(cli: Cli, tmp_path: Path) -> None:
    """Without an archive the text says what makes one, and none is made."""
    (tmp_path / "config.toml").write_text("")
    code, out, err = cli("status")
    assert (code, out) == (2, "")
    assert "migrator run" in err
    assert not (tmp_path / "archive").exists()
    with open_archive(tmp_path / "archive", command="test"):
        pass
    assert "There has been no run yet." in cli("status")[1]
