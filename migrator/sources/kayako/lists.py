"""Lists of departments, statuses, tickets, posts and attachments, read row by row with expat.

A list is its root, its rows, and white space; comments do not count. Anything else in a reply makes
it a :class:`PartialReply`, which carries what could be read all the same and proves nothing about
the rest. Within a row, an invalid number costs its field, and only a missing id costs the row.

A document that is not well-formed is sanitised once, explicitly, and parsed strictly again. If that
fails, each row is parsed strictly by itself, so that one damaged row costs itself only. No tree is
built, and no parser outlives its reply: libxml2 keeps every name that a thread has ever seen.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import Generic, Protocol, Self, TypeVar
from xml.parsers import expat

from migrator.errors import NotXml, PartialReply, TooLarge, Truncated, UnexpectedReply
from migrator.sources.base import Attachment, Department, Label, Note, Post, Ticket, TicketStatus
from migrator.sources.kayako import cleaning, replies
from migrator.sources.kayako.limits import (
    DEPTH,
    DIRECTORY_ROWS,
    ELEMENTS,
    FIELD,
    FIELDS,
    LIST_BYTES,
    NAME,
    PIECE,
    POSTS,
    ROWS,
    TEXT,
    TOKEN,
)
from migrator.sources.kayako.signing import scrub_query

UNKNOWN_PRIVACY = "unknown_privacy"
"""A reply of staff, of which an old version does not say whether users see it."""
MOST_PROBLEMS = 100
"""The most problems named of one list."""

_WHITE = " \t\r\n"
_TOLD = 3
_QUOTED = 80
_ATTRIBUTES = rb"(?:\s(?:[^<>\"'/]++|\"[^<\"]*+\"|'[^<']*+')*+)?"
CLOSED_BY = {b"<![CDATA[": b"]]>", b"<!--": b"-->", b"<?": b"?>"}
_MOST_POSTS = 10**12 - 1
"""The largest id of a post or a note: the ledger numbers notes above it."""
_MOST_ATTACHMENTS = 10**15 - 1
"""The largest id of an attachment: files of other kinds have their numbers above it."""
_KINDS = {
    "": "ticket",
    "ticket": "ticket",
    "timetrack": "timetrack",
    "user": "user",
    "userorganization": "organization",
}
"""The types of notes; old versions may leave the type out, that of a time track too."""
_DETAILS: tuple[str, ...] = (
    *("priorityid", "typeid", "ownerstaffid", "userorganization", "lastreplier", "laststaffreply"),
    *("lastuserreply", "slaplanid", "nextreplydue", "resolutiondue", "replies", "ipaddress"),
    *("creator", "creationmode", "creationtype", "isescalated", "escalationruleid"),
    *("templategroupid", "templategroupname", "tags"),
)
"""Elements of a ticket that are kept as they are."""
_LISTED = ("watcher", "workflow")
"""Elements that a ticket may have several of, with attributes only."""
_MOST_LISTED = 1000
_STAFF = 1
"""The ``creator`` of a post by staff."""
_TEXTS = frozenset({"contents", "note"})
_SEVERAL = frozenset({"note", *_LISTED})
_MARKUP = re.compile(
    r"<br\s*/?>|</(?:p|div|span|a|b|i|u|em|strong|ul|ol|li|table|pre|h[1-6])\s*>", re.IGNORECASE
)
"""Only an editor writes these: no flag says whether a note is HTML."""
_CONTAINERS = frozenset({"posts", "usergroups", "attachments"})
_KEYS = frozenset({"id", "displayid"})
"""Fields that no two rows share."""
_ID = re.compile(rb"<id>\s*+(?:<!\[CDATA\[)?\s*+([0-9]{1,19})\s*+(?:\]\]>|</)")
_KEY = re.compile(rb"<\w+\s(?:[^<>]{0,1000}\s)?id\s*=\s*[\"']\s*([0-9]{1,19})\s*[\"']")
_FIELD = re.compile(
    rb"<([a-z]+)>\s*+(?:<!\[CDATA\[((?:[^<\]]|\](?!\]>)|<(?!/\1>))*+)|([^<]*+)</\1>)"
)
"""A field of a damaged row, whose value ends with its CDATA section or its end tag."""


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=_HasId)


@dataclass(slots=True)
class _Row:
    """One element of a list: its attributes, its own text, and the text of its children."""

    attributes: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    """The text of each child, of the first where there are several."""
    several: dict[str, list[tuple[dict[str, str], str]]] = field(default_factory=dict)
    """The attributes and texts of children that there may be several of."""
    posts: list[_Row] = field(default_factory=list)
    own: str = ""
    is_root: bool = False
    is_torn: bool = False
    """Whether it names two ids, as where the tags between two rows are lost."""
    damaged: bool = False
    """Whether it is not well-formed, and only guessed at."""

    @classmethod
    def guess(cls, piece: bytes, *, several_ids: bool) -> Self:
        """Read as much as possible of a row that is not well-formed."""
        values: dict[str, str] = {}
        for found in _FIELD.finditer(piece):
            if (tag := found[1].decode()) not in values:
                value = (found[2] or found[3] or b"")[: TEXT + 1].decode(errors="replace")
                values[tag] = value if found[2] is not None else html.unescape(value)
        ids = [one.decode() for one in _ID.findall(piece)]
        values["id"] = ids[0] if ids else ""
        key = _KEY.match(piece)
        named = {"id": key[1].decode()} if key else {}
        return cls(named, values, is_torn=several_ids and len(set(ids)) > 1, damaged=True)

    def text(self, tag: str) -> tuple[str, tuple[str, ...]]:
        """Return a child's text with its line breaks, and what was done to it."""
        return cleaning.clean_text(self.values.get(tag) or "", TEXT)

    def line(self, tag: str) -> str:
        """Return a child's text as one clean line."""
        return self.name(tag)[0]

    def name(self, tag: str) -> tuple[str, bool]:
        """Return a child's text as one clean line, and whether it had to be repaired."""
        text = self.values.get(tag) or ""
        name, repaired = cleaning.clean_name(text[:NAME])
        return name, repaired or len(text) > NAME

    def number(self, tag: str, most: int = cleaning.MOST) -> int | None:
        """Return a child's number, 0 where there is no child; None if it is not a number."""
        return cleaning.number(self.values.get(tag), most)

    def date(self, tag: str) -> int | None:
        """Return a child's time in Unix seconds, as :meth:`number` does."""
        return cleaning.number(self.values.get(tag), cleaning.LAST_SECOND)

    def flag(self, tag: str) -> bool:
        """Return whether a child says yes."""
        return (self.values.get(tag) or "").strip() not in {"", "0"}


@dataclass(slots=True)
class _Reply(Generic[R]):
    """The records of one reply, and its problems."""

    what: str
    child: str
    make: Callable[[_Row, _Reply[R]], R | None]
    """Return the record of a row; None for a row without id."""
    most: int = ROWS
    rows: int = 0
    records: list[R] = field(default_factory=list)
    noise: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    lost: list[int] = field(default_factory=list)
    doubted: list[int] = field(default_factory=list)
    strays: bool = False

    def again(self) -> _Reply[R]:
        """Return what was known before the first row, for another way to read the rows."""
        return replace(self, records=[], lost=[], doubted=[])

    def doubt(self, problem: str, *, stray: bool = True) -> None:
        """Add a problem; one that is not a ``stray`` costs a single row."""
        self.strays = self.strays or stray
        if len(self.problems) < MOST_PROBLEMS:
            self.problems += (problem,)

    def take(self, row: _Row) -> None:
        """Add the record of the next row."""
        self.rows += 1
        if self.rows > self.most:
            raise TooLarge(f"{self.what}: the reply holds more than {self.most:,} rows.")
        record = self.make(row, self)
        if record is None:
            self.lost.append(self.rows - 1)
            self.doubt(f"row {self.rows} is a {self.child} without id", stray=False)
            return
        self.records.append(record)
        if row.damaged:
            self.doubted.append(record.id)
        if row.is_torn:
            self.doubt(f"row {self.rows} names several ids")

    def whole(self, records: list[R]) -> list[R]:
        """Return the records of a fully readable reply; raises PartialReply."""
        if not self.problems:
            return records
        named = "; ".join(self.problems[:_TOLD]) + "; and more" * (len(self.problems) > _TOLD)
        raise PartialReply(
            f"{self.what}: the reply was only partly readable: {named}.",
            rows=records,
            problems=self.problems,
            lost=self.lost,
            doubted=self.doubted,
            strays=self.strays,
        )


def parse_departments(body: bytes, *, what: str) -> list[Department]:
    """Read the reply to ``/Base/Department``: departments of all apps.

    Raises what all of these do: PartialReply, UnexpectedReply, NotXml, Truncated, MemoryExhausted.
    """
    reply = _Reply(what, "department", _department, most=DIRECTORY_ROWS)
    reply = _read(body, "departments", reply)
    return reply.whole(reply.records)


def parse_statuses(body: bytes, *, what: str) -> list[TicketStatus]:
    """Read the reply to ``/Tickets/TicketStatus``."""
    reply = _Reply(what, "ticketstatus", _status, most=DIRECTORY_ROWS)
    reply = _read(body, "ticketstatuses", reply)
    return reply.whole(reply.records)


LABELS = {
    "priority": ("/Tickets/TicketPriority", "ticketpriorities", "ticketpriority"),
    "type": ("/Tickets/TicketType", "tickettypes", "tickettype"),
    "staff": ("/Base/Staff", "staffusers", "staff"),
}
"""The calls for names that tickets refer to, and the elements of their replies."""


def parse_labels(body: bytes, *, kind: str, what: str) -> list[Label]:
    """Read the reply to one of the calls of LABELS."""
    _, root, child = LABELS[kind]
    reply = _Reply(what, child, partial(_label, kind=kind), most=DIRECTORY_ROWS)
    reply = _read(body, root, reply)
    return reply.whole(reply.records)


def _label(row: _Row, _: _Reply[Label], *, kind: str) -> Label | None:
    number = row.number("id", _MOST_POSTS)
    if not number:
        return None
    names = (row.line("firstname"), row.line("lastname"))
    title = row.line("title") or row.line("fullname") or " ".join(filter(None, names))
    return Label(kind, number, title, row.line("email") if kind == "staff" else "")


def parse_tickets(body: bytes, *, what: str) -> list[Ticket]:
    """Read the reply to ``/Tickets/Ticket/ListAll``.

    A damaged row with a readable id is in a PartialReply, as doubted. A note that cannot be read
    is a problem of its ticket alone.
    """
    reply = _read(body, "tickets", _Reply(what, "ticket", _ticket))
    return _sound(reply)


def parse_ticket(body: bytes, *, what: str) -> list[Ticket]:
    """Read the reply to ``/Tickets/Ticket/{id}``, with posts; all of it must be readable."""
    reply = _read(body, "tickets", _Reply(what, "ticket", _ticket))
    for problem in (problem for ticket in reply.records for problem in ticket.problems):
        reply.doubt(problem)
    return _sound(reply)


def _sound(reply: _Reply[Ticket]) -> list[Ticket]:
    for number in reply.doubted:
        reply.doubt(f"the row of ticket {number} is damaged", stray=False)
    return reply.whole(reply.records)


def parse_ticket_count(body: bytes, *, what: str) -> int:
    """Read the reply to ``/Tickets/Ticket/GetTicketCount``."""
    reply = _read(body, "tickets", _Reply(what, "totalcount", _count))
    if not reply.problems and len(reply.records) == 1:
        return reply.records[0].id
    raise UnexpectedReply(f"{what}: the reply is no totalcount.")


def parse_attachments(body: bytes, *, what: str, ticket_id: int = 0) -> list[Attachment]:
    """Read the reply to ``/Tickets/TicketAttachment/ListAll``; contents are ignored.

    Rows that name no ticket get ``ticket_id``; a row of any other ticket does not belong to the
    list, and two rows of one id must be equal. A damaged row with a readable id is returned
    with the note ``odd_row``.
    """
    make: Callable[[_Row, _Reply[Attachment]], Attachment | None]
    make = lambda row, reply: _attachment(row, reply.noise, ticket_id)  # noqa: E731
    reply = _read(body, "attachments", _Reply(what, "attachment", make))
    found = reply.records
    if ticket_id:
        for stranger in (one for one in found if one.ticket_id != ticket_id):
            reply.doubt(f"attachment {stranger.id} is of ticket {stranger.ticket_id}")
        found = [one for one in found if one.ticket_id == ticket_id]
    known: dict[int, Attachment] = {}
    twins = {one.id for one in found if known.setdefault(one.id, one) != one}
    for number in sorted(twins):
        reply.doubt(f"attachment {number} stands in it twice, as two files")
    return reply.whole([one for one in found if one.id not in twins or one is known[one.id]])


@dataclass(frozen=True, slots=True)
class _Count:
    id: int


def _count(row: _Row, _reply: _Reply[_Count]) -> _Count | None:
    text = row.own.strip()
    count = cleaning.number(text)
    if not text or count is None or row.is_root or row.values or row.damaged:
        return None
    return _Count(count)


def _department(row: _Row, _reply: _Reply[Department]) -> Department | None:
    number = row.number("id")
    if not number:
        return None
    return Department(
        id=number,
        title=row.line("title"),
        app=row.line("app") or row.line("module") or "tickets",
        type=row.line("type") or "public",
        parent_id=row.number("parentdepartmentid") or 0,
    )


def _status(row: _Row, _reply: _Reply[TicketStatus]) -> TicketStatus | None:
    number = row.number("id")
    if not number:
        return None
    return TicketStatus(
        id=number,
        title=row.line("title"),
        department_id=row.number("departmentid") or 0,
        resolved=row.flag("markasresolved"),
    )


def _ticket(row: _Row, reply: _Reply[Ticket]) -> Ticket | None:
    display_id = row.line("displayid")
    problems: list[str] = []
    ticket_id = (
        cleaning.number(row.attributes.get("id"))
        or row.number("id")
        or row.number("ticketid")
        # A helpdesk with sequential ids shows the plain id; a mask looks like ABC-123-45678.
        or cleaning.number(display_id)
    )
    if not ticket_id:
        return None
    department = row.number("departmentid")
    return Ticket(
        id=ticket_id,
        display_id=display_id,
        department_id=-1 if department is None else department,
        status_id=row.number("statusid") or 0,
        subject=row.line("subject"),
        full_name=row.line("fullname"),
        email=row.line("email"),
        owner_name=row.line("ownerstaffname"),
        created_at=row.date("creationtime") or 0,
        last_activity=row.date("lastactivity") or 0,
        posts=tuple(_posts_of(row, ticket_id, reply.doubt)),
        user_id=row.number("userid") or 0,
        organization_id=row.number("userorganizationid") or 0,
        details=_details(row),
        staff_notes=tuple(_notes_of(row, ticket_id, problems.append)),
        problems=tuple(problems[:MOST_PROBLEMS]),
    )


def _details(row: _Row) -> dict[str, object]:
    """Return what else is said of a ticket; without what is empty or 0, which mean the same."""
    found: dict[str, object] = {tag: row.line(tag) for tag in _DETAILS if tag in row.values}
    if not row.damaged:
        found["flagtype"] = cleaning.clean_name(row.attributes.get("flagtype", ""))[0]
        for tag in _LISTED:
            if tag in row.values:
                found[tag] = [
                    {name: cleaning.clean_name(value)[0] for name, value in attributes.items()}
                    for attributes, _ in islice(row.several.get(tag, ()), _MOST_LISTED)
                    if attributes
                ]
    return {tag: value for tag, value in found.items() if value not in ("", "0", [])}


def _posts_of(row: _Row, ticket_id: int, doubt: Callable[[str], None]) -> Iterator[Post]:
    for one in row.posts:
        if (post := _post(one, ticket_id)) is not None:
            yield post
        if post is None or one.is_torn:
            doubt(f"ticket {ticket_id} has a post without id, or with several")


def _post(row: _Row, ticket_id: int = 0) -> Post | None:
    # Some versions number the posts of each ticket in ``id``; attachments name the other one.
    number = row.number("ticketpostid", _MOST_POSTS) or row.number("id", _MOST_POSTS)
    if not number:
        return None
    text, notes = row.text("contents")
    created_at, creator = row.date("dateline"), row.number("creator") or 0
    if created_at is None:
        notes += (cleaning.ODD_NUMBER,)
    if creator == _STAFF and "isprivate" not in row.values:
        notes += (UNKNOWN_PRIVACY,)
    return Post(
        id=number,
        ticket_id=row.number("ticketid") or ticket_id,
        created_at=created_at or 0,
        creator=creator,
        full_name=row.line("fullname"),
        email=row.line("email"),
        is_html=row.flag("ishtml"),
        is_private=row.flag("isprivate"),
        has_attachments=row.flag("hasattachments"),
        text=text,
        notes=notes,
        is_emailed=row.flag("isemailed"),
    )


def _notes_of(row: _Row, ticket_id: int, doubt: Callable[[str], None]) -> Iterator[Note]:
    for attributes, text in row.several.get("note", ()):
        if (note := _note(attributes, text, ticket_id)) is not None:
            yield note
        else:
            doubt(f"ticket {ticket_id} has a note without id, or of an unknown type")


def _note(attributes: dict[str, str], said: str, ticket_id: int) -> Note | None:
    """Read a note: everything but its text is an attribute."""
    odd: list[str] = []

    def number(name: str, most: int = cleaning.MOST) -> int:
        value = cleaning.number(attributes.get(name), most)
        if value is None:
            odd.append(cleaning.ODD_NUMBER)
        return value or 0

    key, about = number("id", _MOST_POSTS), attributes.get("type", "")
    if not about and "timeworked" in attributes:
        about = "timetrack"
    if not key or (kind := _KINDS.get(about)) is None:
        return None
    text, notes = cleaning.clean_text(said, TEXT)
    dated = "billdate" if kind == "timetrack" else "creationdate"
    return Note(
        id=key,
        kind=kind,
        about=ticket_id if kind in ("ticket", "timetrack") else number(f"{about}id"),
        created_at=number(dated, cleaning.LAST_SECOND),
        author_id=number("creatorstaffid"),
        author_name=cleaning.clean_name(attributes.get("creatorstaffname", ""))[0],
        for_staff_id=number("forstaffid"),
        color=number("notecolor"),
        worked=number("timeworked"),
        billable=number("timebillable"),
        worked_at=number("workdate", cleaning.LAST_SECOND),
        worker_id=number("workerstaffid"),
        worker_name=cleaning.clean_name(attributes.get("workerstaffname", ""))[0],
        is_html=bool(_MARKUP.search(text)),
        text=text,
        notes=(*notes, *dict.fromkeys(odd)),
    )


def _attachment(row: _Row, noise: tuple[str, ...], ticket_id: int) -> Attachment | None:
    number = row.number("id", _MOST_ATTACHMENTS)
    if not number:
        return None
    filename, repaired = row.name("filename")
    notes: tuple[str, ...] = (cleaning.REPAIRED_NAME,) if repaired else ()
    filesize, created_at = row.number("filesize"), row.date("dateline")
    if row.damaged:
        filesize = created_at = 0
        notes += (cleaning.ODD_NUMBER, cleaning.ODD_ROW)
    elif filesize is None or created_at is None:
        notes += (cleaning.ODD_NUMBER,)
    return Attachment(
        id=number,
        ticket_id=row.number("ticketid") or ticket_id,
        post_id=row.number("ticketpostid", _MOST_POSTS) or 0,
        filename=filename,
        filesize=filesize or 0,
        filetype=row.line("filetype"),
        created_at=created_at or 0,
        notes=notes + noise,
    )


def _read(body: bytes, root: str, reply: _Reply[R]) -> _Reply[R]:
    """Return a reply with the records of its rows.

    Raises UnexpectedReply, NotXml, Truncated, TooLarge or MemoryExhausted.
    """
    what, roots = reply.what, (root, reply.child)
    start = replies.find_document(body, roots)
    if start is None:
        raise replies.no_document(body, what=what)
    end = _end(body, start, roots)
    if end is None:
        if replies.out_of_memory(body[-2048:]):
            raise replies.exhausted(what)
        raise Truncated(f"{what}: the reply ends in the middle of its document.")
    if len(body) - end > replies.SEARCH_LIMIT:
        raise TooLarge(f"{what}: more than {replies.SEARCH_LIMIT:,} bytes follow the list.")
    around = (body[:start], body[end:])
    declared = body.startswith(b"<?xml", start)
    if _look_around(reply, *around, roots, declared=declared):
        end = len(body)  # there may be rows in it
    codec = cleaning.codec_of(body[start : min(end, start + PIECE)], what=what)
    found = reply.again()
    try:
        _take_document(found, _cut(body, start, end), root)
    except expat.ExpatError:
        found = reply.again()
        try:
            _take_document(found, _cleaned(body, start, end, codec), root, "utf-8")
        except expat.ExpatError as error:
            found = reply.again()
            _take_pieces(found, _cleaned(body, start, end, codec), root)
            if not found.rows:
                said = replies.excerpt(str(error).encode("utf-8", "replace"))
                raise NotXml(f"{what}: the reply is broken XML: {said}.") from None
    _must_be_a_list(found, around)
    return found


def _cut(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield a document in pieces."""
    for at in range(start, end, PIECE):
        yield body[at : min(at + PIECE, end)]


def _cleaned(body: bytes, start: int, end: int, codec: str) -> Iterator[bytes]:
    """Yield the sanitised form of a document in pieces: UTF-8, whatever it declares."""
    sanitiser = cleaning.Sanitiser(codec)
    for piece in _cut(body, start, end):
        yield sanitiser.feed(piece)
    yield sanitiser.feed(b"", final=True)


def _must_be_a_list(reply: _Reply[R], around: tuple[bytes, bytes]) -> None:
    """Raise UnexpectedReply or MemoryExhausted for a reply without rows that is no list."""
    if reply.rows:
        return
    if any(map(replies.out_of_memory, around)):
        raise replies.exhausted(reply.what)
    if reply.problems:
        raise UnexpectedReply(
            f"{reply.what}: the reply is no list of this kind: {reply.problems[0]}."
        )


def _look_around(
    reply: _Reply[R], before: bytes, after: bytes, roots: tuple[str, ...], *, declared: bool
) -> bool:
    """Add problems around a document; return whether more than noise follows it."""
    if not (replies.is_noise(before) or replies.is_noise(after)):
        return False
    reply.noise = (replies.NOISE_AROUND_XML,)
    first = replies.more_than_noise(before, roots, declared=declared)
    tags = [first, replies.more_than_noise(after, roots)]
    for tag in filter(None, tags):
        reply.doubt(f"{_quoted(tag)} stands outside of the list")
    return bool(tags[1])


def _end(body: bytes, start: int, roots: tuple[str, ...]) -> int | None:
    """Return where the document ends: after the last end tag of its root."""
    names = b"|".join(root.encode() for root in roots)
    root = re.compile(rb"<(" + names + rb")" + _ATTRIBUTES + rb"/?>").search(body, start)
    if root is None:
        return None
    if root[0].endswith(b"/>"):
        return root.end()
    last = body.rfind(b"</" + root[1])
    close = body.find(b">", last) if last > root.start() else -1
    return close + 1 if close >= 0 else None


def _take_document(
    reply: _Reply[R], pieces: Iterable[bytes], root: str, encoding: str | None = None
) -> None:
    """Read the rows of a well-formed list, and add what else it holds as problems."""
    reader = _Reader(reply.what, root, reply.child, reply.take, reply.doubt, encoding=encoding)
    for piece in pieces:
        reader.feed(piece)
    reader.close()


def _take_pieces(reply: _Reply[R], pieces: Iterable[bytes], root: str) -> None:
    """Read the rows of a malformed list one by one, and add what else it holds as problems."""
    document = bytearray()
    for piece in pieces:
        document += piece
        if len(document) > 2 * LIST_BYTES:  # repairs take room
            raise TooLarge(f"{reply.what}: the reply is broken in too many places.")
    row = reply.child.encode()
    edge = re.compile(rb"</" + row + rb"\s*>\s*(?=<" + row + rb"[\s/>])")

    def take(piece: bytes) -> None:
        if (whole := _strictly(piece, reply.child)) is not None:
            reply.take(whole)
            return
        # A CDATA section without its end reaches into the following rows.
        cuts = [0, *(found.end() for found in edge.finditer(piece)), len(piece)]
        for begin, end in pairwise(cuts):
            part = piece[begin:end]
            whole = _strictly(part, reply.child) if len(cuts) > 2 else None
            several = reply.child == "attachment"
            reply.take(whole or _Row.guess(part, several_ids=several))

    _Cutter(reply, document, root, take).cut()


def _strictly(piece: bytes, child: str) -> _Row | None:
    """Return a row that is well-formed by itself."""
    rows: list[_Row] = []
    reader = _Reader("", "", child, rows.append, lambda _: None)
    try:
        for start in range(0, len(piece), PIECE):
            reader.feed(piece[start : start + PIECE])
        reader.close()
    except (expat.ExpatError, NotXml, TooLarge):
        return None
    return rows[0] if rows else None


class _Reader:
    """Reads the rows of one well-formed list, and keeps none of them.

    ``take`` gets each row, ``doubt`` whatever is no row. Raises expat.ExpatError for a document
    that is not well-formed, and NotXml or TooLarge for one that is beyond a bound.
    """

    def __init__(
        self,
        what: str,
        root: str,
        child: str,
        take: Callable[[_Row], None],
        doubt: Callable[[str], None],
        *,
        encoding: str | None = None,
    ) -> None:
        self._what = what
        self._root = root
        self._child = child
        self._take = take
        self._doubt = doubt
        self._fed = self._depth = self._elements = self._misplaced = 0
        self._place = 0
        """The depth of rows; 0 where there are none."""
        self._opened: _Open | None = None
        """The row that is being read, or its post."""
        self._between: list[str] = []
        self._parser = parser = expat.ParserCreate(encoding, "}", intern=None)
        parser.buffer_text = True
        parser.buffer_size = PIECE
        if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6 and later
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters

    def feed(self, piece: bytes) -> None:
        """Read the next piece."""
        self._fed += len(piece)
        self._parser.Parse(piece, False)
        if self._fed - self._parser.CurrentByteIndex > TOKEN:
            raise NotXml(f"{self._what}: the reply holds a tag of more than {TOKEN:,} bytes.")

    def close(self) -> None:
        """End the document."""
        self._parser.Parse(b"", True)
        if self._misplaced:
            self._doubt(f"a {self._child} stands where no row can be")

    # Most elements are fields of a row, most texts theirs: these come first.

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        self._elements += 1 + len(attributes)
        if self._elements > ELEMENTS:
            raise TooLarge(f"{self._what}: the reply holds more than {ELEMENTS:,} elements.")
        opened = self._opened
        if tag.endswith(self._child) and tag.rpartition("}")[2] == self._child:
            if tag == self._child and depth in (1, self._place):
                self._start_row(attributes)
                return
            self._misplaced += bool(self._place)  # rows within rows, and those of a namespace
        if opened is None:
            self._start_outside(tag)
        elif depth == opened.level:
            if len(opened.row.values) > FIELDS:
                raise TooLarge(f"{self._what}: a row has more than {FIELDS:,} different fields.")
            opened.begin(tag, attributes)
        elif depth > DEPTH:
            raise TooLarge(f"{self._what}: the reply is nested more than {DEPTH} deep.")
        elif tag == "post" and opened.tag == "posts" and depth == opened.level + 1:
            self._start_post(opened, attributes)
        else:
            opened.nested = True

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._flush()
        if self._depth == 1:
            self._place = 1
        self._opened = _Open(self._depth + 1, _Row(attributes, is_root=self._depth == 1))

    def _start_post(self, ticket: _Open, attributes: dict[str, str]) -> None:
        if len(ticket.row.posts) >= POSTS:
            raise TooLarge(f"{self._what}: a ticket has more than {POSTS:,} posts.")
        ticket.row.posts.append(post := _Row(attributes))
        self._opened = _Open(self._depth + 1, post, within=ticket)

    def _start_outside(self, tag: str) -> None:
        """Start an element that is neither a row nor in one."""
        if self._depth == 1:
            self._place = 2 if tag == self._root else 0
            if not self._place:
                self._doubt(f"its root is {_quoted(f'<{_shown(tag)}>')}")
        elif self._depth == self._place:
            self._flush()
            self._doubt(f"{_quoted(f'<{_shown(tag)}>')} stands among the rows")
        elif self._depth > DEPTH:
            raise TooLarge(f"{self._what}: the reply is nested more than {DEPTH} deep.")

    def _end(self, _tag: str) -> None:
        depth, opened = self._depth, self._opened
        self._depth = depth - 1
        if opened is None:
            if depth == 1:
                self._flush()
        elif depth == opened.level:
            opened.end()
        elif depth < opened.level:
            self._opened = opened.within
            if self._opened is None:
                self._take(opened.row)

    def _characters(self, text: str) -> None:
        if (opened := self._opened) is not None:
            if opened.tag is not None:
                opened.add(text)
            elif len(opened.row.own) < _QUOTED and not text.isspace():
                opened.row.own += text[:_QUOTED]
        elif self._depth == 1 and self._place and (stray := text.strip(_WHITE)):
            self._between = [*self._between[:_QUOTED], stray[: 4 * _QUOTED]]

    def _flush(self) -> None:
        """Add the text between two rows as a problem."""
        if self._between:
            self._doubt(f"{_quoted(''.join(self._between))} stands among the rows")
            self._between = []


class _Open:
    """A row that is being read, and its child; ``within`` is the row that it is a part of."""

    __slots__ = ("attributes", "level", "nested", "row", "size", "tag", "texts", "within")

    def __init__(self, level: int, row: _Row, within: _Open | None = None) -> None:
        self.level = level
        """The depth of the children."""
        self.row = row
        self.within = within
        self.begin("", {})
        self.tag: str | None = None

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin a child."""
        self.tag = tag
        self.attributes = attributes
        self.texts: list[str] = []
        self.size = 0
        self.nested = False

    def add(self, text: str) -> None:
        """Add text of the child, up to its bound."""
        if self.size <= (TEXT if self.tag in _TEXTS else FIELD):
            self.texts.append(text)
            self.size += len(text)

    def end(self) -> None:
        """End the child."""
        tag, self.tag = self.tag, None
        assert tag is not None  # noqa: S101 - expat pairs the tags
        text = "".join(self.texts)
        if tag in _CONTAINERS:
            text = ""
        elif self.nested:
            text = cleaning.MARK + text
        if tag in _KEYS:
            self.row.is_torn |= self.row.values.get(tag, text).strip() != text.strip()
        elif tag in _SEVERAL:
            self.row.several.setdefault(tag, []).append((self.attributes, text))
        self.row.values.setdefault(tag, text)


def _shown(tag: str) -> str:
    """Return a tag with its namespace as people write it."""
    return "{" + tag if "}" in tag else tag


class _Cutter:
    """Cuts a malformed list into its rows, and adds what else it holds as problems."""

    def __init__(
        self,
        reply: _Reply[R],
        document: bytes | bytearray,
        root: str,
        take: Callable[[bytes], None],
    ) -> None:
        self._reply = reply
        self._take = take
        self._document = document
        self._row = reply.child.encode()
        self._marks = re.compile(
            rb"<!\[CDATA\[|<!--|<\?|<(/?)(%s|%s)(?=[\s/>])" % (root.encode(), self._row)
        )
        self._begin = -1  # of the row that is being cut out
        self._outside = -1  # where the text between two rows began
        self._lists = self._ends = 0
        self._endless: set[bytes] = set()

    def cut(self) -> None:
        """Pass on what looks like rows, each up to its end tag or the next row's tag."""
        at = 0
        while mark := self._marks.search(self._document, at):
            at = self._skip(mark) if mark[2] is None else self._take_tag(mark)
        self._stop(len(self._document), at_row=False)
        if self._endless or not self._ends:
            self._reply.doubt("something in it has no end")
        if self._lists > 1:
            self._reply.doubt("it holds two lists")

    def _skip(self, mark: re.Match[bytes]) -> int:
        """Skip a CDATA section, a comment or an instruction, if it has an end."""
        close = CLOSED_BY[mark[0]]
        end = -1 if close in self._endless else self._document.find(close, mark.end())
        if end < 0:
            self._endless.add(close)
            return mark.end()
        end += len(close)
        if self._begin < 0 and close != b"]]>":
            self._stop(mark.start(), at_row=True)
            self._outside = end
        return end

    def _take_tag(self, mark: re.Match[bytes]) -> int:
        end = self._document.find(b">", mark.end()) + 1 or len(self._document)
        is_row, is_end = mark[2] == self._row, bool(mark[1])
        is_empty = self._document[end - 2 : end] == b"/>"
        self._stop(end if is_row and is_end else mark.start(), at_row=is_row)
        self._outside = end
        if not is_row:
            self._lists += not is_end
            self._ends += is_end or is_empty
        elif not is_end:
            self._begin = mark.start()
            if is_empty:
                self._stop(end, at_row=True)
        return end

    def _stop(self, end: int, *, at_row: bool) -> None:
        """End the current row, or check the text between two rows."""
        if self._begin >= 0:
            begin, self._begin = self._begin, -1
            self._take(bytes(self._document[begin:end]))
            if not at_row:
                self._reply.doubt("a row has no end")
        elif self._outside >= 0:
            text = bytes(self._document[self._outside : end]).strip(_WHITE.encode())
            if text:
                said = _quoted(text[: 16 * _QUOTED].decode(errors="replace"))
                self._reply.doubt(f"{said} stands among the rows")


def _quoted(text: str) -> str:
    """Return the beginning of an unexpected text, for people."""
    line = "".join(char if char.isprintable() else " " for char in text[: 4 * _QUOTED])
    line = scrub_query(" ".join(line.split()))
    return f'"{line}"' if len(line) <= _QUOTED else f'"{line[:_QUOTED]}…"'
