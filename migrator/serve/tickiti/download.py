"""``POST /api/v1/tickets/attachment``: the bytes of one attachment.

The order of the checks is Tickiti's: token, ability, staff, body, ticket, queue, attachment,
file-type rules, stored file, size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Receive, Send

from migrator.archive.records import Row, State, Token
from migrator.blobs.base import Blob
from migrator.serve import audit_log
from migrator.serve.cache import Version, VersionCache
from migrator.serve.catalog import Catalog, Gate, may_be_inline
from migrator.serve.content import (
    Content,
    Damaged,
    Verdicts,
    aside,
    file_missing,
    head_of,
    opened,
    readable,
    watch,
)
from migrator.serve.readers import Readers
from migrator.serve.refusals import Refusal
from migrator.serve.tickiti.requests import TicketName, attachment_request
from migrator.serve.tickiti.serializers import attachment_object


@dataclass(frozen=True, slots=True)
class _Known:
    """An attachment in the archive, and the head of the answer with its bytes."""

    row: Row
    is_inline: bool
    head: bytes


def _known(row: Row, *, is_inline: bool) -> _Known:
    return _Known(row, is_inline, head_of(attachment_object(row, is_inline=is_inline)))


class Download:
    """The call that sends attachments."""

    def __init__(self, catalog: Catalog, version: Version, readers: Readers) -> None:
        self._catalog = catalog
        self._readers = readers
        self._settings = catalog.settings
        self._tickets: VersionCache[tuple[TicketName, frozenset[int] | None], int]
        self._tickets = VersionCache(version)
        self._known: VersionCache[int, _Known | None] = VersionCache(version)
        self._verdicts = Verdicts()

    async def answer(
        self, token: Token, body: Mapping[str, object], receive: Receive, send: Send
    ) -> None:
        """Send the file, or the requested span of it."""
        request = attachment_request(body)
        name = request.ticket
        audit_log.tell(attachment=request.attachment_id)
        # Single rows, so the loop reads them itself:
        ticket = self._tickets(
            (name, token.queues),
            lambda: self._catalog.ticket(token, id=name.id, number=name.number).id,
        )
        audit_log.tell(ticket=ticket)
        known = await self._attachment(token, ticket, request.attachment_id, receive)
        row = known.row
        audit_log.tell(filename=row.filename, size=row.size)
        if not known.is_inline:
            self._check_rules(row, confirmed=request.confirmed)
        with await aside(self._catalog.archive.blobs, self._open, row) as file:
            content = self._content(file, row, request.span)
            if request.span is None and content.size > self._settings.max_download:
                raise _too_large(content.size)
            if not content.is_whole:
                async with watch(receive) as gone:
                    with readable(row):
                        check = self._readers.run(token.id, gone, content.check, bounded=False)
                        whole = await check
                if not whole:
                    raise file_missing(row, "is damaged")
            head = known.head
            if request.span is not None:
                told = attachment_object(row, is_inline=known.is_inline)
                head = head_of({**told, "eof": content.ends})
            try:
                await content.send(head, receive, send)
            except Damaged as damage:
                missing = file_missing(row, str(damage))
                if not damage.started:
                    raise missing from damage
                # Without its tail the answer is shorter than promised: the server hangs up on it.

    async def _attachment(
        self, token: Token, ticket_id: int, attachment_id: int | None, receive: Receive
    ) -> _Known:
        known = None
        if attachment_id is not None:

            async def look_up() -> _Known | None:
                row = self._catalog.archive.queries.attachment(attachment_id)
                if row is None:
                    return None
                if not may_be_inline(row):
                    return _known(row, is_inline=False)
                async with watch(receive) as gone:  # reads the post, and all names of the ticket
                    is_inline = await self._readers.run(
                        token.id, gone, lambda: self._catalog.is_inline(row)
                    )
                return _known(row, is_inline=is_inline)

            known = await self._known.wait(attachment_id, look_up)
        if known is None or known.row.ticket_id != ticket_id:
            raise _no_such_attachment()
        return known

    def _check_rules(self, row: Row, *, confirmed: bool) -> None:
        verdict = self._catalog.gate(row)
        if verdict is Gate.BLOCK:
            raise Refusal(
                403,
                "attachment_blocked",
                "Files of this type are blocked by an administrator and cannot be downloaded.",
            )
        if verdict is Gate.REVIEW and not confirmed:
            raise Refusal(
                403,
                "attachment_review_required",
                'Files of this type need a review: resend with "intent": "review_ok" to confirm.',
            )

    def _open(self, row: Row) -> Blob:
        if row.state is State.DELETED and not self._settings.serves(row):
            raise _no_such_attachment()
        if not self._settings.serves(row) or row.sha256 is None:
            raise Refusal(404, "not_found", "The stored file of this attachment is missing.")
        return opened(self._catalog.archive.blobs, row)

    def _content(self, file: Blob, row: Row, span: tuple[int, int] | None) -> Content:
        content = Content(file, row.sha256 or "", row.size or 0, self._verdicts, span)
        if content.damaged:
            raise file_missing(row, "is damaged")
        return content


def _no_such_attachment() -> Refusal:
    return Refusal(404, "not_found", "This ticket has no such attachment.")


def _too_large(size: int) -> Refusal:
    return Refusal(
        413,
        "attachment_too_large",
        "This file exceeds the download limit of the API; use the web download instead.",
        data={"file_size": size, "ranged": True},
    )
