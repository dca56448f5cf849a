"""The bounds of everything that the server decides, and why they are where they are.

A run stays under 150 MB of memory whatever the server sends, and ends however slowly it does so.
What goes beyond a bound is an error in words, which costs the row or the reply, and seldom the run.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator

from migrator.errors import SourceUnreachable, TooLarge, Truncated, UnexpectedReply

# The head of a reply

LINE = 1 << 14
"""Bytes of one line of a head: web servers send 8 KiB at most; aiohttp allows 128 lines."""

# Bodies

LIST_BYTES = 12 << 20
"""Bytes of one list: about 7,500 tickets, more than PHP has memory for. Pages are far smaller."""
LIST_ALONE = 1 << 18
"""Bytes of a list beyond which it is received and read alone: larger ones wait for each other."""
LINKED_BYTES = 64 << 20
"""Bytes of a file that a text links to: it is an image, and PHP lets in a few MiB at most."""
ERROR_BODY = 1 << 14
"""Bytes read of an error's body: its text is short, a page is cut."""
LOWEST_RATE = 256
"""Bytes in a second. A modem of 56k shared by the usual 8 requests brings 800 to each of them."""
WINDOW = 60.0
"""Seconds over which the rate is measured; the time before the body, when PHP works, is no part."""
JUNK = 1 << 16
"""Bytes that may follow the end of a packed body."""

# Documents

PIECE = 1 << 16
"""Bytes that are parsed at once: what they bring is checked before the next."""
TOKEN = 1 << 16
"""Bytes of one tag, comment or instruction; text and CDATA sections are no tokens."""
DEPTH = 64
"""Elements within each other: Kayako nests five."""
ELEMENTS = 300_000
"""Elements and attributes in one list: 7,500 tickets have no more."""
CONTENTS_ELEMENTS = 100_000
"""Elements and attributes in a reply with contents: a thousand attachments have 10,000."""
ROWS = 20_000
"""Rows of one list: of tickets, or of one ticket's attachments."""
FIELDS = 1000
"""Different fields of one row: a ticket has 40."""
POSTS = 10_000
"""Posts of one ticket; two mail robots that answer each other stop earlier."""
REPAIRS = 500_000
"""Repairs of one document: a long thread in an undeclared encoding needs one for each letter."""
DIRECTORY_ROWS = 2_000
"""Departments or statuses: each part of them multiplies the walks."""
ATTACHMENTS = 1000
"""Attachments with contents in one reply, each of which gets a sink."""
FIELD = 1 << 16
"""Characters of one field beside contents; MySQL keeps 255 of a name."""
NAME = 300
"""Characters kept of a name, a subject or an address; MySQL keeps 255."""
TEXT = 4 << 20
"""Bytes of UTF-8 kept of the text of one post."""

SPARSE = 4
"""Characters of contents for each byte that they bring, beyond the first MiB: base64 has 1.4."""

# Walks

SLACK = 1000
"""Rows of a list beyond twice the source's own count, after which it is asked for a far row."""
FAR = 1_000_000_000
"""A row that no list has, unless it never ends."""
MOST_TICKETS = 10_000_000
"""Rows of a list whose end nobody knows."""


def most_rows(count: int | None) -> int:
    """Return how far a list may go on that has no far row, but more rows than are counted."""
    return MOST_TICKETS if count is None else min(100 * count + 100 * SLACK, MOST_TICKETS)


class Body:
    """The body of one reply as it comes: unpacked in small steps, counted and timed.

    ``encoding`` is the header Content-Encoding, ``bound`` names the setting behind ``most``. Call
    :meth:`wait` before waiting for the next block, which :meth:`pieces` takes. Raises TooLarge,
    SourceUnreachable for a reply that drips, UnexpectedReply for a packing that nobody asked for,
    Truncated for one that is broken.
    """

    def __init__(
        self,
        encoding: str,
        *,
        most: int,
        what: str,
        clock: Callable[[], float],
        bound: str = "the most that is read of a list",
    ) -> None:
        names = [name for part in encoding.split(",") if (name := part.strip().lower())]
        packings = [name for name in names if name != "identity"]
        if packings not in ([], ["gzip"], ["x-gzip"]):
            named = ", ".join(packings)
            raise UnexpectedReply(
                f"the reply for {what} is packed in a way that was not asked for: {named[:40]!a}"
            )
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if packings else None
        self._most = most
        self._what = what
        self._bound = bound
        self._clock = clock
        self._sent = self._got = self._junk = 0
        self._asked = clock()
        self._waited = 0.0
        self._before = 0  # bytes got before this window

    def expect(self, announced: int) -> None:
        """Check the announced number of bytes."""
        if announced > self._most:
            raise self._too_large()

    def wait(self) -> None:
        """Start the stopwatch: what we do with a block is not the server's time."""
        self._asked = self._clock()

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """Yield what a block brings."""
        self._waited += self._clock() - self._asked
        self._sent += len(block)
        self.expect(self._sent - (JUNK if self._gzip else 0))
        if self._gzip is None:
            self._count(len(block))
            yield block
        else:
            yield from self._unpacked(self._gzip, block)
        if self._waited >= WINDOW:
            if self._got - self._before < WINDOW * LOWEST_RATE:
                raise SourceUnreachable(
                    f"the reply for {self._what} came too slowly: {self._got - self._before:,} "
                    f"bytes in {self._waited:.0f} s; {LOWEST_RATE} bytes a second are the least"
                )
            self._waited, self._before = 0.0, self._got

    def _unpacked(self, gzip: zlib._Decompress, block: bytes) -> Iterator[bytes]:
        while not gzip.eof:
            try:
                piece = gzip.decompress(block, PIECE)
            except zlib.error:
                raise Truncated(f"the reply for {self._what} is broken gzip") from None
            block = gzip.unconsumed_tail
            self._count(len(piece))
            if piece:
                yield piece
            if not block and len(piece) < PIECE:
                return
        self._junk += len(block)
        if self._junk > JUNK:
            raise UnexpectedReply(f"the reply for {self._what} continues after its end")

    def _count(self, size: int) -> None:
        self._got += size
        self.expect(self._got)

    def _too_large(self) -> TooLarge:
        most = f"{self._most:,} bytes ({self._bound})"
        return TooLarge(f"the reply for {self._what} is larger than {most}")


class Turn:
    """The turn of one large list: there is room for one at a time. It is taken when needed."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._taken = False

    async def take(self) -> None:
        """Wait for the turn, unless it was taken before."""
        if not self._taken:
            await self._lock.acquire()
            self._taken = True

    def leave(self) -> None:
        """Give way to the next."""
        if self._taken:
            self._taken = False
            self._lock.release()
