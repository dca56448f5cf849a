"""One attachment: what it is, a preview where that is safe, the review, and the bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from migrator.archive.records import Row, State
from migrator.serve import audit_log
from migrator.serve.auth import sees
from migrator.serve.settings import Gate, gate
from migrator.serve.web.files import content_disposition, send_file
from migrator.serve.web.forms import Problem
from migrator.serve.web.site import Room, Visit

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types, as found in the bytes, that a browser only ever decodes as pixels. SVG is a program."""

PDF: Final = "application/pdf"

_PDF_POLICY: Final = "default-src 'none'; frame-ancestors 'self'"
"""Browsers refuse to show a PDF in a sandbox; their own viewers run no script in our origin."""

_REASONS: Final = {
    State.PENDING: "It has not been fetched yet.",
    State.FAILED: "It could not be fetched so far.",
    State.MISSING: "The old helpdesk lists it, but has no bytes for it.",
    State.GONE: "The old helpdesk dropped it before it was fetched.",
    State.DELETED: "The old helpdesk no longer lists it, and such files are not handed out.",
    State.STORED: "",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """An attachment as pages show it.

    ``verdict`` is what the rules say about its type; ``reason`` is why its bytes cannot be had,
    "" when they can; ``preview`` is ``image``, ``pdf`` or "".
    """

    row: Row
    verdict: Gate
    reason: str
    preview: str

    @property
    def label(self) -> str:
        """What stands between the visitor and the file, in a word or two; "" for nothing."""
        if self.reason:
            return "not available"
        return {Gate.BLOCK: "blocked", Gate.REVIEW: "needs review"}.get(self.verdict, "")


def chip(room: Room, row: Row) -> Chip:
    """Look at an attachment as the rules of the moment see it."""
    reason = "" if room.settings.serves(row) else _REASONS[row.state]
    kind = row.mime_type or ""
    preview = "image" if kind in IMAGES else "pdf" if kind == PDF else ""
    return Chip(row, gate(room.rules(), row.filename), reason, preview)


def show(room: Room, request: Request, visit: Visit) -> Response:
    """Show an attachment; with a review's seal in its address the file is at hand."""
    found = _find(room, request, visit)
    seal = request.query_params.get("ok", "")
    confirmed = found.verdict is Gate.REVIEW and _is_reviewed(room, visit, found.row, seal)
    status = 200 if found.verdict is Gate.ALLOW or confirmed or found.reason else 403
    answer = room.page(
        "attachment.html",
        visit,
        status=status,
        found=found,
        ready=status == 200 and not found.reason,
        query=f"?ok={seal}" if confirmed else "",
        ticket=room.archive.threads.ticket(found.row.ticket_id),
    )
    if found.preview == "pdf":
        answer.headers["content-security-policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
    return answer


def confirm(room: Room, request: Request, visit: Visit) -> Response:
    """Take the word of a visitor who has looked at the warning, for this file and session."""
    row = _find(room, request, visit).row
    if visit.form.get("intent") != "review_ok":
        raise Problem(422, "Please confirm", "The file is handed out after a confirmation only.")
    seal = _review(room, visit, row)
    return RedirectResponse(f"/attachments/{row.id}?ok={seal}", 303)


def download(room: Room, request: Request, visit: Visit) -> Response:
    """Send the file, to be saved."""
    audit_log.tell(attachment=request.path_params["attachment"])
    found = _find(room, request, visit)
    refusal = _refusal(room, request, visit, found)
    if refusal is not None:
        return refusal
    row = found.row
    name = content_disposition("attachment", row.filename, f"attachment-{row.id}")
    kind = row.mime_type or "application/octet-stream"
    return send_file(request, room.files.open(row), row, media_type=kind, disposition=name)


def view(room: Room, request: Request, visit: Visit) -> Response:
    """Send the file, to be looked at: images and PDF only, by what their bytes say."""
    audit_log.tell(attachment=request.path_params["attachment"])
    found = _find(room, request, visit)
    refusal = _refusal(room, request, visit, found)
    if refusal is not None:
        return refusal
    if not found.preview:
        raise Problem(415, "No preview", "Files of this type can be downloaded, but not shown.")
    row = found.row
    answer = send_file(
        request,
        room.files.open(row),
        row,
        media_type=row.mime_type or "",
        disposition=content_disposition("inline", row.filename, f"attachment-{row.id}"),
    )
    if found.preview == "pdf":
        answer.headers["content-security-policy"] = _PDF_POLICY
        answer.headers["x-frame-options"] = "SAMEORIGIN"
    return answer


def _find(room: Room, request: Request, visit: Visit) -> Chip:
    number = request.path_params["attachment"]
    row = room.archive.queries.attachment(number)
    ticket = room.archive.threads.ticket(row.ticket_id) if row else None
    if (
        row is None
        or ticket is None
        or not sees(visit.token, row.queue_id)
        or not room.settings.shows(ticket)
    ):
        # One answer for all: it must not tell which attachments exist in other queues.
        raise Problem(404, "No such attachment", "It does not exist, or you may not see it.")
    found = chip(room, row)
    if found.verdict is not Gate.ALLOW and room.inline.has(row):
        return replace(found, verdict=Gate.ALLOW)  # as the API: inline images skip the rules
    return found


def _refusal(room: Room, request: Request, visit: Visit, found: Chip) -> Response | None:
    """Return the page that asks or refuses; None when the file may be handed out."""
    row = found.row
    audit_log.tell(ticket=row.ticket_id, filename=row.filename, size=row.size)
    seal = request.query_params.get("ok", "")
    if found.reason:
        raise Problem(404, "File missing", found.reason)
    if found.verdict is Gate.ALLOW:
        return None
    if found.verdict is Gate.REVIEW and _is_reviewed(room, visit, row, seal):
        return None
    blocked = found.verdict is Gate.BLOCK
    audit_log.tell(code="attachment_blocked" if blocked else "attachment_review_required")
    return show(room, request, visit)


def _review(room: Room, visit: Visit, row: Row) -> str:
    return room.sessions.seal("review", visit.session.nonce, row.id)


def _is_reviewed(room: Room, visit: Visit, row: Row, seal: str) -> bool:
    return room.sessions.sealed(seal, "review", visit.session.nonce, row.id)
