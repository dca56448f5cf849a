"""The calls that enumerate: departments, statuses, tickets and their posts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from migrator.sandbox.kayako import faults
from migrator.sandbox.kayako.documents import listing, write_note, write_post_fields
from migrator.sandbox.kayako.model import TRASH, Helpdesk, Ticket
from migrator.sandbox.kayako.reply import Ask, Reply, php_error, text, xml
from migrator.sandbox.kayako.xmlwriter import XmlWriter

SORT_FIELDS: Final[dict[str, Callable[[Ticket], int | str]]] = {
    "userid": lambda t: t.user_id,
    "ownerstaffid": lambda t: t.owner_id,
    "dateline": lambda t: t.created_at,
    "lastactivity": lambda t: t.last_activity,
    "ticketstatustitle": lambda t: t.status_id,
    "departmenttitle": lambda t: t.department_id,
    "lastreplier": lambda t: t.user,
}
"""The sort fields for which this helpdesk has columns.

Kayako sorts by id for whatever is not in its own list (as the documented ``ticketid``); so do we,
for the rest of that list as well.
"""
LIST_DEFAULTS: Final = ("", "-1", "-1", "-1", "-1", "0", "ticketid", "ASC")
"""What stands for arguments that are not given."""


def departments(ask: Ask, department_id: str = "") -> Reply:
    """List the departments, or one; an unknown id lists none."""
    writer = XmlWriter()
    writer.open("departments")
    for row in ask.desk.departments.values():
        if department_id in {"", str(row.id)}:
            writer.open("department")
            writer.value("id", row.id)
            writer.value("title", row.title)
            writer.value("type", row.type)
            writer.value("module", row.app)
            writer.value("app", row.app)
            writer.value("displayorder", row.id * 10)
            writer.value("parentdepartmentid", row.parent_id)
            writer.value("uservisibilitycustom", 0)
            writer.open("usergroups")
            writer.close("usergroups")
            writer.close("department")
    writer.close("departments")
    return listing(ask.desk, xml(writer))


def statuses(ask: Ask, status_id: str = "") -> Reply:
    """List the ticket statuses, or one."""
    writer = XmlWriter()
    writer.open("ticketstatuses")
    for row in ask.desk.statuses.values():
        if status_id in {"", str(row.id)}:
            fields: dict[str, str | int] = {
                "id": row.id,
                "title": row.title,
                "displayorder": row.id,
                "departmentid": row.department_id,
                "displayicon": "",
                "type": "public",
                "displayinmainlist": int(not row.resolved),
                "markasresolved": int(row.resolved),
                "displaycount": 1,
                "statuscolor": "#36a148",
                "statusbgcolor": "#8bbd6b",
                "resetduetime": 0,
                "triggersurvey": 0,
                "staffvisibilitycustom": 0,
            }
            writer.open("ticketstatus")
            for tag, value in fields.items():
                writer.value(tag, value)
            writer.close("ticketstatus")
    writer.close("ticketstatuses")
    reply = xml(writer)
    if ask.desk.once("half_statuses"):
        reply = reply.rewritten(faults.half_of_statuses)
    return listing(ask.desk, reply)


def list_all(ask: Ask, *args: str) -> Reply:
    """List tickets: departments, statuses, owners, users, count, start, sort field, order."""
    desk = ask.desk
    given = (*args, *LIST_DEFAULTS[len(args) :])
    size, start = _integer(given[4], -1), _integer(given[5], 0)
    if start < 0 < size:
        sentence = "PDO Prepare Failed: You have an error in your SQL syntax"
        return php_error(ask.request.path, "Uncaught Exception", sentence)
    rows = sorted(_matching(ask, given), key=lambda t: t.id)
    rows.sort(key=_sorting(desk, given[6]), reverse=given[7].upper() == "DESC")
    order = (given[6], given[7].upper())
    if size > 0 and "no_paging" not in desk.switches:
        _drift(desk, rows[:start])
        if start > 0 and desk.once("repeated_page", order):
            start = 0
        rows = rows[start : start + size]
    if any(desk.fault_of(ticket) in faults.REFUSED for ticket in rows):
        return faults.FIREWALL
    reply = xml(_tickets_document(desk, rows))
    if desk.once("page_namespace", order):
        reply = reply.rewritten(faults.namespaced)
    return listing(desk, reply)


def _sorting(desk: Helpdesk, name: str) -> Callable[[Ticket], int | str]:
    """Return what tickets are sorted by; the mark of attachments is shown nowhere else."""
    if name == "hasattachments" and "no_sort" not in desk.switches:
        return lambda t: int(desk.marked(t.id))
    known = {} if "no_sort" in desk.switches else SORT_FIELDS
    return known.get(name, lambda t: t.id)


def _drift(desk: Helpdesk, passed: list[Ticket]) -> None:
    """Trash, once, a ticket of the pages that a walk has behind it.

    One without attachments, if there is such a one: only the shift of the rows behind it counts.
    """
    free = [t for t in passed if t.id not in desk.moves.values()]
    if "drift" in desk.switches and free:
        free.sort(key=lambda t: len(desk.attachments_of(t.id)))
        desk.switches.discard("drift")
        desk.trash(free[0].id)


def count(ask: Ask, *args: str) -> Reply:
    """Count tickets by the first four arguments of the list."""
    desk, given = ask.desk, (*args, *LIST_DEFAULTS[len(args) :])
    number = len(_matching(ask, given))
    if desk.once("wrong_count", "less"):
        wanted = _departments(desk, given[0])
        number = sum(ticket.department_id not in wanted for ticket in desk.tickets.values())
    elif desk.once("wrong_count", "more"):
        number = len(desk.tickets)
    writer = XmlWriter()
    writer.open("tickets")
    writer.value("totalcount", number)
    writer.close("tickets")
    return listing(desk, xml(writer))


def get(ask: Ask, ticket_id: str) -> Reply:
    """Send one ticket with its posts; a merged id gets the survivor."""
    ticket = ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, "Ticket not Found")
    fault = ask.desk.fault_of(ticket)
    if fault == "refused_ticket":
        return faults.FIREWALL
    if fault == "foreign_ticket" and ask.desk.hit(ticket) == 1:
        ticket = ask.desk.stranger(ticket)
    return xml(_tickets_document(ask.desk, [ticket], with_posts=True))


def _integer(value: str, default: int) -> int:
    digits = value.removeprefix("-")
    usable = digits.isascii() and digits.isdigit() and len(digits) <= 18
    return int(value) if usable else default


def _ids(value: str) -> set[int]:
    """Read a comma-separated list, of which only numbers count; a single text without any is 0."""
    parts = value.split(",")
    if len(parts) == 1:
        return {_integer(value, 0)}
    return {number for part in parts if (number := _integer(part, -1)) >= 0}


def _departments(desk: Helpdesk, value: str) -> set[int]:
    """Read a list of departments; without a known one it is the trash."""
    return _ids(value) & desk.departments.keys() or {TRASH}


def _matching(ask: Ask, args: tuple[str, ...]) -> list[Ticket]:
    """Return the tickets that Kayako's filter lets through.

    No known department means the trash. A status bound to a department counts only together with
    that department. No usable status (as for -1) means the unresolved ones of no department, and
    those whose own id is, by a slip of Kayako's, among the departments' ids. -1 and a list without
    a number are no filter of owners or users.
    """
    desk = ask.desk
    wanted = _departments(desk, args[0])
    bound = {s.id for s in desk.statuses.values() if s.department_id in {0, *wanted}}
    chosen = _ids(args[1]) & bound or {
        s.id
        for s in desk.statuses.values()
        if not s.resolved and (s.department_id == 0 or s.id in wanted)
    }
    owners, users = (_ids(value) - {-1} for value in args[2:4])
    email = ask.request.form.get("email") or None
    return [
        t
        for t in desk.tickets.values()
        if t.department_id in wanted
        and t.status_id in chosen
        and (not owners or t.owner_id in owners)
        and (not users or t.user_id in users)
        and email in {None, t.email}
    ]


def _tickets_document(desk: Helpdesk, rows: list[Ticket], *, with_posts: bool = False) -> XmlWriter:
    writer = XmlWriter()
    writer.open("tickets")
    for ticket in rows:
        writer.open("ticket", id=ticket.id, flagtype=0)
        _write_ticket_fields(writer, desk, ticket)
        if with_posts:
            writer.open("posts")
            for post in desk.posts_of(ticket.id):
                writer.open("post")
                write_post_fields(writer, ticket, post)
                writer.close("post")
            writer.close("posts")
        writer.close("ticket")
    writer.close("tickets")
    return writer


def _write_ticket_fields(writer: XmlWriter, desk: Helpdesk, ticket: Ticket) -> None:
    """Write the fields in Kayako's order; no flag tells whether there are attachments."""
    organization = desk.members.get(ticket.user_id, 0)
    fields: faults.Fields = {
        "displayid": ticket.mask,
        "departmentid": ticket.department_id,
        "statusid": ticket.status_id,
        "priorityid": 1,
        "typeid": 1,
        "userid": ticket.user_id,
        "userorganization": desk.organizations.get(organization, ""),
        "userorganizationid": organization or "",  # PHP 7 writes a true 0 as an empty element
        "ownerstaffid": ticket.owner_id,
        "ownerstaffname": "Jane Staff" if ticket.owner_id else "",
        "fullname": ticket.user,
        "email": ticket.email,
        "lastreplier": ticket.user,
        "subject": ticket.subject,
        "creationtime": ticket.created_at,
        "lastactivity": ticket.last_activity,
        "laststaffreply": 0,
        "lastuserreply": ticket.created_at,
        "slaplanid": 0,
        "nextreplydue": 0,
        "resolutiondue": 0,
        "replies": len(desk.posts_of(ticket.id)),
        "ipaddress": "192.0.2.7",
        "creator": 2,
        "creationmode": 3,
        "creationtype": 1,
        "isescalated": 0,
        "escalationruleid": 0,
        "templategroupid": 1,
        "tags": "",
        "templategroupname": "Default",
        **faults.ticket_fields(ticket, desk.fault_of(ticket)),
    }
    for tag, value in fields.items():
        writer.value(tag, value)
    if desk.statuses[ticket.status_id].resolved:
        writer.value("watcher", "", staffid=1, name="Jane <Staff>")
    for note in desk.notes_of(ticket):
        write_note(writer, note)
