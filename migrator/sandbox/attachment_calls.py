"""The calls that list, send, take and delete attachments."""

from __future__ import annotations

import base64
import time
from random import Random

from migrator.sandbox import faults
from migrator.sandbox.documents import (
    attachments_reply,
    contents_of,
    listing,
    write_attachment,
    write_post_fields,
)
from migrator.sandbox.files import Source
from migrator.sandbox.model import Attachment, Helpdesk, Post, Ticket, number
from migrator.sandbox.reply import Reply, Request, text, xml
from migrator.sandbox.xmlwriter import Body, XmlWriter

NO_TICKET = "Ticket not Found"
NO_ATTACHMENT = "Attachment not Found"


def list_all(
    desk: Helpdesk, request: Request, ticket_id: str, attachment_id: str = "", *rest: str
) -> Reply:
    """List the attachments of a ticket, without contents.

    The ticket is found by mask and through merges too, but the rows are asked for with the given
    text: a mask or a merged id lists nothing.
    """
    ticket = desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    if "list_500" in desk.switches and ticket.id == desk.unlistable_ticket:
        return Reply(Body(b""), 500)
    rows = desk.attachments_of(number(ticket_id) or 0)
    if attachment_id:
        rows = [row for row in rows if str(row.id) == attachment_id]
    if "random_order" in desk.switches:
        Random(desk.options.seed + ticket.id).shuffle(rows)
    return listing(desk, attachments_reply(rows))


def get(desk: Helpdesk, request: Request, ticket_id: str, attachment_id: str, *rest: str) -> Reply:
    """Send one attachment with its contents."""
    _interfere(desk, attachment_id)
    row = _find(desk, ticket_id, attachment_id)
    if isinstance(row, Reply):
        return row
    fault = desk.fault_of(row)
    writer = XmlWriter()
    writer.open("attachments")
    write_attachment(writer, row, contents_of(desk, row))
    writer.close("attachments")
    return faults.afflict(xml(writer), fault, desk.hit(row) if fault else 1, request.path)


def _interfere(desk: Helpdesk, attachment_id: str) -> None:
    """Let happen what happens between the list and the first fetch."""
    row = desk.attachments.get(number(attachment_id) or 0)
    if row is None:
        return
    fault = desk.fault_of(row)
    if fault == "deleted_between":
        desk.vanish(row)
    into = desk.find_ticket(str(desk.moves.get(row.id)))
    if fault == "moved_between" and into and into.id != row.ticket_id:
        desk.merge(row.ticket_id, into.id)
    desk.moves.pop(row.id, None)


def _find(desk: Helpdesk, ticket_id: str, attachment_id: str) -> Attachment | Reply:
    """Find an attachment with Kayako's three checks, in its order."""
    if desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    row = desk.attachments.get(number(attachment_id) or 0)
    if row is None:
        return text(404, NO_ATTACHMENT)
    if row.ticket_id != number(ticket_id):
        return text(400, "Attachment does not belong to the specified ticket")
    return row


def post(desk: Helpdesk, request: Request, *rest: str) -> Reply:
    """Take a new attachment for a post; whatever is not base64 in it is skipped."""
    form = request.form
    ticket_id, post_id = form.get("ticketid", ""), form.get("ticketpostid", "")
    if ticket_id in {"", "0"}:
        return text(400, "No Ticket ID Specified")
    if post_id in {"", "0"}:
        return text(400, "No Ticket Post ID Specified")
    ticket = desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    found = desk.posts.get(number(post_id) or 0)
    if found is None or found.ticket_id != ticket.id:
        return text(404, "Ticket Post not found")
    if form.get("filename", "") in {"", "0"}:
        return text(400, "No file name specified")
    if "contents" not in form:
        return text(400, "No contents specified")
    source = Source("given", given=decode_leniently(form["contents"]))
    row = desk.insert(ticket.id, found.id, form["filename"], source, int(time.time()))
    return attachments_reply([row])


def decode_leniently(encoded: str) -> bytes:
    """Decode as PHP does without its strict flag: skip all that is outside the alphabet."""
    known = "".join(c for c in encoded if c.isascii() and (c.isalnum() or c in "+/"))
    usable = known[: len(known) - (len(known) % 4 == 1)]  # one character left over is not a byte
    return base64.b64decode(usable + "=" * (-len(usable) % 4))


def delete(
    desk: Helpdesk, request: Request, ticket_id: str, attachment_id: str, *rest: str
) -> Reply:
    """Delete an attachment; success has an empty body."""
    row = _find(desk, ticket_id, attachment_id)
    if isinstance(row, Reply):
        return row
    desk.delete_attachment(row.id)
    return Reply(Body(b""))


def list_posts(
    desk: Helpdesk, request: Request, ticket_id: str, post_id: str = "", *rest: str
) -> Reply:
    """Send the posts of a ticket, or one, with the contents of all their attachments."""
    ticket = desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    posts = desk.posts_of(ticket.id)
    if post_id:
        found = desk.posts.get(number(post_id) or 0)
        if found is None:
            return text(404, "Ticket Post not Found")
        if found.ticket_id != number(ticket_id):
            return text(400, "Post does not belong to the specified ticket")
        posts = [found]
    rows = [row for p in posts for row in desk.attachments_of(p.ticket_id) if row.post_id == p.id]
    vanishing = [row for row in rows if desk.fault_of(row) == "deleted_between"]
    for row in vanishing:
        desk.vanish(row)
    if vanishing:
        return text(404, NO_ATTACHMENT)
    reply = xml(_posts_document(desk, ticket, posts, rows))
    for row in rows:
        if fault := desk.fault_of(row):
            reply = faults.afflict(reply, fault, desk.hit(row), request.path)
    return listing(desk, reply)


def _posts_document(
    desk: Helpdesk, ticket: Ticket, posts: list[Post], rows: list[Attachment]
) -> XmlWriter:
    """Write posts with their attachments, or, in the documented shape, these alone."""
    writer = XmlWriter()
    if "doc_shape" in desk.switches:
        writer.open("attachments")
        for row in rows:
            write_attachment(writer, row, contents_of(desk, row))
        writer.close("attachments")
        return writer
    writer.open("posts")
    for post_ in posts:
        writer.open("post")
        write_post_fields(writer, ticket, post_)
        if post_.has_attachments:
            writer.open("attachments")
            for row in rows:
                if row.post_id == post_.id:
                    write_attachment(writer, row, contents_of(desk, row), with_ids=False)
            writer.close("attachments")
        writer.close("post")
    writer.close("posts")
    return writer
