"""``migrator pause`` and ``resume``."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from migrator.archive import open_archive
from migrator.archive.lock import Pause, halt, paused
from migrator.blobs import durable
from tests.cli.conftest import Cli


def test_a_pause_holds_what_begins_next_until_somebody_resumes(cli: Cli, home: Path) -> None:
    """It names who and when, and is gone at once."""
    code, out, _ = cli("pause")
    assert (code, out.startswith("Paused until `migrator resume`. Nothing holds")) == (0, True)
    held = halt(home / "archive", time.time())
    assert held is not None
    assert (held.reason, held.wait) == ("paused", None)
    assert "\nPaused by " in cli("status")[1]
    assert json.loads(cli("status", "--json")[1])["pause"]["until"] is None
    assert cli("resume")[:2] == (0, "Resumed.\n")
    assert halt(home / "archive", time.time()) is None
    assert json.loads(cli("status", "--json")[1])["pause"] is None


def test_what_is_at_work_is_named(cli: Cli, home: Path) -> None:
    """Whoever pauses learns whom it holds up, and it needs no lock."""
    with open_archive(home / "archive", command="sync"):
        assert "The sync of process" in cli("pause", "--for", "2h").out
        assert "The sync of process" in cli("resume").out


def test_a_pause_ends_by_itself(cli: Cli, home: Path) -> None:
    """After the time that was given, whatever stands in the file."""
    assert "for 2 h" in cli("pause", "--for", "2h").out
    held = halt(home / "archive", time.time())
    assert held is not None
    assert held.wait == pytest.approx(7200, abs=5)
    assert halt(home / "archive", time.time() + 7201) is None
    assert cli("pause", "--for", "0s").code == 2


def test_resume_without_a_pause_says_so(cli: Cli, home: Path) -> None:
    """It is no mistake."""
    assert cli("resume")[:2] == (0, "Nothing was paused.\n")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"until": "x"}', '{"by": 7}', '{"since": true}']
)
def test_a_torn_pause_is_a_pause(text: str, home: Path) -> None:
    """When in doubt nothing is asked; resume ends it."""
    (home / "archive" / "pause").write_text(text)
    assert paused(home / "archive", 0) == Pause()


def test_an_archive_that_cannot_be_written_is_told(
    cli: Cli,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is paused then, and the code says so."""

    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "write", refuse)
    code, out, err = cli("pause")
    assert (code, out) == (7, "")
    assert "cannot be written" in err


def test_without_an_archive_there_is_nothing_to_pause(cli: Cli, tmp_path: Path) -> None:
    """The words name what to do."""
    (tmp_path / "config.toml").write_text("")
    assert cli("pause").code == 2
    assert not (tmp_path / "archive").exists()


def test_a_pause_stands_in_status_and_reports_while_nothing_runs(cli: Cli, home: Path) -> None:
    """Each form of the report says it, too, until somebody resumes."""
    forms = (["status"], ["report"], ["report", "--format", "html"])
    cli("pause", "--for", "2h")
    for form in forms:
        assert "Paused by " in cli(*form).out, form
    for form in (["status", "--json"], ["report", "--format", "json"]):
        waits = json.loads(cli(*form).out)["waits"]
        assert waits["reason"] == "paused"
        until = datetime.fromisoformat(waits["until"]).timestamp()
        assert until == pytest.approx(time.time() + 7200, abs=10)
    cli("resume")
    for form in forms:
        assert "Paused by " not in cli(*form).out, form
    assert json.loads(cli("status", "--json").out)["waits"] is None


def test_status_and_reports_say_until_when_it_is_out_of_hours(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the clock of its zone; a pause is the better reason."""
    with (home / "config.toml").open("a") as config:
        config.write('[kayako]\nwindows = "Mon-Fri 19:00-07:00"\ntimezone = "Europe/Berlin"\n')
    monkeypatch.setattr(time, "time", lambda: 1_796_040_000.0)  # a Monday at 13:00 there
    says = "utside its hours until Mon 19:00 (time of Europe/Berlin): no request begins."
    for form in (["status"], ["report"], ["report", "--format", "html"]):
        assert says in cli(*form).out, form
    assert json.loads(cli("status", "--json").out)["waits"] == {
        "reason": "quiet_hours",
        "until": "2026-11-30T18:00:00Z",
        "text": f"o{says[:-1]}",
    }
    cli("pause")
    assert says not in cli("status").out
    assert json.loads(cli("report", "--format", "json").out)["waits"]["until"] is None
