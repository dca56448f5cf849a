"""What the source tells, as the archive keeps it."""

from __future__ import annotations

from migrator.archive.records import Listed, PostRow, TicketRow
from migrator.sources.base import Attachment, Post, Ticket

STAFF = 1
"""The creator of a post that the staff wrote."""

ODD = ("odd_row", "odd_number", "repaired_name")
"""Notes of a row in a list that the ledger keeps, most serious first."""


def listed_of(attachment: Attachment) -> Listed:
    """Give an attachment of a list as the archive keeps it."""
    return Listed(
        attachment.id,
        attachment.ticket_id,
        attachment.post_id,
        attachment.filename,
        attachment.filetype,
        attachment.filesize,
        attachment.created_at,
        ",".join(note for note in ODD if note in attachment.notes) or None,
    )


def row_of(ticket: Ticket) -> TicketRow:
    """Give a ticket as the archive keeps it."""
    return TicketRow(
        ticket.id,
        ticket.department_id,
        ticket.display_id,
        ticket.subject,
        ticket.created_at,
        ticket.last_activity,
        ticket.status_id,
        ticket.full_name,
        ticket.email,
        ticket.owner_name,
    )


def post_of(post: Post) -> PostRow:
    """Give a post as the archive keeps it."""
    return PostRow(
        post.id,
        post.created_at,
        post.full_name,
        post.email,
        post.creator == STAFF,
        post.is_private,
        post.is_html,
        post.text,
        ",".join(post.notes) or None,
    )
