"""The calls that list, send, take and delete attachments."""

from __future__ import annotations

import base64
import string
import time
from typing import Final

from migrator.sandbox.kayako import faults
from migrator.sandbox.kayako.documents import (
    attachments_reply,
    listing,
    write_attachment,
    write_post_fields,
)
from migrator.sandbox.kayako.files import Source, chance
from migrator.sandbox.kayako.model import Attachment, Helpdesk, Post, Ticket, number
from migrator.sandbox.kayako.reply import Ask, Reply, text, xml
from migrator.sandbox.kayako.xmlwriter import Body, XmlWriter

NO_TICKET: Final = "Ticket not Found"
NO_ATTACHMENT: Final = "Attachment not Found"
EMPTY: Final = {"", "0"}
"""What PHP takes for empty."""
_ALPHABET: Final = (string.ascii_letters + string.digits + "+/").encode()
_FOREIGN: Final = bytes(set(range(256)) - set(_ALPHABET))


def list_all(ask: Ask, ticket_id: str, attachment_id: str = "") -> Reply:
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


def get(ask: Ask, ticket_id: str, attachment_id: str) -> Reply:
    """Send one attachment with its contents."""
    desk = ask.desk
    _interfere(desk, attachment_id)
    row = _find(desk, ticket_id, attachment_id)
    if isinstance(row, Reply):
        return row
    return _afflicted(desk, row, attachments_reply(desk, [row], whole=True))


def _interfere(desk: Helpdesk, attachment_id: str) -> None:
    """Let happen what happens between the list and the first fetch."""
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


def _afflicted(desk: Helpdesk, row: Attachment, reply: Reply) -> Reply:
    """Return the reply as the row's fault lets it out, counting the request."""
    fault = desk.fault_of(row)
    return faults.afflict(reply, fault, desk.hit(row)) if fault else reply


def post(ask: Ask) -> Reply:
    """Take a new attachment for a post; whatever is not base64 in it is skipped."""
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


def delete(ask: Ask, ticket_id: str, attachment_id: str) -> Reply:
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
        found = desk.posts.get(number(post_id) or 0)
        if found is None:
            return text(404, "Ticket Post not Found")
        if found.ticket_id != number(ticket_id):
            return text(400, "Post does not belong to the specified ticket")
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
        reply = _afflicted(desk, row, reply)
    return listing(desk, reply)


def _posts_document(
    desk: Helpdesk, ticket: Ticket, posts: list[Post], rows: list[Attachment]
) -> XmlWriter:
    """Write posts with their attachments."""
    writer = XmlWriter()
    writer.open("posts")
    for post_ in posts:
        writer.open("post")
        write_post_fields(writer, ticket, post_)
        if post_.has_attachments:
            writer.open("attachments")
            for row in rows:
                if row.post_id == post_.id:
                    write_attachment(writer, desk, row, whole=True, with_ids=False)
            writer.close("attachments")
        writer.close("post")
    writer.close("posts")
    return writer
