"""The contract of a source: a helpdesk that files are pulled from, and the records of one.

A source is one folder beside this module; :mod:`migrator.sources` says which there are. It names
no archive and no run: what a listing has to know of them it asks a :class:`Receiver`.

Times are Unix seconds in UTC as the source has them, 0 meaning never. Sizes are bytes.
``notes`` are the short problem codes of the ledger that a reader noticed while it read:
``repaired_name`` (a name held bytes or characters that no name may hold and is kept cleaned),
``repaired_text`` (the same of the text of a post), ``cut_text`` (it was longer than we keep),
``noise_around_xml`` (text stood before or after the document), ``lenient_base64``,
``odd_number`` (a size or a date was no number that it could be, and is 0, which says nothing),
``odd_row`` (a row was damaged and is read as far as it could be, above all its id).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from migrator.errors import Again, MigratorError, PartialReply, SourceError
from migrator.events import Event

TRASH = 0
"""The department of tickets in the trash."""


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

    @property
    def in_trash(self) -> bool:
        """Whether it is in the trash: in no list unless that is asked for."""
        return self.department_id == TRASH


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


class Thread(NamedTuple):
    """A ticket with its posts, and what could not be read of them, None where all could."""

    ticket: Ticket
    problem: PartialReply | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """The departments and statuses of a helpdesk."""

    departments: list[Department]
    statuses: list[TicketStatus]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of the helpdesk a run looks at; the default is all but the trash.

    ``departments`` are ids or titles, None for all. ``since`` drops tickets whose last activity
    is older (Unix seconds). ``limit_tickets`` ends the walk early.
    """

    departments: frozenset[str] | None = None
    since: int = 0
    limit_tickets: int | None = None
    include_trash: bool = False

    @property
    def whole(self) -> bool:
        """Whether the walk sees every ticket, so that what it does not see is not there."""
        return self.departments is None and not self.since and self.limit_tickets is None

    def told(self) -> dict[str, object]:
        """Return the scope as records keep it."""
        return {
            "departments": sorted(self.departments) if self.departments is not None else None,
            "since": self.since,
            "limit_tickets": self.limit_tickets,
            "include_trash": self.include_trash,
        }


@dataclass(frozen=True, slots=True)
class Increment:
    """What an incremental listing looks at.

    All tickets with a last activity of ``floor`` or later (the source's seconds), and ``owed``:
    those that the passes before it could not list. ``unreadable`` are rows of the list of the
    last whole pass that nobody could read; only the next whole pass can tell more of them.
    """

    floor: int
    owed: tuple[int, ...] = ()
    unreadable: dict[int, str] = field(default_factory=dict)


class Unreadable(dict[int, str]):
    """Rows of the ticket lists that could not be read, with the reason.

    Keys are rows of the first list, counted from 0; whatever else is lost has a negative key, and
    its text says what it is. One entry may stand for many rows, or for none: ``rows`` counts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spans: dict[int, int] = {}
        self._keys: dict[tuple[int, int], int] = {}

    @property
    def rows(self) -> int:
        """Count the rows that were lost."""
        return sum(self._spans.get(key, 1) for key in self)

    def note(self, area: int, row: int, text: str, *, rows: int = 1) -> None:
        """Note a loss in a list, of which the first is 0."""
        if area:
            key = self._keys.setdefault((area, row), -1 - len(self._keys))
            text = f"row {row} of list {area + 1}: {text}" if area > 0 else text
        else:
            key = row
        self[key], self._spans[key] = text, rows


@dataclass(slots=True)
class FastLook:
    """How a fast look went.

    ``marked`` of ``tickets`` are sorted to the front as having attachments, as far as ``probes``
    can tell. ``looked`` tickets behind them were listed all the same: ``found`` of them had
    attachments, ``files`` in sum; the rest was ``passed_over``. ``fallback`` tells why everything
    was listed after all, "" if not.
    """

    tickets: int = 0
    marked: int = 0
    probes: int = 0
    passed_over: int = 0
    looked: int = 0
    found: int = 0
    files: int = 0
    fallback: str = ""

    @property
    def missed(self) -> int:
        """Estimate how many attachments the tickets have that were passed over."""
        return round(self.files / self.looked * self.passed_over) if self.looked else 0


@dataclass(slots=True)
class Listing:
    """What a listing came to. The source writes it, and the run what became of each ticket.

    ``started`` is when the run began by our own clock. The run writes ``listed`` (the tickets
    whose attachments were listed, with the last activity that they had then), ``absent`` (those
    that the source did not know when asked for their attachments, with its words) and
    ``unlisted`` (those whose attachments could not be listed, with the reason); the source adds
    tickets that it could not show, takes out what has moved, and notes ``merged`` tickets.
    ``unreadable`` holds rows of the ticket list that could not be read. ``short`` is how many
    tickets the source counts beyond those it listed. ``watermark`` is the last activity (the
    source's seconds) up to which the listing went through everything; None when it did not.
    ``total`` is how many tickets the source counts in scope, ``helpdesk_tickets`` how many it
    counts in all, None where it cannot. ``unasked`` ids are in no list and were not asked for.
    ``preview`` tells how a fast look went.
    """

    started: int = 0
    listed: dict[int, int] = field(default_factory=dict)
    absent: dict[int, str] = field(default_factory=dict)
    unlisted: dict[int, str] = field(default_factory=dict)
    merged: set[int] = field(default_factory=set)
    unreadable: Unreadable = field(default_factory=Unreadable)
    short: int = 0
    watermark: int | None = None
    total: int | None = None
    helpdesk_tickets: int | None = None
    unasked: int = 0
    preview: FastLook | None = None

    @property
    def proven(self) -> bool:
        """Whether every ticket that the source counts was listed with its attachments."""
        return not (self.unlisted or self.unreadable or self.short)


FEWEST_ABSENT = 5
"""Known tickets of which a source must know at least one: so many are not deleted by chance."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Of tickets that an archive knows, how many agree, contradict, are unknown to the source."""

    agree: int = 0
    contradict: int = 0
    absent: int = 0
    difference: str = ""
    """The first contradiction, for people."""

    @property
    def same(self) -> bool:
        """Whether at least one ticket says that it is the same helpdesk."""
        return self.agree > 0

    @property
    def other(self) -> bool:
        """Whether the tickets say that it is another one, and none disagrees."""
        return not self.agree and (self.contradict > 0 or self.absent >= FEWEST_ABSENT)

    @property
    def told(self) -> str:
        """Return why it looks like another one."""
        if self.difference:
            return self.difference
        return f"it knows none of {self.absent} tickets that the archive knows"


A = TypeVar("A")
B = TypeVar("B")
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


class Receiver(Protocol):
    """The run that a listing feeds: it takes the tickets, and knows what the archive has."""

    listing: Listing
    """Where the source writes what the listing came to."""

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop: then the listing ends at the next ticket."""

    def tell(self, event: Event, /) -> None:
        """Tell whoever follows the run."""

    async def take(self, ticket: Ticket, /) -> None:
        """Queue a ticket whose attachments want listing; wait while too many are queued."""

    async def settle(self) -> None:
        """Wait until all tickets that were taken are listed, and their attachments settled."""

    async def merge(self, ticket_id: int, survivor: Ticket, /) -> None:
        """Write down that a ticket lives on in another one."""

    async def known_tickets(self) -> Collection[int]:
        """Return the tickets that the archive knows and this run has not listed."""

    async def count_files(self, ticket_ids: Collection[int], /) -> dict[int, int]:
        """Count the attachments of a few tickets that were listed; those without are left out."""

    async def attachments(self, ticket: Ticket, /) -> list[Attachment]:
        """List the attachments of a ticket, as far as they can be read, without taking it."""


class Source(Protocol):
    """A helpdesk. Each call raises SourceError when it was not answered as it should be.

    Of those SourceRefused, and all others with ``Again.STOP``, end a run; NotFound says that the
    helpdesk has no such thing (any more); the others are the affair of that one call.
    """

    @property
    def requests(self) -> Counter[str]:
        """The requests so far, by kind: ``pages``, ``lists``, ``fetches`` and ``others``."""

    def pages(self, tickets: int, /) -> int:
        """Return how many requests for pages a whole listing of so many tickets takes."""

    async def probe(self) -> None:
        """Ask a light question, to see that the source answers."""

    async def directory(self) -> Directory:
        """Return the departments and statuses; called before each listing."""

    async def compare(self, known: Sequence[Ticket], /) -> Likeness:
        """Tell by tickets that an archive knows whether this is the helpdesk they came from."""

    async def list_tickets(
        self,
        scope: Scope,
        receiver: Receiver,
        /,
        *,
        increment: Increment | None = None,
        fast: bool = False,
        most_gaps: int | None = None,
    ) -> None:
        """Hand each ticket of the scope over, and again when it changed meanwhile.

        With an ``increment`` those that were active since; ``fast`` lists only what has
        attachments, as far as the source can tell that, and says so in ``preview``. Of ids that
        no list names at most ``most_gaps`` are asked for; None sets no bound. Returns when all
        is settled or the run is to stop, and raises only what ends a run.
        """

    async def locate(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return a ticket, or the one it was merged into; None when it was deleted.

        A caller that knows that the ticket is ``in_no_list`` says so: it saves a question.
        """

    async def thread(self, ticket_id: int) -> Thread:
        """Return a ticket with its posts, or the one it was merged into; NotFound if deleted."""

    async def attachments(self, ticket: Ticket) -> list[Attachment]:
        """List the attachments of a ticket by id; PartialReply has what could be read of it."""

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment into a sink, which is whole when this returns.

        Each try gets a sink of its own; that of a failed try was aborted. Raises NotFound when
        there is no such attachment, WrongTicket when it is of another ticket.
        """


# What sources and runs do alike


async def in_pool(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; when cancelled, wait for it to end before giving way.

    A thread cannot be stopped: whoever cleans up after a cancellation must not find it still
    writing. Work that has not begun is dropped.
    """
    job = (pool or _shared_pool()).submit(work)
    cancelled: BaseException | None = None
    while True:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        job.add_done_callback(partial(_tell, ended))
        try:
            await ended
            break
        except asyncio.CancelledError as error:
            cancelled = error
            job.cancel()
    if cancelled is not None or job.cancelled():
        raise cancelled or asyncio.CancelledError
    return job.result()


def _tell(waiting: asyncio.Future[None], _job: object) -> None:
    waiting.get_loop().call_soon_threadsafe(_end, waiting)


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@cache
def _shared_pool() -> Executor:
    return ThreadPoolExecutor(thread_name_prefix="shared")


async def concurrently(
    first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]
) -> tuple[A, B]:
    """Await both and return both results; raise what one raises once the other is cancelled."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def raise_if_final(error: SourceError, *kinds: type[SourceError]) -> None:
    """Raise an error that ends a run; any other one is the affair of the call that it ended.

    ``kinds`` are errors after which no other question will be answered, either.
    """
    if error.again is Again.STOP or isinstance(error, kinds):
        raise error


async def for_each(
    items: Iterable[T],
    work: Callable[[T], Awaitable[object]],
    *,
    workers: int,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Await ``work`` for each item, so many at the same time, and begin no more once stopping.

    Items are drawn one by one. An error cancels the others; raises the most telling one.
    """
    left = iter(items)

    async def worker() -> None:
        for item in left:
            if stopping():
                return
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise most_telling(errors) from None


def most_telling(error: BaseException) -> BaseException:
    """Return the one error to show of all that workers raised at the same time.

    A bug comes first, then what is wrong with our own archive, then with the source.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [most_telling(one) for one in error.exceptions]
    return min(
        leaves, key=lambda one: (isinstance(one, MigratorError), isinstance(one, SourceError))
    )
