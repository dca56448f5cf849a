"""The contract of a source, a helpdesk that files are pulled from, and its records.

A source is one folder beside this module, listed in :mod:`migrator.sources`. It knows no archive
and no run: a listing asks a :class:`Receiver`.

Times are Unix seconds in UTC as the source has them, 0 meaning never. Sizes are bytes. ``notes``
are the ledger's short problem codes that a reader found: ``repaired_name`` (a name held invalid
bytes or characters and was cleaned), ``repaired_text`` (the same of the text of a post),
``cut_text`` (it was longer than we keep), ``noise_around_xml`` (text stood before or after the
document), ``lenient_base64``, ``odd_number`` (a size or a date was not a valid number and is 0, for
unknown), ``odd_row`` (a row was damaged and is read as far as possible, above all its id).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
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

    ``text`` is HTML or plain text as written, of at most 4 MiB. ``is_emailed`` marks a post that
    came by e-mail.
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
    is_emailed: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A note, which only the staff sees; it never has files.

    ``kind`` is ``ticket``, ``timetrack``, ``user`` or ``organization``, and ``about`` the ticket,
    user or organization of that id. Ids are unique among notes of tickets, among time tracks, and
    among notes of users and organizations together. ``for_staff_id`` is the only staff member that
    it is meant for, 0 for all. ``worked`` and ``billable`` are the seconds of a time track, which
    is dated by when they are billed; its worker need not be its author.
    """

    id: int
    kind: str
    about: int
    created_at: int = 0
    author_id: int = 0
    author_name: str = ""
    for_staff_id: int = 0
    color: int = 0
    worked: int = 0
    billable: int = 0
    worked_at: int = 0
    worker_id: int = 0
    worker_name: str = ""
    is_html: bool = False
    text: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """The header of a ticket, with its posts when they were asked for.

    ``id`` may differ from the requested one: then that ticket was merged into this one.
    ``department_id`` 0 is the trash, -1 is not a number. ``full_name`` and ``email`` are the
    requester's, ``owner_name`` is the assigned staff member's, "" for nobody. ``user_id`` and
    ``organization_id`` are the requester's, 0 for unknown. ``details`` is whatever else the source
    says of the ticket, by the source's own names. ``staff_notes`` are those of the ticket, of its
    user and of the user's organization. ``problems`` says which notes could not be read.
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
    user_id: int = 0
    organization_id: int = 0
    details: Mapping[str, object] = field(default_factory=dict, hash=False)
    staff_notes: tuple[Note, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def in_trash(self) -> bool:
        """Whether it is in the trash: then only lists of the trash have it."""
        return self.department_id == TRASH


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment of a ticket post, or another file, without its bytes.

    ``filetype`` is derived by Kayako from the name and is a weak hint. ``filesize`` is the
    count of bytes at creation; rows made by old versions can be wrong. ``kind`` says what holds
    the file: ``post``, ``customfield`` (a custom field of the ticket), ``article`` (of the
    knowledge base), ``step`` (of the troubleshooter) or ``linked`` (an address in a text). For all
    but posts, ``place`` is how the source finds it again, and the id is one that no attachment of
    a post can have; those of articles and steps have ticket 0. ``sha256`` is the hash of its
    bytes where the list itself has them, "" elsewhere.
    """

    id: int
    ticket_id: int
    post_id: int
    filename: str = ""
    filesize: int = 0
    filetype: str = ""
    created_at: int = 0
    notes: tuple[str, ...] = ()
    kind: str = "post"
    place: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """An article of the knowledge base (``article``), or a step of the troubleshooter (``step``).

    ``details`` is as of :class:`Ticket`. ``files`` are its attachments; ``problem`` says why they
    could not be listed.
    """

    kind: str
    id: int
    subject: str = ""
    author_name: str = ""
    created_at: int = 0
    is_html: bool = True
    text: str = ""
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict, hash=False)
    files: tuple[Attachment, ...] = ()
    problem: SourceError | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """One attachment whose contents were streamed into a sink, to the end of the document.

    ``size`` counts the decoded bytes that the sink got. ``present`` is False when the reply held
    an empty ``<contents />``: an empty file if ``attachment.filesize`` is 0, else lost at the
    source. The bytes are in the sink; its creator decides what becomes of them. ``said`` is what
    the source says about a file that it does not find.
    """

    attachment: Attachment
    size: int
    present: bool
    notes: tuple[str, ...] = ()
    said: str = ""


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
    """The part of the helpdesk that a run covers; the default is all but the trash.

    ``departments`` are ids or titles, None for all. ``since`` drops tickets whose last activity
    is older (Unix seconds). ``limit_tickets`` ends the walk early.
    """

    departments: frozenset[str] | None = None
    since: int = 0
    limit_tickets: int | None = None
    include_trash: bool = False

    @property
    def whole(self) -> bool:
        """Whether the walk covers every ticket, so that unseen ones do not exist."""
        return self.departments is None and not self.since and self.limit_tickets is None

    def told(self) -> dict[str, object]:
        """Return the scope for the records of a run."""
        return {
            "departments": sorted(self.departments) if self.departments is not None else None,
            "since": self.since,
            "limit_tickets": self.limit_tickets,
            "include_trash": self.include_trash,
        }


@dataclass(frozen=True, slots=True)
class Increment:
    """The scope of an incremental listing.

    All tickets with a last activity of ``floor`` or later (the source's seconds), and ``owed``:
    those that the passes before it could not list. ``unreadable`` are unreadable rows of the list
    of the last whole pass; only the next whole pass can find out about them.
    """

    floor: int
    owed: tuple[int, ...] = ()
    unreadable: dict[int, str] = field(default_factory=dict)


class Unreadable(dict[int, str]):
    """Rows of the ticket lists that could not be read, with the reason.

    Keys are rows of the first list, counted from 0; any other loss has a negative key, and its
    text says what it is. One entry may stand for many rows, or for none: ``rows`` counts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endless = False
        """Whether a walk was given up because its list never ends."""
        self._spans: dict[int, int] = {}
        self._keys: dict[tuple[int, int], int] = {}

    @property
    def rows(self) -> int:
        """The number of lost rows."""
        return sum(self._spans.get(key, 1) for key in self)

    def note(self, area: int, row: int, text: str, *, rows: int = 1) -> None:
        """Add a loss in the list number ``area``, from 0."""
        if area:
            key = self._keys.setdefault((area, row), -1 - len(self._keys))
            text = f"row {row} of list {area + 1}: {text}" if area > 0 else text
        else:
            key = row
        self[key], self._spans[key] = text, rows


@dataclass(slots=True)
class FastLook:
    """The result of a fast listing.

    ``marked`` of ``tickets`` are sorted to the front as having attachments, as far as ``probes``
    can tell. ``looked`` tickets behind them were listed all the same: ``found`` of them had
    attachments, ``files`` in sum; the rest was ``passed_over``. ``fallback`` says why everything
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
        """The estimated number of attachments of the tickets that were passed over."""
        return round(self.files / self.looked * self.passed_over) if self.looked else 0


@dataclass(slots=True)
class Listing:
    """The result of a listing. The source fills it in; the run adds the fate of each ticket.

    ``started`` is when the run began by our own clock. The run writes ``listed`` (the tickets
    whose attachments were listed, with the last activity that they had then), ``absent`` (those
    unknown to the source when their attachments were requested, with its words) and
    ``unlisted`` (those whose attachments could not be listed, with the reason); the source adds
    tickets that it could not show, removes moved ones, and adds ``merged`` tickets.
    ``unreadable`` holds rows of the ticket list that could not be read. ``short`` is how many
    tickets the source counts beyond those it listed. ``watermark`` is the last activity (the
    source's seconds) up to which the listing went through everything; None when it did not.
    ``total`` is how many tickets the source counts in scope, ``helpdesk_tickets`` how many it
    counts in all, None where it cannot. ``unasked`` ids are in no list and were not requested.
    ``preview`` is the result of a fast listing.
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
"""Known tickets of which a source must know at least one: all are not deleted by chance."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How many of an archive's tickets agree with, contradict or are unknown to the source."""

    agree: int = 0
    contradict: int = 0
    absent: int = 0
    difference: str = ""
    """The first contradiction, for people."""

    @property
    def same(self) -> bool:
        """Whether at least one ticket shows that it is the same helpdesk."""
        return self.agree > 0

    @property
    def other(self) -> bool:
        """Whether the tickets show that it is another one, and none disagrees."""
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
    """A target of decoded bytes; ``abort`` drops what was written and may be called twice."""

    def write(self, data: bytes, /) -> None:
        """Write the next decoded bytes."""

    def abort(self) -> None:
        """Drop everything written; called when the reply proves to be bad."""


@runtime_checkable
class ThoroughSink(FetchSink, Protocol):
    """A sink with more to do at the end, in the writing thread.

    Another change of threads would cost as much as hashing a small file.
    """

    def finish(self, contents: Contents, /) -> None:
        """Accept the contents of a good reply; called at most once."""


S = TypeVar("S", bound=FetchSink)


class Fetched(NamedTuple, Generic[S]):
    """A whole attachment: the reply's contents, the sink with its bytes, the number of tries."""

    contents: Contents
    sink: S
    attempts: int


class HashSink:
    """A sink that keeps only the size and the hash of its bytes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes, /) -> None:
        """Count and hash the next bytes."""
        self._hash.update(data)
        self.size += len(data)

    def abort(self) -> None:
        """Drop everything."""


class CopySink(Protocol):
    """A target of a reply as it came, but for our own keys, which a server may show in it."""

    def begin(self) -> None:
        """Begin with a reply; what was written of the one before counts no more."""

    def write(self, data: bytes, /) -> None:
        """Write the next bytes; in a thread of the pool if there are many."""


class Receiver(Protocol):
    """The run behind a listing: it takes the tickets, and knows what the archive has."""

    listing: Listing
    """The result that the source fills in."""

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to stop: then the listing ends at the next ticket."""

    def tell(self, event: Event, /) -> None:
        """Pass an event to the run's listener."""

    async def take(self, ticket: Ticket, /) -> None:
        """Queue a ticket whose attachments are to be listed; wait while too many are queued."""

    async def settle(self) -> None:
        """Wait until all queued tickets are listed, and their attachments settled."""

    async def merge(self, ticket_id: int, survivor: Ticket, /) -> None:
        """Record that a ticket was merged into another one."""

    async def known_tickets(self) -> Collection[int]:
        """Return the tickets that the archive knows and this run has not listed."""

    async def count_files(self, ticket_ids: Collection[int], /) -> dict[int, int]:
        """Return the numbers of listed attachments of a few tickets; leave out those without."""

    async def attachments(self, ticket: Ticket, /) -> list[Attachment]:
        """Return the readable attachments of a ticket, without queueing it."""


@dataclass(frozen=True, slots=True)
class CustomFields:
    """The custom fields of a ticket: their values as a text for people, and their files.

    ``values`` are (group, title, value) in the order of the helpdesk, without passwords and
    empty ones; the value of a file is its name.
    """

    values: tuple[tuple[str, str, str], ...] = ()
    files: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A name that tickets and notes refer to by id.

    ``kind`` is ``priority``, ``type`` or ``staff``; only staff has an ``email``.
    """

    kind: str
    id: int
    title: str
    email: str = ""


@runtime_checkable
class HoldsFiles(Protocol):
    """A source of files that belong to no post; it raises what :class:`Source` does."""

    async def fetch_other(
        self, kind: str, place: str, attachment_id: int, make_sink: Callable[[], S], /
    ) -> Fetched[S]:
        """Stream a file that belongs to no post into a sink, as :meth:`Source.fetch` does.

        ``kind`` and ``place`` are those of its :class:`Attachment`.
        """


@runtime_checkable
class HoldsLinks(HoldsFiles, Protocol):
    """A source whose texts may link to files of its own."""

    def linked(self, text: str, ticket_id: int, post_id: int, /) -> list[Attachment]:
        """Return the files that a text links to, as files of its post; without a request.

        Texts of articles have ticket and post 0. Safe from any thread.
        """


@runtime_checkable
class HoldsFields(HoldsFiles, Protocol):
    """A source whose tickets may have custom fields; it raises what :class:`Source` does."""

    async def count_fields(self) -> tuple[int, int]:
        """Return the numbers of custom fields of tickets, and of those that hold files.

        Raises NotFound when the helpdesk does not offer the call.
        """

    async def custom_fields(self, ticket_id: int, /, copy: CopySink | None = None) -> CustomFields:
        """Return the custom fields of a ticket, also of one that was merged into another.

        The reply goes into ``copy`` as well. Raises NotFound when there is no such ticket.
        """


@runtime_checkable
class HoldsArticles(HoldsFiles, Protocol):
    """A source with a knowledge base, or a troubleshooter; it raises what :class:`Source` does."""

    def articles(self, kind: str, /) -> AsyncIterator[Article]:
        """Yield all articles (``article``) or troubleshooter steps (``step``) with their files.

        One with the note ``odd_row`` has only its id and files. Raises NotFound when the helpdesk
        offers none of the kind, another SourceError when not all of them could be read.
        """


@runtime_checkable
class HoldsMore(HoldsFields, HoldsArticles, Protocol):
    """A source that has more than tickets and their posts; it raises what :class:`Source` does."""

    async def labels(self) -> list[Label]:
        """Return the names of priorities, types and staff, as far as the helpdesk tells them."""


@runtime_checkable
class HasLimits(Protocol):
    """A source that knows what a helpdesk of its kind may have and no API gives, in words."""

    beyond: str


class Source(Protocol):
    """A helpdesk. Each call raises SourceError when it gets no proper answer.

    Of those SourceRefused, and all others with ``Again.STOP``, end a run; NotFound says that the
    helpdesk has no such thing (any more); the others concern that one call only.
    """

    @property
    def requests(self) -> Counter[str]:
        """The requests so far, by kind: ``pages``, ``lists``, ``fetches`` and ``others``."""

    def pages(self, tickets: int, /) -> int:
        """Return the number of requests for pages that a whole listing of so many tickets takes."""

    async def probe(self) -> None:
        """Make a light request, to check that the source answers."""

    async def directory(self) -> Directory:
        """Return the departments and statuses; called before each listing."""

    async def compare(self, known: Sequence[Ticket], /) -> Likeness:
        """Return how well this helpdesk agrees with tickets that an archive knows."""

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
        """Pass each ticket of the scope to the receiver, and again when it changed meanwhile.

        With an ``increment`` those that were active since; ``fast`` lists only tickets with
        attachments, as far as the source can tell, and fills in ``preview``. Of ids that no list
        names at most ``most_gaps`` are requested; None sets no bound. Returns when all is settled
        or the run is to stop, and raises only what ends a run.
        """

    async def locate(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        """Return a ticket, or the one it was merged into; None when it was deleted.

        ``in_no_list`` says that no list names the ticket: it saves a request.
        """

    async def thread(self, ticket_id: int, copy: CopySink | None = None) -> Thread:
        """Return a ticket with its posts, or the one it was merged into; NotFound if deleted.

        The reply with what is returned goes into ``copy`` as well.
        """

    async def attachments(self, ticket: Ticket) -> list[Attachment]:
        """Return the attachments of a ticket by id; PartialReply has the readable part."""

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        """Stream one attachment into a sink, which is whole when this returns.

        Each try gets a sink of its own; that of a failed try was aborted. Raises NotFound when
        there is no such attachment, WrongTicket when it is of another ticket.
        """


# Shared by sources and runs


async def in_pool(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread; when cancelled, wait for it to end before giving way.

    A thread cannot be stopped: cleanup after a cancellation must not find it still writing. Work
    that has not begun is dropped.
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
    """Raise an error that ends a run; any other one concerns only its own call.

    ``kinds`` are errors after which no other request will be answered, either.
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
    """Await ``work`` for each item, so many at once, and begin no more once stopping.

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

    A bug comes first, then an error of our own archive, then of the source.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [most_telling(one) for one in error.exceptions]
    return min(
        leaves, key=lambda one: (isinstance(one, MigratorError), isinstance(one, SourceError))
    )
