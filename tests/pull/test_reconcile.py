"""What the source has deleted is marked only on its word, and never in great numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from migrator.archive import Archive
from migrator.errors import SafetyLimit, ServerFailed, SourceRefused, SourceUnreachable
from migrator.events import Notice
from migrator.pull import reconcile
from migrator.pull.options import DeletionLimit
from migrator.sources.base import Attachment, Fetched, FetchSink, Scope
from tests.pull.doubles import Desk, Ear, pull, states

S = TypeVar("S", bound=FetchSink)


def test_a_deleted_attachment_is_marked_and_kept(archive: Archive) -> None:
    """The source's 404 marks it; the bytes stay, and the run is green."""
    desk = Desk(3)
    pull(desk, archive)
    del desk.files[2]
    result = pull(desk, archive)
    assert (result.exit_code, result.deleted) == (0, 1)
    row = archive.queries.attachment(2)
    assert row is not None
    assert (row.state, row.detail) == ("deleted", "the source deleted it: Attachment not Found")
    assert row.sha256 is not None
    assert archive.blobs.size(row.sha256) == len(b"file 2")


def test_a_deleted_ticket_takes_its_attachments_along(archive: Archive) -> None:
    """All of them are marked, once."""
    desk = Desk(3, files=2)
    pull(desk, archive)
    desk.delete(2)
    assert pull(desk, archive).deleted == 2
    assert pull(desk, archive).deleted == 0
    assert states(archive) == {1: "stored", 2: "stored", 3: "deleted", 4: "deleted"} | {
        5: "stored",
        6: "stored",
    }


def test_what_is_listed_again_is_stored_again(archive: Archive) -> None:
    """A deletion that is undone at the source is undone here, without a fetch."""
    desk = Desk(2)
    pull(desk, archive)
    file = desk.files.pop(2)
    pull(desk, archive)
    desk.files[2] = file
    desk.calls.clear()
    pull(desk, archive)
    assert states(archive)[2] == "stored"
    assert desk.asked("fetch") == []


class Hiding(Desk):
    """Lists no attachment of some tickets, though it has them all."""

    def __init__(self, tickets: int, *hidden: int) -> None:
        super().__init__(tickets)
        self.hidden = set(hidden)

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        found = await super().attachments(ticket_id)
        return [] if ticket_id in self.hidden else found


@pytest.mark.parametrize("hidden", [1, 60])
def test_a_list_that_lies_deletes_nothing(archive: Archive, hidden: int) -> None:
    """What still answers is not deleted, however many a list leaves out."""
    pull(Desk(60), archive)
    result = pull(Hiding(60, *range(1, hidden + 1)), archive)
    assert (result.exit_code, result.deleted) == (0, 0)
    assert set(states(archive).values()) == {"stored"}


def test_the_trash_is_not_deleted(archive: Archive) -> None:
    """Trashed tickets leave the lists and still answer; many of them stop no run."""
    desk = Desk(60)
    pull(desk, archive)
    for number in range(1, 41):
        desk.trash(number)
    result = pull(desk, archive)
    assert (result.exit_code, result.deleted) == (0, 0)


def test_a_file_that_answers_without_bytes_is_not_deleted(archive: Archive) -> None:
    """An empty file, or one that the source has lost since, has a row there."""
    desk = Desk(2, files=0)
    desk.attach(1, b"")
    desk.attach(2, b"lost later")
    pull(desk, archive)
    blind = Hiding(0, 1, 2)
    blind.tickets, blind.files = desk.tickets, desk.files
    blind.files[2] = blind.files[2]._replace(data=None)
    assert pull(blind, archive).deleted == 0
    assert states(archive) == {1: "stored", 2: "stored"}


class Large(Hiding):
    """Has large files, and counts the blocks that somebody takes."""

    taken = 0

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        sink = make_sink()
        for _ in range(9):
            sink.write(b"block")
            self.taken += 1
        return await super().fetch(ticket_id, attachment_id, make_sink)


def test_only_the_first_bytes_are_asked_for(archive: Archive) -> None:
    """The question is whether it is there: a large file is not read to its end."""
    pull(Desk(2), archive)
    desk = Large(2, 1)
    assert pull(desk, archive).deleted == 0
    assert desk.taken == 0, "the first block is refused"
    assert states(archive) == {1: "stored", 2: "stored"}


def deleted(archive: Archive, gone: int, of: int, **limit: object) -> tuple[int, int]:
    """Store so many, delete some at the source, run again; gives exit code and marks."""
    desk = Desk(of)
    pull(desk, archive)
    for number in range(1, gone + 1):
        desk.delete(number)
    result = pull(desk, archive, deletions=DeletionLimit(**limit))  # type: ignore[arg-type]
    if result.exit_code:
        assert isinstance(result.ended_by, SafetyLimit)
        assert "--accept-deletions" in str(result.ended_by)
    marked = list(states(archive).values()).count("deleted")
    assert marked == result.deleted
    return result.exit_code, marked


def test_too_many_deletions_at_once_change_nothing(archive: Archive) -> None:
    """Over 5 % and over 20: exit 8, and not one row is marked."""
    assert deleted(archive, 21, 60) == (8, 0)


def test_twenty_deletions_are_believed(archive: Archive) -> None:
    """A small helpdesk may lose half of its files by hand."""
    assert deleted(archive, 20, 40) == (0, 20)


def test_a_small_share_is_believed(archive: Archive) -> None:
    """More than the floor, but no more than the share: work, not a fault."""
    assert deleted(archive, 4, 50, floor=2, share=0.08) == (0, 4)


def test_accepted_deletions_are_marked(archive: Archive) -> None:
    """--accept-deletions believes any number."""
    assert deleted(archive, 60, 60, accept=True) == (0, 60)


@pytest.mark.parametrize(
    ("gone", "stored", "forbidden"),
    [(20, 20, False), (21, 21, True), (21, 419, True), (21, 420, False), (50, 1000, False)],
)
def test_both_bounds_must_be_passed(gone: int, stored: int, *, forbidden: bool) -> None:
    """More than twenty, and more than one in twenty."""
    assert DeletionLimit().forbids(gone, stored) is forbidden
    assert not DeletionLimit(accept=True).forbids(gone, stored)


def test_large_numbers_are_asked_in_batches(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch is judged, and the limit counts over all of them."""
    monkeypatch.setattr(reconcile, "BATCH", 3)
    assert deleted(archive, 10, 30) == (0, 10)


@pytest.mark.parametrize(
    "scope",
    [Scope(since=1), Scope(limit_tickets=9), Scope(departments=frozenset({"Support"}))],
)
def test_a_narrow_run_deletes_nothing(archive: Archive, scope: Scope) -> None:
    """Who looks at a part does not know what is gone from the whole."""
    desk = Desk(3)
    pull(desk, archive)
    desk.delete(2)
    pull(desk, archive, scope=scope)
    assert set(states(archive).values()) == {"stored"}


class Answering(Desk):
    """Answers probes with an error, or asks for nothing better than to be kept waiting."""

    def __init__(self, tickets: int, error: Exception) -> None:
        super().__init__(tickets)
        self.error = error

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        await self.turn(f"fetch {attachment_id}")
        raise self.error


def test_a_probe_that_fails_deletes_nothing(archive: Archive) -> None:
    """A 500 is no word on whether the attachment is there."""
    pull(Desk(3), archive)
    desk = Answering(3, ServerFailed("HTTP 500"))
    del desk.files[2]
    result = pull(desk, archive)
    assert (result.exit_code, result.deleted) == (0, 0)


@pytest.mark.parametrize("error", [SourceRefused("no"), SourceUnreachable("no answer")])
def test_a_source_that_is_gone_while_probed_ends_the_run(
    archive: Archive, error: Exception
) -> None:
    """Exit 4, nothing is marked, and not every attachment is asked for in vain."""
    pull(Desk(50), archive)
    desk = Answering(50, error)
    for number in range(1, 50):
        del desk.files[number]
    result = pull(desk, archive)
    assert (result.exit_code, result.ended_by) == (4, error)
    assert len(desk.asked("fetch")) <= 4
    assert set(states(archive).values()) == {"stored"}


def test_probes_run_side_by_side(archive: Archive) -> None:
    """As many at a time as the run has requests in flight."""
    pull(Desk(8), archive)
    most, now = 0, 0

    class Counting(Hiding):
        async def turn(self, call: str) -> None:
            nonlocal most, now
            probe = call.startswith("fetch")
            now += probe
            most = max(most, now)
            await super().turn(call)
            now -= probe

    pull(Counting(8, *range(1, 9)), archive, concurrency=3)
    assert most == 3


def test_gaps_in_the_lists_are_told_and_nothing_is_judged(archive: Archive) -> None:
    """Not even the attachments of other tickets."""
    desk = Desk(3)
    pull(desk, archive)

    class Boasting(Desk):
        async def ticket_count(self, *_: object) -> int | None:
            return 99

    boasting, ear = Boasting(3), Ear()
    del boasting.files[2]
    assert pull(boasting, archive, ear=ear).exit_code == 3
    assert boasting.asked("fetch") == []
    texts = [notice.text for notice in ear.of(Notice)]
    assert "1 unlisted stored attachments skipped: the listing was incomplete" in texts
    assert states(archive)[2] == "stored"
