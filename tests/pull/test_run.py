"""A whole run over a helpdesk in memory, and what ends one before its time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from migrator.archive import Archive, Ledger, Outcome, State, TicketRow, Work
from migrator.errors import (
    ArchiveUnwritable,
    ConfigError,
    ServerFailed,
    SourceRefused,
    SourceUnreachable,
)
from migrator.events import (
    AttachmentSettled,
    LeftoversQueued,
    Notice,
    RunFinished,
    RunStarted,
    Tick,
    TicketListed,
    TicketsCounted,
)
from migrator.pull import options as options_module
from migrator.pull import run as run_module
from migrator.pull.fetch import Fetcher
from migrator.pull.options import Stop
from migrator.sources.base import Fetched, FetchSink, Scope, concurrently, most_telling
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.layout import bytes_of
from tests.pull.doubles import Desk, Ear, problems, pull, states, temporary

S = TypeVar("S", bound=FetchSink)


def test_a_run_stores_everything(archive: Archive) -> None:
    """All attachments of all tickets are stored, and the ledger balances."""
    desk, ear = Desk(5, files=3), Ear()
    result = pull(desk, archive, ear=ear, page_size=2)
    assert (result.exit_code, result.tickets, result.proven) == (0, 5, True)
    assert states(archive) == dict.fromkeys(range(1, 16), "stored")
    assert result.counts[State.STORED].n == 15
    for row in archive.queries.rows():
        assert row.sha256 is not None
        assert bytes_of(archive, row.sha256) == desk.files[row.id].data
    assert ear.of(TicketsCounted) == [TicketsCounted(5)]
    assert sorted(one.todo for one in ear.of(TicketListed)) == [3] * 5
    assert sorted(one.attachment_id for one in ear.of(AttachmentSettled)) == list(range(1, 16))
    assert ear.of(RunFinished)[0].counts["stored"] == 15


def test_a_second_run_fetches_nothing(archive: Archive) -> None:
    """What is stored is listed again and never fetched again."""
    desk = Desk(5, files=2)
    pull(desk, archive)
    desk.calls.clear()
    assert pull(desk, archive).exit_code == 0
    assert desk.asked("fetch") == []
    assert len(desk.asked("list")) == 5


def test_a_second_run_fetches_what_is_new(archive: Archive) -> None:
    """Also where the ticket says nothing of it, as after an upload through the API."""
    desk = Desk(3)
    pull(desk, archive)
    new = desk.attach(2, b"late")
    desk.calls.clear()
    pull(desk, archive)
    assert desk.asked("fetch") == [f"fetch {new}"]


def test_the_ledger_keeps_what_a_run_was_asked_and_came_to(archive: Archive) -> None:
    """Kind, address, scope, exit code and summary are on record."""
    scope = Scope(departments=frozenset({"Support"}), since=5, limit_tickets=2)
    pull(Desk(3), archive, kind="rehearsal", scope=scope)
    (info,) = archive.queries.runs()
    assert (info.kind, info.source) == ("rehearsal", "https://help.example.com")
    assert info.scope == {
        "departments": ["Support"],
        "since": 5,
        "limit_tickets": 2,
        "include_trash": False,
    }
    assert info.exit_code == 3, "it was asked for a part"
    assert info.summary is not None
    assert (info.summary["tickets"], info.summary["ended_by"]) == (2, None)


def test_departments_are_kept_for_the_queues(archive: Archive) -> None:
    """The endpoint names queues by them, also those that hold no ticket yet."""
    pull(Desk(0), archive)
    assert [queue.title for queue in archive.access.queues()] == ["Support"]


def test_an_empty_helpdesk_is_done_at_once(archive: Archive) -> None:
    """Nothing listed, nothing missing."""
    result = pull(Desk(0), archive)
    assert (result.exit_code, states(archive)) == (0, {})


def test_a_run_tells_what_it_goes_on_with(archive: Archive) -> None:
    """Settled and listed before, and whether there is anything to go on with."""
    desk, first, second, third = Desk(4), Ear(), Ear(), Ear()
    pull(Failing(4, 2), archive, ear=first)
    pull(desk, archive, ear=second)
    pull(desk, archive, ear=third)
    told = [ear.of(RunStarted)[0] for ear in (first, second, third)]
    assert [(one.done, one.listed, one.resumes) for one in told] == [
        (0, 0, False),
        (3, 4, True),
        (4, 4, False),
    ]


def test_a_killed_run_is_resumed_even_with_nothing_open(archive: Archive) -> None:
    """A run that never came to its end may not have listed everything."""
    with archive.ledger.atomic():
        archive.ledger.begin_run("run", source="x", scope={})
    ear = Ear()
    pull(Desk(1), archive, ear=ear)
    assert ear.of(RunStarted)[0].resumes


# Failures of single tickets and attachments


class Failing(Desk):
    """Answers 500 to the fetch of some attachments."""

    def __init__(self, tickets: int, *broken: int) -> None:
        super().__init__(tickets)
        self.broken = set(broken)

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        found = await super().fetch(ticket_id, attachment_id, make_sink)
        if attachment_id in self.broken:
            found.sink.abort()
            raise ServerFailed("HTTP 500")
        return found


class Unlistable(Desk):
    """Answers 500 to the list of some tickets, so many times."""

    def __init__(self, tickets: int, broken: dict[int, int]) -> None:
        super().__init__(tickets)
        self.broken = broken

    async def turn(self, call: str) -> None:
        await super().turn(call)
        verb, _, number = call.partition(" ")
        if verb == "list" and self.broken.get(int(number), 0) > 0:
            self.broken[int(number)] -= 1
            raise ServerFailed("HTTP 500")


def test_a_failed_attachment_ends_no_run(archive: Archive) -> None:
    """The others are stored, the exit code says that one is not, the next run tries again."""
    desk = Failing(4, 2)
    assert pull(desk, archive).exit_code == 3
    assert states(archive) == {1: "stored", 2: "failed", 3: "stored", 4: "stored"}
    assert len(desk.asked("fetch")) == 4, "what failed is not tried twice in one run"
    desk.broken.clear()
    assert pull(desk, archive).exit_code == 0
    assert states(archive)[2] == "stored"


def test_a_ticket_that_cannot_be_listed_is_told(archive: Archive) -> None:
    """Its name and reason are in the result, the exit code is 3, and nothing is deleted."""
    desk = Desk(3)
    pull(desk, archive)
    blind = Unlistable(3, {2: 99})
    del blind.files[2]
    ear = Ear()
    result = pull(blind, archive, ear=ear)
    assert (result.exit_code, result.unlisted, result.proven) == (3, {2: "HTTP 500"}, False)
    assert states(archive)[2] == "stored"
    assert "skipped" in ear.of(Notice)[-1].text
    assert (archive.queries.runs(1)[0].summary or {})["unlisted"] == {"2": "HTTP 500"}


def test_a_list_that_fails_once_is_asked_again(archive: Archive) -> None:
    """The next look of the same run lists it, and the run is green."""
    result = pull(Unlistable(3, {2: 1}), archive)
    assert (result.exit_code, result.unlisted) == (0, {})
    assert states(archive)[2] == "stored"


def test_missing_files_are_asked_for_again_only_on_request(archive: Archive) -> None:
    """--recheck, and only that, makes a missing file worth a request."""
    desk = Desk(1)
    lost = desk.attach(1, None, declared=5)
    assert pull(desk, archive).exit_code == 3
    assert states(archive)[lost] == "missing"
    desk.files[lost] = desk.files[lost]._replace(data=b"hello")
    pull(desk, archive)
    assert states(archive)[lost] == "missing"
    assert pull(desk, archive, recheck=True).exit_code == 0
    assert states(archive)[lost] == "stored"


def test_leftovers_of_a_vanished_ticket_are_settled(archive: Archive) -> None:
    """What an earlier run left open and no list names any more is asked for itself."""
    pull(Failing(3, 2, 3), archive)
    desk, ear = Desk(3), Ear()
    desk.delete(2)
    desk.trash(3)
    pull(desk, archive, ear=ear)
    assert states(archive) == {1: "stored", 2: "gone", 3: "stored"}
    assert [one.todo for one in ear.of(LeftoversQueued)] == [2]


def test_missing_files_of_a_vanished_ticket_are_asked_for_on_request(archive: Archive) -> None:
    """--recheck reaches what no list of this run names as well."""
    desk = Desk(1)
    lost = desk.attach(1, None, declared=5)
    pull(desk, archive)
    desk.trash(1)
    desk.files[lost] = desk.files[lost]._replace(data=b"hello")
    pull(desk, archive)
    assert states(archive)[lost] == "missing"
    pull(desk, archive, recheck=True)
    assert states(archive)[lost] == "stored"


def test_many_leftovers_come_in_batches(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch is forgotten, and none comes twice."""
    monkeypatch.setattr(run_module, "BATCH", 2)
    pull(Failing(7, *range(1, 8)), archive)
    desk, ear = Desk(7), Ear()
    for number in range(1, 8):
        desk.trash(number)
    pull(desk, archive, ear=ear)
    assert set(states(archive).values()) == {"stored"}
    assert [one.todo for one in ear.of(LeftoversQueued)] == [2, 2, 2, 1]
    assert len(ear.of(AttachmentSettled)) == 7


def test_a_failed_leftover_is_not_tried_twice(archive: Archive) -> None:
    """What this run listed, tried and could not get does not come back as a leftover."""
    desk = Failing(3, 1, 2, 3)
    pull(desk, archive)
    desk.calls.clear()
    pull(desk, archive, recheck=True)
    assert sorted(desk.asked("fetch")) == ["fetch 1", "fetch 2", "fetch 3"]


# The source as a whole


class DownAfter(Desk):
    """Goes away for good after so many calls."""

    def __init__(self, tickets: int, calls: int) -> None:
        super().__init__(tickets)
        self.left = calls

    async def turn(self, call: str) -> None:
        await super().turn(call)
        self.left -= 1
        if self.left < 0:
            raise SourceUnreachable("no answer")


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_server_that_is_not_there_ends_the_run_at_once(archive: Archive, calls: int) -> None:
    """Without the departments, the statuses or the first page there is nothing to go on with.

    What does not need the answer to another is asked at the same time.
    """
    desk = DownAfter(400, calls)
    result = pull(desk, archive, page_size=1000)
    assert result.exit_code == 4
    assert isinstance(result.ended_by, SourceUnreachable)
    assert len(desk.calls) == max(calls + 1, 2)
    assert archive.queries.runs(1)[0].exit_code == 4


@pytest.mark.parametrize("first", [True, False])
def test_of_two_questions_that_fail_the_error_is_told(first: bool) -> None:
    """Neither hides the other's failure, and none goes on when the other has failed."""
    ended: list[str] = []

    async def ask(fails: bool) -> None:
        try:
            await asyncio.sleep(0 if fails else 60)
        finally:
            ended.append("failed" if fails else "cancelled")
        raise SourceUnreachable("no answer")

    with pytest.raises(SourceUnreachable):
        asyncio.run(concurrently(ask(first), ask(not first)))
    assert ended == ["failed", "cancelled"]


def test_attachments_that_fail_end_no_run_however_many(archive: Archive) -> None:
    """As long as the source answers other questions the run goes on to its end."""
    desk = Failing(1, *range(1, 101))
    for _ in range(99):
        desk.attach(1, b"x")
    assert pull(desk, archive).exit_code == 3
    assert states(archive) == dict.fromkeys(range(1, 101), "failed")


def test_a_revoked_key_ends_the_run(archive: Archive) -> None:
    """Whoever meets it first: nothing is recorded against an attachment."""

    class Revoked(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("fetch"):
                raise SourceRefused("FAILED TO AUTHENTICATE")

    result = pull(Revoked(5), archive)
    assert (result.exit_code, str(result.ended_by)) == (4, "FAILED TO AUTHENTICATE")
    assert set(states(archive).values()) <= {"pending"}


def test_a_key_revoked_while_lists_are_read_ends_the_run(archive: Archive) -> None:
    """A list that is refused is no ticket that cannot be listed."""

    class Revoked(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("list"):
                raise SourceRefused("FAILED TO AUTHENTICATE")

    result = pull(Revoked(5), archive)
    assert (result.exit_code, result.unlisted) == (4, {})


def test_an_unknown_department_ends_the_run_as_usage(archive: Archive) -> None:
    """The names of departments are known only once the source was asked."""
    result = pull(Desk(1), archive, scope=Scope(departments=frozenset({"Nowhere"})))
    assert (result.exit_code, type(result.ended_by)) == (2, ConfigError)


# Our own disk, and our own bugs


def test_a_full_disk_ends_the_run(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7; what was stored before stays, nothing is recorded against the others."""
    write, left = os.write, [3]

    def filling(fd: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", filling)
    result = pull(Desk(20), archive)
    assert (result.exit_code, type(result.ended_by)) == (7, ArchiveUnwritable)
    assert sorted(states(archive).values()).count("stored") <= 3
    assert set(states(archive).values()) <= {"pending", "stored"}
    assert temporary(archive) == []
    assert archive.queries.runs(1)[0].exit_code == 7


@pytest.mark.parametrize("also_at_the_end", [False, True])
def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, *, also_at_the_end: bool
) -> None:
    """Exit 7 and a result that says so, even when the end itself cannot be recorded."""

    def full(*_: object, **__: object) -> None:
        raise ArchiveUnwritable("disk full")

    monkeypatch.setattr(Ledger, "settle_many", full)
    if also_at_the_end:
        monkeypatch.setattr(Ledger, "finish_run", full)
    ear = Ear()
    result = pull(Desk(5), archive, ear=ear)
    assert (result.exit_code, str(result.ended_by)) == (7, "disk full")
    assert ear.of(RunFinished)[0].exit_code == 7
    assert (archive.queries.unfinished_run() is not None) is also_at_the_end


def test_an_end_that_cannot_be_recorded_is_told(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that did everything else is still not a success."""

    def full(*_: object, **__: object) -> None:
        raise ArchiveUnwritable("disk full")

    monkeypatch.setattr(Ledger, "finish_run", full)
    assert pull(Desk(2), archive).exit_code == 7


def test_a_bug_surfaces_as_itself(archive: Archive) -> None:
    """Neither swallowed nor wrapped, and the run stays unfinished on record."""

    async def buggy(_: Work) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pull(Desk(5), archive, fetch=buggy)
    assert archive.queries.unfinished_run() is not None


def test_a_bug_is_more_telling_than_the_error_beside_it(archive: Archive) -> None:
    """Of all that workers raise together the bug is shown, then our disk, then the source."""
    source, disk = SourceRefused("x"), ArchiveUnwritable("y")
    bug = ValueError("z")
    assert most_telling(ExceptionGroup("", [source, ExceptionGroup("", [disk, bug])])) is bug
    assert most_telling(ExceptionGroup("", [source, disk])) is disk
    assert most_telling(source) is source


# Stopping


def test_a_polite_stop_lets_what_is_in_flight_finish(archive: Archive) -> None:
    """Fetches in flight are stored, nothing new starts, exit 130, and the next run goes on."""
    stop, entered = Stop(), 0
    desk = Desk(30)
    fetcher = Fetcher(KayakoSource(desk), archive.blobs, None)

    async def fetch(work: Work) -> Outcome:
        nonlocal entered
        entered += 1
        if entered == 2:
            stop.ask()
            await asyncio.sleep(0.01)
        return await fetcher(work)

    ear = Ear()
    result = pull(desk, archive, fetch=fetch, stop=stop, ear=ear)
    assert result.exit_code == 130
    stored = [number for number, state in states(archive).items() if state == "stored"]
    assert len(stored) == entered == len(ear.of(AttachmentSettled))
    assert entered <= 3
    assert archive.queries.runs(1)[0].exit_code == 130
    desk.calls.clear()
    assert pull(desk, archive).exit_code == 0
    assert len(desk.asked("fetch")) == 30 - len(stored)


@pytest.mark.parametrize("waiting", ["page 1+2", "list 3", "fetch 3"])
def test_who_waits_for_a_retry_takes_nobody_along(archive: Archive, waiting: str) -> None:
    """A stop that wakes one from its wait lets the others finish what is in flight."""
    stop, in_flight = Stop(), asyncio.Event()

    class Throttling(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == waiting:
                await in_flight.wait()
                asyncio.get_running_loop().call_soon(stop.ask)
                await stop.sleep(3600)
            if call == "fetch 2":
                in_flight.set()
                await stop.soft.wait()
                await asyncio.sleep(0.01)

    assert pull(Throttling(3), archive, stop=stop, page_size=2).exit_code == 130
    assert states(archive)[2] == "stored"


@pytest.mark.parametrize("hard", [True, False])
def test_a_hanging_request_does_not_hold_up_the_end(archive: Archive, *, hard: bool) -> None:
    """A second ask, or the end of the drain, drops what is in flight and keeps what is stored."""
    stop = Stop()
    desk = Desk(3)
    fetcher = Fetcher(KayakoSource(desk), archive.blobs, None)

    async def fetch(work: Work) -> Outcome:
        if work.id == 2:
            stop.ask()
            if hard:
                asyncio.get_running_loop().call_soon(stop.ask)
            await asyncio.sleep(3600)
        return await fetcher(work)

    drain = 3600 if hard else 0.01
    result = pull(desk, archive, fetch=fetch, stop=stop, concurrency=1, drain=drain)
    assert result.exit_code == 130
    assert states(archive)[1] == "stored"
    assert states(archive)[2] == "pending"
    assert temporary(archive) == []


@pytest.mark.parametrize("verb", ["departments", "page", "count", "list", "fetch", "ticket"])
def test_a_stop_does_not_wait_for_a_retry(archive: Archive, verb: str) -> None:
    """Whoever waits for another try when the stop comes is woken; its row stays open."""
    stop = Stop()

    class Throttling(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith(verb):
                asyncio.get_running_loop().call_soon(stop.ask)
                await stop.sleep(3600)
            if call == "list 3" and 3 in self.tickets:
                self.merge(3, 1)

    result = pull(Throttling(3), archive, stop=stop)
    assert result.exit_code == 130
    assert set(states(archive).values()) <= {"pending", "stored"}


def test_a_stop_while_deletions_are_judged_marks_nothing(archive: Archive) -> None:
    """Half a judgement is none."""
    pull(Desk(10), archive)
    stop = Stop()

    class Stopping(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call.startswith("fetch"):
                stop.ask()

    desk = Stopping(10)
    del desk.files[1], desk.files[2]
    assert pull(desk, archive, stop=stop, concurrency=1).exit_code == 130
    assert set(states(archive).values()) == {"stored"}
    assert len(desk.asked("fetch")) == 1


def test_a_stop_between_leftovers_keeps_them(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those not asked yet stay as they are, and no more of them are read."""
    monkeypatch.setattr(run_module, "BATCH", 1)
    pull(Failing(3, 1, 2, 3), archive)
    stop, desk = Stop(), Desk(3)
    for number in (1, 2, 3):
        desk.trash(number)
    ear = Ear(lambda event: stop.ask() if isinstance(event, LeftoversQueued) else None)
    assert pull(desk, archive, stop=stop, ear=ear).exit_code == 130
    assert set(states(archive).values()) == {"failed"}
    assert len(ear.of(LeftoversQueued)) == 1


def test_a_waiting_run_gives_signs_of_life(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a slow server is silent the listener hears a tick now and then."""
    monkeypatch.setattr(options_module, "TICK", 0.001)
    ticked = threading.Event()
    ear = Ear(lambda event: ticked.set() if isinstance(event, Tick) else None)

    class Slow(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            assert await asyncio.to_thread(ticked.wait, 10)

    pull(Slow(0), archive, ear=ear)
    assert ear.of(Tick)


def test_what_we_hold_stays_held(archive: Archive) -> None:
    """A row that was stored meanwhile does not fall back when a late failure is settled."""
    pull(Desk(1), archive)
    with archive.ledger.atomic():
        archive.ledger.put_ticket(TicketRow(1, 1))
        archive.ledger.settle(Outcome(1, State.FAILED, "server_error"))
    assert (states(archive), problems(archive)) == ({1: "stored"}, {1: None})


def told(archive: Archive) -> dict[str, object]:
    """Give what the latest run has written down of how far it is."""
    found = archive.queries.progress(archive.queries.runs(1)[0].id)
    return dict(found[1]) if found else {}


def test_how_far_a_run_is_stands_in_the_archive_meanwhile(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the archive sees the figures of the run's own bar, and its end."""
    monkeypatch.setattr(run_module, "PROGRESS_EVERY", 0.001)
    seen: list[dict[str, object]] = []

    class Watched(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 30":
                for _ in range(10_000):  # until it is written down
                    if told(archive).get("tickets") == 29:
                        break
                    await asyncio.sleep(0.001)
                seen.append(told(archive))

    pull(Watched(40), archive, concurrency=1)
    (meanwhile,) = seen
    assert (meanwhile["tickets"], meanwhile["tickets_total"], meanwhile["ended"]) == (29, 40, False)
    assert isinstance(share := meanwhile["share"], float)
    assert 0.5 < share < 0.75
    assert (told(archive)["share"], told(archive)["ended"]) == (1.0, True)


def test_a_run_that_was_cut_is_not_told_to_be_done(archive: Archive) -> None:
    """Its progress stays where it was, and it has no time left."""

    class Down(Desk):
        async def turn(self, call: str) -> None:
            await super().turn(call)
            if call == "list 9":
                raise SourceRefused("refused")

    ear = Ear()
    assert pull(Down(20), archive, ear=ear, concurrency=1).exit_code == 4
    assert ear.of(RunFinished)[0].cut
    facts = told(archive)
    assert (facts["ended"], facts["seconds_left"]) == (True, None)
    assert isinstance(share := facts["share"], float)
    assert share < 0.5


@pytest.mark.parametrize(
    ("scope", "walked", "everything"),
    [
        (Scope(limit_tickets=2), 2, 5),
        (Scope(limit_tickets=9), 5, 5),
        (Scope(since=5), None, 5),
        (Scope(departments=frozenset({"Sales"})), 1, 5),
        (Scope(), 5, 5),
    ],
    ids=str,
)
def test_a_run_counts_what_it_looks_at_and_what_there_is(
    archive: Archive, scope: Scope, walked: int | None, everything: int
) -> None:
    """Progress is of the tickets of the walk; the record has those of the helpdesk beside it."""
    desk, ear = Desk(5), Ear()
    desk.rooms.append(type(desk.rooms[0])(2, "Sales"))
    desk.open(5, department=2)
    pull(desk, archive, ear=ear, scope=scope)
    assert ear.of(TicketsCounted) == [TicketsCounted(walked)]
    (info,) = archive.queries.runs()
    assert info.summary is not None
    assert info.summary["helpdesk_tickets"] == everything


def test_a_source_that_cannot_count_is_told_so(archive: Archive) -> None:
    """Without a count nobody knows of how many tickets a part is a part."""

    class Uncounted(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return None

    result = pull(Uncounted(5), archive, scope=Scope(limit_tickets=2))
    assert result.verdict is not None
    assert result.verdict.sentence.startswith("Part of the helpdesk: 2 tickets (only the first 2")
