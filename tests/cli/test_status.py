"""``migrator status``."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from migrator.archive import TicketRow, open_archive
from tests.cli.conftest import Cli


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


def test_threads_that_were_not_read_are_told(cli: Cli, home: Path) -> None:
    """As their number, also for a monitor; where posts are not kept, none is missing."""
    with open_archive(home / "archive", command="run") as archive:
        archive.ledger.put_ticket(TicketRow(987_654, 3, last_activity=5))
    assert "Threads missing: 2; the next run reads them." in cli("status")[1]
    assert json.loads(cli("status", "--json")[1])["threads_missing"] == 2
    with (home / "config.toml").open("a") as file:
        file.write("\n[kayako]\nposts = false\n")
    assert "Threads" not in cli("status")[1]
    assert json.loads(cli("status", "--json")[1])["threads_missing"] is None


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


def test_a_pause_is_told(cli: Cli, home: Path) -> None:
    """While a run waits for its source, the status says so and when it looks again."""
    with open_archive(home / "archive", command="run") as archive:
        run = archive.ledger.begin_run("run", source="x", scope={}).id
        archive.ledger.put_progress(run, {"tickets": 3, "paused": 3600})
        assert re.search(r"paused, next look in 3\d\d\d s", cli("status")[1])
        assert json.loads(cli("status", "--json")[1])["progress"]["paused"] == 3600


def succeed(home: Path, seconds_ago: int) -> None:
    """Let a sync have succeeded so many seconds ago."""
    with open_archive(home / "archive", command="test") as archive:
        at = int(time.time()) - seconds_ago
        archive.ledger.set_mark("success", at, run_id=1)
        archive.ledger.set_mark("full_pass", at - 60, run_id=1)
        archive.ledger.set_mark("watermark", 1_700_000_000, run_id=1)


def test_status_tells_when_the_last_success_was(cli: Cli, home: Path) -> None:
    """In words, and with its age in seconds for a monitor."""
    assert "has succeeded yet" in cli("status")[1]
    facts = json.loads(cli("status", "--json")[1])
    names = ("last_success", "last_success_age", "last_full_pass", "watermark")
    assert [facts[name] for name in names] == [None, None, None, None]
    succeed(home, 1200)
    out = cli("status")[1]
    assert re.search(r"Last success: 2\S+Z, 20 min \d+ s ago\.", out)
    assert re.search(r"Last pass over all tickets: begun 2\S+Z\.", out)
    facts = json.loads(cli("status", "--json")[1])
    assert 1200 <= facts["last_success_age"] < 1260
    assert facts["watermark"] == "2023-11-14T22:13:20Z"
    assert facts["last_full_pass"] < facts["last_success"]


@pytest.mark.parametrize(("ago", "code"), [(0, 0), (3500, 0), (3700, 3), (-7200, 3)], ids=str)
def test_a_success_that_is_too_old_ends_with_3(cli: Cli, home: Path, ago: int, code: int) -> None:
    """Older than --max-age, or from a future that a wrong clock has seen; never without it."""
    succeed(home, ago)
    assert cli("status", "--max-age", "1h")[0] == code
    assert cli("status", "--json", "--max-age", "1h")[0] == code
    assert cli("status")[0] == 0


def test_without_a_success_a_monitor_is_told(cli: Cli, home: Path) -> None:
    """No sync at all is not better than an old one."""
    assert cli("status", "--max-age", "1h")[0] == 3
    assert cli("status", "--max-age", "soon").refused("must be a duration")
