"""What Kayako tells us, as typed records.

Times are Unix seconds in UTC as Kayako sends them, 0 meaning never. Sizes are bytes.
``notes`` are the short problem codes of the ledger that a reader noticed while it read:
``repaired_name`` (a name held bytes or characters that no name may hold and is kept cleaned),
``repaired_text`` (the same of the text of a post), ``cut_text`` (it was longer than we keep),
``noise_around_xml`` (text stood before or after the document), ``lenient_base64``,
``odd_number`` (a size or a date was no number that it could be, and is 0, which says nothing),
``odd_row`` (a row was damaged and is read as far as it could be, above all its id).

What a fetch needs and gives: sinks, results, and threads for the work.

The sink of attachments that are fetched to be compared, not to be kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable


@dataclass(frozen=True, slots=True)
class Department:
    """A department; only those with ``app == "tickets"`` hold tickets."""

    id: int
    title: str
    app: str = "tickets"
    type: str = "public"
    parent_id: int = 0


@dataclass(frozen=True, slots=True)
class TicketStatus:
    """A ticket status; ``department_id`` 0 means that it is valid in all departments."""

    id: int
    title: str
    department_id: int = 0
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """One post of a ticket; ``creator`` is 1 for staff and 2 for a user.

    ``text`` is HTML or plain text as it was written, of at most 4 MiB.
    """

    id: int
    ticket_id: int
    created_at: int = 0
    creator: int = 0
    full_name: str = ""
    email: str = ""
    is_html: bool = False
    is_private: bool = False
    has_attachments: bool = False
    text: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """The header of a ticket, with its posts when they were asked for.

    ``id`` may differ from the id that was asked: then the asked ticket was merged into this one.
    ``department_id`` 0 is the trash, -1 what is no number. ``full_name`` and ``email`` are the
    requester's, ``owner_name`` is the staff member's whom it is assigned to, "" for nobody.
    """

    id: int
    display_id: str = ""
    department_id: int = 0
    status_id: int = 0
    subject: str = ""
    full_name: str = ""
    email: str = ""
    created_at: int = 0
    last_activity: int = 0
    posts: tuple[Post, ...] = ()
    owner_name: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment of a ticket post, without its bytes.

    ``filetype`` is derived by Kayako from the name and is a weak hint. ``filesize`` is the
    count of bytes at creation; rows made by old versions can be wrong.
    """

    id: int
    ticket_id: int
    post_id: int
    filename: str = ""
    filesize: int = 0
    filetype: str = ""
    created_at: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """One attachment whose contents were streamed into a sink, to the end of the document.

    ``size`` counts the decoded bytes that the sink got. ``present`` is False when the reply held
    an empty ``<contents />``: an empty file if ``attachment.filesize`` is 0, else lost at the
    source. The bytes are in the sink; whoever made it decides what becomes of them.
    """

    attachment: Attachment
    size: int
    present: bool
    notes: tuple[str, ...] = ()


T = TypeVar("T")


class FetchSink(Protocol):
    """Where decoded bytes go; ``abort`` throws away what came and may be called twice."""

    def write(self, data: bytes, /) -> None:
        """Take the next decoded bytes."""

    def abort(self) -> None:
        """Forget everything written; called when the reply proves to be no good."""


@runtime_checkable
class ThoroughSink(FetchSink, Protocol):
    """A sink that has more to do at the end, in the thread that wrote.

    Another hand-over would cost as much as hashing a small file.
    """

    def finish(self, contents: Contents, /) -> None:
        """Hear, once at most, that the reply was good, and what it said."""


S = TypeVar("S", bound=FetchSink)


class Fetched(NamedTuple, Generic[S]):
    """A whole attachment: what the reply said, the sink that got its bytes, the tries it took."""

    contents: Contents
    sink: S
    attempts: int


async def in_pool(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; when cancelled, wait for it to end before giving way.

    A thread cannot be stopped: whoever cleans up after a cancellation must not find it still
    writing.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        cancelled = error
    while not future.done():
        try:
            await asyncio.wait([future])  # unlike the future itself, this can be cancelled safely
        except asyncio.CancelledError as error:
            cancelled = error
    future.exception()  # looked at, so that asyncio does not report it as overlooked
    raise cancelled


class HashSink:
    """A sink that keeps nothing but the size and the hash of what it got."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Take the next bytes."""
        self._hash.update(data)
        self.size += len(data)

    def abort(self) -> None:
        """Forget everything."""
