"""Calls that read."""

from __future__ import annotations

import base64
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from migrator.sandbox.tickiti.asked import Ask
from migrator.sandbox.tickiti.laravel import Form, Refusal, Reply, data, integer, reply
from migrator.sandbox.tickiti.model import (
    ROLES,
    Attachment,
    Generation,
    Mail,
    Response,
    Ticket,
    extension,
    iso,
)

HEAVY: Final = ("html", "plain_text", "attachments")
METADATA: Final = (
    *("is_internal", "is_pinned", "staff_response", "created_by_email", "created_at"),
    *("updated_at", "is_email_sourced", "audit", "is_audit_only"),
)
_one_at_a_time: Final = threading.Lock()


def mime_type(contents: bytes) -> str:
    """Return the type that libmagic sees in a file."""
    # In this order: pylibmagic makes its library known to python-magic.
    import pylibmagic  # noqa: F401, I001, PLC0415
    import magic  # noqa: PLC0415

    with _one_at_a_time:
        return str(magic.from_buffer(contents[: 1 << 20], mime=True))


# Objects


def header(ask: Ask, ticket: Ticket) -> dict[str, Any]:
    """Return a ticket as show has it."""
    desk = ask.desk
    told: dict[str, Any] = {
        "id": str(ticket.id),
        "number": ticket.number,
        "subject": ticket.subject,
        "status": ticket.status,
        "priority": ticket.priority,
        "queue_id": str(desk.queues[ticket.queue]),
        "originator_email": ticket.originator_email,
        "assigned_to_email": ticket.assigned_to_email,
        "resolved": ticket.resolved,
        "on_hold_until": ticket.on_hold_until,
        "created_at": iso(ticket.created_at),
        "updated_at": iso(ticket.updated_at),
    }
    if desk.generation >= Generation.OCTOBER:
        told["queue"] = ticket.queue
        told["originator_name"] = desk.staff.get(ticket.originator_email)
        told["participants"] = [
            {"email": one, "name": desk.staff.get(one), "is_staff": one in desk.staff}
            for one in ticket.participants
        ]
        told["linked_tickets"] = []
    return told


def described(ask: Ask, file: Attachment) -> dict[str, Any]:
    """Return a file without its bytes."""
    told = {"id": str(file.id), "name": file.name, "is_inline": file.is_inline}
    if "no_hash" in ask.faults:
        return told
    sha256 = "0" * 64 if file.damage == "other_file" else file.sha256
    more = {"response_id": str(file.response_id), "sha256": sha256, "file_size": file.file_size}
    return told | more


def responded(
    ask: Ask, one: Response, fields: Iterable[str] = (*HEAVY, *METADATA), most: int | None = None
) -> dict[str, Any]:
    """Return a response with some of its fields, and at most so many characters of its body."""
    october = ask.desk.generation >= Generation.OCTOBER
    every: dict[str, Any] = {
        "is_internal": one.is_internal,
        "is_pinned": one.is_pinned,
        "staff_response": one.staff_response,
        "created_by_email": one.created_by_email,
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
        "is_email_sourced": one.is_email_sourced,
        "html": one.html,
        "plain_text": one.plain_text,
        "attachments": [described(ask, file) for file in one.attachments],
    }
    if october:
        every |= {"audit": one.audit, "is_audit_only": one.is_audit_only}
    told = {"id": str(one.id)} | {name: every[name] for name in every if name in set(fields)}
    if october:
        told["body_chars"] = len(one.html)
    for name in ("html", "plain_text"):
        if most is not None and len(told.get(name, "")) > most:
            told |= {name: told[name][:most], f"{name}_truncated": True}
    return told


def _shown(ask: Ask, ticket: Ticket) -> list[dict[str, Any]]:
    form, chosen, most = Form(ask.params), list(HEAVY), None
    if ask.desk.generation >= Generation.OCTOBER:
        chosen = form.items("fields") or chosen
        if not all(one in HEAVY for one in chosen):
            form.wrong("fields", "The selected :name is invalid.")
        most = form.whole("max_body_chars", least=0)
    form.check()
    rows = ticket.shown
    if "stale_read" in ask.faults and rows:
        newest = max(rows, key=lambda one: one.id)
        rows = [one for one in rows if one is not newest]
    return [responded(ask, one, (*METADATA, *chosen), most) for one in rows]


# Calls


def token(ask: Ask) -> Reply:
    """Say what the token may do."""
    key = ask.key
    roles = ROLES[: ROLES.index(key.role) + 1]
    plans = ("has_reports", "has_escalations", "has_interventions", "has_ai_assistant")
    abilities: Any = sorted(key.abilities)
    if "token_by_family" in ask.faults:
        pairs = [one.split(":") for one in abilities]
        abilities = {family: [kind for one, kind in pairs if one == family] for family, _ in pairs}
    return data(
        {
            "abilities": abilities,
            "owner": key.owner,
            "roles": list(roles),
            "features": dict.fromkeys(plans, False)
            | {"has_resolution_tracking": bool(ask.desk.tracking)},
        }
    )


def show(ask: Ask) -> Reply:
    """Show a ticket with its responses."""
    ticket = ask.ticket()
    return data({"ticket": header(ask, ticket), "responses": _shown(ask, ticket)})


def responses(ask: Ask) -> Reply:
    """Show the responses of a ticket."""
    ticket = ask.ticket()
    return data({"ticket_number": ticket.number, "responses": _shown(ask, ticket)})


def response(ask: Ask) -> Reply:
    """Show one response."""
    form = Form(ask.params)
    most = form.whole("max_body_chars", least=0)
    one, ticket = ask.response(form)
    more = {"response_id": str(one.id), "ticket_number": ticket.number}
    return data(responded(ask, one, most=most) | more)


def attachment(ask: Ask) -> Reply:
    """Give a file, or a range of it."""
    desk, form = ask.desk, Form(ask.params)
    number = form.whole("response_attachment_id", required=True)
    intent = form.choice("intent", ("review_ok",))
    ranged = desk.generation >= Generation.JULY and "offset" in ask.params
    offset = (form.whole("offset", least=0) if ranged else 0) or 0
    length = (form.whole("length", least=1, most=25 << 20) if ranged else None) or 8 << 20
    ticket = ask.ticket(form)
    file = desk.attachments.get(number or 0)
    one = desk.responses.get(file.response_id) if file else None
    if file is None or one is None or one.ticket_id != ticket.id or one.deleted_at is not None:
        raise Refusal(404, "not_found", "Attachment not found.")
    if not file.is_inline:
        _by_the_rules(ask, extension(file.name), intent)
    path = desk.stored(file.sha256)
    if path is None or file.damage == "lost_file":
        raise Refusal(404, "not_found", "The stored file is missing.")
    if not ranged and file.file_size > ask.limits.download:
        larger = {"file_size": file.file_size}
        larger |= {"ranged": True} if desk.generation >= Generation.JULY else {}
        text = "The attachment is too large for the API."
        raise Refusal(413, "attachment_too_large", text, more=larger)
    contents = _as_damaged(path.read_bytes(), ask.faults | {file.damage or ""})
    part = contents[offset : offset + length] if ranged else contents
    told = {
        "id": str(file.id),
        "response_id": str(file.response_id),
        "name": file.name,
        "mime_type": mime_type(contents),
        "sha256": file.sha256,
        "file_size": file.file_size,
        "is_inline": file.is_inline,
        "content_base64": base64.b64encode(part).decode(),
    }
    return data(told | ({"eof": offset + len(part) >= len(contents)} if ranged else {}))


def _by_the_rules(ask: Ask, suffix: str, intent: str | None) -> None:
    if suffix in ask.desk.blocked:
        raise Refusal(403, "attachment_blocked", "This file type is blocked by an administrator.")
    if suffix not in ask.desk.allowed and intent is None:
        text = "This file type needs a review. Confirm with intent review_ok."
        raise Refusal(403, "attachment_review_required", text)


def _as_damaged(contents: bytes, faults: frozenset[str]) -> bytes:
    """Return contents as a fault of their download makes them."""
    if faults & {"wrong_bytes", "damaged_file", "other_file"}:
        return contents[:-1] + bytes([contents[-1] ^ 1]) if contents else b"?"
    return contents[:-1] if "short_bytes" in faults else contents


def queues(ask: Ask) -> Reply:
    """List the queues that the token sees."""
    rows = [
        {"id": str(number), "name": name}
        for name, number in ask.desk.queues.items()
        if ask.key.sees(name)
    ]
    return data({"queues": rows})


def workflow_queues(ask: Ask) -> Reply:
    """List queues with the numbers of their tickets, as pages of the staff have it."""
    desk = ask.desk
    counts = Counter(one.queue for one in desk.tickets.values() if one.deleted_at is None)
    rows = [
        {"id": number, "name": name, "tickets_count": counts[name]}
        for name, number in desk.queues.items()
    ]
    return reply(200, {"queues": rows})


def staff(ask: Ask) -> Reply:
    """List the staff."""
    searched = (Form(ask.params).text("search") or "").lower()
    rows = [
        {"id": str(at), "name": name, "email": email, "teams": []}
        for at, (email, name) in enumerate(ask.desk.staff.items(), 1)
        if searched in name.lower() or searched in email
    ]
    return data({"staff": rows})


def sent_mail(ask: Ask) -> Reply:
    """List the mails of some days, newest first."""
    form = Form(ask.params)
    days = form.whole("range_days", least=1, most=30) or 7
    limit = form.whole("limit", least=1, most=300) or 100
    form.check()
    since = ask.desk.now() - days * 86_400
    return _mails([one for one in ask.desk.mails if one.at >= since], limit)


def search_sent_mail(ask: Ask) -> Reply:
    """List the mails with a text in their subject or address, newest first."""
    form = Form(ask.params)
    searched = (form.text("q") or "").lower()
    limit = form.whole("limit", least=1, most=500) or 100
    form.check()
    found = [m for m in ask.desk.mails if searched in m.subject.lower() or searched in m.to]
    return _mails(found, limit)


def _mails(mails: list[Mail], limit: int) -> Reply:
    rows = [
        {"id": at, "to": one.to, "subject": one.subject, "sent_at": iso(one.at)}
        for at, one in enumerate(mails, 1)
    ]
    return reply(200, {"sent_mail": rows[::-1][:limit]})


# Queries


def _instant(form: Form, name: str, clock: str) -> str | None:
    """Return a bound as ``YYYY-MM-DD HH:MM:SS``, which compares as text."""
    value = form.text(name)
    return f"{value} {clock}" if value and len(value) == 10 else value


def _stored(at: int) -> str:
    return iso(at)[:19].replace("T", " ")


def query_responses(ask: Ask) -> Reply:
    """List responses of all tickets that the token sees, oldest first, or count them."""
    form, desk = Form(ask.params), ask.desk
    october = desk.generation >= Generation.OCTOBER
    deleted = form.flag("include_deleted") or False
    wanted = _filters(form, desk.queues) + (_new_filters(form) if october else [])
    limit = form.whole("limit", least=1, most=1000) or 200
    chosen, cursor = form.items("fields"), form.value("cursor")
    known = (*HEAVY, *METADATA) if october else HEAVY
    if not all(one in known for one in chosen):
        form.wrong("fields", "The selected :name is invalid.")
    form.check()
    rows = [
        (ticket, one)
        for ticket in desk.tickets.values()
        if ask.key.sees(ticket.queue) and (deleted or ticket.deleted_at is None)
        for one in (ticket.responses if deleted else ticket.shown)
        if all(keeps(ticket, one) for keeps in wanted)
    ]
    rows.sort(key=lambda row: (row[1].created_at, row[1].id))
    if october and (counted := _counted(form, rows)) is not None:
        return counted
    if "stale_read" in ask.faults and rows:
        rows.remove(max(rows, key=lambda row: row[1].id))
    if isinstance(cursor, dict):
        after = (str(cursor.get("created_at")), integer(cursor.get("id")) or 0)
        rows = [row for row in rows if (_stored(row[1].created_at), row[1].id) > after]
    fields = (*METADATA, *(chosen or HEAVY))
    if set(chosen) & set(METADATA):
        fields = tuple(chosen)
    elif october and form.flag("metadata_only"):
        fields = METADATA
    told = [
        responded(ask, one, fields) | {"response_id": str(one.id), "ticket_number": ticket.number}
        for ticket, one in rows[:limit]
    ]
    last = rows[limit - 1][1] if len(rows) > limit else None
    following = last and {"created_at": _stored(last.created_at), "id": last.id}
    return data({"responses": told, "next_cursor": following})


Keeps = Callable[[Ticket, Response], bool]


def _filters(form: Form, known: dict[str, int]) -> list[Keeps]:
    """Return the filters that every generation knows."""
    kept: list[Keeps] = []
    if since := _instant(form, "created_from", "00:00:00"):
        kept.append(lambda _, one: _stored(one.created_at) >= since)
    if until := _instant(form, "created_to", "23:59:59"):
        kept.append(lambda _, one: _stored(one.created_at) <= until)
    if (internal := form.flag("is_internal")) is not None:
        kept.append(lambda _, one: one.is_internal is internal)
    if (by_staff := form.flag("staff_response")) is not None:
        kept.append(lambda _, one: one.staff_response is by_staff)
    if names := form.items("queue"):
        kept.append(lambda ticket, _: ticket.queue in names)
    if ids := {str(one) for one in form.items("queue_id")}:
        kept.append(lambda ticket, _: str(known[ticket.queue]) in ids)
    if numbers := {str(one) for one in form.items("ticket_number")}:
        kept.append(lambda ticket, _: str(ticket.number) in numbers)
    return kept


def _new_filters(form: Form) -> list[Keeps]:
    """Return the filters that October added; servers before it ignore them."""
    kept: list[Keeps] = []
    if ids := {integer(one) for one in form.items("response_id")}:
        kept.append(lambda _, one: one.id in ids)
    if author := form.email("created_by_email"):
        kept.append(lambda _, one: one.created_by_email == author)
    if (files := form.flag("has_attachments")) is not None:
        kept.append(lambda _, one: bool(one.attachments) is files)
    if (empty := form.flag("is_empty")) is not None:
        kept.append(lambda _, one: (not one.plain_text) is empty)
    return kept


def _counted(form: Form, rows: list[tuple[Ticket, Response]]) -> Reply | None:
    """Return numbers instead of rows, where those were asked for."""
    groups: dict[str, Callable[[Ticket, Response], Any]] = {
        "ticket_number": lambda ticket, _: ticket.number,
        "created_by_email": lambda _, one: one.created_by_email,
        "queue": lambda ticket, _: ticket.queue,
        "is_internal": lambda _, one: one.is_internal,
        "staff_response": lambda _, one: one.staff_response,
        "day": lambda _, one: iso(one.created_at)[:10],
    }
    group, count = form.choice("group_by", groups), form.flag("count_only")
    form.check()
    if group:
        tally = Counter(groups[group](*row) for row in rows)
        return data({"groups": [{"key": key, "count": n} for key, n in tally.items()]})
    return data({"count": len(rows)}) if count else None


def _day(at: int) -> str:
    return iso(at)[:10]


_TEXTS: Final[dict[str, Callable[[Ticket], list[str]]]] = {
    "subject": lambda ticket: [ticket.subject],
    "content": lambda ticket: [one.plain_text for one in ticket.shown],
    "subject_content": lambda ticket: [ticket.subject, *(o.plain_text for o in ticket.shown)],
}
_VALUES: Final[dict[str, Callable[[Ticket, str], bool]]] = {
    "assigned": lambda ticket, token: (ticket.assigned_to_email or "unassigned") == token,
    "participant": lambda ticket, token: token in ticket.participants,
    "priority": lambda ticket, token: ticket.priority == token,
    "raised": lambda ticket, token: ticket.originator_email == token,
    "queue": lambda ticket, token: ticket.queue.lower() == token,
    "status": lambda ticket, token: ticket.status == token,
    "watchlist": lambda _ticket, _token: False,
    "hashtag": lambda ticket, token: any(
        f"#{token.lstrip('#')}" in one.plain_text.lower() for one in ticket.shown
    ),
    "ticket_number": lambda ticket, token: str(ticket.number) == token,
    "created_from": lambda ticket, token: _day(ticket.created_at) >= token,
    "created_to": lambda ticket, token: _day(ticket.created_at) <= token,
    "updated_from": lambda ticket, token: _day(ticket.updated_at) >= token,
    "updated_to": lambda ticket, token: _day(ticket.updated_at) <= token,
}


def query_tickets(ask: Ask) -> Reply:
    """List tickets, newest first."""
    form = Form(ask.params)
    october = ask.desk.generation >= Generation.OCTOBER
    limit = (form.whole("row_limit", least=1, most=5000) if october else None) or 100
    wanted: dict[str, list[Callable[[Ticket], bool]]] = {}
    for at, one in enumerate(form.items("search_object.criteria")):
        mode = one.get("mode") if isinstance(one, dict) else None
        if mode not in _TEXTS and mode not in _VALUES:
            if october:
                form.wrong(f"search_object.criteria.{at}.mode", "The selected :name is invalid.")
            continue
        tokens = [str(token).lower() for token in one.get("tokens") or []]
        wanted.setdefault(mode, []).append(_matches(mode, tokens, any_of=one.get("match") == "any"))
    form.check()
    rows = [
        header(ask, ticket) | {"ticket_number": ticket.number}
        for ticket in sorted(ask.desk.tickets.values(), key=lambda one: -one.updated_at)
        if ask.key.sees(ticket.queue)
        and ticket.deleted_at is None
        and all(any(matches(ticket) for matches in same) for same in wanted.values())
    ]
    return reply(200, rows[:limit]) if "bare_rows" in ask.faults else data(rows[:limit])


def _matches(mode: str, tokens: list[str], *, any_of: bool) -> Callable[[Ticket], bool]:
    if mode in _VALUES:
        return lambda ticket: any(_VALUES[mode](ticket, token) for token in tokens)
    how = any if any_of else all

    def found(ticket: Ticket) -> bool:
        texts = "\n".join(_TEXTS[mode](ticket)).lower()
        return how(token in texts for token in tokens)

    return found
