"""``migrator report --format html``: a file whose commands list what its figures count."""

from __future__ import annotations

import csv
import io
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import lxml.html
import pytest

from migrator.archive import Listed, Outcome, State, TicketRow, open_archive
from tests.cli.conftest import Cli

NASTY = "te'xt/\u00adpl\u202eain; rm -rf \\ \x1b[2J$(id) \U0001f600\ue000<b>"


@pytest.fixture
def nasty(home: Path) -> Path:
    """Add attachments of a type and of a problem that no shell should see unquoted.

    And one that belongs to no ticket.
    """
    with open_archive(home / "archive", command="test") as archive:
        ledger = archive.ledger
        run = ledger.begin_run("run", source="https://help.example.com", scope={})
        with ledger.atomic():
            rows = [Listed(n, 11, 5, NASTY, NASTY, 3, 1_500_000_000) for n in range(20, 35)]
            ledger.record_ticket(run.id, TicketRow(11, 0), rows)
            article = Listed(10**15, 0, 0, "a", "", 1, 0, kind="article", place="7")
            ledger.record_files(run.id, [article])
            for number in (*range(20, 25), article.id):
                ledger.settle(Outcome(number, State.FAILED, NASTY, NASTY))
        ledger.finish_run(run.id, exit_code=3, summary={})
    return home


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash to paste the commands into")
def test_every_command_lists_what_its_figure_counts(cli: Cli, nasty: Path) -> None:
    """Pasted into a shell, each command gives as many rows as its figure says, all of the kind."""
    assert cli("report", "--format", "html", "--output", "report.html")[:2] == (3, "")
    page: Any = lxml.html.document_fromstring((nasty / "report.html").read_bytes())
    behind = page.xpath("//details")
    assert len(behind) > 12
    for one in behind:
        (total,) = one.xpath("./summary/span")
        (command,) = one.xpath(".//code[@class='command']")
        argv = pasted(command.text)
        assert argv[:4] == ["migrator", "report", "--format", "csv"]
        code, out, err = cli(*argv[1:])
        assert (code, err) == (3, "")
        ids = [row["attachment_id"] for row in csv.DictReader(io.StringIO(out))]
        assert len(ids) == int(total.text.replace(",", "")), command.text
        assert one.xpath(".//tbody/tr/th/text()") == ids[:10]


def pasted(command: str) -> list[str]:
    """Return the words that a shell makes of a command."""
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    return words.stdout.decode("utf-8").split("\0")[:-1]


def test_the_file_is_private_and_replaces_the_old_one(cli: Cli, home: Path) -> None:
    """The page replaces what was there, whole; only its owner can read the names in it."""
    (home / "report.html").write_text("old")
    assert cli("report", "--format", "html", "--output", "report.html")[0] == 3
    assert (home / "report.html").read_text().endswith("</html>\n")
    assert stat.S_IMODE((home / "report.html").stat().st_mode) == 0o600
