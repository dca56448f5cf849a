"""Calls that write, and the mails that they send."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any, Final

from migrator.sandbox.tickiti.asked import Ask
from migrator.sandbox.tickiti.laravel import Form, Refusal, Reply, data, integer, invalid, reply
from migrator.sandbox.tickiti.model import (
    HIDDEN,
    SYSTEM,
    Generation,
    Response,
    Ticket,
    extension,
)

_KNOWN: Final = frozenset(
    {
        *("ticket_number", "ticket_id", "from_email", "content", "is_internal", "status"),
        *("on_hold_until", "attachments", "assigned_to_email", "priority", "resolved"),
        *("add_participants", "remove_participants", "keep_status", "send_full_email"),
        *("queue", "subject"),
    }
)
"""The fields of respond in October."""
_WRONG_NAMES: Final = ("html", "body", "message")
PRIORITIES: Final = ("10", "20", "30", "40")


# Uploads


def upload(ask: Ask) -> Reply:
    """Keep a file under its hash."""
    desk, given = ask.desk, ask.upload
    if given is None:
        raise invalid(file="The file field is required.")
    try:
        if given.error:
            raise invalid(file="The file failed to upload.")
        if "too_large" in ask.faults or given.size > ask.limits.file:
            raise Refusal(413, "attachment_too_large", "The file is too large.")
        if "type_refused" in ask.faults or extension(given.name) in desk.blocked:
            text = "This file type is blocked by an administrator."
            raise Refusal(403, "attachment_blocked", text)
        if "type_invalid" in ask.faults:
            raise invalid(file="This file type is blocked by an administrator.")
        if "empty_refused" in ask.faults and not given.size:
            raise invalid(file="The file field must be at least 1 byte.")
        sha256, size = given.sha256, given.size
        if "upload_short" in ask.faults:
            contents = given.path.read_bytes()[: size // 2]
            sha256, size = desk.keep_bytes(contents), len(contents)
        else:
            desk.keep(given.path, sha256)
    finally:
        given.path.unlink(missing_ok=True)
    name = given.name
    if "name_changed" in ask.faults:
        name = re.sub(r"\W", "_", name) + "_1"
    return data(
        {
            "sha256": sha256[::-1] if "wrong_hash" in ask.faults else sha256,
            "name": name,
            "file_size": size + ("wrong_size" in ask.faults),
        }
    )


def _references(ask: Ask, form: Form) -> list[dict[str, Any]]:
    """Return the files that a request refers to: all must be stored."""
    if ask.desk.generation < Generation.UPLOADS:
        return []
    given, found = form.items("attachments", most=10 if "few_files" in ask.faults else None), []
    longest = 255 if "short_names" in ask.faults else None
    for at, one in enumerate(given):
        path = f"attachments.{at}"
        inner = Form(one if isinstance(one, dict) else {})
        sha256 = inner.text("sha256", required=True)
        name = inner.text("name", required=True, longest=longest)
        size = inner.whole("file_size", required=True, least=0)
        for field, texts in inner.errors.items():
            form.wrong(f"{path}.{field}", texts[0])
        stored = ask.desk.stored(sha256 or "")
        if inner.errors:
            continue
        if stored is None:
            form.wrong(f"{path}.sha256", "The selected :name is invalid.")
        elif stored.stat().st_size != size:
            form.wrong(f"{path}.file_size", "The :name field does not match the uploaded file.")
        elif extension(name or "") in ask.desk.blocked:
            form.wrong(f"{path}.name", "This file type is blocked by an administrator.")
        else:
            found.append({"name": name, "sha256": sha256})
    return found


# Tickets


def create(ask: Ask) -> Reply:
    """Create a ticket with its opening response."""
    desk, form = ask.desk, Form(ask.params)
    october = desk.generation >= Generation.OCTOBER
    originator = form.email("originator_email_address", required=True) or ""
    if form.value("template_identifier") or form.value("intervention"):
        form.wrong("template_identifier", "The selected :name is invalid.")
    subject = form.text("data.subject", required=True, longest=255) or ""
    content = form.text("data.content", required=True) or ""
    queue = form.text("queue_name") or (not october and form.text("data.queue_name")) or "Inbox"
    if queue not in desk.queues:
        form.wrong("queue_name", "The selected :name is invalid.")
    public = form.flag("is_public") is not False  # the default of old
    as_originator = form.flag("use_passed_originator_as_responder") or False
    more, participants = _new_of_create(ask, form) if october else ({}, [])
    files = _references(ask, form)
    form.check()
    if not ask.key.sees(queue):
        raise Refusal(403, "forbidden", "You have no access to this queue.")
    _check_length(ask, content)
    strangers = _strangers(ask, content)
    if october and form.flag("strict_tags") and strangers:
        raise invalid(data__content=f"Nobody is called {', '.join(strangers)}.")
    ticket = desk.add_ticket(subject, originator, queue=queue, **more)
    author = originator if as_originator else ask.key.email
    desk.write(ticket, author, content, internal=not public, files=files)
    for one in participants:
        desk.join(ticket, one)
    if public:
        desk.mail(ticket, [*_others(ticket, author), originator], "created")
    elif "auto_response" in ask.faults:
        desk.mail(ticket, [originator], "auto_response")
    if "ai_answers" in ask.faults:
        desk.write(ticket, SYSTEM, "<p>Thank you for your message.</p>", internal=False)
        desk.mail(ticket, [originator], "ai_answer")
    told: dict[str, Any] = {"ticket_number": ticket.number}
    if october:
        told |= {"queue": queue, "rerouted": False, "reroute_reason": None}
        told["tag_warnings"] = strangers
    return data(told)


def _new_of_create(ask: Ask, form: Form) -> tuple[dict[str, Any], list[str]]:
    """Return what October's servers take at the creation: attributes and participants."""
    status = form.choice("data.status", ("open", "on-hold", "closed")) or "open"
    until = form.date("data.on_hold_until")
    if status == "on-hold" and not until:
        form.wrong("data.on_hold_until", "The :name field is required.")
    more = {
        "priority": form.choice("data.priority", PRIORITIES) or "20",
        "assigned_to_email": _assignee(ask, form, "data.assigned_to_email"),
        "status": status,
        "on_hold_until": until if status == "on-hold" else None,
    }
    return more, form.emails("participants")


def _strangers(ask: Ask, content: str) -> list[str]:
    words = re.findall(r"(?<![\w@])@\w[\w.-]*", content)
    return [word for word in words if ask.desk.person(word) is None]


def _assignee(ask: Ask, form: Form, name: str) -> str | None:
    value = form.text(name)
    team = value is not None and value.startswith("team:")
    if value is None or value == "Unassigned" or team:
        return value if team else None
    if value.lower() not in ask.desk.staff:
        form.wrong(name, "The selected :name is invalid.")
    return value.lower()


def _others(ticket: Ticket, author: str) -> list[str]:
    """Return everybody who hears of a public response."""
    told = [*ticket.participants, *filter(None, [ticket.assigned_to_email])]
    return [one for one in told if one != author and not one.startswith("team:")]


# Responses


def respond(ask: Ask) -> Reply:
    """Respond to a ticket, and change its attributes."""
    _meddle_before(ask)
    form = Form(ask.params)
    reference = ask.reference(form)
    october = ask.desk.generation >= Generation.OCTOBER
    if october:
        for name in _WRONG_NAMES:
            if name in ask.params:
                form.wrong(name, "The :name field is prohibited: the body is called content.")
    author = form.email("from_email", required=True) or ""
    internal = form.flag("is_internal") or False
    changes = _changes(ask, form)
    content = form.text("content", required=not changes)
    files = _references(ask, form)
    form.check()
    ticket = ask.visible(ask.desk.find(**reference))
    _check_author(ask, author)
    _check_length(ask, content)
    keeps = october and bool(form.flag("keep_status"))
    full = october and bool(form.flag("send_full_email"))
    _check_resolution(ask, ticket, changes)
    _check_removal(ticket, changes.get("remove_participants", []))
    ignored = sorted(set(ask.params) - _KNOWN)
    if "params_ignored" in ask.faults:
        keeps, files = False, []
        ignored += [name for name in ("keep_status", "attachments") if name in ask.params]
    if "params_named" in ask.faults:
        ignored.append("keep_status")
    if "files_dropped" in ask.faults:
        files = []
    responses = [
        _posted(ask, ticket, author, content, internal=internal, files=files)
        for _ in range(1 + ("written_twice" in ask.faults))
    ]
    reopened = _settle(ask, ticket, changes, public=not internal, keeps=keeps, body=bool(content))
    if content and not internal:
        ask.desk.mail(ticket, _others(ticket, author), "reply_full" if full else "reply")
    elif content and "notes_mail" in ask.faults:
        members = [one for one in _others(ticket, author) if one in ask.desk.staff]
        ask.desk.mail(ticket, members, "note")
    told = {"ticket_id": ticket.id, "response_id": responses[0].id, "reopened": reopened}
    return data(told | ({"ignored_params": ignored} if october else {}))


def _meddle_before(ask: Ask) -> None:
    """Let somebody else be faster."""
    desk = ask.desk
    ticket = desk.find(**ask.reference(Form({**ask.params})))
    if ticket is None:
        return
    if "foreign_response" in ask.faults:
        text = "<p>Please see the attached file.</p>"
        made = desk.write(ticket, "priya.sharma@example.com", text, internal=True)
        desk.attach(made, "other.txt", desk.keep_bytes(b"somebody else's file\n"))
        made.foreign = True
    if "closed_between" in ask.faults:
        ticket.status, ticket.on_hold_until = "closed", None
        desk.audit(ticket, "priya.sharma@example.com", "Status set to closed").foreign = True
    if "deleted_between" in ask.faults:
        ticket.deleted_at = desk.now()
    if "moved_between" in ask.faults:
        ticket.queue = HIDDEN
        desk.queues.setdefault(HIDDEN, len(desk.queues) + 1)


def _check_length(ask: Ask, content: str | None) -> None:
    """Fail as a column of a database that is too short does."""
    if "short_texts" in ask.faults and len((content or "").encode()) > 65_535:
        raise Refusal(500, "server_error", "Server Error")


def _check_author(ask: Ask, author: str) -> None:
    desk = ask.desk
    if "author_unknown" in ask.faults and author not in {*desk.staff, *desk.customers}:
        raise invalid(from_email="The selected from email is invalid.")
    if "author_refused" in ask.faults and author != ask.key.email:
        raise Refusal(403, "forbidden", "You cannot respond as somebody else.")


def _changes(ask: Ask, form: Form) -> dict[str, Any]:
    """Return the attributes that a request changes, as far as this generation knows them."""
    generation, found = ask.desk.generation, dict[str, Any]()
    july, october = generation >= Generation.JULY, generation >= Generation.OCTOBER
    found["status"] = form.choice("status", ("open", "on-hold", *(["closed"] if july else [])))
    found["on_hold_until"] = form.date("on_hold_until")
    if found["status"] == "on-hold" and not found["on_hold_until"]:
        form.wrong("on_hold_until", "The :name field is required when status is on-hold.")
    if found["on_hold_until"] and not found["status"]:
        found["status"] = "on-hold" if october else None
    if july:
        if form.value("assigned_to_email") is not None:
            found["assigned_to_email"] = _assignee(ask, form, "assigned_to_email") or "Unassigned"
        found["priority"] = form.choice("priority", PRIORITIES)
        found["resolved"] = form.value("resolved")
        found["add_participants"] = form.emails("add_participants")
        found["remove_participants"] = form.emails("remove_participants")
    if october:
        found["subject"] = form.text("subject", longest=255)
        found["queue"] = form.choice("queue", ask.desk.queues)
    return {name: value for name, value in found.items() if value}


def _check_resolution(ask: Ask, ticket: Ticket, changes: dict[str, Any]) -> None:
    tracked = ticket.queue in ask.desk.tracking
    if changes.get("resolved") and not ask.desk.tracking:
        raise Refusal(403, "forbidden", "Your plan has no resolution tracking.")
    if changes.get("status") == "closed" and tracked and not changes.get("resolved"):
        raise invalid(resolved="The resolved field is required in this queue.")


def _posted(
    ask: Ask,
    ticket: Ticket,
    author: str,
    content: str | None,
    *,
    internal: bool,
    files: Iterable[dict[str, Any]],
) -> Response:
    """Write a response, or a row about changes where it has no body."""
    desk = ask.desk
    if content is None:
        return desk.audit(ticket, author, "Attributes changed")
    if "name_kept" in ask.faults:
        files = [{**one, "name": f"copy of {one['name']}"} for one in files]
    made = desk.write(ticket, author, content, internal=internal, files=files)
    damages = ask.faults & {"damaged_file", "lost_file", "other_file"}
    for file in made.attachments[:1]:
        file.damage = next(iter(damages), None)
    return made


def _settle(
    ask: Ask, ticket: Ticket, changes: dict[str, Any], *, public: bool, keeps: bool, body: bool
) -> bool:
    """Change the attributes of a ticket that was responded to; say whether that reopened it.

    Before October every response without a status reopens; since then only public ones do, unless
    the status is to be kept.
    """
    was_open, status = ticket.status == "open", changes.get("status")
    reopens = ask.desk.generation < Generation.OCTOBER or (public and body and not keeps)
    if status is None and reopens:
        status = "open"
    if "reopened" in ask.faults:
        status = "open"
    if status:
        ticket.status = status
        ticket.on_hold_until = changes.get("on_hold_until") if status == "on-hold" else None
    for name in ("priority", "resolved", "subject", "queue"):
        setattr(ticket, name, changes.get(name) or getattr(ticket, name))
    if assignee := changes.get("assigned_to_email"):
        ticket.assigned_to_email = None if assignee == "Unassigned" else assignee
    for one in changes.get("add_participants", ()):
        _joined(ask, ticket, one)
    for one in changes.get("remove_participants", ()):
        _removed(ticket, one)
    return not was_open and ticket.status == "open"


def _joined(ask: Ask, ticket: Ticket, email: str) -> None:
    if email not in ticket.participants:
        ask.desk.join(ticket, email)
        ask.desk.mail(ticket, [email], "participant_added")


def _check_removal(ticket: Ticket, emails: list[str]) -> None:
    if ticket.originator_email in emails:
        raise invalid(participants="The originator cannot be removed.")


def _removed(ticket: Ticket, email: str) -> None:
    if email in ticket.participants:
        ticket.participants.remove(email)


def close(ask: Ask) -> Reply:
    """Close a ticket."""
    form = Form(ask.params)
    author = form.email("from_email") or ask.key.email
    content, internal = form.text("content"), form.flag("is_internal") or False
    changes: dict[str, Any] = {"status": "closed", "resolved": form.value("resolved")}
    if ask.desk.generation >= Generation.OCTOBER:
        changes["subject"] = form.text("subject", longest=255)
        changes["queue"] = form.choice("queue", ask.desk.queues)
    ticket = ask.ticket(form)
    _check_author(ask, author)
    _check_resolution(ask, ticket, changes)
    made = _posted(ask, ticket, author, content, internal=internal, files=())
    _settle(ask, ticket, changes, public=False, keeps=False, body=bool(content))
    if content and not internal:
        ask.desk.mail(ticket, _others(ticket, author), "reply")
    ask.desk.mail(ticket, _others(ticket, author), "ticket_closed")
    return data({"ticket_id": ticket.id, "response_id": made.id, "reopened": False})


def add_participants(ask: Ask) -> Reply:
    """Add participants."""
    return _participants(ask, add=True)


def remove_participants(ask: Ask) -> Reply:
    """Remove participants."""
    return _participants(ask, add=False)


def _participants(ask: Ask, *, add: bool) -> Reply:
    form = Form(ask.params)
    author = form.email("from_email") or ask.key.email
    emails = form.emails("participants", required=True)
    ticket = ask.ticket(form)
    if not add:
        _check_removal(ticket, emails)
    for one in emails:
        if add:
            _joined(ask, ticket, one)
        else:
            _removed(ticket, one)
    verb = "added" if add else "removed"
    made = ask.desk.audit(ticket, author, f"Participants {verb}: {', '.join(emails)}")
    return data({"ticket_id": ticket.id, "response_id": made.id})


def update_response(ask: Ask) -> Reply:
    """Change the body or the visibility of a response."""
    desk, form = ask.desk, Form(ask.params)
    content, pairs, internal, notify = form.text("content"), list[Any](), None, False
    if desk.generation >= Generation.OCTOBER:
        pairs = form.items("replace")
        internal, notify = form.flag("is_internal"), form.flag("notify") or False
    if content is not None and pairs:
        form.wrong("content", "The :name field is prohibited when replace is present.")
    if content is None and not pairs and internal is None:
        form.wrong("content", "The :name field is required.")
    one, ticket = ask.response(form)
    if one.is_audit_only:
        raise invalid(response_id="This row has no body.")
    if not one.staff_response and (content is not None or pairs):
        raise invalid(response_id="The body of a customer's response cannot be changed.")
    body = content if content is not None else _replaced(one.html, pairs)
    if body != one.html:
        one.html = desk.extracted(one, body)
    if internal is not None:
        one.is_internal = internal
    if notify and not one.is_internal:
        desk.mail(ticket, _others(ticket, one.created_by_email), "reply")
    one.updated_at = ticket.updated_at = desk.now()
    return data({"response_id": one.id, "ticket_number": ticket.number})


def _replaced(body: str, pairs: list[Any]) -> str:
    for one in pairs:
        find = one.get("find") if isinstance(one, dict) else None
        if not find:
            raise invalid(replace="The find field is required.")
        times = body.count(find)
        if not times or (times > 1 and one.get("all") is not True):
            raise invalid(replace=f"The text to find occurs {times} times.")
        body = body.replace(find, one.get("replace") or "")
    return body


# Undoing


def delete_response(ask: Ask) -> Reply:
    """Delete a response softly."""
    one, ticket = ask.response(Form(ask.params))
    one.deleted_at = ask.desk.now()
    return data({"response_id": one.id, "ticket_number": ticket.number})


def _restructures(ask: Ask) -> None:
    if not ask.key.manages and ask.key.owner != "system":
        raise Refusal(403, "forbidden", "You do not manage this queue.")


def delete_attachment(ask: Ask) -> Reply:
    """Remove one file of a response; a line about it stays."""
    desk, form = ask.desk, Form(ask.params)
    number = form.whole("response_attachment_id", required=True)
    reason = form.text("reason", longest=500)
    ticket = ask.ticket(form)
    _restructures(ask)
    file = desk.attachments.get(number or 0)
    one = desk.responses[file.response_id] if file else None
    if file is None or one is None or one.ticket_id != ticket.id or one.deleted_at is not None:
        raise Refusal(404, "not_found", "Attachment not found.")
    one.attachments.remove(file)
    del desk.attachments[file.id]
    desk.drop_unused(file.sha256)
    one.audit.append(f"Removed {file.name} ({file.sha256}) by {ask.key.email}: {reason or ''}")
    desk.deleted_files.append((file.name, file.sha256, reason or ""))
    return data({"response_attachment_id": file.id})


def delete(ask: Ask) -> Reply:
    """Delete tickets softly: all of them or none."""
    desk, form = ask.desk, Form(ask.params)
    numbers = form.items("ticket_numbers", most=1000)
    originator, queue = form.email("originator_email"), form.text("queue")
    rehearsed = form.flag("dry_run") or False
    if bool(numbers) == bool(originator):
        form.wrong("ticket_numbers", "Exactly one of :name and originator email is required.")
    form.check()
    _restructures(ask)
    if originator:
        found = [
            one
            for one in desk.tickets.values()
            if one.originator_email == originator
            and one.deleted_at is None
            and queue in (None, one.queue)
            and ask.key.sees(one.queue)
        ]
    else:
        found = [ask.visible(desk.find(number=integer(one) or 0)) for one in numbers]
    if not rehearsed:
        for ticket in found:
            ticket.deleted_at = desk.now()
    told = [ticket.number for ticket in found]
    return data({"dry_run": rehearsed, "count": len(told), "ticket_numbers": told})


def restore(ask: Ask) -> Reply:
    """Bring a deleted ticket back."""
    form = Form(ask.params)
    number = form.whole("ticket_number", required=True)
    form.check()
    _restructures(ask)
    ticket = ask.desk.tickets.get(number or 0)
    if ticket is None or ticket.deleted_at is None:
        raise Refusal(404, "not_found", "Ticket not found.")
    ticket.deleted_at = None
    return data({"ticket_number": ticket.number})


def delete_orphaned(ask: Ask) -> Reply:
    """Remove stored files that nothing uses, uploads that wait for their response as well."""
    return reply(200, {"deleted": ask.desk.drop_unused()})


def idempotency_key(_ask: Ask) -> Reply:
    """Mint a key."""
    return data({"idempotency_key": str(uuid.uuid4())})
