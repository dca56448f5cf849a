"""``POST /api/v1/tickets/attachment``: the bytes of one attachment.

The order of the checks is Tickiti's: token, ability, staff, body, ticket, queue, attachment,
file-type rules, stored file, size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from io import FileIO

from starlette.types import Receive, Send

from migrator.archive import Archive
from migrator.archive.records import Row, State, Token
from migrator.serve import audit_log
from migrator.serve.auth import Doorkeeper
from migrator.serve.cache import Fresh, Memo, Moment
from migrator.serve.content import Content, Damaged, Verdicts, head_of
from migrator.serve.markup import InlineImages
from migrator.serve.refusals import Refusal
from migrator.serve.settings import EndpointSettings, Gate, gate
from migrator.serve.tickets import TicketFinder
from migrator.serve.tickiti.endpoint import Body, Endpoint
from migrator.serve.tickiti.requests import AttachmentRequest, TicketName, attachment_request
from migrator.serve.tickiti.serializers import attachment_object

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the archive says about an attachment, and the head of the answer with its bytes."""

    row: Row
    is_inline: bool
    head: bytes


class DownloadAttachment(Endpoint):
    """The endpoint."""

    def __init__(
        self,
        archive: Archive,
        settings: EndpointSettings,
        *,
        door: Doorkeeper,
        tickets: TicketFinder,
        moment: Moment,
    ) -> None:
        super().__init__(door)
        self._archive = archive
        self._settings = settings
        self._tickets = tickets
        self._found: Memo[tuple[TicketName, frozenset[int] | None], int] = Memo(moment)
        self._known: Memo[int, _Known | None] = Memo(moment)
        self._rules = Fresh(archive.access.rules)
        self._inline = InlineImages(archive)
        self._verdicts = Verdicts()

    async def answer(self, token: Token, body: Body, receive: Receive, send: Send, /) -> None:
        """Send the file, or the span of it that was asked for."""
        asked = attachment_request(body)
        audit_log.tell(attachment=asked.attachment_id)
        ticket = self._found((asked.ticket, token.queues), lambda: self._ticket(asked, token))
        audit_log.tell(ticket=ticket)
        known = self._attachment(ticket, asked.attachment_id)
        row = known.row
        audit_log.tell(filename=row.filename, size=row.size)
        if not known.is_inline:
            self._check_rules(row, confirmed=asked.confirmed)
        with self._open(row) as file:
            content = self._content(file, row, asked.span)
            if asked.span is None and content.size > self._settings.max_download:
                raise _too_large(content.size)
            head = known.head
            if asked.span is not None:
                told = attachment_object(row, is_inline=known.is_inline)
                head = head_of({**told, "eof": content.ends})
            try:
                await content.send(head, receive, send)
            except Damaged as damage:
                _warn(row, str(damage))
                if not damage.started:
                    raise _file_missing() from damage
                # Without its tail the answer is shorter than promised: the server hangs up on it.

    def _ticket(self, asked: AttachmentRequest, token: Token) -> int:
        return self._tickets.find(asked.ticket, token).id

    def _attachment(self, ticket_id: int, attachment_id: int | None) -> _Known:
        known = None
        if attachment_id is not None:
            known = self._known(attachment_id, lambda: self._look_up(attachment_id))
        if known is None or known.row.ticket_id != ticket_id:
            raise _no_such_attachment()
        return known

    def _look_up(self, attachment_id: int) -> _Known | None:
        row = self._archive.queries.attachment(attachment_id)
        if row is None:
            return None
        is_inline = self._inline.has(row)
        return _Known(row, is_inline, head_of(attachment_object(row, is_inline=is_inline)))

    def _check_rules(self, row: Row, *, confirmed: bool) -> None:
        verdict = gate(self._rules(), row.filename)
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

    def _open(self, row: Row) -> FileIO:
        if row.state is State.DELETED and not self._settings.serves(row):
            raise _no_such_attachment()
        if not self._settings.serves(row) or row.sha256 is None:
            raise _file_missing()
        file = self._archive.blobs.find(row.sha256)
        if file is None:
            _warn(row, "is not in the archive")
            raise _file_missing()
        return file

    def _content(self, file: FileIO, row: Row, span: tuple[int, int] | None) -> Content:
        content = Content(file, row.sha256 or "", row.size or 0, self._verdicts, span)
        if content.damaged:
            _warn(row, "is damaged")
            raise _file_missing()
        return content


def _no_such_attachment() -> Refusal:
    return Refusal(404, "not_found", "This ticket has no such attachment.")


def _file_missing() -> Refusal:
    return Refusal(404, "not_found", "The stored file of this attachment is missing.")


def _too_large(size: int) -> Refusal:
    return Refusal(
        413,
        "attachment_too_large",
        "This file exceeds the download limit of the API; use the web download instead.",
        data={"file_size": size, "ranged": True},
    )


def _warn(row: Row, what: str) -> None:
    # The file name stays out: it is the sender's text. Number and hash find everything else.
    _log.warning(
        "The file of attachment %d (blob %s) %s and was not served: run 'migrator verify --repair'",
        row.id,
        row.sha256,
        what,
    )
