"""One ticket to deliver: its files, what is wanted of them, and what the ledger knows of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass

from migrator.archive import Archive
from migrator.archive.records import DeliveredFile, Delivery, Row, State, TicketHeader
from migrator.deliver import note as notes
from migrator.deliver.client import Content
from migrator.deliver.note import File, FileKey, Seen
from migrator.text import served_name


@dataclass(frozen=True, slots=True)
class Options:
    """What to deliver, where and as whom.

    ``target`` is the address of the Tickiti, ``helpdesk`` that of the source. Without ``writes`` it
    is a dry run. ``tickets`` and ``departments`` narrow it, None is all; ``limit`` is the most
    tickets that are written into. ``deleted`` also delivers what the source has deleted,
    ``recheck`` tries again what was refused, ``trust`` writes where subject or requester differ,
    ``threads`` adds the texts. ``create`` is the queue in which tickets are made for those that
    have no number, "": none are. A ``canary`` stops where a mail about its ticket was sent.
    """

    target: str
    helpdesk: str
    author: str
    max_upload: int
    pages: str = ""
    concurrency: int = 1
    writes: bool = False
    tickets: frozenset[int] | None = None
    departments: frozenset[int] | None = None
    limit: int | None = None
    deleted: bool = False
    recheck: bool = False
    trust: bool = False
    threads: bool = False
    create: str = ""
    canary: bool = False

    @property
    def partial(self) -> bool:
        """Whether only a part of the archive is to be delivered."""
        return any((self.tickets, self.departments, self.limit))


class Errand:
    """A ticket, its files, and what the ledger knows of them at the target."""

    def __init__(self, archive: Archive, options: Options, ticket: TicketHeader) -> None:
        self._archive = archive
        self._options = options
        self.ticket = ticket
        self.begun = False
        self.pauses = 0
        """How many there were when the ticket was read."""
        self.outcome: dict[FileKey, str] = {}
        self.counted: set[FileKey] = set()
        self.told: dict[FileKey, Seen] = {}
        queries = archive.queries
        self._merged = queries.merged_tickets(ticket.id)
        self.deliveries = queries.deliveries(options.target, ticket.id)
        self.number = None if ticket.merged_into else queries.mapped_number(ticket.id)
        made = [one for one in self.deliveries if (one.kind, one.state) == ("ticket", "delivered")]
        self.made = self.number is None and not ticket.merged_into
        if self.made and made:
            self.number = made[-1].ticket_number
        owner = self._survivor()
        states = {State.STORED, State.DELETED} if options.deleted else {State.STORED}
        rows = archive.threads.attachments_of_ticket(owner)
        self._text = self._conversation() if options.threads else b""
        if ticket.deleted_at is not None and not options.deleted:
            states = set()
        self.files = {one.key: one for one in map(_file, rows_in(rows, states))}
        if self._text:
            one = _text_file(ticket.id, self._text)
            self.files[one.key] = one
        found = queries.delivered(options.target, {key[0] for key in self.files})
        self.known = {(one.attachment_id, one.sha256): one for one in found}
        self.withdrawn = self._no_longer_wanted()
        doubtful = ("differs", "vanished")  # whatever show says of it
        self.doubted = {key for key, row in self.known.items() if row.problem in doubtful}
        notes_of = {one.id: one for one in self.deliveries}
        for merged in self._merged:
            notes_of |= {row.id: row for row in queries.deliveries(options.target, merged)}
        self._settled = {
            key
            for key, row in self.known.items()
            if row.delivery_id is not None and self._is_there(row, notes_of.get(row.delivery_id))
        }
        self.open = bool(self.pending()) or (ticket.merged_into is None and bool(self._wanted()))

    def _no_longer_wanted(self) -> set[FileKey]:
        """Add the files that notes were to hold and that are deleted or others since."""
        lost = set[FileKey]()
        for delivery in self.pending():
            for row in self._archive.queries.files_of_delivery(delivery.id):
                key = row.attachment_id, row.sha256
                if key not in self.files:
                    self.files[key] = File(*key, row.size, row.name or "")
                    self.known[key] = row
                    lost.add(key)
        return lost

    def _wanted(self) -> set[FileKey]:
        return self.files.keys() - self._settled - self.withdrawn

    def _is_there(self, row: DeliveredFile, delivery: Delivery | None) -> bool:
        there = delivery is None or delivery.state == "delivered"
        return there and (row.state == "delivered" or not self._options.recheck)

    def _survivor(self) -> int:
        """Return the ticket that has the files now: another one after a merge."""
        return (self._archive.threads.survivor(self.ticket.id) or self.ticket).id

    def _conversation(self) -> bytes:
        threads = self._archive.threads
        posts = [one for one in threads.responses(self.ticket.id) if one.note != "not_kept"]
        if not posts or self.ticket.merged_into is not None:
            return b""
        told = ((one, one.text) for one in posts)
        return notes.conversation(self._options.helpdesk, self.ticket, told)

    def numbers(self) -> list[str]:
        """Return the tickets of the target where our notes may stand, this ticket's first."""
        found = [self.number] if self.number else []
        if self.left():
            found += filter(None, map(self._archive.queries.mapped_number, self._merged))
        found += [one.ticket_number for one in self.pending()]
        return list(dict.fromkeys(found))

    def left(self) -> list[File]:
        """Return the files that are not settled there."""
        if self.ticket.merged_into is not None:
            return []
        wanted = self._wanted()
        return [one for key, one in self.files.items() if key in wanted]

    def pending(self, kind: str = "note") -> list[Delivery]:
        """Return the notes, or tickets, that may have been sent."""
        return [one for one in self.deliveries if (one.kind, one.state) == (kind, "pending")]

    def settle(self, one: File) -> None:
        """Do nothing more about a file."""
        self._settled.add(one.key)

    def delivery(self, seen: Seen) -> Delivery | None:
        """Return the row of a note at the target, the latest if it was planned again."""
        for one in reversed(self.deliveries):
            if one.response_id == seen.response_id:
                return one
        return next(
            (
                one
                for one in reversed(self.deliveries)
                if (one.kind, one.marker, one.response_id) == ("note", seen.marker, None)
            ),
            None,
        )

    def delivery_of(self, number: int) -> Delivery:
        """Return the row with that id as it is now."""
        return next(one for one in self.deliveries if one.id == number)

    def add(self, delivery: Delivery) -> Delivery:
        """Remember a row as it is now."""
        others = [one for one in self.deliveries if one.id != delivery.id]
        self.deliveries = sorted([*others, delivery], key=lambda one: one.id)
        return delivery

    def row(self, one: File, state: str, problem: str | None, detail: str | None) -> DeliveredFile:
        """Return the row of a file."""
        where = (self._options.target, *one.key, self.ticket.id, one.size)
        return DeliveredFile(*where, state, problem, detail)

    def content(self, one: File) -> Content | None:
        """Return the bytes of a file; None where the archive has lost them."""
        if one.id < 0:
            text = self._text
            return Content(len(text), lambda: (one for one in [text]))
        blobs = self._archive.blobs
        if blobs.size(one.sha256) != one.size:
            return None

        def blocks() -> Generator[bytes]:
            blob = blobs.open(one.sha256)
            if blob is not None:
                with blob:
                    yield from blob.blocks()

        return Content(one.size, blocks)


def rows_in(rows: Iterable[Row], states: Collection[State]) -> Iterator[Row]:
    """Yield the rows in some states."""
    return (row for row in rows if row.state in states)


def _file(row: Row) -> File:
    return File(
        row.id,
        row.sha256 or "",
        row.size or 0,
        served_name(row.filename, row.id),
        row.post_id,
        row.created_at,
        row.filename,
    )


def _text_file(ticket_id: int, text: bytes) -> File:
    name = f"conversation-of-ticket-{ticket_id}.txt"
    return File(-ticket_id, hashlib.sha256(text).hexdigest(), len(text), name)
