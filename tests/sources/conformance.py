"""What every source promises, as a suite that any source can run.

Subclass :class:`Conformance` and give it a fixture ``bench``: a helpdesk that the tests can change.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

import pytest

from migrator.errors import NotFound, SourceError, WrongTicket
from migrator.events import Event
from migrator.sources.base import (
    Attachment,
    Contents,
    HashSink,
    Increment,
    Listing,
    Scope,
    Source,
    Ticket,
)

T = TypeVar("T")

NOW = 1_700_000_000
"""When the listings begin; everything in a helpdesk is older unless a test says otherwise."""
SUPPORT, SALES = 1, 2
"""The departments of every bench, with these titles."""


class Bench(Protocol):
    """A helpdesk with the departments Support (1) and Sales (2), as people change it."""

    def source(self) -> AbstractAsyncContextManager[Source]:
        """Open the source of it."""

    def open(self, *, department: int = SUPPORT, active: int = NOW - 1000) -> int:
        """Open a ticket with one post; return its id: 1, 2, 3, ..."""

    def attach(self, ticket: int, name: str, data: bytes) -> int:
        """Attach a file to a ticket; return its id."""

    def lose(self, attachment: int) -> None:
        """Lose the bytes of a file that is still listed."""

    def touch(self, ticket: int, active: int) -> None:
        """Let a ticket be active at a time."""

    def trash(self, ticket: int) -> None:
        """Move a ticket to the trash."""

    def delete(self, ticket: int) -> None:
        """Delete a ticket and its files."""

    def merge(self, ticket: int, into: int) -> None:
        """Merge a ticket into another, which has its files then."""

    def leave(self) -> None:
        """Let the helpdesk be gone."""


class Collector:
    """A run that keeps what it is told; asks to stop after so many tickets."""

    def __init__(
        self, source: Source, *, known: Collection[int] = (), stop_after: int | None = None
    ) -> None:
        self.listing = Listing(started=NOW)
        self.taken: list[int] = []
        self.tickets: dict[int, Ticket] = {}
        self.files: dict[int, list[Attachment]] = {}
        self.merged: dict[int, int] = {}
        self.events: list[Event] = []
        self._source = source
        self._known = known
        self._stop_after = stop_after

    @property
    def stopping(self) -> bool:
        return self._stop_after is not None and len(self.taken) >= self._stop_after

    def tell(self, event: Event, /) -> None:
        self.events.append(event)

    async def take(self, ticket: Ticket, /) -> None:
        self.taken.append(ticket.id)
        try:
            files = await self._source.attachments(ticket)
        except NotFound as error:
            self.listing.absent[ticket.id] = str(error)
            return
        self.tickets[ticket.id], self.files[ticket.id] = ticket, files
        self.listing.listed[ticket.id] = ticket.last_activity

    async def settle(self) -> None:
        """Everything was listed when it was taken."""

    async def merge(self, ticket_id: int, survivor: Ticket, /) -> None:
        self.merged[ticket_id] = survivor.id

    async def known_tickets(self) -> Collection[int]:
        return [number for number in self._known if number not in self.listing.listed]

    async def count_files(self, ticket_ids: Collection[int], /) -> dict[int, int]:
        return {number: len(found) for number in ticket_ids if (found := self.files.get(number))}

    async def attachments(self, ticket: Ticket, /) -> list[Attachment]:
        return await self._source.attachments(ticket)


class Keeping(HashSink):
    """A sink that keeps what it got and knows how it ended; refuses bytes when told to."""

    def __init__(self, *, refuse: bool = False) -> None:
        super().__init__()
        self.data = b""
        self.aborted = 0
        self.heard: list[Contents] = []
        self._refuse = refuse

    def write(self, data: bytes, /) -> None:
        if self._refuse:
            raise ZeroDivisionError
        super().write(data)
        self.data += data

    def abort(self) -> None:
        self.aborted += 1

    def finish(self, contents: Contents, /) -> None:
        self.heard.append(contents)


class Conformance:
    """Promises of a source. The fixture ``bench`` is a fresh helpdesk without a ticket."""

    @staticmethod
    def asked(bench: Bench, ask: Callable[[Source], Awaitable[T]]) -> T:
        """Ask a freshly opened source."""

        async def main() -> T:
            async with bench.source() as source:
                return await ask(source)

        return asyncio.run(main())

    def listed(
        self,
        bench: Bench,
        scope: Scope | None = None,
        *,
        increment: Increment | None = None,
        fast: bool = False,
        known: Collection[int] = (),
        stop_after: int | None = None,
    ) -> Collector:
        """List a helpdesk as a run does."""

        async def ask(source: Source) -> Collector:
            await source.directory()
            run = Collector(source, known=known, stop_after=stop_after)
            await source.list_tickets(
                scope or Scope(), run, increment=increment, fast=fast, most_gaps=1000
            )
            return run

        return self.asked(bench, ask)

    # Which helpdesk it is

    def test_it_knows_its_own_tickets(self, bench: Bench) -> None:
        """The tickets that were listed say, when they are asked for again, that it is the same."""
        for _ in range(3):
            bench.open()
        known = list(self.listed(bench).tickets.values())
        likeness = self.asked(bench, lambda source: source.compare(known))
        assert (likeness.same, likeness.other, likeness.contradict) == (True, False, 0)

    def test_it_is_not_taken_for_another_helpdesk(self, bench: Bench) -> None:
        """Tickets that were created at other times are of another helpdesk."""
        for _ in range(3):
            bench.open()
        known = self.listed(bench).tickets.values()
        others = [replace(one, created_at=one.created_at + 99) for one in known]
        likeness = self.asked(bench, lambda source: source.compare(others))
        assert (likeness.same, likeness.other) == (False, True)
        assert likeness.difference

    def test_tickets_that_it_does_not_know_are_told(self, bench: Bench) -> None:
        """Of many unknown tickets none speaks for the helpdesk."""
        bench.open()
        unknown = [Ticket(number, created_at=5) for number in range(900, 906)]
        likeness = self.asked(bench, lambda source: source.compare(unknown))
        assert (likeness.same, likeness.other) == (False, True)

    # Listing

    def test_each_ticket_is_handed_over_once(self, bench: Bench) -> None:
        """A whole listing meets every ticket, is proven, and knows up to when it has seen all."""
        numbers = [bench.open(department=1 + n % 2, active=NOW - 500 + n) for n in range(25)]
        run = self.listed(bench)
        assert sorted(run.taken) == numbers
        assert run.listing.proven
        assert run.listing.total == run.listing.helpdesk_tickets == 25
        assert run.listing.watermark == NOW - 476
        assert {one.department_id for one in run.tickets.values()} == {SUPPORT, SALES}

    def test_an_empty_helpdesk_is_no_failure(self, bench: Bench) -> None:
        """Nothing is handed over, and that is all there is."""
        run = self.listed(bench)
        assert run.taken == []
        assert run.listing.proven

    def test_the_directory_names_what_tickets_refer_to(self, bench: Bench) -> None:
        """Each department and status of a ticket is in the directory, by its id."""
        bench.open(department=SALES)
        ticket = self.listed(bench).tickets[1]
        directory = self.asked(bench, lambda source: source.directory())
        titles = {one.id: one.title for one in directory.departments}
        assert (titles[SUPPORT], titles[SALES]) == ("Support", "Sales")
        assert ticket.status_id in {one.id for one in directory.statuses}

    @pytest.mark.parametrize("name", ["2", "Sales", " sales "])
    def test_a_scope_names_departments_by_id_or_title(self, bench: Bench, name: str) -> None:
        """Only tickets of the departments that were asked for are handed over."""
        for n in range(6):
            bench.open(department=1 + n % 2)
        assert self.listed(bench, Scope(frozenset({name}))).taken == [2, 4, 6]

    def test_a_scope_may_be_narrow_in_time_and_number(self, bench: Bench) -> None:
        """Tickets that were active last before a time, or are too many, are left out."""
        for n in range(6):
            bench.open(active=NOW - 600 + 100 * n)
        assert sorted(self.listed(bench, Scope(since=NOW - 300)).taken) == [4, 5, 6]
        assert len(self.listed(bench, Scope(limit_tickets=2)).taken) == 2

    def test_the_trash_is_listed_only_when_it_is_asked_for(self, bench: Bench) -> None:
        """A ticket in the trash is in no list, answers by its id, and says where it is."""
        bench.open()
        bench.trash(bench.open())
        assert self.listed(bench).taken == [1]
        assert sorted(self.listed(bench, Scope(include_trash=True)).taken) == [1, 2]
        found = self.asked(bench, lambda source: source.locate(2))
        assert found is not None
        assert found.in_trash

    def test_an_increment_brings_what_was_active_since(self, bench: Bench) -> None:
        """Old tickets that were active again, new ones and owed ones; the others are left out."""
        for n in range(12):
            bench.open(active=NOW - 1000 + n)
        until = self.listed(bench).listing.watermark
        assert until is not None
        bench.touch(3, NOW - 100)
        bench.open(active=NOW - 50)
        run = self.listed(bench, increment=Increment(until + 1, owed=(5,)))
        assert set(run.taken) == {3, 5, 13}
        assert run.listing.watermark == NOW - 50
        assert run.listing.proven

    def test_a_fast_look_says_how_it_went(self, bench: Bench) -> None:
        """Tickets with files are found, and what a fast look could not do is said."""
        for n in range(10):
            number = bench.open()
            if n % 3 == 0:
                bench.attach(number, "a.txt", b"a")
        run = self.listed(bench, fast=True)
        assert {1, 4, 7, 10} <= set(run.taken)
        assert run.listing.preview is not None

    def test_a_stop_is_respected(self, bench: Bench) -> None:
        """Asked to stop, a listing ends soon and does not say that it has seen everything."""
        for _ in range(40):
            bench.open()
        run = self.listed(bench, stop_after=3)
        assert 3 <= len(run.taken) <= 4
        assert run.listing.watermark is None

    def test_a_source_that_is_gone_says_so(self, bench: Bench) -> None:
        """Every question raises SourceError when nobody answers."""
        bench.open()
        bench.leave()
        for ask in (
            lambda source: source.probe(),
            lambda source: source.directory(),
            lambda source: source.thread(1),
            lambda source: source.attachments(Ticket(1)),
            lambda source: source.fetch(1, 1, HashSink),
        ):
            with pytest.raises(SourceError):
                self.asked(bench, ask)

    def test_requests_are_counted(self, bench: Bench) -> None:
        """A list and a fetch count as one each, and more tickets take no fewer pages."""
        number = bench.attach(bench.open(), "a.txt", b"a")

        async def ask(source: Source) -> tuple[int, int, int, int]:
            await source.attachments(Ticket(1))
            await source.fetch(1, number, HashSink)
            few, many = source.pages(10), source.pages(100_000)
            return source.requests["lists"], source.requests["fetches"], few, many

        lists, fetches, few, many = self.asked(bench, ask)
        assert (lists, fetches) == (1, 1)
        assert 0 <= few <= many

    # One ticket

    def test_a_thread_has_the_posts(self, bench: Bench) -> None:
        """A ticket is given with its posts, and each says which ticket it is of."""
        bench.open()
        thread = self.asked(bench, lambda source: source.thread(1))
        assert (thread.ticket.id, thread.problem) == (1, None)
        assert [(post.ticket_id, bool(post.text)) for post in thread.ticket.posts] == [(1, True)]

    def test_the_reply_with_a_thread_is_copied(self, bench: Bench) -> None:
        """A sink gets it as it came, with the text of the post in it, and nothing before it."""
        bench.open()

        class Copy:
            data = b"of another reply"

            def begin(self) -> None:
                self.data = b""

            def write(self, data: bytes, /) -> None:
                self.data += data

        copy = Copy()
        thread = self.asked(bench, lambda source: source.thread(1, copy))
        assert b"of another reply" not in copy.data
        assert thread.ticket.posts[0].text.encode() in copy.data

    def test_a_deleted_ticket_is_told(self, bench: Bench) -> None:
        """Nothing answers under its id: neither the ticket, its thread nor its files."""
        bench.open()
        number = bench.attach(bench.open(), "a.txt", b"a")
        bench.delete(2)
        assert self.asked(bench, lambda source: source.locate(2)) is None
        with pytest.raises(NotFound):
            self.asked(bench, lambda source: source.thread(2))
        with pytest.raises(NotFound):
            self.asked(bench, lambda source: source.attachments(Ticket(2)))
        with pytest.raises(NotFound):
            self.asked(bench, lambda source: source.fetch(2, number, HashSink))
        assert self.listed(bench, known=[2]).taken == [1]

    def test_a_merged_ticket_is_followed(self, bench: Bench) -> None:
        """It is answered as its survivor, whose files have kept their ids."""
        bench.open()
        number = bench.attach(bench.open(), "a.txt", b"a")
        bench.merge(2, 1)
        for in_no_list in (False, True):
            found = self.asked(
                bench,
                lambda source, known=in_no_list: source.locate(2, in_no_list=known),  # type: ignore[misc]
            )
            assert found is not None
            assert found.id == 1
        assert self.asked(bench, lambda source: source.thread(2)).ticket.id == 1
        run = self.listed(bench)
        assert run.taken == [1]
        assert [one.id for one in run.files[1]] == [number]

    # Files

    def test_what_is_listed_can_be_fetched(self, bench: Bench) -> None:
        """Each file arrives whole, with the id, name and size that its list says."""
        files = {"a.txt": b"hello", "empty": b"", "größe ☃.bin": bytes(range(256)) * 3000}
        bench.open()
        for name, data in files.items():
            bench.attach(1, name, data)

        async def ask(source: Source) -> dict[str, bytes]:
            found = {}
            listed = await source.attachments(Ticket(1))
            assert [one.id for one in listed] == sorted(one.id for one in listed)
            for one in listed:
                contents, sink, attempts = await source.fetch(1, one.id, Keeping)
                assert (contents.attachment.id, contents.attachment.ticket_id) == (one.id, 1)
                assert contents.attachment.filename == one.filename
                assert contents.size == one.filesize == sink.size
                assert (attempts, sink.aborted) == (1, 0)
                assert sink.heard == [contents]
                assert sink.sha256 == hashlib.sha256(files[one.filename]).hexdigest()
                found[one.filename] = sink.data
            return found

        assert self.asked(bench, ask) == files

    def test_a_file_that_was_lost_is_not_an_empty_one(self, bench: Bench) -> None:
        """The list has its size, and the reply says that no bytes are there."""
        bench.open()
        number = bench.attach(1, "lost.pdf", b"12345")
        bench.lose(number)
        (row,) = self.asked(bench, lambda source: source.attachments(Ticket(1)))
        assert row.filesize == 5
        contents, sink, _ = self.asked(bench, lambda source: source.fetch(1, number, Keeping))
        assert (contents.present, contents.size, sink.data) == (False, 0, b"")

    def test_a_file_of_another_ticket_is_refused(self, bench: Bench) -> None:
        """Neither an unknown file nor one of another ticket is sent."""
        bench.open()
        number = bench.attach(bench.open(), "a.txt", b"a")
        with pytest.raises(WrongTicket):
            self.asked(bench, lambda source: source.fetch(1, number, HashSink))
        with pytest.raises(NotFound):
            self.asked(bench, lambda source: source.fetch(1, number + 999, HashSink))

    def test_a_sink_that_fails_is_aborted(self, bench: Bench) -> None:
        """What a sink raises comes through, and nothing of the file is left as if it were whole."""
        bench.open()
        number = bench.attach(1, "a.txt", b"hello")
        sinks: list[Keeping] = []

        def make() -> Keeping:
            sinks.append(Keeping(refuse=True))
            return sinks[-1]

        with pytest.raises(ZeroDivisionError):
            self.asked(bench, lambda source: source.fetch(1, number, make))
        assert sinks
        assert all(sink.aborted and not sink.heard for sink in sinks)
