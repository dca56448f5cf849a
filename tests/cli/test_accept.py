"""``migrator accept``: who accepts which loss, and why."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from migrator.archive import Listed, Outcome, State, TicketRow, open_archive
from tests.cli.conftest import Cli

REASON = ("--reason", "asked the customer")


@pytest.fixture
def lossy(home: Path) -> Path:
    """Fill an archive: 1 is stored, 2 is gone, 3 pending, 11 and 12 missing, 13 failed, 14 gone."""
    with open_archive(home / "archive", command="test") as archive:
        ledger = archive.ledger
        run = ledger.begin_run("run", source="https://help.example.com", scope={})
        names = {11: "a.txt", 12: "b\u202e.txt", 13: "c.txt", 14: "d.txt"}
        listed = [Listed(n, 20, 5, name, "text/plain", 3, 0) for n, name in names.items()]
        ledger.record_ticket(run.id, TicketRow(20, 1), listed)
        for number in (11, 12):
            ledger.settle(Outcome(number, State.MISSING, "source_lost_file", "no bytes"))
        ledger.settle(Outcome(13, State.FAILED, "server_error", "HTTP 500"))
        ledger.settle(Outcome(14, State.GONE, "not_found", "404"))
        ledger.finish_run(run.id, exit_code=3, summary={})
    return home


def accepted(home: Path) -> dict[int, str]:
    """Give who accepted what, and why, by attachment."""
    with open_archive(home / "archive", command="test") as archive:
        rows = archive.queries.among(list(archive.queries.accepted_ids()))
    return {key: str(row.accepted) for key, row in rows.items()}


def test_losses_are_accepted_by_id(cli: Cli, lossy: Path) -> None:
    """Missing, gone and failed ones, with name, time and reason; what is left is told."""
    result = cli("accept", "11", "13", "2", "--reason", "not\nneeded", "--by", "Jo Doe")
    assert result.code == 0, result.err
    assert result.out == "Accepted: 3. Not accepted: 1 missing, 1 gone.\n"
    found = accepted(lossy)
    assert set(found) == {2, 11, 13}
    assert all(text.endswith("Z Jo Doe: not needed") for text in found.values())


def test_by_default_the_user_accepts(cli: Cli, lossy: Path) -> None:
    """The name is that of whoever runs the command."""
    assert cli("accept", "11", *REASON).code == 0
    assert f" {pwd.getpwuid(os.geteuid()).pw_name}: asked the customer" in accepted(lossy)[11]


def test_a_user_without_a_name_accepts(
    cli: Cli, lossy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, where nobody gave the user one."""

    def nameless(_: int) -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    assert cli("accept", "11", *REASON).code == 0
    assert " user " in accepted(lossy)[11]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--all-missing"], {11, 12}),
        (["--all-gone"], {2, 14}),
        (["--all-missing", "--all-gone"], {2, 11, 12, 14}),
        (["--all-gone", "13"], {2, 13, 14}),
    ],
)
def test_all_of_a_state_are_accepted(
    cli: Cli, lossy: Path, options: list[str], ids: set[int]
) -> None:
    """All that are missing or gone now, and those named as well."""
    assert cli("accept", *options, *REASON).code == 0
    assert set(accepted(lossy)) == ids


@pytest.mark.parametrize("wrong", ["1", "3", "999", "9223372036854775807"])
def test_one_wrong_id_accepts_none(cli: Cli, lossy: Path, wrong: str) -> None:
    """Stored, pending and unknown ones are no losses: exit 2, and nothing is changed."""
    for options in ([], ["--all-gone"]):
        result = cli("accept", "11", wrong, *options, *REASON)
        assert (result.code, result.out) == (2, "")
        assert f"Attachment {wrong}" in result.err
    assert accepted(lossy) == {}


def test_accepting_is_taken_back(cli: Cli, lossy: Path) -> None:
    """By id, or all; where one of the ids is not accepted, none is."""
    cli("accept", "--all-missing", "--all-gone", *REASON)
    wrong = cli("accept", "--undo", "11", "13")
    assert (wrong.code, "13 is not accepted" in wrong.err) == (2, True)
    assert len(accepted(lossy)) == 4
    assert cli("accept", "--undo", "11").out.startswith("Taken back: 1. Not accepted: 1 missing")
    assert set(accepted(lossy)) == {2, 12, 14}
    assert json.loads(cli("accept", "--undo", "--all", "--json").out) == {
        "taken_back": 3,
        "not_accepted": {"missing": 2, "gone": 2, "failed": 1},
    }
    assert accepted(lossy) == {}
    assert cli("accept", "--undo", "--all").code == 0


def test_without_arguments_it_lists(cli: Cli, lossy: Path) -> None:
    """What is accepted, with hostile names made harmless, and how many losses are not."""
    empty = cli("accept")
    assert (empty.code, empty.out) == (
        0,
        "Accepted losses: 0. Not accepted: 2 missing, 2 gone, 1 failed.\n",
    )
    cli("accept", "12", "14", *REASON, "--by", "me")
    head, first, second, last = cli("accept").out.splitlines()
    assert head.split() == ["ID", "TICKET", "NAME", "STATE", "ACCEPTED"]
    assert first.split()[:4] == ["12", "20", "b\\u202e.txt", "missing"]
    assert second.endswith("Z me: asked the customer")
    assert last == "Accepted losses: 2. Not accepted: 1 missing, 1 gone, 1 failed."
    told = json.loads(cli("accept", "--json").out)
    assert told["not_accepted"] == {"missing": 1, "gone": 1, "failed": 1}
    assert [one["attachment_id"] for one in told["accepted"]] == [12, 14]
    assert told["accepted"][0].keys() == {
        *("attachment_id", "ticket_id", "ticket_number", "filename", "state", "accepted"),
    }


def test_when_all_is_accepted_that_is_said(cli: Cli, lossy: Path) -> None:
    """Nothing is left to look at."""
    cli("accept", "13", *REASON)
    result = cli("accept", "--all-missing", "--all-gone", *REASON)
    assert result.out == "Accepted: 4. No loss is left that is not accepted.\n"


def test_it_works_beside_a_run(cli: Cli, lossy: Path) -> None:
    """A run that goes on is no obstacle; one that stores the file after all is right."""
    with open_archive(lossy / "archive", command="run") as archive:
        assert cli("accept", "11", *REASON).code == 0
        with archive.blobs.writer() as writer:
            writer.write(b"after all")
            blob = writer.commit()
        archive.ledger.settle(
            Outcome(11, State.STORED, sha256=blob.sha256, size=blob.size, mime_type="text/plain")
        )
    listed = cli("accept")
    assert listed.out == "Accepted losses: 0. Not accepted: 1 missing, 2 gone, 1 failed.\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["11"], "needs a reason"),
        (["--all-missing"], "needs a reason"),
        (["11", "--reason", " \n "], "--reason"),
        (["--reason", "why"], "Name ATTACHMENT_IDs"),
        (["--by", "me"], "Name ATTACHMENT_IDs"),
        (["--all", "--reason", "why"], "--all goes with --undo"),
        (["--undo"], "--undo takes"),
        (["--undo", "--all", "11"], "--undo takes"),
        (["--undo", "--all-missing"], "--undo takes"),
        (["--undo", "11", "--reason", "why"], "--undo takes"),
        (["x", "--reason", "why"], "not a valid integer"),
        (["-1", "--reason", "why"], ""),
    ],
)
def test_mistakes_are_told(cli: Cli, lossy: Path, argv: list[str], said: str) -> None:
    """Exit 2, and nothing is accepted or taken back."""
    cli("accept", "14", *REASON)
    result = cli("accept", *argv)
    assert (result.code, said in result.err) == (2, True), result
    assert set(accepted(lossy)) == {14}


def test_an_archive_that_cannot_be_written_says_so(
    cli: Cli, lossy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only copy the list works, and accepting ends with 7."""
    monkeypatch.setattr("os.access", lambda *_: False)
    assert cli("accept").code == 0
    result = cli("accept", "11", *REASON)
    assert result.code == 7
    assert "open for reading only" in result.err
