"""Lists of departments, statuses, tickets, posts and attachments, read with lxml.

A list is its root, its rows, and white space; comments do not count. Anything else in a reply makes
it a :class:`PartialReply`, which carries what could be read all the same and proves nothing about
the rest. Within a row, an invalid number costs its field, and only a missing id costs the row.

Never ``recover=True``: it turns a cut document into a whole one and invents names. A document
that is not well-formed is sanitised once, explicitly, and parsed strictly again. If that fails,
each row is parsed strictly by itself, so that one damaged row costs itself only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Protocol, Self, TypeVar

from lxml import etree

from migrator.errors import NotXml, PartialReply, Truncated, UnexpectedReply
from migrator.sources.base import Attachment, Department, Note, Post, Ticket, TicketStatus
from migrator.sources.kayako import cleaning, replies
from migrator.sources.kayako.signing import scrub_query

TEXT_LIMIT = 4 << 20
"""Bytes of UTF-8 kept of the text of one post."""
MOST_ROWS = 1_000_000
"""The most rows of one list."""

MOST_PROBLEMS = 100
"""The most problems named of one list."""

_WHITE = " \t\r\n"
_TOLD = 3
_QUOTED = 80
_ATTRIBUTES = rb"(?:\s(?:[^<>\"'/]|\"[^<\"]*\"|'[^<']*')*)?"
_CLOSED_BY = {b"<![CDATA[": b"]]>", b"<!--": b"-->", b"<?": b"?>"}
_NESTED = etree.XPath("boolean(*/*/*)")
_MOST_POSTS = 10**12 - 1
"""The largest id of a post or a note: the ledger numbers notes above it."""
_KINDS = {
    "": "ticket",
    "ticket": "ticket",
    "timetrack": "timetrack",
    "user": "user",
    "userorganization": "organization",
}
"""The types of notes; old versions may leave the type out."""
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
_MARKUP = re.compile(
    r"<br\s*/?>|</(?:p|div|span|a|b|i|u|em|strong|ul|ol|li|table|pre|h[1-6])\s*>", re.IGNORECASE
)
"""Only an editor writes these: no flag says whether a note is HTML."""
_CONTAINERS = frozenset({"posts", "usergroups", "attachments"})
_ID = re.compile(rb"<id>\s*+(?:<!\[CDATA\[)?\s*+([0-9]{1,19})\s*+(?:\]\]>|</)")
_KEY = re.compile(rb"<\w+\s(?:[^<>]*\s)?id\s*=\s*[\"']\s*([0-9]{1,19})\s*[\"']")
_FIELD = re.compile(
    rb"<([a-z]+)>\s*+(?:<!\[CDATA\[((?:[^<\]]|\](?!\]>)|<(?!/\1>))*+)|([^<]*+)</\1>)"
)
"""A field of a damaged row, whose value ends with its CDATA section or its end tag."""


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=_HasId)


@dataclass(frozen=True, slots=True)
class _Row:
    """One element of a list, and how to read its children."""

    values: dict[str, str | None]
    """The text of each child, of the first where there are several."""
    element: etree._Element | None
    """None for a damaged row, whose readable values are in ``values``."""
    key: str | None = None
    """The attribute ``id`` of a damaged row."""
    several_ids: bool = False

    @classmethod
    def of(cls, element: etree._Element, *, nested: bool = False) -> Self:
        """Read all children in one pass: searching each by name takes several times as long."""
        values = {child.tag: child.text for child in reversed(element)}
        if nested:
            for child in reversed(element):
                if len(child) and child.tag not in _CONTAINERS:  # markup within a value
                    values[child.tag] = cleaning.MARK + "".join(map(str, child.itertext()))
        several = len(values) != len(element) and len(_ids_of(element)) > 1
        return cls(values, element, several_ids=several)

    @classmethod
    def guess(cls, piece: bytes, *, several_ids: bool) -> Self:
        """Read as much as possible of a row that is not well-formed."""
        values: dict[str, str | None] = {}
        for found in _FIELD.finditer(piece):
            if (tag := found[1].decode()) not in values:
                value = (found[2] or found[3] or b"").decode(errors="replace")
                values[tag] = value if found[2] is not None else html.unescape(value)
        ids = _ID.findall(piece)
        key = _KEY.match(piece)
        values["id"] = ids[0].decode() if ids else None
        return cls(
            values,
            None,
            key=key[1].decode() if key else None,
            several_ids=several_ids and len(set(ids)) > 1,
        )

    def text(self, tag: str) -> tuple[str, tuple[str, ...]]:
        """Return a child's text with its line breaks, and what was done to it."""
        return cleaning.clean_text(self.values.get(tag) or "", TEXT_LIMIT)

    def line(self, tag: str) -> str:
        """Return a child's text as one clean line."""
        return self.name(tag)[0]

    def name(self, tag: str) -> tuple[str, bool]:
        """Return a child's text as one clean line, and whether it had to be repaired."""
        return cleaning.clean_name(self.values.get(tag) or "")

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
class _Reply:
    """The rows of one reply, and its problems."""

    what: str
    child: str
    rows: list[_Row] = field(default_factory=list)
    noise: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    doubted: list[int] = field(default_factory=list)
    strays: bool = False

    def doubt(self, problem: str, *, stray: bool = True) -> None:
        """Add a problem; one that is not a ``stray`` costs a single row."""
        self.strays = self.strays or stray
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def records(self, make: Callable[[_Row], R | None]) -> list[R]:
        """Return the records that ``make`` returns: those of rows with an id."""
        records: list[R] = []
        for place, row in enumerate(self.rows):
            record = make(row)
            if record is None:
                self.lost.append(place)
                self.doubt(f"row {place + 1} is a {self.child} without id", stray=False)
                continue
            records.append(record)
            if row.element is None:
                self.doubted.append(record.id)
            if row.several_ids:
                self.doubt(f"row {place + 1} names several ids")
        return records

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
    reply = _read(body, "departments", "department", what=what)
    return reply.whole(reply.records(_department))


def parse_statuses(body: bytes, *, what: str) -> list[TicketStatus]:
    """Read the reply to ``/Tickets/TicketStatus``."""
    reply = _read(body, "ticketstatuses", "ticketstatus", what=what)
    return reply.whole(reply.records(_status))


def parse_tickets(body: bytes, *, what: str) -> list[Ticket]:
    """Read the reply to ``/Tickets/Ticket/ListAll`` or ``/Tickets/Ticket/{id}`` (with posts).

    A damaged row with a readable id is in a PartialReply, as doubted.
    """
    reply = _read(body, "tickets", "ticket", what=what)
    tickets = reply.records(lambda row: _ticket(row, reply.doubt))
    for number in reply.doubted:
        reply.doubt(f"the row of ticket {number} is damaged", stray=False)
    return reply.whole(tickets)


def parse_ticket_count(body: bytes, *, what: str) -> int:
    """Read the reply to ``/Tickets/Ticket/GetTicketCount``."""
    reply = _read(body, "tickets", "totalcount", what=what)
    elements = [row.element for row in reply.rows if row.element is not None]
    if not reply.problems and len(reply.rows) == len(elements) == 1:
        (element,) = elements
        text = (element.text or "").strip()
        count = cleaning.number(text)
        if text and count is not None and element.getparent() is not None and not len(element):
            return count
    raise UnexpectedReply(f"{what}: the reply is no totalcount.")


def parse_attachments(body: bytes, *, what: str, ticket_id: int = 0) -> list[Attachment]:
    """Read the reply to ``/Tickets/TicketAttachment/ListAll``; contents are ignored.

    Rows that name no ticket get ``ticket_id``; a row of any other ticket does not belong to the
    list, and two rows of one id must be equal. A damaged row with a readable id is returned
    with the note ``odd_row``.
    """
    reply = _read(body, "attachments", "attachment", what=what)
    found = reply.records(lambda row: _attachment(row, reply.noise, ticket_id))
    if ticket_id:
        for stranger in (one for one in found if one.ticket_id != ticket_id):
            reply.doubt(f"attachment {stranger.id} is of ticket {stranger.ticket_id}")
        found = [one for one in found if one.ticket_id == ticket_id]
    known: dict[int, Attachment] = {}
    twins = {one.id for one in found if known.setdefault(one.id, one) != one}
    for number in sorted(twins):
        reply.doubt(f"attachment {number} stands in it twice, as two files")
    return reply.whole([one for one in found if one.id not in twins or one is known[one.id]])


def _department(row: _Row) -> Department | None:
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


def _status(row: _Row) -> TicketStatus | None:
    number = row.number("id")
    if not number:
        return None
    return TicketStatus(
        id=number,
        title=row.line("title"),
        department_id=row.number("departmentid") or 0,
        resolved=row.flag("markasresolved"),
    )


def _ticket(row: _Row, doubt: Callable[[str], None]) -> Ticket | None:
    display_id = row.line("displayid")
    ticket_id = (
        cleaning.number(row.key if row.element is None else row.element.get("id"))
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
        posts=tuple(_posts_of(row, ticket_id, doubt)),
        user_id=row.number("userid") or 0,
        organization_id=row.number("userorganizationid") or 0,
        details=_details(row),
        staff_notes=tuple(_notes_of(row, ticket_id, doubt)),
    )


def _details(row: _Row) -> dict[str, object]:
    """Return what else is said of a ticket; without what is empty or 0, which mean the same."""
    found: dict[str, object] = {tag: row.line(tag) for tag in _DETAILS if tag in row.values}
    if row.element is not None:
        found["flagtype"] = cleaning.clean_name(row.element.get("flagtype", ""))[0]
        for tag in _LISTED:
            if tag in row.values:
                found[tag] = [
                    {str(name): cleaning.clean_name(str(value))[0] for name, value in attributes}
                    for one in islice(row.element.iterfind(tag), _MOST_LISTED)
                    if (attributes := one.attrib.items())
                ]
    return {tag: value for tag, value in found.items() if value not in ("", "0", [])}


def _posts_of(row: _Row, ticket_id: int, doubt: Callable[[str], None]) -> Iterator[Post]:
    if row.element is None or "posts" not in row.values:
        return
    for element in row.element.iterfind("posts/post"):
        if (post := _post(_Row.of(element), ticket_id)) is not None:
            yield post
        else:
            doubt(f"ticket {ticket_id} has a post without id")


def _post(row: _Row, ticket_id: int = 0) -> Post | None:
    number = row.number("id", _MOST_POSTS) or row.number("ticketpostid", _MOST_POSTS)
    if not number:
        return None
    text, notes = row.text("contents")
    created_at = row.date("dateline")
    return Post(
        id=number,
        ticket_id=row.number("ticketid") or ticket_id,
        created_at=created_at or 0,
        creator=row.number("creator") or 0,
        full_name=row.line("fullname"),
        email=row.line("email"),
        is_html=row.flag("ishtml"),
        is_private=row.flag("isprivate"),
        has_attachments=row.flag("hasattachments"),
        text=text,
        notes=notes if created_at is not None else (*notes, cleaning.ODD_NUMBER),
    )


def _notes_of(row: _Row, ticket_id: int, doubt: Callable[[str], None]) -> Iterator[Note]:
    if row.element is None or "note" not in row.values:
        return
    for element in row.element.iterfind("note"):
        if (note := _note(element, ticket_id)) is not None:
            yield note
        else:
            doubt(f"ticket {ticket_id} has a note without id, or of an unknown type")


def _note(element: etree._Element, ticket_id: int) -> Note | None:
    """Read a note: everything but its text is an attribute."""
    odd: list[str] = []

    def number(name: str, most: int = cleaning.MOST) -> int:
        value = cleaning.number(element.get(name), most)
        if value is None:
            odd.append(cleaning.ODD_NUMBER)
        return value or 0

    key, said = number("id", _MOST_POSTS), element.get("type", "")
    if not key or (kind := _KINDS.get(said)) is None:
        return None
    nested = cleaning.MARK if len(element) else ""
    text, notes = cleaning.clean_text(nested + "".join(map(str, element.itertext())), TEXT_LIMIT)
    dated = "billdate" if kind == "timetrack" else "creationdate"
    return Note(
        id=key,
        kind=kind,
        about=ticket_id if kind in ("ticket", "timetrack") else number(f"{said}id"),
        created_at=number(dated, cleaning.LAST_SECOND),
        author_id=number("creatorstaffid"),
        author_name=cleaning.clean_name(element.get("creatorstaffname", ""))[0],
        for_staff_id=number("forstaffid"),
        color=number("notecolor"),
        worked=number("timeworked"),
        billable=number("timebillable"),
        worked_at=number("workdate", cleaning.LAST_SECOND),
        is_html=bool(_MARKUP.search(text)),
        text=text,
        notes=(*notes, *dict.fromkeys(odd)),
    )


def _attachment(row: _Row, noise: tuple[str, ...], ticket_id: int) -> Attachment | None:
    number = row.number("id")
    if not number:
        return None
    filename, repaired = row.name("filename")
    notes: tuple[str, ...] = (cleaning.REPAIRED_NAME,) if repaired else ()
    filesize, created_at = row.number("filesize"), row.date("dateline")
    if row.element is None:
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


def _read(body: bytes, root: str, child: str, *, what: str) -> _Reply:
    """Return the rows of a list; raises UnexpectedReply, NotXml, Truncated or MemoryExhausted."""
    roots = (root, child)
    start = replies.find_document(body, roots)
    if start is None:
        raise replies.no_document(body, what=what)
    end = _end(body, start, roots)
    if end is None:
        if replies.out_of_memory(body[-2048:]):
            raise replies.exhausted(what)
        raise Truncated(f"{what}: the reply ends in the middle of its document.")
    reply = _Reply(what, child)
    if _look_around(reply, body[:start], body[end:], roots):
        end = len(body)  # there may be rows in it
    document = body[start:end]
    codec = cleaning.codec_of(document, what=what)
    try:
        _take_children(reply, _parse(document), root)
    except etree.XMLSyntaxError:
        clean = cleaning.Sanitiser(codec).feed(document, final=True)
        try:
            _take_children(reply, _parse(clean, encoding="utf-8"), root)
        except etree.XMLSyntaxError as error:
            _take_pieces(reply, clean, root)
            if not reply.rows:
                said = replies.excerpt(error.msg.encode("utf-8", "replace"))
                raise NotXml(f"{what}: the reply is broken XML: {said}.") from None
    _must_be_a_list(reply, (body[:start], body[end:]))
    return reply


def _must_be_a_list(reply: _Reply, around: tuple[bytes, bytes]) -> None:
    """Raise UnexpectedReply or MemoryExhausted for too many rows, or for none if it is no list."""
    if len(reply.rows) > MOST_ROWS:
        raise UnexpectedReply(f"{reply.what}: the reply holds more than {MOST_ROWS:,} rows.")
    if reply.rows:
        return
    if any(map(replies.out_of_memory, around)):
        raise replies.exhausted(reply.what)
    if reply.problems:
        raise UnexpectedReply(
            f"{reply.what}: the reply is no list of this kind: {reply.problems[0]}."
        )


def _look_around(reply: _Reply, before: bytes, after: bytes, roots: tuple[str, ...]) -> bool:
    """Add problems around a document; return whether more than noise follows it."""
    if not (replies.is_noise(before) or replies.is_noise(after)):
        return False
    reply.noise = (replies.NOISE_AROUND_XML,)
    tags = [replies.more_than_noise(side, roots) for side in (before, after)]
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


def _parse(document: bytes, encoding: str | None = None) -> etree._Element:
    """Parse strictly; libxml2's default limit of 10,000,000 bytes per node is lifted."""
    return etree.fromstring(document, _parser(encoding))


def _parser(encoding: str | None) -> etree.XMLParser:
    return etree.XMLParser(
        encoding=encoding,
        huge_tree=True,
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )


def _take_children(reply: _Reply, top: etree._Element, root: str) -> None:
    """Read the rows of a well-formed list, and add what else it holds as problems."""
    if top.tag == reply.child:
        elements = [top]
    elif top.tag == root:
        elements = []
        _take_text(reply, top.text)
        for element in top:
            if element.tag == reply.child:
                elements.append(element)
            else:
                reply.doubt(f"{_quoted(f'<{element.tag}>')} stands among the rows")
            if (tail := element.tail) and tail.strip(_WHITE):
                _take_text(reply, tail)
    else:
        reply.doubt(f"its root is {_quoted(f'<{top.tag}>')}")
        return
    # Rows within rows, and those of a namespace, belong to some other list.
    if sum(1 for _ in top.iter("{*}" + reply.child)) != len(elements):
        reply.doubt(f"a {reply.child} stands where no row can be")
    nested = top.tag == reply.child or bool(_NESTED(top))
    reply.rows += [_Row.of(element, nested=nested) for element in elements]


def _take_text(reply: _Reply, text: str | None) -> None:
    if text and text.strip(_WHITE):
        reply.doubt(f"{_quoted(text)} stands among the rows")


def _take_pieces(reply: _Reply, document: bytes, root: str) -> None:
    """Read the rows of a malformed list one by one, and add what else it holds as problems."""
    parser = _parser("utf-8")
    row = reply.child.encode()
    edge = re.compile(rb"</" + row + rb"\s*>\s*(?=<" + row + rb"[\s/>])")
    for piece in _Cutter(reply, document, root).cut():
        if (whole := _strictly(piece, parser)) is not None:
            reply.rows.append(whole)
            continue
        # A CDATA section without its end reaches into the following rows.
        cuts = [0, *(found.end() for found in edge.finditer(piece)), len(piece)]
        for begin, end in pairwise(cuts):
            part = piece[begin:end]
            whole = _strictly(part, parser) if len(cuts) > 2 else None
            guess = whole or _Row.guess(part, several_ids=reply.child == "attachment")
            reply.rows.append(guess)


def _strictly(piece: bytes, parser: etree.XMLParser) -> _Row | None:
    """Return a row that is well-formed by itself."""
    try:
        return _Row.of(etree.fromstring(piece, parser), nested=True)
    except etree.XMLSyntaxError:
        return None


class _Cutter:
    """Cuts a malformed list into its rows, and adds what else it holds as problems."""

    def __init__(self, reply: _Reply, document: bytes, root: str) -> None:
        self._reply = reply
        self._document = document
        self._row = reply.child.encode()
        self._marks = re.compile(
            rb"<!\[CDATA\[|<!--|<\?|<(/?)(%s|%s)(?=[\s/>])" % (root.encode(), self._row)
        )
        self._begin = -1  # of the row that is being cut out
        self._outside = -1  # where the text between two rows began
        self._lists = self._ends = 0
        self._endless: set[bytes] = set()
        self._pieces: list[bytes] = []

    def cut(self) -> list[bytes]:
        """Return what looks like rows, each up to its end tag or the next row's tag."""
        at = 0
        while len(self._pieces) <= MOST_ROWS and (mark := self._marks.search(self._document, at)):
            at = self._skip(mark) if mark[2] is None else self._take_tag(mark)
        self._stop(len(self._document), at_row=False)
        if self._endless or not self._ends:
            self._reply.doubt("something in it has no end")
        if self._lists > 1:
            self._reply.doubt("it holds two lists")
        return self._pieces

    def _skip(self, mark: re.Match[bytes]) -> int:
        """Skip a CDATA section, a comment or an instruction, if it has an end."""
        close = _CLOSED_BY[mark[0]]
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
            self._pieces.append(self._document[self._begin : end])
            self._begin = -1
            if not at_row:
                self._reply.doubt("a row has no end")
        elif self._outside >= 0:
            _take_text(self._reply, self._document[self._outside : end].decode(errors="replace"))


def _ids_of(element: etree._Element) -> set[str]:
    return {(child.text or "").strip() for child in element.iterfind("id")}


def _quoted(text: str) -> str:
    """Return the beginning of an unexpected text, for people."""
    line = "".join(char if char.isprintable() else " " for char in text[: 4 * _QUOTED])
    line = scrub_query(" ".join(line.split()))
    return f'"{line}"' if len(line) <= _QUOTED else f'"{line[:_QUOTED]}…"'
