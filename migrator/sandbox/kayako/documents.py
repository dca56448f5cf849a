"""The elements that several calls share: attachments, posts, and noise before lists."""

from __future__ import annotations

from collections.abc import Iterable

from migrator.sandbox.kayako import faults
from migrator.sandbox.kayako.files import filetype
from migrator.sandbox.kayako.model import Attachment, Helpdesk, Note, Post, Ticket
from migrator.sandbox.kayako.reply import Reply, xml
from migrator.sandbox.kayako.xmlwriter import XmlWriter


def attachments_reply(desk: Helpdesk, rows: Iterable[Attachment], *, whole: bool = False) -> Reply:
    """Reply with attachments, the ``whole`` of them with their contents."""
    writer = XmlWriter()
    writer.open("attachments")
    for row in rows:
        write_attachment(writer, desk, row, whole=whole)
    writer.close("attachments")
    return xml(writer)


def write_attachment(
    writer: XmlWriter, desk: Helpdesk, row: Attachment, *, whole: bool, with_ids: bool = True
) -> None:
    """Write one attachment; inside a post Kayako leaves out the ids of ticket and post."""
    fault = desk.fault_of(row)
    fields: faults.Fields = {
        "id": row.id,
        "ticketid": row.ticket_id,
        "ticketpostid": row.post_id,
        "filename": row.name,
        "filesize": row.filesize,
        "filetype": filetype(row.name),
        "dateline": row.dateline,
        **faults.attachment_fields(row, fault, whole=whole),
    }
    if not with_ids:
        del fields["ticketid"], fields["ticketpostid"]
    if whole:
        plain = row.source.base64(row.size)
        fields["contents"] = faults.contents(row.source.read, plain, fault)
    writer.open("attachment")
    for tag, value in fields.items():
        writer.value(tag, value)
    writer.close("attachment")


def write_post_fields(writer: XmlWriter, ticket: Ticket, post: Post) -> None:
    """Write what a post says of itself, up to its attachments."""
    staff = post.creator == 1
    fields: dict[str, str | int] = {
        "id": post.id,
        "ticketpostid": post.id,
        "ticketid": post.ticket_id,
        "dateline": post.dateline,
        "userid": 0 if staff else ticket.user_id,
        "fullname": "Jane Staff" if staff else ticket.user,
        "email": "staff@help.example.com" if staff else ticket.email,
        "emailto": "",
        "ipaddress": "192.0.2.7",
        "hasattachments": int(post.has_attachments),
        "creator": post.creator,
        "isthirdparty": 0,
        "ishtml": int(post.is_html),
        "isemailed": 0,
        "staffid": int(staff),
        "issurveycomment": 0,
        "contents": post.text,
        "isprivate": int(post.is_private),
    }
    for tag, value in fields.items():
        writer.value(tag, value)


def write_note(writer: XmlWriter, note: Note) -> None:
    """Write a note as it stands in a ticket; each kind has attributes of its own."""
    about: dict[str, str | int]
    if note.kind == "timetrack":
        about = {
            "ticketid": note.of,
            "timeworked": note.seconds,
            "timebillable": note.seconds,
            "billdate": note.created_at,
            "workdate": note.created_at,
            "workerstaffid": note.staff_id,
            "workerstaffname": note.staff_name,
            "creatorstaffid": note.staff_id,
            "creatorstaffname": note.staff_name,
            "notecolor": note.color,
        }
    else:
        about = {
            f"{note.kind}id": note.of,
            "notecolor": note.color,
            "creatorstaffid": note.staff_id,
            "forstaffid": note.for_staff_id,
            "creatorstaffname": note.staff_name,
            "creationdate": note.created_at,
        }
    writer.value("note", note.text, type=note.kind, id=note.id, **about)


def listing(desk: Helpdesk, reply: Reply) -> Reply:
    """Return a list as it leaves the server: below a warning if that fault is on."""
    return reply.noisy(before=faults.WARNING_DIV) if "stray_warning" in desk.switches else reply
