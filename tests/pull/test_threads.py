"""What people wrote comes along, and never stands in the way of attachments."""

from __future__ import annotations

import asyncio
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive, Response, ResponseFilter, open_archive
from migrator.archive.records import note_id
from migrator.errors import Interrupted, NotXml, ServerFailed, SourceError, SourceRefused
from migrator.events import Notice
from migrator.pull import threads
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult, Stop
from migrator.pull.run import run
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.base import Attachment, Increment, Note, Post, Ticket
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import connect
from tests.archive.test_older_formats import made
from tests.pull.doubles import Desk, Ear, pull, states


class Talk(Desk):
    """A helpdesk with two posts to a ticket, 10n+1 and 10n+2; files come with the second one."""

    def __init__(self, tickets: int = 0, files: int = 1) -> None:
        self.broken: dict[int, SourceError] = {}
        self.posts: dict[int, list[Post]] = {}
        super().__init__(tickets, files)

    def open(self, number: int, *, department: int = 1, active: int = 1000) -> None:
        super().open(number, department=department, active=active)
        first = Post(10 * number + 1, number, 10, 2, "Ann", "ann@x.test", text="<b>", is_html=True)
        second = Post(10 * number + 2, number, 20, 1, "Bob", text="answer", is_private=True)
        self.posts[number] = [first, second]

    def say(self, number: int, text: str, *, active: int) -> None:
        """Add a post and with it activity."""
        latest = max(one.id for one in self.posts[number])
        self.posts[number].append(Post(latest + 1, number, active, text=text))
        self.tickets[number] = replace(self.tickets[number], last_activity=active)

    def merge(self, old: int, into: int) -> None:
        super().merge(old, into)
        self.posts[into] += self.posts.pop(old)

    async def ticket(self, ticket_id: int) -> Ticket:
        found = await super().ticket(ticket_id)
        if ticket_id in self.broken:
            raise self.broken[ticket_id]
        return replace(found, posts=tuple(self.posts[found.id]))

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        listed = await super().attachments(ticket_id)
        return [replace(one, post_id=10 * ticket_id + 2) for one in listed]


def read(desk: Desk, archive: Archive, **options: Any) -> RunResult:
    """Do one run that reads posts."""
    return pull(desk, archive, **{"posts": True, **options})


def texts(archive: Archive, ticket_id: int) -> list[str]:
    """Give the texts of a thread."""
    return [one.text for one in archive.threads.responses(ticket_id)]


def everything(archive: Archive) -> list[Response]:
    """Give all posts."""
    return archive.threads.query(ResponseFilter(), limit=10_000)


def test_a_run_keeps_headers_and_posts(archive: Archive) -> None:
    """Author, side, privacy, time and text of every post, and the status of every ticket."""
    desk = Talk(1)
    people = {"full_name": "Ann", "email": "ann@x.test", "owner_name": "Bob", "subject": "Help"}
    desk.tickets[1] = replace(desk.tickets[1], status_id=3, **people)  # type: ignore[arg-type]
    result = read(desk, archive)
    assert (result.exit_code, result.threads) == (0, 1)
    header = archive.threads.ticket(1)
    assert header is not None
    assert (header.status, header.subject, header.owner_name) == ("closed", "Help", "Bob")
    assert (header.requester_name, header.requester_email) == ("Ann", "ann@x.test")
    first, second = archive.threads.responses(1)
    assert first == Response(
        11, 1, "1", 1, 10, "Ann", "ann@x.test", False, False, True, "<b>", None
    )
    assert (second.author_name, second.staff, second.is_private) == ("Bob", True, True)
    assert list(archive.threads.attachments_of([11, 12])) == [12]


def test_a_run_keeps_what_came_by_mail(archive: Archive) -> None:
    """The source says it of each post."""
    desk = Talk(1)
    desk.posts[1] = [Post(11, 1, is_emailed=True), Post(12, 1)]
    read(desk, archive)
    assert [one.is_emailed for one in archive.threads.responses(1)] == [True, False]


def test_searches_find_what_a_run_a_sync_and_a_merge_left(archive: Archive) -> None:
    """A run ends with all texts in the index; what is later said or moved is found where it is."""

    def found(part: str) -> list[int]:
        return [one.id for one in archive.threads.find(content=[[part]])]

    desk = Talk(3)
    read(desk, archive)
    assert (sorted(found("ANSWER")), archive.threads.unindexed()) == ([1, 2, 3], 0)
    desk.say(2, "something new", active=2000)
    read(desk, archive)
    assert (found("thing new"), archive.threads.unindexed()) == ([2], 0)
    desk.merge(2, 3)
    read(desk, archive)
    assert found("thing new") == [3]


def test_a_second_run_asks_for_nothing_unchanged(archive: Archive) -> None:
    """Posts are read again only for a ticket that was active since."""
    desk = Talk(3)
    read(desk, archive)
    assert sorted(desk.asked("ticket")) == ["ticket 1", "ticket 2", "ticket 3"]
    desk.calls.clear()
    assert read(desk, archive).threads == 0
    assert desk.asked("ticket") == []
    desk.say(2, "more", active=1100)
    assert read(desk, archive).threads == 1
    assert desk.asked("ticket") == ["ticket 2"]
    assert texts(archive, 2) == ["<b>", "answer", "more"]


def test_what_was_done_to_a_text_is_told(archive: Archive) -> None:
    """The notes of the reader stay with the post."""
    desk = Talk(1)
    notes = ("repaired_text", "cut_text")
    desk.posts[1] = [Post(11, 1, text="clean", notes=notes), Post(12, 1, text="as it was")]
    read(desk, archive)
    found = [one.note for one in archive.threads.responses(1)]
    assert found == ["repaired_text,cut_text", None]


def test_switched_off_no_posts_are_asked_for(archive: Archive) -> None:
    """The setting costs no request; each post with files is still a response, and comes later."""
    desk = Talk(2)
    pull(desk, archive)
    assert desk.asked("ticket") == []
    assert [(one.id, one.note) for one in archive.threads.responses(1)] == [(12, "not_kept")]
    read(desk, archive)
    assert texts(archive, 1) == texts(archive, 2) == ["<b>", "answer"]


def test_posts_that_cannot_be_read_fail_no_attachment(archive: Archive) -> None:
    """The run is complete, tells of the thread, asks once, and the next run reads it."""
    desk = Talk(3)
    desk.broken[2] = NotXml("ticket 2: broken")
    result = read(desk, archive)
    assert set(states(archive).values()) == {"stored"}
    assert (result.exit_code, result.threads) == (0, 2)
    assert result.threads_missing == {2: "ticket 2: broken"}
    assert result.summary()["threads_missing"] == {"2": "ticket 2: broken"}
    assert result.verdict is not None
    assert "The posts of 1 ticket have not been read: files that" in result.verdict.sentence
    assert desk.asked("ticket").count("ticket 2") == 1
    desk.broken.clear()
    desk.calls.clear()
    again = read(desk, archive)
    assert (again.threads, again.threads_missing) == (1, {})
    assert again.verdict is not None
    assert "not been read" not in again.verdict.sentence
    assert desk.asked("ticket") == ["ticket 2"]
    assert texts(archive, 2) == ["<b>", "answer"]


def test_an_increment_reads_what_failed_before(archive: Archive) -> None:
    """What is owed is read even if its ticket is not among the recent ones; then nothing is."""
    desk = Talk(3)
    desk.broken[1] = ServerFailed("ticket 1: HTTP 500")
    read(desk, archive)
    desk.broken.clear()
    for expected in (["ticket 1"], []):
        desk.calls.clear()
        read(desk, archive, increment=Increment(5000))
        assert desk.asked("ticket") == expected


def test_many_failures_end_the_reading_not_the_run(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that cannot render tickets is not asked for all of them in every run."""
    monkeypatch.setattr(threads, "MOST_FAILURES", 4)
    desk, ear = Talk(20), Ear()
    desk.broken = {n: NotXml("broken") for n in range(1, 21)}
    result = read(desk, archive, ear=ear)
    assert result.exit_code == 0
    assert len(states(archive)) == 20
    assert 4 <= len(desk.asked("ticket")) <= 6
    assert result.verdict is not None  # those that were not tried count, too
    assert "The posts of 20 tickets have not been read" in result.verdict.sentence
    assert [one.text for one in ear.of(Notice) if one.level == "warning"] == [
        "no posts could be read of 4 tickets in a row: the next run may"
    ]


def test_failures_here_and_there_do_not_end_the_reading(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets that never can be read do not keep the others from being read."""
    monkeypatch.setattr(threads, "MOST_FAILURES", 3)
    desk = Talk(20)
    desk.broken = {n: NotXml("broken") for n in range(2, 21, 2)}
    result = read(desk, archive, concurrency=1)
    assert (result.threads, len(result.threads_missing)) == (10, 10)


def test_a_ticket_of_thousands_of_posts_needs_bounded_memory(archive: Archive) -> None:
    """Five thousand posts cost a small multiple of their own size, and all of them are kept."""
    desk = Talk(1)
    for n in range(4998):
        desk.posts[1].append(Post(100 + n, 1, 30 + n, text=f"{n:>500}"))
    size = 4998 * 500
    tracemalloc.start()
    try:
        read(desk, archive)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * size
    assert len(archive.threads.responses(1)) == 5000


def test_a_refusal_stops_the_run(archive: Archive) -> None:
    """Keys that are no longer good end the run while posts are read, as anywhere else."""
    desk = Talk(2)
    desk.broken[2] = SourceRefused("no")
    result = read(desk, archive)
    assert isinstance(result.ended_by, SourceRefused)


class Ending(Talk):
    """Something happens when the ``nth`` thread is asked for."""

    def __init__(self, tickets: int, nth: int) -> None:
        super().__init__(tickets)
        self.nth = nth
        self.stop = Stop()

    async def ticket(self, ticket_id: int) -> Ticket:
        if len(self.asked("ticket")) == self.nth:
            self.stop.ask()
            raise Interrupted("asked to stop")
        return await super().ticket(ticket_id)


@pytest.mark.parametrize("nth", [0, 3, 9])
def test_posts_are_complete_after_an_interruption(archive: Archive, nth: int) -> None:
    """An interrupted run loses nothing: the next one reads the rest, and only that."""
    desk = Ending(10, nth)
    result = read(desk, archive, stop=desk.stop)
    assert result.exit_code == 130
    done = result.threads
    desk.nth = -1
    desk.calls.clear()
    again = read(desk, archive)
    assert again.exit_code == 0
    assert again.threads == 10 - done
    assert len(everything(archive)) == 20
    assert {one.note for one in everything(archive)} == {None}


@pytest.mark.parametrize("nth", [0, 4])
def test_posts_are_complete_after_an_interruption_while_catching_up(
    archive: Archive, nth: int
) -> None:
    """The same when only posts were left to read."""
    desk = Ending(10, nth)
    pull(desk, archive)
    result = read(desk, archive, stop=desk.stop, increment=Increment(5000))
    assert result.exit_code == 130
    desk.nth = -1
    assert read(desk, archive, increment=Increment(5000)).threads == 10 - result.threads
    assert {one.note for one in everything(archive)} == {None}


def test_an_older_archive_catches_up_in_batches(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that were never read are read by the next sync, told once, some at a time."""
    monkeypatch.setattr(threads, "BATCH", 3)
    desk, ear = Talk(10), Ear()
    pull(desk, archive)
    read(desk, archive, increment=Increment(5000), ear=ear)
    assert sorted(desk.asked("ticket")) == sorted(f"ticket {n}" for n in range(1, 11))
    said = [one.text for one in ear.of(Notice) if "posts" in one.text]
    assert said == ["reading the posts of 10 tickets"]


class Vanishing(Talk):
    """Ticket 1 is deleted or merged into 2 when its posts are asked for."""

    def __init__(self, into: int | None) -> None:
        super().__init__(2)
        self.into = into

    async def ticket(self, ticket_id: int) -> Ticket:
        if ticket_id == 1 and 1 in self.tickets:
            if self.into is None:
                self.delete(1)
            else:
                self.merge(1, self.into)
        return await super().ticket(ticket_id)


def test_a_ticket_merged_while_it_is_read_moves_with_its_posts(archive: Archive) -> None:
    """Its posts and attachments belong to the survivor, in this run already."""
    desk = Vanishing(2)
    read(desk, archive)
    assert set(states(archive).values()) == {"stored"}
    assert {row.ticket_id for row in archive.queries.rows()} == {2}
    assert [one.id for one in archive.threads.responses(2)] == [11, 21, 12, 22]
    assert archive.threads.responses(1) == []
    header = archive.threads.ticket(1)
    assert header is not None
    assert header.merged_into == 2


def test_a_deleted_ticket_is_not_asked_for_again(archive: Archive) -> None:
    """404 is an answer: there is nothing to read, no thread is missing."""
    desk = Vanishing(None)
    result = read(desk, archive, increment=Increment(0))
    assert result.threads_missing == {}
    desk.calls.clear()
    read(desk, archive, increment=Increment(5000))
    assert desk.asked("ticket") == []


def test_a_merge_after_the_pull_takes_the_posts_along(archive: Archive) -> None:
    """Posts follow their ticket; those deleted at the source stay."""
    desk = Talk(3)
    read(desk, archive)
    desk.posts[3].pop(0)
    desk.say(3, "last", active=1200)
    desk.merge(1, 2)
    read(desk, archive)
    assert texts(archive, 2) == ["<b>", "<b>", "answer", "answer"]
    assert texts(archive, 3) == ["<b>", "answer", "last"]
    assert texts(archive, 1) == []


def test_a_silent_attachment_brings_its_post(archive: Archive) -> None:
    """A new post that did not touch the last activity is found by its attachment."""
    desk = Talk(1)
    read(desk, archive)

    class Silent(Talk):
        async def attachments(self, ticket_id: int) -> list[Attachment]:
            listed = await super().attachments(ticket_id)
            return [replace(one, post_id=13 if one.id == 2 else one.post_id) for one in listed]

    silent = Silent(1)
    silent.attach(1, b"new")
    silent.say(1, "silent", active=1000)
    read(silent, archive)
    assert silent.asked("ticket") == ["ticket 1"]
    assert texts(archive, 1) == ["<b>", "answer", "silent"]


def test_notes_come_with_their_thread(archive: Archive) -> None:
    """Notes and time tracks are internal responses in their place; others are kept once."""
    desk = Talk(2)
    ours = (
        Note(11, "ticket", 1, 15, 4, "Eve", for_staff_id=9, text="careful"),
        Note(11, "timetrack", 1, 15, 4, "Eve", worked=300, billable=60),
    )
    theirs = (Note(11, "user", 5, 3, text="rude"), Note(12, "organization", 6, 4, text="poor"))
    for number, notes in ((1, (*ours, *theirs)), (2, theirs)):
        desk.tickets[number] = replace(
            desk.tickets[number], staff_notes=notes, user_id=5, organization_id=6
        )
    read(desk, archive)
    first, note, track, second = archive.threads.responses(1)
    assert (first.id, second.id) == (11, 12)
    assert (note.text, note.author_name, note.kind) == ("careful", "Eve", "note")
    assert note.heading == "Note for staff member 9 only."
    assert track.heading == "Time track: 300 seconds worked, 60 billable."
    assert note.is_private
    assert track.staff
    assert len({one.id for one in everything(archive)}) == 6
    internal = archive.threads.query(ResponseFilter(is_internal=True), limit=10)
    assert [one.kind for one in internal] == ["note", "timetrack", "post", "post"]
    for number in (1, 2):
        header = archive.threads.ticket(number)
        assert header is not None
        assert [one.text for one in archive.threads.people_notes(header)] == ["rude", "poor"]
    counts = archive.threads.count_texts()
    assert [counts[kind] for kind in ("post", "note", "timetrack", "people")] == [4, 1, 1, 2]


def test_notes_move_with_a_merge(archive: Archive) -> None:
    """A merged ticket hands its notes over; each stays one response."""
    desk = Talk(2)
    note = Note(11, "ticket", 1, 15, text="careful")
    desk.tickets[1] = replace(desk.tickets[1], staff_notes=(note,))
    read(desk, archive)
    desk.merge(1, 2)
    desk.tickets[2] = replace(desk.tickets[2], staff_notes=(replace(note, about=2),))
    read(desk, archive)
    assert [(one.ticket_id, one.text) for one in everything(archive) if one.kind == "note"] == [
        (2, "careful")
    ]


def test_statuses_are_kept_without_posts(archive: Archive) -> None:
    """What the lists tell anyway is kept even if posts are not."""
    desk = Talk(1)
    desk.tickets[1] = replace(desk.tickets[1], status_id=3, full_name="Ann")
    pull(desk, archive)
    header = archive.threads.ticket(1)
    assert header is not None
    assert (header.status, header.requester_name) == ("closed", "Ann")


def quick(seconds: float) -> asyncio.Future[None]:
    """Wait for a moment instead of the time between two tries."""
    return asyncio.ensure_future(asyncio.sleep(min(seconds, 0.01)))


NOTES = frozenset({"odd_notes", "entity_notes"})


@pytest.mark.parametrize("faults", [frozenset[str](), frozenset({"all"}), NOTES])
def test_the_sandbox_gives_all_its_posts(tmp_path: Path, faults: frozenset[str]) -> None:
    """Over a real socket, with and without faults: every post, as it was written."""
    desk = Helpdesk.build(SandboxOptions(seed=5, tickets=12, faults=faults))
    with (
        SandboxServer(desk) as server,
        ThreadPoolExecutor(2) as pool,
        open_archive(tmp_path / "archive", command="test") as archive,
    ):
        keys = Credentials(server.api_key, server.secret_key)
        settings = KayakoSettings(server.url, keys, concurrency=4, timeout=20, page_size=7)
        options = RunOptions(server.url, concurrency=4, posts=True)

        async def main() -> RunResult:
            async with connect(settings, pool=pool, sleep=quick) as source:
                fetch = Fetcher(source, archive.blobs, pool)
                return await run(source, archive, fetch, options, listener=Ear())

        result = asyncio.run(main())
        assert result.ended_by is None
        assert result.threads_missing == {}
        here = {one.id for one in desk.posts.values() if desk.tickets[one.ticket_id].department_id}
        marked = "odd_number" if "odd_notes" in faults else None
        read = [one for one in everything(archive) if one.note in {None, marked}]
        kept = {one.id: one for one in read if one.kind == "post"}
        listed = [one for one in desk.tickets.values() if one.department_id]
        notes = [note for ticket in listed for note in desk.notes_of(ticket)]
        kinds = {"ticket": "note", "timetrack": "timetrack"}
        of_tickets = {
            note_id(kinds[note.kind], note.id): note.text for note in notes if note.kind in kinds
        }
        assert {one.id: one.text for one in read if one.kind != "post"} == of_tickets
        about = {note.id: note.text for note in archive.threads.all_people_notes()}
        assert about == {note.id: note.text for note in notes if note.kind not in kinds}
        assert of_tickets
        assert about
        assert set(kept) >= here
        for key, one in kept.items():
            post = desk.posts[key]
            assert (one.text, one.created_at, one.ticket_id) == (
                post.text,
                post.dateline,
                post.ticket_id,
            )
            assert (one.staff, one.is_html) == (post.creator == 1, post.is_html)
            assert one.is_private == post.is_private
        assert {one.is_private for one in kept.values()} == {False, True}


def test_an_older_archive_is_completed_with_notes(tmp_path: Path) -> None:
    """A run on an archive of format 4 reads its threads once more, and fetches no file again."""
    desk = Helpdesk.build(SandboxOptions(seed=3, tickets=6))
    root = made(tmp_path / "archive", 4)
    for one in desk.attachments.values():
        folder = root / "blobs" / one.sha256[:2] / one.sha256[2:4]
        (folder / one.sha256).write_bytes(one.source.read())
    with (
        SandboxServer(desk) as server,
        ThreadPoolExecutor(2) as pool,
        open_archive(root, command="test") as archive,
    ):
        keys = Credentials(server.api_key, server.secret_key)
        settings = KayakoSettings(server.url, keys, concurrency=2, timeout=20)
        options = RunOptions(server.url, concurrency=2, posts=True, moved=True)
        before = archive.threads.count_texts()

        async def main() -> tuple[RunResult, int]:
            async with connect(settings, pool=pool, sleep=quick) as source:
                fetch = Fetcher(source, archive.blobs, pool)
                result = await run(source, archive, fetch, options, listener=Ear())
                return result, source.requests["fetches"]

        result, fetched = asyncio.run(main())
        assert (result.exit_code, result.threads_missing, fetched) == (0, {}, 0)
        after = archive.threads.count_texts()
        assert (before["note"], after["post"]) == (0, before["post"])
        assert after["note"] > 0
        assert after["people"] > 0
        assert asyncio.run(main())[0].threads == 0
