"""A working directory with a configuration, and the command line called in process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from migrator.archive import Listed, Outcome, State, TicketRow, open_archive
from migrator.archive.records import Department
from migrator.cli import invoke
from migrator.config import SECRETS
from migrator.pull.options import Stop

MOMENT = 0.01
NO_ARTICLES = {"articles": 0, "steps": 0}
"""Options of a pretended helpdesk whose files are all on tickets."""


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    def refused(self, words: str) -> bool:
        """Tell whether it ended as a mistake of usage, of which stderr says these words."""
        return self.code == 2 and words in self.err


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Call ``migrator`` in an empty directory; gives its exit code and what it said.

    No pause between two tries or two rounds is longer than a moment.
    """
    monkeypatch.chdir(tmp_path)
    sleep = Stop.sleep
    monkeypatch.setattr(Stop, "sleep", lambda stop, seconds: sleep(stop, min(seconds, MOMENT)))
    for name in ("MIGRATOR_CONFIG", "MIGRATOR_DEBUG", *SECRETS.values()):
        monkeypatch.delenv(name, raising=False)

    def call(*argv: str) -> Result:
        capfd.readouterr()
        code = invoke(argv)
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Fill the directory of ``cli`` with a configuration and an archive of three attachments."""
    (tmp_path / "config.toml").write_text("")
    with open_archive(tmp_path / "archive", command="test") as archive:
        ledger = archive.ledger
        run = ledger.begin_run("run", source="https://help.example.com", scope={})
        with ledger.atomic():
            ledger.put_departments([Department(1, "Support"), Department(3, "Sal\u202ees")])
            rows = [Listed(n, 10, 5, f"{n}.txt", "text/plain", 3, 0) for n in (1, 2, 3)]
            ledger.record_ticket(run.id, TicketRow(10, 1), rows)
            writer = archive.blobs.writer()
            writer.write(b"abc")
            blob = writer.commit()
            stored = Outcome(1, State.STORED, sha256=blob.sha256, size=3, mime_type="text/plain")
            ledger.settle(stored)
            ledger.settle(Outcome(2, State.GONE, "not_found", "not there any more"))
        ledger.finish_run(run.id, exit_code=3, summary={})
    return tmp_path
