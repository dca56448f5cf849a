"""Asking the source again for what is stored: who differs, what is gone, and what that proves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from migrator.archive import Archive, Verdict
from migrator.errors import (
    Interrupted,
    MemoryExhausted,
    MigratorError,
    ServerFailed,
    SourceDown,
    SourceError,
    SourceRefused,
    SourceUnreachable,
)
from migrator.events import AttachmentAudited, Notice, Tick
from migrator.pull import audit as room
from migrator.pull import options
from migrator.pull.audit import AuditReport, Finding, Findings, audit
from migrator.pull.options import Stop
from migrator.sources.base import Department, Fetched, FetchSink
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.layout import path_of
from tests.pull.doubles import Desk, Ear, pull, states, temporary

S = TypeVar("S", bound=FetchSink)


class Moody(Desk):
    """A helpdesk that answers some attachments with an error, or with new bytes each time."""

    def __init__(self, tickets: int) -> None:
        super().__init__(tickets)
        self.errors: dict[int, MigratorError] = {}
        self.unsteady: dict[int, list[bytes]] = {}
        self.before: Callable[[int], None] = lambda _: None

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        self.before(attachment_id)
        if attachment_id in self.errors:
            raise self.errors[attachment_id]
        if self.unsteady.get(attachment_id):
            data = self.unsteady[attachment_id].pop(0)
            self.files[attachment_id] = self.files[attachment_id]._replace(data=data)
        return await super().fetch(ticket_id, attachment_id, make_sink)


@pytest.fixture
def desk(archive: Archive) -> Moody:
    """Give a helpdesk whose six attachments were all stored."""
    desk = Moody(6)
    pull(desk, archive)
    desk.calls.clear()
    return desk


def audited(
    archive: Archive,
    desk: Desk,
    sample: int = 6,
    *,
    ear: Ear | None = None,
    stop: Stop | None = None,
    at_once: int = 1,
) -> AuditReport:
    """Audit so many of what is stored."""
    drawn = archive.figures.plan_sample(sample, seed=1)
    report = AuditReport(drawn.population, drawn.size, drawn.worth)

    async def main() -> None:
        rows = archive.figures.draw_sample(drawn)
        listener = ear or Ear()
        await audit(
            rows,
            report,
            KayakoSource(desk),
            archive.blobs,
            concurrency=at_once,
            listener=listener,
            stop=stop,
        )

    asyncio.run(main())
    return report


def ids(findings: Findings) -> list[int]:
    """Give the attachments of findings; all of them are named."""
    assert findings.n == len(findings.named)
    return [finding.row.id for finding in findings.named]


def test_a_source_that_kept_everything_agrees(archive: Archive, desk: Moody) -> None:
    """Each stored attachment is fetched once, compared and told; nothing is written."""
    before, ear = states(archive), Ear()
    blobs = [one.name for one in archive.blobs.scan()]
    report = audited(archive, desk, ear=ear, at_once=3)
    assert (report.agreed, report.compared, report.exit_code) == (6, 6, 0)
    assert report.bytes == 6 * len("file 1")
    assert sorted(desk.asked("fetch")) == [f"fetch {n}" for n in range(1, 7)]
    assert [(one.verdict, one.ours, one.total) for one in ear.of(AttachmentAudited)] == [
        ("agreed", "ok", 6)
    ] * 6
    assert (states(archive), [one.name for one in archive.blobs.scan()]) == (before, blobs)
    assert temporary(archive) == []


def test_other_bytes_of_the_same_size_differ(archive: Archive, desk: Moody) -> None:
    """One that differs is named with both hashes, asked for twice, and costs the exit code 6."""
    desk.files[3] = desk.files[3]._replace(data=b"FILE 3")
    report = audited(archive, desk)
    assert (ids(report.differ), report.agreed, report.exit_code) == ([3], 5, 6)
    (finding,) = report.differ.named
    assert finding.sha256 == finding.again != finding.row.sha256
    assert (finding.size, finding.ours) == (6, Verdict.OK)
    assert "the same ones twice" in finding.reason
    assert desk.asked("fetch").count("fetch 3") == 2


@pytest.mark.parametrize(
    ("answers", "reason"),
    [([b"one", b"two"], "other bytes each time"), ([b"one", b"file 3"], "sends our bytes")],
)
def test_a_source_that_does_not_answer_steadily_differs(
    archive: Archive, desk: Moody, answers: list[bytes], reason: str
) -> None:
    """The first answer decides, and the second one explains it."""
    desk.unsteady[3] = answers
    report = audited(archive, desk)
    assert (ids(report.differ), report.exit_code) == ([3], 6)
    assert reason in report.differ.named[0].reason


def test_a_difference_stands_when_the_second_answer_fails(archive: Archive, desk: Moody) -> None:
    """An error after other bytes does not make them ours."""
    asked: list[int] = []

    def fail_the_second(attachment: int) -> None:
        asked.append(attachment)
        if asked.count(3) == 2:
            desk.errors[3] = ServerFailed("status 500")

    desk.files[3] = desk.files[3]._replace(data=b"other")
    desk.before = fail_the_second
    report = audited(archive, desk)
    assert ids(report.differ) == [3]
    assert report.differ.named[0].again is None
    assert "did not answer" in report.differ.named[0].reason


def test_what_the_source_no_longer_has_is_no_difference(archive: Archive, desk: Moody) -> None:
    """Deleted attachments and lost bytes have vanished there; ours stay, and nothing is wrong."""
    del desk.files[2]
    desk.files[4] = desk.files[4]._replace(data=None)
    desk.delete(5)
    report = audited(archive, desk)
    assert (ids(report.vanished), report.agreed, report.exit_code) == ([2, 4, 5], 3, 0)
    assert report.statement == "0 of 3 differ: with 95 % confidence fewer than 64 % do."


def test_a_merged_ticket_is_followed(archive: Archive, desk: Moody) -> None:
    """An attachment that moved to another ticket since is found there."""
    desk.merge(3, into=1)
    assert audited(archive, desk).agreed == 6


@pytest.mark.parametrize("error", [ServerFailed("status 500"), MemoryExhausted("too big for PHP")])
def test_what_gets_no_answer_is_told(archive: Archive, desk: Moody, error: SourceError) -> None:
    """One that could not be asked is neither proof nor harm; the exit code is 3."""
    desk.errors[3] = error
    report = audited(archive, desk)
    assert (ids(report.unasked), report.agreed, report.exit_code) == ([3], 5, 3)
    assert report.unasked.named[0].reason == str(error)


@pytest.mark.parametrize("error", [SourceDown("is down"), SourceRefused("refused")])
def test_a_source_that_is_down_ends_the_audit(
    archive: Archive, desk: Moody, error: SourceError
) -> None:
    """What was found until then is told, with the exit code 4; the others are not asked."""
    desk.errors = dict.fromkeys((3, 4), error)
    report = audited(archive, desk)
    assert (report.agreed, report.ended_by, report.exit_code) == (2, error, 4)
    assert desk.asked("fetch") == ["fetch 1", "fetch 2"]
    assert audited(archive, desk, at_once=6).ended_by is error


def test_the_worst_news_decides_the_exit_code(archive: Archive, desk: Moody) -> None:
    """A difference is not hidden by an audit that did not come to its end."""
    desk.files[1] = desk.files[1]._replace(data=b"other")
    desk.errors[3] = SourceDown("is down")
    assert audited(archive, desk).exit_code == 6


def damage(archive: Archive, attachment: int) -> None:
    """Change the file of a blob behind the archive's back."""
    row = archive.queries.attachment(attachment)
    assert row is not None
    path = path_of(archive, str(row.sha256))
    path.chmod(0o600)
    path.write_bytes(b"FILE 2")


def test_damage_of_ours_is_told_apart(archive: Archive, desk: Moody) -> None:
    """Where the source still has the right bytes and our file has not, ours is at fault."""
    damage(archive, 2)
    report = audited(archive, desk)
    assert (report.agreed, ids(report.differ), ids(report.ours)) == (6, [], [2])
    assert (report.ours.named[0].ours, report.exit_code) == (Verdict.DAMAGED, 6)


def test_damage_of_ours_is_told_even_where_the_source_has_nothing(
    archive: Archive, desk: Moody
) -> None:
    """The last copy is damaged: nothing could be worse, and nothing hides it."""
    damage(archive, 2)
    del desk.files[2]
    report = audited(archive, desk)
    assert (ids(report.vanished), ids(report.ours), report.exit_code) == ([2], [2], 6)


def test_a_file_that_cannot_be_read_does_not_end_the_audit(archive: Archive, desk: Moody) -> None:
    """It counts as damaged, with the reason, and all others are compared as well."""
    row = archive.queries.attachment(2)
    assert row is not None
    path = path_of(archive, str(row.sha256))
    path.unlink()
    path.mkdir()
    report = audited(archive, desk)
    assert (report.agreed, ids(report.ours), report.ended_by, report.exit_code) == (6, [2], None, 6)
    (finding,) = report.ours.named
    assert finding.ours is Verdict.DAMAGED
    assert finding.ours_reason == "it is a directory, not a file"


def test_an_interrupted_audit_tells_what_it_has(archive: Archive, desk: Moody) -> None:
    """After a request to stop those in flight finish, no other starts, and the exit code is 130."""
    stop = Stop()
    desk.before = lambda attachment: stop.ask() if attachment == 3 else None
    ear = Ear()
    report = audited(archive, desk, stop=stop, ear=ear)
    assert (report.agreed, report.exit_code) == (3, 130)
    assert isinstance(report.ended_by, Interrupted)
    assert desk.asked("fetch")[-1] == "fetch 3"
    assert len(ear.of(AttachmentAudited)) == 3


def test_a_source_that_is_not_there_is_told_once(archive: Archive, desk: Moody) -> None:
    """One light question comes first, so that four hundred need not fail one by one."""

    class Away(Desk):
        async def departments(self) -> list[Department]:
            raise SourceUnreachable("connection refused")

    report = audited(archive, Away())
    assert (report.unasked.n, report.exit_code) == (0, 4)


class Stuck(Moody):
    """A helpdesk that never answers a request for contents."""

    async def turn(self, call: str) -> None:
        if call.startswith("fetch"):
            await asyncio.Event().wait()


def test_a_second_request_to_stop_drops_what_is_in_flight(archive: Archive, desk: Moody) -> None:
    """Nobody waits for a server that does not answer."""
    stop, stuck, ear = Stop(), Stuck(0), Ear()

    def insist(_: int) -> None:
        stop.ask()
        stop.ask()

    stuck.before = insist
    report = audited(archive, stuck, stop=stop, ear=ear, at_once=3)
    assert (report.compared, report.exit_code) == (0, 130)
    assert [one.text for one in ear.of(Notice)]


def test_a_slow_audit_shows_that_it_lives(
    archive: Archive, desk: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life come while nothing else does; after the drain nobody waits any longer."""
    monkeypatch.setattr(options, "TICK", 0.001)
    monkeypatch.setattr(room, "DRAIN", 0.01)
    stop = Stop()
    ear = Ear(lambda event: stop.ask() if isinstance(event, Tick) else None)
    assert audited(archive, Stuck(0), stop=stop, ear=ear).exit_code == 130
    assert ear.of(Tick)


def test_bugs_are_not_kept_quiet(archive: Archive, desk: Moody) -> None:
    """What nobody expected is raised, not counted."""

    def trip(_: int) -> None:
        raise ZeroDivisionError

    desk.before = trip
    with pytest.raises(ZeroDivisionError):
        audited(archive, desk)


# What it proves


def report_of(
    compared: int, differ: int, population: int = 100_000, *, worth: int | None = None
) -> AuditReport:
    """Make up a result."""
    report = AuditReport(population, compared, worth, agreed=compared - differ)
    report.differ.n = differ
    return report


@pytest.mark.parametrize(
    ("report", "statement"),
    [
        (report_of(400, 0), "0 of 400 differ: with 95 % confidence fewer than 0.75 % do."),
        (report_of(4000, 2), "2 of 4,000 differ: with 95 % confidence fewer than 0.16 % do."),
        (
            report_of(600, 0, worth=200),
            "0 of 600 differ: with 95 % confidence fewer than 1.5 % do.",
        ),
        (report_of(400, 0, 400), "0 of 400 differ: that is everything that is stored."),
        (report_of(3, 3), "3 of 3 differ."),
        (report_of(0, 0), "Nothing was compared."),
    ],
)
def test_the_statement_says_what_is_proven(report: AuditReport, statement: str) -> None:
    """A bound where there is a sample, the plain truth where there is the whole."""
    assert report.statement == statement


def test_only_so_many_findings_are_named(
    archive: Archive, desk: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted; memory does not grow with a source that lost everything."""
    monkeypatch.setattr(room, "KEPT", 2)
    desk.files.clear()
    report = audited(archive, desk)
    assert (report.vanished.n, [one.row.id for one in report.vanished.named]) == (6, [1, 2])
    assert isinstance(report.vanished.named[0], Finding)
