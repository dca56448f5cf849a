"""No output says more than was seen: every format, after everything that can have happened."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import lxml.html
import pytest

from migrator import events
from migrator.archive import Archive, State, open_archive, open_beside
from migrator.cli.run_cmd import conclude
from migrator.errors import MigratorError, ServerFailed, SourceDown
from migrator.pull.progress import Progress
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.sources.base import Scope
from tests.blobs.layout import path_of
from tests.cli.conftest import Cli, Result, cli
from tests.pull.doubles import Desk, pull
from tests.pull.syncing import Living, sync
from tests.web.desks import Visitor

__all__ = ["cli"]

SUPPORT, SALES = 1, 2


def helpdesk(tickets: int = 36) -> Living:
    """Make a helpdesk with a file in each ticket; every fourth ticket is of Sales."""
    desk = Living(tickets)
    desk.rooms.append(type(desk.rooms[0])(SALES, "Sales"))
    for number in range(4, tickets + 1, 4):
        desk.open(number, department=SALES, active=1000 + number)
    return desk


class Failing(Living):
    """A helpdesk that fails at some calls, in the way that ``error`` says."""

    error: MigratorError = ServerFailed("HTTP 500")
    calls_that_fail: frozenset[str] = frozenset()

    async def turn(self, call: str) -> None:
        await super().turn(call)
        if call in self.calls_that_fail:
            raise self.error


def failing(error: MigratorError, *calls: str) -> Failing:
    desk = Failing(36)
    desk.error, desk.calls_that_fail = error, frozenset(calls)
    return desk


Happening = Callable[[Archive], object]


@dataclass(frozen=True)
class Case:
    """What happened, and what may be said then: ``says`` all of it, ``never`` none of it."""

    happen: Happening
    kind: str
    exit_code: int
    says: tuple[str, ...]
    never: tuple[str, ...] = ()


def lose(archive: Archive, *numbers: int) -> Desk:
    """Pull from a helpdesk that has lost the bytes of some files."""
    desk = helpdesk()
    for number in numbers:
        desk.files[number] = desk.files[number]._replace(data=None, declared=7)
    pull(desk, archive)
    return desk


def check(archive: Archive, kind: str, code: int, *, whole: bool = True, **summary: object) -> None:
    archive.ledger.add_check(kind, started_at=1, whole=whole, exit_code=code, summary=summary)


def whole(archive: Archive) -> None:
    assert pull(helpdesk(), archive).exit_code == 0


def department(archive: Archive) -> None:
    assert pull(helpdesk(), archive, scope=Scope(frozenset({"Sales"}))).exit_code == 3


def two_parts(archive: Archive) -> None:
    pull(helpdesk(), archive, scope=Scope(frozenset({"Support"})))
    pull(helpdesk(), archive, scope=Scope(limit_tickets=3))


def part_after_whole(archive: Archive) -> None:
    whole(archive)
    pull(helpdesk(), archive, scope=Scope(since=1030))


def sync_after_part(archive: Archive) -> None:
    desk = helpdesk()
    sync(desk, archive)
    pull(desk, archive, scope=Scope(limit_tickets=3))
    desk.reply(2, 1100)
    assert sync(desk, archive, now=1_000_500).exit_code == 0


def outage(archive: Archive) -> None:
    pull(failing(SourceDown("the server is down"), "list 9"), archive)


def outage_of_a_sync(archive: Archive) -> None:
    desk = failing(SourceDown("the server is down"))
    sync(desk, archive)
    desk.reply(2, 1100)
    desk.calls_that_fail = frozenset({"list 2"})
    assert sync(desk, archive, now=1_000_500).exit_code == 4


def outage_of_a_part(archive: Archive) -> None:
    desk = failing(SourceDown("the server is down"), "list 9")
    pull(desk, archive, scope=Scope(limit_tickets=12))


def gaps(archive: Archive) -> None:
    pull(failing(ServerFailed("HTTP 500"), "list 3", "list 5"), archive)


def short(archive: Archive) -> None:
    class Short(Living):
        async def ticket_count(self, *_: Any) -> int | None:
            return len(self.tickets) + 3

    pull(Short(36), archive)


def sync_after_short(archive: Archive) -> None:
    desk = helpdesk()
    sync(desk, archive)
    short(archive)
    sync(desk, archive, now=1_000_500)


def mended_by_a_sync(archive: Archive) -> None:
    desk = failing(ServerFailed("HTTP 500"), "list 3", "ticket 3")
    assert sync(desk, archive).exit_code == 3
    desk.calls_that_fail = frozenset()
    assert sync(desk, archive, now=1_000_500).exit_code == 0


def accepted(archive: Archive) -> None:
    lose(archive, 3, 5)
    archive.ledger.accept([3, 5], by="jo@example.com", reason="the disk died in 2019")


def accepted_in_part(archive: Archive) -> None:
    lose(archive, 3, 5)
    archive.ledger.accept([5], by="jo@example.com", reason="the disk died in 2019")


def failed(archive: Archive) -> None:
    pull(failing(ServerFailed("HTTP 500"), "fetch 3"), archive)


def killed(archive: Archive) -> None:
    whole(archive)
    archive.ledger.begin_run("run", source="https://help.example.com", scope={})


def damaged(archive: Archive) -> None:
    whole(archive)
    check(archive, "verify", 6, checked=36, damaged=1, lost=1, repaired=0)
    check(archive, "verify", 0, whole=False, checked=5, damaged=0, lost=0, repaired=0)


def repaired(archive: Archive) -> None:
    damaged(archive)
    check(archive, "verify", 0, checked=36, damaged=0, lost=0, repaired=0)


def differs(archive: Archive) -> None:
    whole(archive)
    check(archive, "audit", 6, whole=False, sample=30, statement="1 of 30 differ")
    check(archive, "audit", 0, whole=False, sample=20, statement="0 of 20 differ")


def agrees_again(archive: Archive) -> None:
    differs(archive)
    check(archive, "audit", 0, whole=False, sample=30, statement="0 of 30 differ")


def audit_met_damage(archive: Archive) -> None:
    whole(archive)
    check(archive, "audit", 6, sample=36, differ=0, ours=1, statement="0 of 36 differ")
    check(archive, "verify", 0, whole=False, checked=3, damaged=0, lost=0, repaired=0)


def and_was_repaired(archive: Archive) -> None:
    audit_met_damage(archive)
    check(archive, "verify", 0, checked=36, damaged=1, lost=0, repaired=1)


def verified_after_a_difference(archive: Archive) -> None:
    differs(archive)
    check(archive, "verify", 0, checked=36, damaged=0, lost=0, repaired=0)


def mass_deletion(archive: Archive) -> None:
    desk = helpdesk()
    pull(desk, archive)
    for number in range(1, 31):
        desk.delete(number)
    assert pull(desk, archive).exit_code == 8


def part_after_mass_deletion(archive: Archive) -> None:
    mass_deletion(archive)
    assert pull(helpdesk(), archive, scope=Scope(limit_tickets=3)).exit_code == 8


CUT = "The last pass did not finish"
CASES = {
    "a whole run": Case(
        whole,
        "complete",
        0,
        ("Complete: every attachment that the source ever listed is in the archive.",),
    ),
    "a limited run": Case(
        lambda archive: pull(helpdesk(), archive, scope=Scope(limit_tickets=5)),
        "part",
        3,
        ("Part of the helpdesk: 5 of 36 tickets (only the first 5 tickets)",),
    ),
    "a department": Case(
        department, "part", 3, ("Part of the helpdesk: 9 of 36 tickets (department Sales)",)
    ),
    "active since": Case(
        lambda archive: pull(helpdesk(), archive, scope=Scope(since=1030)),
        "part",
        3,
        ("Part of the helpdesk: 7 of 36 tickets (only tickets active since 1970-01-01T00:17:10Z)",),
    ),
    "two parts": Case(
        two_parts,
        "part",
        3,
        ("27 of 36 tickets (the last run: 3 tickets, only the first 3 tickets)",),
    ),
    "a part after the whole": Case(
        part_after_whole,
        "part",
        3,
        (
            "the last run looked at 7 tickets (only tickets active since",
            "the whole was last seen 20",
            "in run 1",
        ),
    ),
    "a sync after a part": Case(sync_after_part, "complete", 0, ("Complete: every",)),
    "an outage": Case(outage, "open", 3, (f"{CUT}: the server is down",)),
    "an outage of a sync": Case(
        outage_of_a_sync,
        "open",
        3,
        (f"{CUT}: the server is down; the whole was last seen 20",),
    ),
    "an outage of a part": Case(outage_of_a_part, "open", 3, (CUT, "Part of the helpdesk: ")),
    "gaps": Case(
        gaps, "open", 3, ("Not complete: the attachments of 2 tickets could not be listed",)
    ),
    "tickets that are counted only": Case(
        short, "open", 3, ("Not complete: the source counts 3 tickets more than it lists",)
    ),
    "a sync after such a pass": Case(
        sync_after_short, "open", 3, ("the source counts 3 tickets more than it lists",)
    ),
    "gaps mended by a sync": Case(mended_by_a_sync, "complete", 0, ("Complete: every",)),
    "losses": Case(
        lambda archive: lose(archive, 3, 5),
        "open",
        3,
        ("The helpdesk itself has lost 2 attachments", "--recheck", "migrator accept"),
    ),
    "accepted losses": Case(
        accepted, "complete", 0, ("Complete: ", "but for 2 whose loss was accepted")
    ),
    "losses accepted in part": Case(
        accepted_in_part, "open", 3, ("The helpdesk itself has lost 1 attachment",)
    ),
    "a failure": Case(failed, "open", 3, ("Not complete: 1 attachment is pending or failed",)),
    "a killed run": Case(
        killed, "open", 3, (f"{CUT}; it was killed",), ("is at work: ", "and is at")
    ),
    "damage": Case(damaged, "doubt", 6, ("In doubt: verify found a fault", "1 damaged, 1 lost")),
    "damage that was repaired": Case(repaired, "complete", 0, ("Complete: every",)),
    "a difference": Case(differs, "doubt", 6, ("In doubt: audit found a fault", "1 of 30")),
    "a difference and a better audit": Case(agrees_again, "complete", 0, ("Complete: every",)),
    "damage that an audit met": Case(
        audit_met_damage,
        "doubt",
        6,
        ("In doubt: audit found a fault", "verify --repair repairs it"),
    ),
    "such damage, repaired": Case(and_was_repaired, "complete", 0, ("Complete: every",)),
    "a difference and a verify": Case(
        verified_after_a_difference, "doubt", 6, ("In doubt: audit found a fault",)
    ),
    "mass deletion": Case(
        mass_deletion, "doubt", 8, ("In doubt: run 2 was stopped by a safety limit: the source",)
    ),
    "a part after mass deletion": Case(
        part_after_mass_deletion,
        "doubt",
        8,
        ("In doubt: run 2 was stopped by a safety limit", "Part of the helpdesk"),
    ),
    "nothing yet": Case(lambda _: None, "nothing", 3, ("No run has looked at the helpdesk yet.",)),
    "a helpdesk without files": Case(
        lambda archive: pull(Living(4, files=0), archive),
        "nothing",
        0,
        ("The whole helpdesk was seen, and it lists no attachment.",),
    ),
}

VALID = {
    name: jsonschema_rs.validator_for(
        json.loads((resources.files("migrator.report") / f"schema/{name}-1.json").read_text())
    )
    for name in ("report", "status")
}


def texts(cli: Cli, home: Path, *, handover: bool = True) -> dict[str, str]:
    """Give the text of every output that says how complete an archive is.

    Status ends with 0; all others end with the code that the JSON report names.
    """
    commands = {
        "status": ["status"],
        "status as JSON": ["status", "--json"],
        "report": ["report"],
        "report as JSON": ["report", "--format=json"],
        "report as HTML": ["report", "--format=html"],
    }
    if handover:
        commands["handover"] = ["handover", "--copy", "out"]
    results = {name: cli(*argv) for name, argv in commands.items()}
    found = {name: result.out for name, result in results.items()}
    assert results.pop("status").code == results.pop("status as JSON").code == 0
    for name in ("status", "report"):
        VALID[name].validate(document := json.loads(found[f"{name} as JSON"]))
    assert {result.code for result in results.values()} == {document["exit_code"]}
    page: Any = lxml.html.document_fromstring(found["report as HTML"].encode())
    found["report as HTML"] = said(page.xpath("//*[@id='main']")[0])
    found["page"] = status_page(home / "archive")
    if handover:
        found["its README"] = (home / "out/README.md").read_text().partition("\n## ")[0]
        found["its marker"] = (home / "out/handover.json").read_text()
        found["its report"] = (home / "out/report.json").read_text()
        document = lxml.html.parse(home / "out/report.html").getroot()
        found["its page"] = said(document.xpath("//*[@id='main']")[0])
        found["its check"] = cli("handover", "--check", "out").out
    return found


def said(element: Any) -> str:
    return " ".join(element.text_content().split())


def status_page(path: Path) -> str:
    """Give what the status page shows to somebody who may see everything."""
    settings = EndpointSettings()
    with (
        open_beside(path) as archive,
        BackgroundServer(join_faces(load_faces(), lambda: archive, settings)) as server,
        Visitor(base_url=server.url, timeout=20) as visitor,
    ):
        _, token = archive.access.create_token(
            "t", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
        visitor.sign_in(token)
        page: Any = lxml.html.document_fromstring(visitor.get("/status").text)
    return said(page.xpath("//main")[0])


def plain(text: str) -> str:
    """Undo what a format does to a sentence."""
    return html.unescape(text).replace("`", "").replace("**", "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text("[kayako]\nposts = false\n")
    return tmp_path


@contextmanager
def happened(home: Path, case: Case) -> Iterator[None]:
    with open_archive(home / "archive", command="test") as archive:
        case.happen(archive)
    yield


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_output_says_more_than_was_seen(name: str, cli: Cli, home: Path) -> None:
    """All formats say the same sentence, and complete only what is; so do the exit codes."""
    case = CASES[name]
    with happened(home, case):
        found = texts(cli, home)
    for output, text in found.items():
        told = plain(text)
        for words in case.says:
            # A page has the word that begins a sentence as its heading.
            begin = plain(words).removeprefix("Complete: ").removeprefix("Not complete: ")
            begin = begin.removeprefix("In doubt: ").removeprefix("Part of the helpdesk: ")
            assert begin[1:] in told, (output, told)
        for words in case.never:
            assert words not in told, (output, told)
        if case.kind != "complete":
            assert not re.search(r"(?<!Not )(?<!not )\b[Cc]omplete\b", told), (output, told)
    verdicts = [json.loads(found[one])["verdict"] for one in found if one.endswith(("JSON", "ker"))]
    assert {one["kind"] for one in verdicts} == {case.kind}
    assert len({one["sentence"] for one in verdicts}) == 1
    codes = [json.loads(found[one])["exit_code"] for one in found if one.endswith("JSON")]
    codes += [cli("report", "--format", "csv", "--state", "stored").code]
    assert set(codes) == {case.exit_code}


@pytest.mark.parametrize(
    ("scope", "code", "said"),
    [
        (Scope(), 0, "Complete: every attachment"),
        (Scope(limit_tickets=2), 3, "Part of the helpdesk: 2 of 36 tickets"),
    ],
    ids=["whole", "limited"],
)
def test_a_run_ends_with_the_verdict(
    home: Path, capsys: pytest.CaptureFixture[str], scope: Scope, code: int, said: str
) -> None:
    """What the terminal is told at the end of a run, its exit code and the record are one."""
    with open_archive(home / "archive", command="run") as archive:
        result = pull(helpdesk(), archive, scope=scope)
        assert conclude(archive, result, posts=False) == result.exit_code == code
        (run,) = archive.queries.runs()
    assert run.exit_code == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(said)


def test_an_outage_ends_with_the_verdict(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The process ends with what ended the run, and its ledger says that this was not all."""
    with open_archive(home / "archive", command="run") as archive:
        desk = failing(SourceDown("the server is down"), "list 9")
        result = pull(desk, archive)
        with pytest.raises(SourceDown):
            conclude(archive, result, posts=False)
        assert archive.queries.runs(1)[0].exit_code == 4
    assert f"{CUT}: the server is down." in capsys.readouterr().out


def at_work(archive: Archive, scope: dict[str, object]) -> None:
    """Begin a run that has come to ticket 312 of 810."""
    run = archive.ledger.begin_run("run", source="https://help.example.com", scope=scope)
    progress = Progress(lambda: 0.0)
    progress.take(events.TicketsCounted(810))
    for number in range(312):
        progress.take(events.TicketListed(number, 1, 1, 10))
        progress.take(events.AttachmentSettled(number, number, "stored", declared=10))
    slow = events.Request("attachment 12 of ticket 3", "secret.pdf", 45.0, 2048, 4096)
    progress.take(events.Slow((slow,)))
    archive.ledger.put_progress(run.id, progress.facts())


@pytest.mark.parametrize("scope", [{}, {"limit_tickets": 900}], ids=str)
@pytest.mark.parametrize("earlier", ["a whole run", "nothing yet", "losses"])
def test_a_run_at_work_is_told_as_such(
    cli: Cli, home: Path, earlier: str, scope: dict[str, object]
) -> None:
    """One figure everywhere, against all tickets of the walk, and nobody is told to run again."""
    with open_archive(home / "archive", command="run") as archive:
        CASES[earlier].happen(archive)
        at_work(archive, scope)
        found = texts(cli, home, handover=False)
    for output, text in found.items():
        told = plain(text)
        assert "A run is at work" in told, output
        assert "312 of 810 tickets listed, 312 attachments, about 38 % done" in told, output
        assert "slow: 45 s for attachment 12 of ticket 3, 2.0 KiB of 4.0 KiB so far" in told, output
        assert not re.search(r"(?<!Not )\b[Cc]omplete\b|migrator run\b|did not come", told), output
        assert ("It looks at a part of the helpdesk" in told) is bool(scope), output
    for name in ("status as JSON", "report as JSON"):
        document = json.loads(found[name])
        progress = document["progress"]
        assert (progress["tickets"], progress["tickets_total"]) == (312, 810)
        assert (progress["share"], progress["at_work"]) == (0.3851, True)
        assert (document["verdict"]["kind"], document["exit_code"]) == ("open", 3)


def test_a_doubt_outlives_a_run_at_work(cli: Cli, home: Path) -> None:
    """That a run is at work settles nothing of what a check found."""
    with open_archive(home / "archive", command="run") as archive:
        damaged(archive)
        at_work(archive, {})
        facts = json.loads(cli("status", "--json").out)
    assert (facts["verdict"]["kind"], facts["exit_code"]) == ("doubt", 6)
    assert "A run is at work: 312 of 810" in facts["verdict"]["sentence"]


def test_who_else_holds_the_archive_is_not_at_work(cli: Cli, home: Path) -> None:
    """A verify after a run that was killed is no run: its lock is younger than that run."""
    with open_archive(home / "archive", command="run") as archive:
        killed(archive)
        with closing(sqlite3.connect(archive.path / "checkpoint.db")) as db, db:
            db.execute("UPDATE runs SET started_at = started_at - 60")
    with open_archive(home / "archive", command="verify"):
        result = cli("status")
    assert f"{CUT}; it was killed" in result.out
    assert "is at work" not in result.out
    assert "killed before its end" in result.out


def test_damage_met_by_a_handover_is_told_in_it(cli: Cli, home: Path) -> None:
    """A handover that met a damaged file says so in every part; the archive is not complete."""
    with open_archive(home / "archive", command="test") as archive:
        whole(archive)
        row = next(archive.queries.rows())
        path = path_of(archive, str(row.sha256))
    path.chmod(0o600)
    path.write_bytes(b"xxxxxx")
    made: Result = cli("handover", "--copy", "out")
    assert made.code == 6
    parts = [made.out, *((home / "out" / name).read_text() for name in ("README.md",))]
    parts.append(said(lxml.html.parse(home / "out/report.html").getroot()))
    for text in parts:
        assert "1 file of the archive is damaged or lost" in text
        assert "Complete: every" not in text
    for name in ("handover.json", "report.json"):
        assert json.loads((home / "out" / name).read_text())["verdict"]["kind"] == "doubt"


def test_accepted_losses_are_named_with_their_reason(cli: Cli, home: Path) -> None:
    """When, who and why: in every report, apart from what is open."""
    with open_archive(home / "archive", command="test") as archive:
        accepted_in_part(archive)
    text = cli("report").out
    settled = text.partition("\nAccepted as lost\n")[2]
    assert re.search(r"attachment 5, file.txt: 20\S+Z jo@example.com: the disk died", settled)
    assert "attachment 3," not in settled
    assert "attachment 5," not in text.partition("\nAccepted as lost\n")[0]
    document = json.loads(cli("report", "--format", "json").out)
    assert document["accepted"] == {"missing": 1}
    assert document["attention"]["total"] == 2
    by_id = {row["attachment_id"]: row["accepted"] for row in document["attention"]["rows"]}
    assert by_id[3] is None
    assert by_id[5].endswith("Z jo@example.com: the disk died in 2019")
    csv = cli("report", "--format", "csv", "--accepted").out.splitlines()
    assert csv[0].endswith(",kind,accepted")
    assert [line.partition(",")[0] for line in csv[1:]] == ["5"]
    assert csv[1].endswith("Z jo@example.com: the disk died in 2019")
    page: Any = lxml.html.document_fromstring(cli("report", "--format", "html").out.encode())
    assert "jo@example.com: the disk died in 2019" in said(page.xpath("//*[@id='accepted']")[0])


def test_what_was_proven_is_part_of_every_report(cli: Cli, home: Path) -> None:
    """When verify and audit last were and what they found; never, when never."""
    with open_archive(home / "archive", command="test") as archive:
        whole(archive)
        check(archive, "verify", 0, checked=36, damaged=0, lost=0, repaired=2)
    found = texts(cli, home)
    for name in ("status", "report", "page", "its README"):
        assert re.search(
            r"Verify: 20\S+Z, 36 files read \(all\): 0 damaged, 0 lost, 2 repaired\.", found[name]
        ), name
        assert "Audit: never." in found[name], name
    for name in ("status as JSON", "report as JSON", "its marker", "its report"):
        proof = json.loads(found[name])["proof"]
        assert proof["audit"] is None
        assert proof["verify"]["summary"]["repaired"] == 2
        assert proof["verify"]["whole"] is True
    assert "36 files read (all)" in found["report as HTML"]


def test_the_trash_is_told_where_it_was_not_looked_at(cli: Cli, home: Path) -> None:
    """Complete without the trash is said to be that; with it, it is not."""
    for number, (scope, told) in enumerate(((Scope(), True), (Scope(include_trash=True), False))):
        with open_archive(home / "archive", command="test") as archive:
            desk = helpdesk()
            desk.trash(3)
            pull(desk, archive, scope=scope)
            assert archive.queries.counts()[State.STORED].n == 35 + number
        assert ("The trash was not looked at." in cli("status").out) is told
