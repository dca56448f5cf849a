"""The calls of the sandbox's API: list, send, add and delete tickets, posts, attachments."""

from __future__ import annotations

import base64
import string
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from migrator.sandbox.kayako import faults
from migrator.sandbox.kayako.files import UNKNOWN_TYPE, Source, chance, filetype
from migrator.sandbox.kayako.messages import (
    ODD,
    TRIMMED,
    Body,
    Fields,
    Reply,
    Request,
    XmlWriter,
    php_error,
    text,
    xml,
)
from migrator.sandbox.kayako.model import TRASH, Attachment, Helpdesk, Note, Post, Ticket, number


@dataclass(frozen=True, slots=True)
class Ask:
    """The arguments of a call: the helpdesk, whose lock is held, and the request."""

    desk: Helpdesk
    request: Request


# Attachments and posts

NO_TICKET: Final = "Ticket not Found"
NO_ATTACHMENT: Final = "Attachment not Found"
EMPTY: Final = {"", "0"}
"""Texts that PHP takes for empty."""
_ALPHABET: Final = (string.ascii_letters + string.digits + "+/").encode()
_FOREIGN: Final = bytes(set(range(256)) - set(_ALPHABET))


def list_attachments(ask: Ask, ticket_id: str, attachment_id: str = "") -> Reply:
    """List the attachments of a ticket, without contents.

    The ticket is found by mask and through merges too, but the rows are asked for with the given
    text: a mask or a merged id lists nothing.
    """
    desk, ticket = ask.desk, ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    if "list_500" in desk.switches and ticket.id == desk.unlistable_ticket:
        return Reply(Body(b""), 500)
    fault = desk.fault_of(ticket)
    once = (fault in faults.LISTS or fault == "foreign_list") and desk.hit(ticket) == 1
    rows = desk.attachments_of(number(ticket_id) or 0)
    if fault == "foreign_list_always" or (fault == "foreign_list" and once):
        rows = desk.attachments_of(desk.stranger(ticket).id)
    if ticket.id == desk.unlistable_ticket and desk.once("list_empty"):
        rows = []
    if attachment_id:
        rows = [row for row in rows if row.id == number(attachment_id)]
    if "random_order" in desk.switches:
        chance(desk.options.seed + ticket.id).shuffle(rows)
    reply = attachments_reply(desk, rows)
    if once and fault in faults.LISTS:
        reply = reply.rewritten(faults.LISTS[fault])
    return listing(desk, reply)


def get_attachment(ask: Ask, ticket_id: str, attachment_id: str) -> Reply:
    """Send one attachment with its contents."""
    desk = ask.desk
    _interfere(desk, attachment_id)
    row = _find(desk, ticket_id, attachment_id)
    if isinstance(row, Reply):
        return row
    return afflicted(desk, row, attachments_reply(desk, [row], whole=True))


def _interfere(desk: Helpdesk, attachment_id: str) -> None:
    """Apply the faults that happen between the list and the first fetch."""
    row = desk.attachments.get(number(attachment_id) or 0)
    if row is None:
        return
    fault = desk.fault_of(row)
    if fault == "deleted_between":
        desk.vanish(row)
    if fault == "moved_between" and row.id in desk.moves:
        into = desk.find_ticket(str(desk.moves.pop(row.id)))
        if into and into.id != row.ticket_id:
            desk.merge(row.ticket_id, into.id)


def _find(desk: Helpdesk, ticket_id: str, attachment_id: str) -> Attachment | Reply:
    """Find an attachment with Kayako's three checks, in its order."""
    if desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    row = desk.find_attachment(ticket_id, attachment_id)
    if row is None:
        return text(404, NO_ATTACHMENT)
    if row.ticket_id != number(ticket_id):
        return text(400, "Attachment does not belong to the specified ticket")
    return row


def afflicted(desk: Helpdesk, row: Attachment, reply: Reply) -> Reply:
    """Return the reply as the row's fault changes it, counting the request."""
    fault = desk.effect_on(row)
    return faults.afflict(reply, fault, desk.hit(row)) if fault else reply


def post_attachment(ask: Ask) -> Reply:
    """Add an attachment to a post; skip characters that are not base64."""
    form, found = ask.request.form, _target(ask)
    if isinstance(found, Reply):
        return found
    if form.get("filename", "") in EMPTY:
        return text(400, "No file name specified")
    if "contents" not in form:
        return text(400, "No contents specified")
    source = Source("given", given=decode_leniently(form["contents"]))
    row = ask.desk.insert(found, form["filename"], source, int(time.time()))
    return attachments_reply(ask.desk, [row])


def _target(ask: Ask) -> Post | Reply:
    """Find the post of an upload, with Kayako's checks in its order."""
    ticket_id, post_id = (ask.request.form.get(key, "") for key in ("ticketid", "ticketpostid"))
    if ticket_id in EMPTY:
        return text(400, "No Ticket ID Specified")
    if post_id in EMPTY:
        return text(400, "No Ticket Post ID Specified")
    ticket = ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    found = ask.desk.posts.get(number(post_id) or 0)
    if found is None or found.ticket_id != ticket.id:
        return text(404, "Ticket Post not found")
    return found


def decode_leniently(encoded: str) -> bytes:
    """Decode as PHP does without its strict flag: skip all that is outside the alphabet."""
    known = encoded.encode("ascii", "ignore").translate(None, _FOREIGN)
    usable = known[: len(known) - (len(known) % 4 == 1)]  # one character left over is no byte
    return base64.b64decode(usable + b"=" * (-len(usable) % 4))


def delete_attachment(ask: Ask, ticket_id: str, attachment_id: str) -> Reply:
    """Delete an attachment; success has an empty body."""
    row = _find(ask.desk, ticket_id, attachment_id)
    if isinstance(row, Reply):
        return row
    ask.desk.delete_attachment(row.id)
    return Reply(Body(b""))


def list_posts(ask: Ask, ticket_id: str, post_id: str = "") -> Reply:
    """Send the posts of a ticket, or one, with the contents of all their attachments."""
    desk, ticket = ask.desk, ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    posts = desk.posts_of(ticket.id)
    if post_id:
        found = _find_post(desk, ticket_id, post_id)
        if isinstance(found, Reply):
            return found
        posts = [found]
    wanted = {found.id for found in posts}
    rows = [row for row in desk.attachments_of(ticket.id) if row.post_id in wanted]
    vanishing = [row for row in rows if desk.fault_of(row) == "deleted_between"]
    for row in vanishing:
        desk.vanish(row)
    if vanishing:
        return text(404, NO_ATTACHMENT)
    if "doc_shape" in desk.switches:
        reply = attachments_reply(desk, rows, whole=True)
    else:
        reply = xml(_posts_document(desk, ticket, posts, rows))
    for row in rows:
        reply = afflicted(desk, row, reply)
    return listing(desk, reply)


def _find_post(desk: Helpdesk, ticket_id: str, post_id: str) -> Post | Reply:
    """Find a post of a ticket that was found, with Kayako's checks in its order."""
    found = desk.posts.get(number(post_id) or 0)
    if found is None:
        return text(404, "Ticket Post not Found")
    if found.ticket_id != number(ticket_id):
        return text(400, "Post does not belong to the specified ticket")
    return found


def delete_post(ask: Ask, ticket_id: str, post_id: str) -> Reply:
    """Delete a post; success has an empty body."""
    if ask.desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    found = _find_post(ask.desk, ticket_id, post_id)
    if isinstance(found, Reply):
        return found
    ask.desk.delete_post(found)
    return Reply(Body(b""))


def post_post(ask: Ask) -> Reply:
    """Reply to a ticket, as its user or else as staff, with files if there are any."""
    desk, form = ask.desk, ask.request.form
    for keys, sentence in _WANTED_OF_POSTS.items():
        if all(is_blank(form, key) for key in keys):
            return text(400, sentence)
    ticket = desk.find_ticket(form["ticketid"])
    if ticket is None:
        return text(404, NO_TICKET)
    files = [(form[f"filename{n}"], form.get(f"filecontent{n}", "")) for n in _numbers(form)]
    if any(filetype(name.encode(errors=ODD)) == UNKNOWN_TYPE for name, _ in files):
        sentence = "Invalid File Extension"
        return php_error(ask.request.path, "Uncaught Exception", sentence)
    by_user = form.get("userid", "") not in EMPTY
    author = desk.people.get((not by_user, number(form["userid" if by_user else "staffid"]) or 0))
    if author is None:
        return text(400, f"{'User' if by_user else 'Staff'} ID is Invalid")
    staff_id = 0 if by_user else author.id
    made = (0, ticket.id, int(time.time()), 1 if staff_id else 2, form["contents"])
    private = staff_id > 0 and form.get("isprivate") == "1"
    post = desk.add_post(ticket.id, Post(*made, is_private=private, staff_id=staff_id or 1))
    for name, encoded in files:
        source = Source("given", given=decode_leniently(encoded))
        desk.insert(desk.posts[post.id], name, source, post.dateline)
    return list_posts(ask, str(ticket.id), str(post.id))


_WANTED_OF_POSTS: Final = {
    ("ticketid",): "No Ticket ID Specified",
    ("contents",): "No Contents Specified",
    ("userid", "staffid"): "Staff ID and User ID is empty",
}


def is_blank(form: Mapping[str, str], key: str) -> bool:
    """Return whether a field is missing, or Kayako takes its text for none."""
    return form.get(key, "").strip(TRIMMED) in EMPTY


def _numbers(form: Mapping[str, str]) -> list[str]:
    """Return the numbers of the files in a form: the first has none."""
    return [n for n in ("", *string.digits) if f"filename{n}" in form]


def _posts_document(
    desk: Helpdesk, ticket: Ticket, posts: list[Post], rows: list[Attachment]
) -> XmlWriter:
    """Write posts with their attachments."""
    writer = XmlWriter()
    with writer.inside("posts"):
        for post in posts:
            with writer.inside("post"):
                write_post_fields(writer, desk, ticket, post)
                if post.has_attachments:
                    with writer.inside("attachments"):
                        for row in rows:
                            if row.post_id == post.id:
                                write_attachment(writer, desk, row, whole=True, with_ids=False)
    return writer


# Departments, statuses and tickets

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
"""Defaults of missing arguments."""


def departments(ask: Ask, department_id: str = "") -> Reply:
    """List the departments, or one; an unknown id lists none."""
    writer = XmlWriter()
    with writer.inside("departments"):
        for row in ask.desk.departments.values():
            if department_id in {*EMPTY, str(row.id)}:
                fields: Fields = {
                    "id": row.id,
                    "title": row.title,
                    "type": row.type,
                    "module": row.app,
                    "app": row.app,
                    "displayorder": row.id * 10,
                    "parentdepartmentid": row.parent_id,
                    "uservisibilitycustom": 0,
                }
                with writer.inside("department"):
                    writer.values(fields)
                    with writer.inside("usergroups"):
                        pass
    return listing(ask.desk, xml(writer))


def statuses(ask: Ask, status_id: str = "") -> Reply:
    """List the ticket statuses, or one."""
    writer = XmlWriter()
    with writer.inside("ticketstatuses"):
        for row in ask.desk.statuses.values():
            if status_id in {*EMPTY, str(row.id)}:
                fields: Fields = {
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
                    "staffvisibilitycustom": int(row.department_id > 0),
                    "staffgroupid": (1, 2) if row.department_id else (),
                }
                with writer.inside("ticketstatus"):
                    writer.values(fields)
    return listing(ask.desk, xml(writer))


def list_tickets(ask: Ask, *args: str) -> Reply:
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
    reply = tickets_reply(desk, rows)
    if desk.once("page_namespace", order):
        reply = reply.rewritten(faults.namespaced)
    return listing(desk, reply)


def _sorting(desk: Helpdesk, name: str) -> Callable[[Ticket], int | str]:
    """Return the sort key of tickets; the mark of attachments is shown nowhere else."""
    if name == "hasattachments" and "no_sort" not in desk.switches:
        return lambda t: int(desk.marked(t.id))
    known = {} if "no_sort" in desk.switches else SORT_FIELDS
    return known.get(name, lambda t: t.id)


def _drift(desk: Helpdesk, passed: list[Ticket]) -> None:
    """Trash, once, a ticket of pages that a walk has passed.

    One without attachments, if there is such a one: only the shift of the rows behind it counts.
    """
    free = [t for t in passed if t.id not in desk.moves.values()]
    if "drift" in desk.switches and free:
        free.sort(key=lambda t: len(desk.attachments_of(t.id)))
        desk.switches.discard("drift")
        desk.trash(free[0].id)


def count_tickets(ask: Ask, *args: str) -> Reply:
    """Count tickets by the first four arguments of the list."""
    desk, given = ask.desk, (*args, *LIST_DEFAULTS[len(args) :])
    found = len(_matching(ask, given))
    if desk.once("wrong_count", "less"):
        wanted = _departments(desk, given[0])
        found = sum(ticket.department_id not in wanted for ticket in desk.tickets.values())
    elif desk.once("wrong_count", "more"):
        found = len(desk.tickets)
    writer = XmlWriter()
    with writer.inside("tickets"):
        writer.value("totalcount", found)
    return listing(desk, xml(writer))


def get_ticket(ask: Ask, ticket_id: str) -> Reply:
    """Send one ticket with its posts; a merged id gets the survivor."""
    ticket = ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, "Ticket not Found")
    fault = ask.desk.fault_of(ticket)
    if fault == "refused_ticket":
        return faults.FIREWALL
    if fault == "foreign_ticket" and ask.desk.hit(ticket) == 1:
        ticket = ask.desk.stranger(ticket)
    return tickets_reply(ask.desk, [ticket], with_posts=True)


def _integer(value: str, default: int) -> int:
    digits = value.removeprefix("-")
    usable = digits.isascii() and digits.isdigit() and len(digits) <= 18
    return int(value) if usable else default


def _ids(value: str) -> set[int]:
    """Read a comma-separated list, of which only numbers count; a single text without any is 0."""
    parts = value.split(",")
    if len(parts) == 1:
        return {_integer(value, 0)}
    return {one for part in parts if (one := _integer(part, -1)) >= 0}


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


def tickets_reply(desk: Helpdesk, rows: list[Ticket], *, with_posts: bool = False) -> Reply:
    """Reply with tickets, and their posts if asked for."""
    writer = XmlWriter()
    with writer.inside("tickets"):
        for ticket in rows:
            with writer.inside("ticket", id=ticket.id, flagtype=ticket.flag):
                _write_ticket_fields(writer, desk, ticket)
                if with_posts:
                    with writer.inside("posts"):
                        for post in desk.posts_of(ticket.id):
                            with writer.inside("post"):
                                write_post_fields(writer, desk, ticket, post)
    return xml(writer)


def _write_ticket_fields(writer: XmlWriter, desk: Helpdesk, ticket: Ticket) -> None:
    """Write the fields in Kayako's order; no flag tells whether there are attachments."""
    organization = desk.members.get(ticket.user_id, 0)
    fields: Fields = {
        "displayid": ticket.mask,
        "departmentid": ticket.department_id,
        "statusid": ticket.status_id,
        "priorityid": ticket.priority_id,
        "typeid": ticket.type_id,
        "userid": ticket.user_id,
        "userorganization": desk.organizations.get(organization, ""),
        "userorganizationid": organization or "",  # PHP 7 writes a true 0 as an empty element
        "ownerstaffid": ticket.owner_id,
        "ownerstaffname": desk.name_of(ticket.owner_id),
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
        "creator": ticket.creator,
        "creationmode": ticket.mode,
        "creationtype": 1 + ticket.by_phone,
        "isescalated": 0,
        "escalationruleid": 0,
        "templategroupid": 1,
        "tags": ticket.tags,
        "templategroupname": "Default",
        **faults.ticket_fields(ticket, desk.fault_of(ticket)),
    }
    writer.values(fields)
    if desk.statuses[ticket.status_id].resolved:
        writer.value("watcher", staffid=1, name="Jane <Staff>")
    if ticket.tags:
        writer.value("workflow", id=1, title="Ask & wait")
    for note in desk.notes_of(ticket):
        untyped = note.kind == "timetrack" and "old_posts" in desk.switches
        kind = {} if untyped else {"type": note.kind}
        write_note(writer, desk, "note", note, **kind)


# Shared writers


def attachments_reply(desk: Helpdesk, rows: Iterable[Attachment], *, whole: bool = False) -> Reply:
    """Reply with attachments, the ``whole`` of them with their contents."""
    writer = XmlWriter()
    with writer.inside("attachments"):
        for row in rows:
            write_attachment(writer, desk, row, whole=whole)
    return xml(writer)


def write_attachment(
    writer: XmlWriter, desk: Helpdesk, row: Attachment, *, whole: bool, with_ids: bool = True
) -> None:
    """Write one attachment; inside a post Kayako leaves out the ids of ticket and post."""
    ids: Fields = {"ticketid": row.ticket_id, "ticketpostid": row.post_id} if with_ids else {}
    with writer.inside("attachment"):
        writer.values(file_fields(desk, row, ids, whole=whole))


def file_fields(desk: Helpdesk, row: Attachment, ids: Fields, *, whole: bool) -> Fields:
    """Return the fields of an attachment of any kind, with the ids of what has it."""
    fault = desk.effect_on(row)
    fields: Fields = {
        "id": row.id,
        **ids,
        "filename": row.name,
        "filesize": row.filesize,
        "filetype": filetype(row.name),
        "dateline": row.dateline,
    }
    changed = faults.attachment_fields(row, fault, whole=whole)
    fields |= {tag: value for tag, value in changed.items() if tag in fields}
    if whole:
        plain = row.source.base64(row.size)
        fields["contents"] = faults.contents(row.source.read, plain, fault)
    return fields


def write_post_fields(writer: XmlWriter, desk: Helpdesk, ticket: Ticket, post: Post) -> None:
    """Write the fields of a post, up to its attachments."""
    staff = post.creator == 1
    fields: Fields = {
        "id": post.id,
        "ticketpostid": post.id,
        "ticketid": post.ticket_id,
        "dateline": post.dateline,
        "userid": 0 if staff else ticket.user_id,
        "fullname": desk.name_of(post.staff_id) if staff else ticket.user,
        "email": "staff@help.example.com" if staff else ticket.email,
        "emailto": "",
        "ipaddress": "192.0.2.7",
        "hasattachments": int(post.has_attachments),
        "creator": post.creator,
        "isthirdparty": 0,
        "ishtml": int(post.is_html),
        "isemailed": int(not staff),  # all tickets here came by e-mail
        "staffid": post.staff_id if staff else 0,
        "issurveycomment": 0,
        "contents": post.text,
        "isprivate": int(post.is_private),
    }
    if "old_posts" in desk.switches:
        fields["id"] = sum(one.id <= post.id for one in desk.posts_of(post.ticket_id))
        del fields["isprivate"]
    writer.values(fields)


def write_note(writer: XmlWriter, desk: Helpdesk, tag: str, note: Note, **more: str) -> None:
    """Write a note or a time track."""
    fields = faults.note_fields(note_attributes(note), desk.switches)
    writer.value(tag, faults.note_text(note.text, desk.switches), **more, **fields)


def note_attributes(note: Note) -> dict[str, str | int]:
    """Return the attributes of a note; each kind has its own."""
    if note.kind == "timetrack":
        return {
            "id": note.id,
            "ticketid": note.of,
            "timeworked": note.seconds,
            "timebillable": note.seconds if note.billable is None else note.billable,
            "billdate": note.created_at,
            "workdate": note.created_at if note.worked_at is None else note.worked_at,
            "workerstaffid": note.worker.id if note.worker else note.staff_id,
            "workerstaffname": note.worker.name if note.worker else note.staff_name,
            "creatorstaffid": note.staff_id,
            "creatorstaffname": note.staff_name,
            "notecolor": note.color,
        }
    return {
        "id": note.id,
        f"{note.kind}id": note.of,
        "notecolor": note.color,
        "creatorstaffid": note.staff_id,
        "forstaffid": note.for_staff_id,
        "creatorstaffname": note.staff_name,
        "creationdate": note.created_at,
    }


def listing(desk: Helpdesk, reply: Reply) -> Reply:
    """Return a list as the server sends it: after a warning if that fault is on."""
    return reply.noisy(before=faults.WARNING_DIV) if "stray_warning" in desk.switches else reply
