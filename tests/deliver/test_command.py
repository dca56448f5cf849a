"""``migrator deliver`` as an admin uses it on the day: dry run, canary, all, verify, undo."""

from __future__ import annotations

import csv
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from migrator.archive import Listed, Outcome, State, TicketRow, open_archive
from migrator.sandbox.tickiti import Tickiti
from tests.cli.conftest import Cli, cli
from tests.deliver.conftest import AUTHOR, Office

__all__ = ["cli"]
NONE = {"delivered": 0, "already": 0, "refused": 0, "too_large": 0, "failed": 0, "pending": 0}


@pytest.fixture
def desk(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Open a Tickiti for three tickets, two of which have a number, and configure it."""
    office.ticket(1, b"one", b"two")
    office.ticket(2, b"three", ("run.exe", b"MZ"))
    office.ticket(3, b"four")
    office.open_there(Tickiti(), 1, 2)
    office.archive.close()
    lines = ["kayako_ticket_id,ticket_number", *(f"{k},{v}" for k, v in office.numbers.items())]
    (tmp_path / "map.csv").write_text("\n".join(lines) + "\n")
    text = f'[tickiti]\nticket_numbers = "map.csv"\n[deliver]\nauthor = "{AUTHOR}"\n'
    (tmp_path / "config.toml").write_text(f'{text}url = "{office.tickiti.url}"\n')
    monkeypatch.setenv("TICKITI_TOKEN", office.tickiti.token)
    return office


def last(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_the_day_of_the_switch(cli: Cli, desk: Office, tmp_path: Path) -> None:
    """Each step says what it did, in words and as JSON; nothing tells the token."""
    dry = cli("deliver", "--json")
    assert (dry.code, last(dry.out)) == (0, {**NONE, "pending": 4, "refused": 1})
    assert "Dry run, nothing was written" in dry.out
    assert "ticket 3: it is mapped to no ticket number" in dry.out
    assert desk.writes() == 0
    canary = cli("deliver", "--canary", "1", "--json")
    assert (canary.code, last(canary.out)) == (3, {**NONE, "delivered": 2})
    assert "there must be none; so far it lists none about this ticket" in canary.out
    every = cli("deliver", "--yes", "--json")
    told = {**NONE, "delivered": 1, "already": 2, "refused": 2}
    assert (every.code, last(every.out)) == (3, told)
    assert "(run.exe): refused by Tickiti" in every.out
    again = cli("deliver", "--yes", "--json")
    assert last(again.out) == {**NONE, "already": 3, "refused": 2}
    assert "`migrator deliver --list` has each file" in again.out
    part = cli("deliver", "--yes", "--ticket", "1")
    assert part.code == 3
    assert part.out.splitlines()[-1].startswith("Only a part was asked for")
    assert last(cli("deliver", "--json").out) == last(again.out)
    tried = last(cli("deliver", "--recheck", "--json").out)
    assert tried == {**NONE, "already": 3, "refused": 1, "pending": 1}
    proof = cli("deliver", "--verify", "--json")
    assert (proof.code, last(proof.out)) == (0, {"agreed": 3})
    asked = cli("deliver", "--undo")
    assert asked.code == 0
    assert "2 would be removed; without --yes nothing was changed" in asked.out
    undone = cli("deliver", "--undo", "--yes", "--json")
    assert (undone.code, last(undone.out)) == (0, {"removed": 2})
    assert not desk.there()
    assert last(cli("deliver", "--yes", "--json").out)["delivered"] == 3
    assert desk.tickiti.mails == []
    listed = cli("deliver", "--list")
    states = [row["state"] for row in csv.DictReader(listed.out.splitlines())]
    assert sorted(states) == ["delivered"] * 3 + ["refused"] * 2
    line = f"Tickiti at {desk.tickiti.url}: 3 of 5 files of tickets delivered (11 B) and read back"
    assert line in cli("status").out
    assert line in cli("report").out
    assert cli("handover", str(tmp_path / "pack")).code == 3
    pack = (tmp_path / "pack" / "delivered.jsonl").read_text().splitlines()
    assert [json.loads(one)["state"] for one in pack].count("delivered") == 3
    assert line in (tmp_path / "pack" / "README.md").read_text()
    for one in (dry, canary, every, again, proof, asked, undone):
        assert desk.tickiti.token not in one.out + one.err


@pytest.mark.parametrize("name", ["1", "ABC-00001", " #abc-00001 ", "[#ABC-00001]", "#NUMBER"])
def test_a_canary_goes_by_any_of_its_numbers(cli: Cli, desk: Office, name: str) -> None:
    """Kayako's id, its mask however it is typed, or the number in Tickiti."""
    ticket = name.replace("NUMBER", desk.numbers[1])
    assert last(cli("deliver", "--canary", ticket, "--json").out)["delivered"] == 2
    assert {number for number, _, _ in desk.there()} == {desk.numbers[1]}


def test_a_canary_of_two_meanings_is_refused(cli: Cli, desk: Office) -> None:
    """Nothing is written into a ticket that was perhaps not meant, or that there is not."""
    with open_archive(desk.root, command="test") as archive:
        archive.ledger.put_ticket(TicketRow(9, 1, "ABC-00001", "Another"))
    two = cli("deliver", "--canary", "ABC-00001")
    assert two.refused("more than one ticket: 1 (Question 1), 9 (Another). Give one of these ids")
    assert cli("deliver", "--ticket", "ABC-7").refused(
        "The archive has no ticket 'ABC-7'. A ticket"
    )
    assert desk.writes() == 0


def test_a_canary_that_stopped_does_not_say_to_go_on(cli: Cli, desk: Office) -> None:
    """Whoever has mailed somebody by one ticket is not told to write into all others."""
    desk.tickiti.faults.add("notes_mail")
    desk.tickiti.tickets[int(desk.numbers[1])].participants.append("tom.hale@example.com")
    stopped = cli("deliver", "--canary", "1")
    assert (stopped.code, "sent mail has something new" in stopped.err) == (8, True)
    assert "2 delivered" in stopped.out
    assert "deliver --yes" not in stopped.out + stopped.err


def test_files_that_the_archive_does_not_hold_are_told(cli: Cli, desk: Office) -> None:
    """All that we have is there, which is not all that there was; a sample is no whole proof."""
    with open_archive(desk.root, command="test") as archive:
        rows = [Listed(key, 2, 20, f"{key}.pdf", "", 9, 9) for key in (901, 902)]
        with archive.ledger.atomic():
            who = {"requester_name": "Ann 2", "requester_email": "ann2@example.com"}
            ticket = TicketRow(2, 1, "ABC-00002", "Question 2", 1000, 2000, **who)  # type: ignore[arg-type]
            archive.ledger.record_ticket(desk.run, ticket, rows)
        archive.ledger.settle(Outcome(901, State.MISSING, "source_lost_file", "gone"))
    told = cli("deliver", "--yes").out
    assert "the archive does not hold: 1 missing, 1 pending. `migrator report` names them" in told
    assert "does not hold" not in cli("deliver", "--ticket", "1").out
    assert "1 agreed, by chance out of 3, " in cli("deliver", "--verify", "--sample", "1").out
    assert "by chance" not in cli("deliver", "--verify", "--sample", "3").out


def test_reports_tell_by_ticket_what_is_where(cli: Cli, desk: Office, tmp_path: Path) -> None:
    """JSON, CSV and HTML: notes, refusals with their reasons, files of no ticket, our pages."""
    with open_archive(desk.root, command="test") as desk.archive:
        for kind in ("article", "step", "linked"):
            desk.outside(kind, kind.encode())
        (gone,) = desk.archive.threads.attachments_of_ticket(3)
        desk.archive.ledger.mark_deleted(gone.id, "gone")
        desk.ticket(3, b"not mapped")
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + 'pages = "https://old.example.com"\n')
    before = json.loads(cli("report", "--format", "json").out)
    assert before["delivery"] == {"targets": [], "undeliverable": {}}
    outside = (
        "Files that no delivery takes: 1 of the knowledge base, 1 deleted at the source, 1 linked "
        "to in texts of no ticket, 1 of the troubleshooter. `migrator serve` shows them at "
        "https://old.example.com, `migrator handover` copies them."
    )
    assert outside in cli("deliver").out
    assert outside in cli("deliver", "--yes").out
    assert outside in cli("report").out
    delivery = json.loads(cli("report", "--format", "json").out)["delivery"]
    assert {kind: one["n"] for kind, one in delivery["undeliverable"].items()} == {
        "article": 1,
        "deleted": 1,
        "linked": 1,
        "step": 1,
    }
    (target,) = delivery["targets"]
    assert (target["tickets"], target["files"]["delivered"]["n"]) == (3, 3)
    refused, unmapped, whole = target["rows"]
    assert [one["ticket_id"] for one in (refused, unmapped, whole)] == [2, 3, 1]
    assert (refused["ticket_number"], unmapped["ticket_number"]) == (desk.numbers[2], None)
    assert {state: n for state, n in refused["files"].items() if n} == {
        "delivered": 1,
        "refused": 1,
    }
    assert "attachment_blocked" in refused["reasons"][0]
    assert unmapped["reasons"] == ["it is mapped to no ticket number"]
    assert (whole["reasons"], len(whole["notes"])) == ([], 1)
    assert whole["page"] == "https://old.example.com/tickets/1"
    rows = list(csv.DictReader(cli("report", "--format", "csv").out.splitlines()))
    told = {row["filename"]: row for row in rows}
    assert ",".join(rows[0]).endswith(
        "kind,accepted,tickiti_state,tickiti_ticket,tickiti_note,tickiti_attachment,"
        "tickiti_reason,page"
    )
    assert told["run.exe"]["tickiti_state"] == "refused"
    assert "attachment_blocked" in told["run.exe"]["tickiti_reason"]
    assert told["run.exe"]["page"].endswith(f"/attachments/{told['run.exe']['attachment_id']}")
    there = desk.tickiti.files(int(desk.numbers[1]))[0]
    one = told[there.name]
    assert (one["tickiti_ticket"], one["tickiti_note"], one["tickiti_attachment"]) == (
        *(desk.numbers[1], str(there.response_id), str(there.id)),
    )
    reasons = {row["tickiti_reason"] for row in rows if not row["tickiti_state"]}
    assert reasons == {"it belongs to no ticket", "the source has deleted it"}
    page = cli("report", "--format", "html").out
    assert "What Tickiti has" in page
    assert "it is mapped to no ticket number; https://old.example.com/tickets/3" in page
    assert "1 of the knowledge base" in page


@pytest.mark.slow
def test_a_file_that_reads_back_wrong_is_found(cli: Cli, desk: Office) -> None:
    """Bytes that changed there, and a note that somebody removed: exit code 6, and the ledger."""
    cli("deliver", "--yes")
    one, two = (desk.tickiti.files(int(desk.numbers[n]))[0] for n in (1, 2))
    one.damage = "wrong_bytes"
    desk.tickiti.desk.responses[two.response_id].deleted_at = 1
    found = cli("deliver", "--verify", "--json")
    assert (found.code, last(found.out)) == (6, {"differs": 1, "agreed": 1, "vanished": 1})
    told = last(cli("deliver", "--yes", "--json").out)
    assert (told["failed"], told["already"]) == (2, 1)
    assert len(desk.there()) == 2
    told = last(cli("deliver", "--yes", "--recheck", "--json").out)
    assert (told["failed"], told["delivered"]) == (0, 2)
    good = [file for n in (1, 2) for file in desk.tickiti.files(int(desk.numbers[n]))]
    assert sorted(file.damage or "" for file in good) == ["", "", "", "wrong_bytes"]
    assert last(cli("deliver", "--verify", "--json").out) == {"agreed": 3}


def test_numbers_are_proposed_with_their_doubts(cli: Cli, desk: Office, tmp_path: Path) -> None:
    """A proposal in doubt is refused as a map until somebody has looked at it."""
    desk.tickiti.add_ticket("Question 3", "ann3@example.com")
    (tmp_path / "map.csv").write_text("kayako_ticket_id,ticket_number\n")
    proposed = cli("deliver", "--match", "-o", "new.csv")
    assert proposed.code == 0, proposed.err
    rows = list(csv.DictReader((tmp_path / "new.csv").read_text("utf-8").splitlines()))
    there = {int(row["kayako_ticket_id"]): row["ticket_number"] for row in rows}
    assert {key: there[key] for key in desk.numbers} == desk.numbers
    assert {row["doubt"] for row in rows} == {""}
    desk.tickiti.add_ticket("Question 3", "ann3@example.com")
    assert cli("deliver", "--match", "-o", "map.csv").code == 3
    assert cli("deliver").refused("is in doubt")


def test_a_proposal_replaces_no_file_that_somebody_corrected(
    cli: Cli, desk: Office, tmp_path: Path
) -> None:
    """Numbers that were looked through are hours of work, also those that are in use."""
    before = (tmp_path / "map.csv").read_bytes()
    assert cli("deliver", "--match", "-o", "map.csv").refused("Name another file")
    assert (tmp_path / "map.csv").read_bytes() == before


def test_what_is_missing_is_told(cli: Cli, desk: Office, tmp_path: Path) -> None:
    """Address, token and author are asked for by their names; options that clash are refused."""
    (tmp_path / "config.toml").write_text("")
    assert cli("deliver").refused("deliver.url")
    (tmp_path / "config.toml").write_text(f'[deliver]\nurl = "{desk.tickiti.url}"\n')
    assert cli("deliver", "--yes").refused("deliver.author")
    assert cli("deliver", "--verify", "--undo").refused("exclude each other")
    assert cli("deliver", "--yes", "--canary", "1").refused("one ticket alone: leave --yes out")
    assert cli("deliver", "--ticket", "2", "--canary", "1").refused("one ticket alone")
    assert cli("deliver", "--sample", "3").refused("--verify")
    (tmp_path / "config.toml").write_text(
        f'[deliver]\nauthor = "{AUTHOR}"\nurl = "{desk.tickiti.url}"\n'
    )
    assert cli("deliver", "--canary", "99").refused("no ticket '99'")


def test_a_dry_run_says_what_to_do_next(cli: Cli, desk: Office, tmp_path: Path) -> None:
    """Numbers first, then the author, then a canary."""
    told = tmp_path / "config.toml"
    there = f'[deliver]\nurl = "{desk.tickiti.url}"\n'
    told.write_text(there)
    assert "Next: migrator deliver --match" in cli("deliver").out
    there = f'[tickiti]\nticket_numbers = "map.csv"\n{there}'
    told.write_text(there)
    assert "Set deliver.author, the account that writes. Next: migrator" in cli("deliver").out
    told.write_text(f'{there}author = "{AUTHOR}"\n')
    assert "\nNext: migrator deliver --canary TICKET" in cli("deliver").out


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"generation": "june"}, "takes no files"),
        ({"faults": ["https_only"]}, "redirects"),
        ({"faults": ["token_revoked"]}, "does not know the token"),
    ],
)
def test_a_tickiti_that_cannot_be_used_is_refused(
    cli: Cli, desk: Office, tmp_path: Path, how: dict[str, Any], said: str
) -> None:
    """Exit code 4, nothing is written, and the text says why."""
    with Tickiti(**how) as other:
        text = (tmp_path / "config.toml").read_text()
        (tmp_path / "config.toml").write_text(text.replace(desk.tickiti.url, other.url))
        result = cli("deliver", "--yes")
        assert result.code == 4
        assert said in result.err
        assert not any(one.attachments for one in other.desk.responses.values())


@pytest.mark.parametrize("tail", ["/", "/api/v1", "/api/v1/"])
def test_the_address_may_be_that_of_the_api(
    cli: Cli, desk: Office, tmp_path: Path, tail: str
) -> None:
    """It is the same target, so that nothing is written twice."""
    cli("deliver", "--yes")
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace(desk.tickiti.url, desk.tickiti.url + tail))
    assert last(cli("deliver", "--yes", "--json").out)["already"] == 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>Welcome</html>", "HTTP 200 without JSON. Is deliver.url the address"),
        (200, b"[]", "JSON that is not Tickiti's. Is deliver.url the address"),
        (404, b"<html>Not found</html>", "HTTP 404. Is deliver.url the address"),
        (403, b"<html>Forbidden</html>", "something in front of it turns us away"),
    ],
)
def test_what_is_no_tickiti_is_refused(
    cli: Cli, desk: Office, tmp_path: Path, *, status: int, body: bytes, said: str
) -> None:
    """Exit code 4, and a hint at what may be wrong."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        text = (tmp_path / "config.toml").read_text()
        address = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "config.toml").write_text(text.replace(desk.tickiti.url, address))
        result = cli("deliver", "--yes")
        server.shutdown()
    assert result.code == 4
    assert said in result.err


@pytest.mark.slow
def test_each_sync_delivers_what_is_new(cli: Cli, office: Office, tmp_path: Path) -> None:
    """With after_sync, once somebody has delivered by hand; a failure ends with its code."""
    from migrator.archive import open_beside
    from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer

    office.archive.close()
    helpdesk = Helpdesk.build(SandboxOptions(tickets=6, faults=frozenset()))
    with SandboxServer(helpdesk) as source, Tickiti() as tickiti:
        text = (
            f'[kayako]\nurl = "{source.url}"\napi_key = "{source.api_key}"\n'
            f'secret_key = "{source.secret_key}"\n[archive]\npath = "new"\n'
            f'[tickiti]\nticket_numbers = "map.csv"\n[deliver]\nurl = "{tickiti.url}"\n'
            f'author = "{AUTHOR}"\ntoken = "{tickiti.token}"\n'
        )
        (tmp_path / "config.toml").write_text(text)
        (tmp_path / "config.toml").chmod(0o600)
        (tmp_path / "map.csv").write_text("kayako_ticket_id,ticket_number\n")
        assert cli("run").code == 0
        lines = ["kayako_ticket_id,ticket_number"]
        with open_beside(tmp_path / "new") as archive:
            for one in archive.threads.all_tickets():
                made = tickiti.add_ticket(one.subject, one.requester_email)
                lines.append(f"{one.id},{made.number}")
        (tmp_path / "map.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "config.toml").write_text(text + "after_sync = true\n")
        assert "by hand first" in cli("sync").err
        done = cli("deliver", "--yes", "--json", "--limit", "1")
        assert (done.code, last(done.out)["failed"]) == (3, 0)
        synced = cli("sync")
        assert "each read back" in synced.out
        assert synced.code == 0, synced.out
        (tmp_path / "config.toml").write_text(
            text.replace(tickiti.token, "1|wrong") + "after_sync = true\n"
        )
        assert cli("sync").code == 4
