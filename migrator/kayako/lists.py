"""Lists of departments, statuses, tickets, posts and attachments, read with lxml.

Never ``recover=True``: it turns a cut document into a whole one and invents names. A document
that is not well-formed is sanitised once, explicitly, and parsed strictly again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from lxml import etree

from migrator.errors import NotXml, Truncated, UnexpectedReply
from migrator.kayako import cleaning, triage
from migrator.kayako.records import Attachment, Department, Post, Ticket, TicketStatus

TEXT_LIMIT = 4 << 20
"""Bytes of UTF-8 that are kept of the text of one post."""

_ATTRIBUTES = rb"(?:\s(?:[^<>\"'/]|\"[^<\"]*\"|'[^<']*')*)?"


@dataclass(frozen=True, slots=True)
class _Row:
    """One element of a list, and how to read its children."""

    element: etree._Element
    what: str
    values: dict[str, str | None]
    """The text of each child, of the first where there are several."""

    @classmethod
    def of(cls, element: etree._Element, what: str) -> Self:
        """Look at all children once: seeking each by its name takes several times as long."""
        return cls(element, what, {child.tag: child.text for child in reversed(element)})

    def text(self, tag: str) -> tuple[str, tuple[str, ...]]:
        """Return a child's text with its line breaks, and what was done to it."""
        return cleaning.clean_text(self.values.get(tag) or "", TEXT_LIMIT)

    def line(self, tag: str) -> str:
        """Return a child's text as one clean line."""
        return self.name(tag)[0]

    def name(self, tag: str) -> tuple[str, bool]:
        """Return a child's text as one clean line, and whether it had to be repaired."""
        return cleaning.clean_name(self.values.get(tag) or "")

    def number(self, tag: str) -> int:
        """Return a child's number, 0 where there is none."""
        return cleaning.number(self.element.findtext(tag), field=tag, what=self.what)

    def flag(self, tag: str) -> bool:
        """Return whether a child says yes."""
        return (self.values.get(tag) or "").strip() not in {"", "0"}

    def identity(self, *values: int) -> int:
        """Return the first of these ids that is one; raises UnexpectedReply without any."""
        found = next((value for value in values if value > 0), None)
        if found is None:
            raise UnexpectedReply(f"{self.what}: the reply lists a {self.element.tag} without id.")
        return found


def parse_departments(body: bytes, *, what: str) -> list[Department]:
    """Read the reply to ``/Base/Department``: departments of all apps."""
    rows, _ = _rows(body, "departments", "department", what=what)
    return [
        Department(
            id=row.identity(row.number("id")),
            title=row.line("title"),
            app=row.line("app") or row.line("module") or "tickets",
            type=row.line("type") or "public",
            parent_id=row.number("parentdepartmentid"),
        )
        for row in rows
    ]


def parse_statuses(body: bytes, *, what: str) -> list[TicketStatus]:
    """Read the reply to ``/Tickets/TicketStatus``."""
    rows, _ = _rows(body, "ticketstatuses", "ticketstatus", what=what)
    return [
        TicketStatus(
            id=row.identity(row.number("id")),
            title=row.line("title"),
            department_id=row.number("departmentid"),
            resolved=row.flag("markasresolved"),
        )
        for row in rows
    ]


def parse_tickets(body: bytes, *, what: str) -> list[Ticket]:
    """Read the reply to ``/Tickets/Ticket/ListAll`` or ``/Tickets/Ticket/{id}`` (with posts)."""
    rows, _ = _rows(body, "tickets", "ticket", what=what)
    return [_ticket(row) for row in rows]


def parse_ticket_count(body: bytes, *, what: str) -> int:
    """Read the reply to ``/Tickets/Ticket/GetTicketCount``."""
    root, _ = _document(body, ("tickets",), what=what)
    if root.find("totalcount") is None:
        raise UnexpectedReply(f"{what}: the reply holds no totalcount.")
    return _Row.of(root, what).number("totalcount")


def parse_posts(body: bytes, *, what: str) -> list[Post]:
    """Read the reply to ``/Tickets/TicketPost/ListAll``, without attachments."""
    rows, _ = _rows(body, "posts", "post", what=what)
    return [_post(row) for row in rows]


def parse_attachments(body: bytes, *, what: str, ticket_id: int = 0) -> list[Attachment]:
    """Read the reply to ``/Tickets/TicketAttachment/ListAll``; contents are ignored.

    ``ticket_id`` is given to rows that name no ticket.
    """
    rows, noise = _rows(body, "attachments", "attachment", what=what)
    return [_attachment(row, noise, ticket_id) for row in rows]


def _ticket(row: _Row) -> Ticket:
    display_id = row.line("displayid")
    attribute = cleaning.number(row.element.get("id"), field="id", what=row.what)
    # A helpdesk with sequential ids shows the plain id; a mask such as ABC-123-45678 is none.
    shown = int(display_id) if re.fullmatch(r"[0-9]{1,18}", display_id) else 0
    ticket_id = row.identity(attribute, row.number("id"), row.number("ticketid"), shown)
    return Ticket(
        id=ticket_id,
        display_id=display_id,
        department_id=row.number("departmentid"),
        status_id=row.number("statusid"),
        subject=row.line("subject"),
        full_name=row.line("fullname"),
        email=row.line("email"),
        owner_name=row.line("ownerstaffname"),
        created_at=row.number("creationtime"),
        last_activity=row.number("lastactivity"),
        posts=tuple(
            _post(_Row.of(post, row.what), ticket_id) for post in row.element.iterfind("posts/post")
        ),
    )


def _post(row: _Row, ticket_id: int = 0) -> Post:
    text, notes = row.text("contents")
    return Post(
        id=row.identity(row.number("id"), row.number("ticketpostid")),
        ticket_id=row.number("ticketid") or ticket_id,
        created_at=row.number("dateline"),
        creator=row.number("creator"),
        full_name=row.line("fullname"),
        email=row.line("email"),
        is_html=row.flag("ishtml"),
        is_private=row.flag("isprivate"),
        has_attachments=row.flag("hasattachments"),
        text=text,
        notes=notes,
    )


def _attachment(row: _Row, noise: tuple[str, ...], ticket_id: int) -> Attachment:
    filename, repaired = row.name("filename")
    return Attachment(
        id=row.identity(row.number("id")),
        ticket_id=row.number("ticketid") or ticket_id,
        post_id=row.number("ticketpostid"),
        filename=filename,
        filesize=max(0, row.number("filesize")),
        filetype=row.line("filetype"),
        created_at=row.number("dateline"),
        notes=((cleaning.REPAIRED_NAME,) if repaired else ()) + noise,
    )


def _rows(body: bytes, root: str, child: str, *, what: str) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the rows of a list, and the note that noise stood around it."""
    document, noise = _document(body, (root, child), what=what)
    elements = [document] if document.tag == child else list(document.iterchildren(child))
    return [_Row.of(element, what) for element in elements], noise


def _document(
    body: bytes, roots: tuple[str, ...], *, what: str
) -> tuple[etree._Element, tuple[str, ...]]:
    """Return the root element, and the note that noise stood around it.

    Raises NotXml, Truncated or MemoryExhausted.
    """
    start = triage.find_document(body, roots)
    if start is None:
        raise triage.no_document(body, what=what)
    end = _end(body, start, roots)
    if end is None:
        if triage.out_of_memory(body[-2048:]):
            raise triage.exhausted(what)
        raise Truncated(f"{what}: the reply ends in the middle of its document.")
    document = body[start:end]
    noisy = triage.is_noise(body[:start]) or triage.is_noise(body[end:])
    codec = cleaning.codec_of(document, what=what)
    try:
        root = _parse(document)
    except etree.XMLSyntaxError:
        clean = cleaning.Sanitiser(codec).feed(document, final=True)
        try:
            root = _parse(clean, encoding="utf-8")
        except etree.XMLSyntaxError as error:
            said = triage.excerpt(error.msg.encode("utf-8", "replace"))
            raise NotXml(f"{what}: the reply is broken XML: {said}.") from None
    return root, ((triage.NOISE_AROUND_XML,) if noisy else ())


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
    parser = etree.XMLParser(
        encoding=encoding,
        huge_tree=True,
        resolve_entities=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    return etree.fromstring(document, parser)
