"""A helpdesk to pull in a benchmark: which tickets and files there are, and what it replies.

Sizes follow what helpdesks hold: lognormal with a median of 61 KB (mean about 200 KB), and a few
files of 20 MB. A file begins as a JPEG, PNG or PDF does, since telling types is part of the work.
Its other bytes are cut from one block of random ones, each file from another place, so that no two
are alike and none need be made while somebody waits.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from migrator.sandbox.kayako.messages import XmlWriter

MEDIAN = 61_000
SPREAD = 1.53
"""Sigma of the logarithm of a size: with it the mean is some three times the median."""
LARGEST = 7_000_000
"""Beyond 7.5 MB the naive script's parser would need an option that few know of."""
BIG = 20_000_000
PER_TICKET = 2
HEADS = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00C\x00".ljust(
        48
    ),
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00\x00\x00\x03\x00\x08\x06\x00\x00\x00".ljust(
        48
    ),
    b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\n".ljust(48),
)
"""Of 48 bytes each, so that base64 can be cut behind them."""
EPOCH = 1_400_000_000


@dataclass(frozen=True)
class Shape:
    """What to make: how many attachments, ``big`` of them of 20 MB, or all of one ``size``."""

    attachments: int
    big: int = 0
    size: int | None = None
    seed: int = 20261122


@dataclass(frozen=True)
class File:
    """One attachment; its bytes begin at ``offset`` of the block."""

    id: int
    ticket_id: int
    size: int
    offset: int


@dataclass
class Desk:
    """The same helpdesk for the same shape, in every process."""

    shape: Shape
    files: list[File] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(self.shape.seed)
        for index in range(self.shape.attachments):
            size = self.shape.size
            if size is None:
                size = max(100, min(int(rng.lognormvariate(11.02, SPREAD)), LARGEST))
            offset = 3 * (index % 1_000_000)
            self.files.append(File(index + 1, index // PER_TICKET + 1, size, offset))
        step = max(1, self.shape.attachments // max(1, self.shape.big))
        for index in range(self.shape.big):
            old = self.files[index * step]
            self.files[index * step] = File(old.id, old.ticket_id, BIG, old.offset)

    @property
    def tickets(self) -> int:
        """Count the tickets; their ids are 1 to this."""
        return -(-self.shape.attachments // PER_TICKET)

    @property
    def bytes(self) -> int:
        """Add up all sizes."""
        return sum(file.size for file in self.files)

    def of_ticket(self, ticket_id: int) -> list[File]:
        """Return the files of one ticket."""
        return self.files[(ticket_id - 1) * PER_TICKET : ticket_id * PER_TICKET]


class Replies:
    """What the helpdesk sends, in Kayako's XML; the heavy half is rendered beforehand."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        longest = max((file.offset + file.size for file in desk.files), default=0) + 3
        block = random.Random(desk.shape.seed).randbytes(min(longest, 1 << 24))
        block = (block * (longest // len(block) + 1))[:longest] if longest > len(block) else block
        self._base64 = memoryview(base64.b64encode(block + b"\0" * (-len(block) % 3)))
        self._block = block
        self._pages: dict[tuple[int, int], bytes] = {}

    def contents(self, ticket_id: int, attachment_id: int) -> list[bytes | memoryview]:
        """Reply with one attachment, as pieces to be sent in order."""
        file = self._desk.files[attachment_id - 1]
        rest = file.size - len(HEADS[0])
        whole = rest - rest % 3
        start = file.offset // 3 * 4
        tail = self._block[file.offset + whole : file.offset + rest]
        first = base64.b64encode(HEADS[file.id % len(HEADS)])
        writer = XmlWriter()
        writer.open("attachments")
        _attachment(writer, file)
        head = writer.body().parts[0]
        assert isinstance(head, bytes)
        return [
            head.removesuffix(b"\n</attachment>") + b"\n<contents><![CDATA[" + first,
            self._base64[start : start + whole // 3 * 4],
            base64.b64encode(tail) + b"]]></contents>\n</attachment>\n</attachments>",
        ]

    def attachments(self, ticket_id: int) -> bytes:
        """List a ticket's attachments."""
        writer = XmlWriter()
        writer.open("attachments")
        for file in self._desk.of_ticket(ticket_id):
            _attachment(writer, file)
        writer.close("attachments")
        return _bytes(writer)

    def page(self, count: int, start: int) -> bytes:
        """List tickets by id."""
        if (count, start) not in self._pages:
            last = min(start + count, self._desk.tickets)
            self._pages[count, start] = self._tickets(range(start + 1, last + 1), posts=False)
        return self._pages[count, start]

    def newest(self, count: int) -> bytes:
        """List tickets by activity, the latest first."""
        last = self._desk.tickets
        return self._tickets(range(last, max(0, last - count), -1), posts=False)

    def knows(self, ticket_id: int) -> bool:
        """Return whether there is such a ticket."""
        return 1 <= ticket_id <= self._desk.tickets

    def thread(self, ticket_id: int) -> bytes:
        """Return a ticket with its posts."""
        return self._tickets([ticket_id], posts=True)

    def count(self) -> bytes:
        """Count the tickets."""
        writer = XmlWriter()
        writer.open("tickets")
        writer.value("totalcount", self._desk.tickets)
        writer.close("tickets")
        return _bytes(writer)

    def departments(self) -> bytes:
        """List the one department."""
        return _list("departments", "department", id=1, title="Support", app="tickets")

    def statuses(self) -> bytes:
        """List the one status."""
        return _list("ticketstatuses", "ticketstatus", id=1, title="Open", markasresolved=0)

    def _tickets(self, ids: range | list[int], *, posts: bool) -> bytes:
        writer = XmlWriter()
        writer.open("tickets")
        for ticket_id in ids:
            writer.open("ticket", id=ticket_id, flagtype=0)
            for tag, value in _header(ticket_id):
                writer.value(tag, value)
            if posts:
                writer.open("posts")
                for file in self._desk.of_ticket(ticket_id):
                    _post(writer, file)
                writer.close("posts")
            writer.close("ticket")
        writer.close("tickets")
        return _bytes(writer)


def _header(ticket_id: int) -> Iterator[tuple[str, str | int]]:
    yield "displayid", ticket_id
    yield "departmentid", 1
    yield "statusid", 1
    yield "subject", f"Printer {ticket_id} is on fire"
    yield "fullname", "Jo Customer"
    yield "email", "jo@customer.example"
    yield "ownerstaffname", "Jane Staff"
    yield "creationtime", EPOCH + ticket_id
    yield "lastactivity", EPOCH + ticket_id


def _post(writer: XmlWriter, file: File) -> None:
    writer.open("post")
    writer.value("id", file.id)
    writer.value("ticketid", file.ticket_id)
    writer.value("dateline", EPOCH + file.ticket_id)
    writer.value("fullname", "Jo Customer")
    writer.value("email", "jo@customer.example")
    writer.value("creator", 2)
    writer.value("contents", "It burns again, see the picture. " * 12)
    writer.close("post")


def _attachment(writer: XmlWriter, file: File) -> None:
    writer.open("attachment")
    writer.value("id", file.id)
    writer.value("ticketid", file.ticket_id)
    writer.value("ticketpostid", file.id)
    writer.value("filename", f"scan-{file.id}.bin")
    writer.value("filesize", file.size)
    writer.value("filetype", "application/octet-stream")
    writer.value("dateline", EPOCH + file.ticket_id)
    writer.close("attachment")


def _list(root: str, child: str, **values: str | int) -> bytes:
    writer = XmlWriter()
    writer.open(root)
    writer.open(child)
    for tag, value in values.items():
        writer.value(tag, value)
    writer.close(child)
    writer.close(root)
    return _bytes(writer)


def _bytes(writer: XmlWriter) -> bytes:
    return b"".join(writer.body().blocks())
