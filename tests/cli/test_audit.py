"""``audit`` against the sandbox, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Check, Row, open_archive, open_beside
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako.files import Source
from tests.cli.conftest import Cli, Result


class Sandbox:
    """A sandbox whose ticket 1 has an attachment with a hostile name, and its archive."""

    def __init__(self, folder: Path) -> None:
        self.helpdesk = Helpdesk.build(SandboxOptions(tickets=6))
        self.ticket = min(key for key, row in self.helpdesk.tickets.items() if row.department_id)
        self.attachment = self.helpdesk.add_attachment(self.ticket, "a\u202eb.txt", b"nobody's")
        self.server = SandboxServer(self.helpdesk)
        self.server.start()
        self.archive = folder / "archive"
        config = folder / "config.toml"
        config.write_text(
            f'[kayako]\nurl = "{self.server.url}"\napi_key = "{self.server.api_key}"\n'
            f'secret_key = "{self.server.secret_key}"\npatience = "0s"\nattempts = 1\n'
        )
        config.chmod(0o600)

    def change(self, data: bytes) -> None:
        """Change the contents of that attachment at the source, as a bad disk or a thief would."""
        rows, source = self.helpdesk.attachments, Source("given", given=data)
        rows[self.attachment] = replace(
            rows[self.attachment], source=source, size=len(data), filesize=len(data)
        )

    def row(self) -> Row:
        """Give the row of the attachment with the odd name."""
        with open_archive(self.archive, command="test") as archive:
            row = archive.queries.attachment(self.attachment)
        assert row is not None
        return row


@pytest.fixture
def sandbox(cli: Cli, tmp_path: Path) -> Iterator[Sandbox]:
    """Serve a helpdesk that was pulled."""
    one = Sandbox(tmp_path)
    assert cli("run").code == 0
    yield one
    one.server.stop()


def told(result: Result) -> dict[str, Any]:
    """Give what a command said to machines."""
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_an_audit_agrees_with_an_honest_source(cli: Cli, sandbox: Sandbox) -> None:
    """All is compared and told as text and as JSON; the exit code is 0."""
    text = cli("audit", "--seed", "7")
    assert text.code == 0, text.err
    assert "that is everything that is stored." in text.out
    assert "--seed 7" in text.out
    found = told(cli("audit", "--sample", "100%", "--seed", "7", "--json"))
    assert found["format"] == "migrator.audit/1"
    assert found["sample"] == found["stored"] == found["agreed"] == found["compared"] > 5
    assert (found["differ"], found["vanished"], found["unasked"]) == (0, 0, 0)
    assert (found["seed"], found["exit_code"], found["upper_bound"]) == (7, 0, 0.0)


def test_a_sample_makes_a_statement(cli: Cli, sandbox: Sandbox) -> None:
    """A number is taken at its word, a share rounded up, and the bound is told."""
    found = told(cli("audit", "--sample", "3", "--json"))
    assert (found["sample"], found["confidence"]) == (3, 0.95)
    assert found["upper_bound"] == pytest.approx(1 - 0.05 ** (1 / 3))
    assert found["statement"] == "0 of 3 differ: with 95 % confidence fewer than 64 % do."
    assert told(cli("audit", "--sample", "0.1%", "--json"))["sample"] == 1
    few = cli("audit", "--sample", "1")
    assert "fewer places than groups" in few.out


def test_one_that_differs_is_named_with_both_hashes(cli: Cli, sandbox: Sandbox) -> None:
    """Exit 6; the name is made harmless, both hashes and sizes stand there, and who is at fault."""
    before = sandbox.row()
    sandbox.change(b"somebody else's")
    result = cli("audit", "--sample", "100%")
    assert result.code == 6
    assert "a\\u202eb.txt" in result.out
    assert f"{before.sha256}  8 bytes; our file is whole" in result.out
    assert "15 bytes" in result.out
    (one,) = told(cli("audit", "--sample", "100%", "--json"))["attachments"]["differ"]
    assert (one["attachment_id"], one["sha256"]) == (sandbox.attachment, before.sha256)
    assert one["source_sha256"] == one["source_sha256_again"] != before.sha256
    assert sandbox.row() == before


def test_what_vanished_is_named_and_is_no_error(cli: Cli, sandbox: Sandbox) -> None:
    """Kayako deleted it: we still have it, and the text says what to do."""
    sandbox.helpdesk.delete_attachment(sandbox.attachment)
    result = cli("audit", "--sample", "100%")
    assert result.code == 0
    assert "Vanished\n" in result.out
    assert "`migrator sync --full` marks it deleted" in result.err


def test_damage_of_ours_is_told(cli: Cli, sandbox: Sandbox) -> None:
    """The source has the right bytes and we have not: exit 6, and the way to repair it."""
    sha256 = str(sandbox.row().sha256)
    path = sandbox.archive / "blobs" / sha256[:2] / sha256[2:4] / sha256
    path.chmod(0o600)
    path.write_bytes(b"damaged!")
    result = cli("audit", "--sample", "100%")
    assert result.code == 6
    assert "our file is damaged" in result.out
    assert "`migrator verify --repair`" in result.err


def test_a_source_that_is_away_is_exit_4(cli: Cli, sandbox: Sandbox) -> None:
    """Nobody answers: that is told once, and that nothing was compared."""
    sandbox.server.stop()
    result = cli("audit", "--json")
    found = told(result)
    assert (result.code, found["exit_code"], found["unasked"]) == (4, 4, 0)
    assert found["statement"].startswith("Nothing was compared")
    assert "ended early" in result.err


def checks(sandbox: Sandbox) -> list[Check]:
    """Give what the archive knows of its audits, the latest first."""
    with open_beside(sandbox.archive) as archive:
        return archive.queries.checks("audit")


def test_every_audit_is_written_down_once(cli: Cli, sandbox: Sandbox) -> None:
    """When, whether it was of everything, what it found and what that proves."""
    told(cli("audit", "--sample", "3", "--json"))
    cli("audit", "--sample", "100%")
    sandbox.change(b"somebody else's")
    found = told(cli("audit", "--sample", "100%", "--json"))
    sandbox.server.stop()
    assert cli("audit").code == 4
    away, other, whole, sample = checks(sandbox)
    assert [one.exit_code for one in (sample, whole, other, away)] == [0, 0, 6, 4]
    assert [one.whole for one in (sample, whole, other, away)] == [False, True, True, False]
    assert (sample.summary["sample"], sample.summary["agreed"]) == (3, 3)
    assert other.summary == {
        **{key: found[key] for key in ("sample", "agreed", "differ", "vanished", "unasked")},
        "population": found["stored"],
        "ours": 0,
        "statement": found["statement"],
    }
    assert "ended_by" in away.summary
    assert 0 < sample.started_at <= sample.finished_at <= away.finished_at


def test_an_interrupted_audit_is_not_written_down(
    cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It proves nothing."""
    monkeypatch.setattr("migrator.pull.options.Stop.asked", True)
    assert cli("audit").code == 130
    assert checks(sandbox) == []


def test_an_audit_of_a_read_only_archive_is_told_and_not_written_down(
    cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking needs no right to write: the exit code is that of what was found."""
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        result = cli("audit", "--json")
    assert (result.code, told(result)["differ"]) == (0, 0)
    assert "could not be recorded" in result.err
    assert checks(sandbox) == []


def test_an_audit_works_beside_a_run(cli: Cli, sandbox: Sandbox) -> None:
    """And is written down; where the run is writing all the time, that is told."""
    with open_archive(sandbox.archive, command="run") as run:
        assert cli("audit").code == 0
        with pytest.MonkeyPatch.context() as patch, run.ledger.atomic():
            patch.setattr("migrator.archive.checkpoint.BUSY_TIMEOUT", 0.01)
            result = cli("audit")
    assert result.code == 0
    assert "could not be recorded" in result.err
    assert len(checks(sandbox)) == 1


def test_a_file_that_cannot_be_read_is_named(cli: Cli, sandbox: Sandbox) -> None:
    """With the reason, beside all that was compared; the text and the JSON say so."""
    sha256 = str(sandbox.row().sha256)
    path = sandbox.archive / "blobs" / sha256[:2] / sha256[2:4] / sha256
    path.unlink()
    path.mkdir()
    result = cli("audit", "--sample", "100%")
    assert result.code == 6
    assert "our file is damaged: it is a directory, not a file" in result.out
    found = told(cli("audit", "--sample", "100%", "--json"))
    (one,) = found["attachments"]["ours_damaged"]
    assert one["ours_reason"] == "it is a directory, not a file"
    assert found["agreed"] == found["stored"]


@pytest.mark.parametrize("sample", ["0", "0%", "101%", "-1", "1.5", "many", "", "1e3", "5 %%"])
def test_a_sample_is_a_number_or_a_share(cli: Cli, home: Path, sample: str) -> None:
    """Anything else is a mistake of usage, told before anybody is asked."""
    result = cli("audit", "--sample", sample)
    assert result.code == 2
    assert "such as 400" in result.err


def test_an_audit_makes_no_archive(cli: Cli, tmp_path: Path) -> None:
    """Without an archive there is nothing to audit, and nothing is created."""
    (tmp_path / "config.toml").write_text(
        '[kayako]\nurl = "https://help.example.com"\napi_key = "a"\nsecret_key = "b"\n'
    )
    result = cli("audit")
    assert (result.code, (tmp_path / "archive").exists()) == (2, False)
