"""``handover``, as a user calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from migrator.archive import open_archive
from tests.cli.conftest import Cli

OPEN = 3
"""How a handover of these archives ends: something in them is pending and lost."""


def test_a_handover_is_made_and_checked(cli: Cli, home: Path) -> None:
    """The figures are told, with the way to check them; a check agrees and needs no archive."""
    made = cli("handover", "--tree", "out")
    assert made.code == OPEN, made.err
    assert "Not complete: 1 attachment is pending or failed." in made.out
    assert "damaged" not in made.err
    assert re.search(r"^manifest +3  lines of manifest\.jsonl$", made.out, re.MULTILINE)
    assert "(cd out && sha256sum --check --quiet SHA256SUMS)" in made.out
    assert "In the manifest without a file: 2 attachments" in made.err
    (home / "archive").rename(home / "away")
    (home / "config.toml").unlink()
    checked = cli("handover", "--check", "out")
    assert checked.code == 0
    assert "This handover is as it was made.\nWhat it said then of the archive: Not compl" in (
        checked.out
    )
    assert json.loads(cli("handover", "--check", "out", "--json").out)["checked"] == 10


def test_the_reports_are_those_of_report(cli: Cli, home: Path) -> None:
    """report.json is what `report --format json` says, report.html is a page."""
    assert cli("handover", "out").code == OPEN
    theirs = json.loads((home / "out" / "report.json").read_text())
    ours = json.loads(cli("report", "--format", "json").out)
    assert {**theirs, "generated_at": 0} == {**ours, "generated_at": 0}
    assert (home / "out" / "report.html").read_text().lower().startswith("<!doctype html>")


def test_machines_get_json_and_the_folder_may_have_any_name(cli: Cli, home: Path) -> None:
    """The result as JSON; a name that a shell would take apart is quoted for it."""
    made = json.loads(cli("handover", "--copy", "--json", "my helpdesk; \x1b[2J").out)
    assert (made["format"], made["files"], made["exit_code"]) == ("migrator.handover/1", 1, OPEN)
    text = cli("handover", "my helpdesk; \x1b[2J").out
    assert "(cd 'my helpdesk; \\x1b[2J' && " in text


def test_damage_is_told_and_costs_6(cli: Cli, home: Path) -> None:
    """A damaged file is named and not handed over; a damaged handover is named as well."""
    (blob,) = (home / "archive" / "blobs").glob("??/??/*")
    assert cli("handover", "--copy", "good").code == OPEN
    blob.chmod(0o600)
    blob.write_bytes(b"abd")
    made = cli("handover", "out")
    assert made.code == 6
    checked = cli("handover", "--check", "out")
    assert checked.code == 0
    assert "as it was made, but for 1 file that the archive had damaged or lost" in checked.out
    assert "In doubt: 1 file of the archive is damaged or lost." in checked.out
    for name in ("report.json", "handover.json"):
        said = json.loads((home / "out" / name).read_text())["verdict"]
        assert said["kind"] == "doubt"
    assert json.loads(cli("handover", "--check", "out", "--json").out)["not_handed_over"] == 1
    assert f"damaged {blob.name}" in made.out
    assert "`migrator verify --repair`" in made.err
    copy = next((home / "good" / "files").glob("??/??/*"))
    copy.unlink()
    checked = cli("handover", "--check", "good")
    assert checked.code == 6
    assert f"lost files/ba/78/{blob.name}" in checked.out
    assert "Do not trust this handover." in checked.out


def test_a_run_at_work_is_waited_for(cli: Cli, home: Path) -> None:
    """Lists that are made while others write would not agree: exit 5 names the run."""
    with open_archive(home / "archive", command="run"):
        result = cli("handover", "out")
    assert result.code == 5
    assert not (home / "out").exists()


def test_a_read_only_archive_can_be_handed_over(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished archive on a read-only disk needs no lock."""
    may = os.access
    archive = home / "archive"
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: (
            may(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(archive))
        ),
    )
    assert cli("handover", "--copy", "out").code == OPEN


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--check", "--tree", "out"), "--check changes nothing"),
        (("--check", "nowhere"), "no handover"),
        (("archive",), "hold one another"),
        (("archive/blobs/x",), "hold one another"),
        ((".",), "hold one another"),
        ((), "Missing argument"),
    ],
)
def test_mistakes_are_told(cli: Cli, home: Path, argv: tuple[str, ...], said: str) -> None:
    """Exit 2, and nothing is written."""
    before = sorted(home.rglob("*"))
    result = cli("handover", *argv)
    assert (result.code, said in result.err) == (2, True)
    assert sorted(home.rglob("*")) == before


def fill_up(home: Path, number: int) -> None:
    """Store many files."""
    from migrator.archive import Listed, Outcome, State, TicketRow

    with open_archive(home / "archive", command="test") as archive:
        run = archive.ledger.begin_run("run", source="https://help.example.com", scope={})
        ids = range(100, 100 + number)
        listed = [Listed(n, 20, 5, f"{n}.txt", "text/plain", 200_000, 0) for n in ids]
        with archive.ledger.atomic():
            archive.ledger.record_ticket(run.id, TicketRow(20, 1), listed)
            for n in ids:
                writer = archive.blobs.writer()
                writer.write(b"%d" % n * 60_000)
                blob = writer.commit()
                archive.ledger.settle(
                    Outcome(n, State.STORED, sha256=blob.sha256, size=blob.size, mime_type="a/b")
                )


def files(root: Path) -> dict[str, bytes]:
    """Give all that does not tell the time."""
    timed = ("report.json", "report.html", "SHA256SUMS", "handover.json")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in timed
    }


def start(home: Path, *argv: str) -> subprocess.Popen[str]:
    """Start the command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "migrator", *argv],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(home: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Wait until that many files were handed over."""
    while len(list(home.glob("out/files/??/??/*"))) < number:
        assert process.poll() is None, "it ended too early"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_for_real_it_goes_on(cli: Cli, home: Path) -> None:
    """SIGKILL in the middle, three times; in the end it is as one that was left alone."""
    fill_up(home, 150)
    for number in (1, 40, 100):
        with start(home, "handover", "--copy", "--tree", "out") as process:
            wait_for(home, number, process)
            timer = threading.Timer(0.01, process.kill)
            timer.start()
            process.communicate()
            timer.join()
        assert not (home / "out" / "SHA256SUMS").exists()
    assert cli("handover", "--copy", "--tree", "out").code == OPEN
    assert cli("handover", "--copy", "--tree", "calm").code == OPEN
    assert files(home / "out") == files(home / "calm")
    assert cli("handover", "--check", "out").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_for_real_it_says_so(cli: Cli, home: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with 130 and one sentence."""
    fill_up(home, 150)
    with start(home, "handover", "--copy", "out") as process:
        wait_for(home, 5, process)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; run the same command again to resume the handover"
    assert not (home / "out" / "SHA256SUMS").exists()
