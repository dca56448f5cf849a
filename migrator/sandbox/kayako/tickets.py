"""The calls that write tickets, and the one that searches them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from migrator.sandbox.kayako.build import new_mask
from migrator.sandbox.kayako.calls import (
    EMPTY,
    NO_TICKET,
    Ask,
    is_blank,
    listing,
    tickets_reply,
)
from migrator.sandbox.kayako.files import chance
from migrator.sandbox.kayako.messages import Body, Reply, text
from migrator.sandbox.kayako.model import TRASH, Helpdesk, Post, Ticket, User, number
from migrator.sandbox.kayako.people import PRIORITIES, TYPES

_WANTED: Final = {
    "subject": "Subject is empty",
    "fullname": "Fullname is empty",
    "email": "Email is empty",
    "contents": "Contents is empty",
    "departmentid": "Department ID is empty",
    "ticketstatusid": "Ticket Status ID is empty",
    "ticketpriorityid": "Ticket Priority ID is empty",
    "tickettypeid": "Ticket Type ID is empty",
}
_BY_API: Final = 4
"""The ``creationmode`` of tickets that came through the API."""


def post_ticket(ask: Ask) -> Reply:
    """Add a ticket, in the name of staff, of a user, or of whoever has the address."""
    desk, form = ask.desk, ask.request.form
    wrong = _wrong(desk, form)
    if wrong:
        return text(400, wrong)
    staff = user = None
    if form.get("autouserid") == "1":
        user = _user(desk, form)
    elif "userid" in form:
        user = desk.people.get((False, number(form["userid"]) or 0))
        if user and form["email"] not in user.emails:
            return text(400, "User Email is Invalid")
    else:
        user, staff = _user(desk, form), desk.people.get((True, number(form["staffid"]) or 0))
    now, key = int(time.time()), max([0, *desk.tickets, *desk.merges]) + 1
    by_phone = form.get("type") == "phone"
    named = {k: form[k] for k in ("fullname", "email")}
    if user and "userid" in form:
        named["fullname"] = user.name
    elif staff and not by_phone:  # it goes out as a mail of theirs
        named = {"fullname": staff.name, "email": staff.emails[0]}
    ticket = Ticket(
        id=key,
        mask=new_mask(chance(desk.options.seed + key)),
        department_id=0,
        status_id=0,
        subject="",
        user="",
        created_at=now,
        last_activity=now,
        creator=1 if staff else 2,
        mode=_BY_API,
        by_phone=by_phone,
    )
    changes = _changes(desk, {**form, **named}) | {"user_id": user.id if user else 0}
    ticket = replace(ticket, **changes)
    post = Post(0, key, now, ticket.creator, form["contents"], staff_id=staff.id if staff else 1)
    desk.add_ticket(ticket, [post])
    return tickets_reply(desk, [ticket], with_posts=True)


def _wrong(desk: Helpdesk, form: Mapping[str, str]) -> str | None:  # noqa: PLR0911 - one by one
    """Say what is wrong with a new ticket, in Kayako's order."""
    for key, sentence in _WANTED.items():
        if is_blank(form, key):
            return sentence
    if all(is_blank(form, key) for key in ("staffid", "userid", "autouserid")):
        return "Staff ID, User ID and Auto User ID values are empty or not provided"
    department = desk.departments.get(number(form["departmentid"]) or 0)
    if department is None:
        return "Department ID is Invalid"
    if department.app != "tickets":
        return "Department App is not Tickets"
    for key, known, name in (
        ("ticketstatusid", desk.statuses, "Status"),
        ("ticketpriorityid", PRIORITIES, "Priority"),
        ("tickettypeid", TYPES, "Type"),
    ):
        if number(form[key]) not in known:
            return f"Ticket {name} ID is Invalid"
    if "staffid" in form and (True, number(form["staffid"])) not in desk.people:
        return "Staff ID is Invalid"
    return None


def _user(desk: Helpdesk, form: Mapping[str, str]) -> User:
    """Return the user with the address of a form, a new one if there is none."""
    for (staff, _), user in desk.people.items():
        if not staff and form["email"] in user.emails:
            return user
    key = max((key for staff, key in desk.people if not staff), default=0) + 1
    return desk.people.setdefault((False, key), User(key, form["fullname"], (form["email"],)))


def _changes(desk: Helpdesk, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns that a form sets; unknown ids are ignored."""
    texts = {"subject": "subject", "fullname": "user", "email": "address"}
    changes: dict[str, Any] = {
        column: form[key] for key, column in texts.items() if form.get(key, "") not in EMPTY
    }
    departments = {d.id for d in desk.departments.values() if d.app == "tickets"}
    for key, column, known in (
        ("departmentid", "department_id", departments),
        ("ticketstatusid", "status_id", desk.statuses),
        ("ticketpriorityid", "priority_id", PRIORITIES),
        ("tickettypeid", "type_id", TYPES),
        ("ownerstaffid", "owner_id", {0, *(key for staff, key in desk.people if staff)}),
        ("userid", "user_id", {key for staff, key in desk.people if not staff}),
    ):
        if (given := number(form.get(key, ""))) in known:
            changes[column] = given
    return changes


def put_ticket(ask: Ask, ticket_id: str) -> Reply:
    """Change a ticket, which moves its ``lastactivity``."""
    desk, ticket = ask.desk, ask.desk.find_ticket(ticket_id)
    if ticket is None:
        return text(404, NO_TICKET)
    desk.tickets[ticket.id] = replace(ticket, **_changes(desk, ask.request.form))
    desk.touch(ticket.id)
    return tickets_reply(desk, [desk.tickets[ticket.id]], with_posts=True)


def delete_ticket(ask: Ask, ticket_id: str) -> Reply:
    """Delete a ticket by its present number; under another name of it nothing is deleted."""
    if ask.desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    if (key := number(ticket_id)) in ask.desk.tickets:
        ask.desk.delete_ticket(key)
    return Reply(Body(b""))


# Search

MOST_FOUND: Final = 50
"""The most tickets of a search: a setting of the staff's."""


def _said(desk: Helpdesk, ticket: Ticket, kind: str) -> list[str]:
    return [note.text for note in desk.notes_of(ticket) if note.kind == kind]


def _people(desk: Helpdesk, ticket: Ticket) -> list[str]:
    user = desk.people.get((False, ticket.user_id))
    return [user.name, *user.emails] if user else []


_AREAS: Final[dict[str, Callable[[Helpdesk, Ticket], Iterable[str]]]] = {
    "ticketid": lambda _, t: (str(t.id), t.mask),
    "contents": lambda desk, t: (post.text for post in desk.posts_of(t.id)),
    "author": lambda _, t: (t.user, t.email),
    "email": lambda _, t: (t.email,),
    "creatoremail": lambda _, t: (t.email,),
    "fullname": lambda _, t: (t.user,),
    "notes": lambda desk, t: _said(desk, t, "ticket"),
    "usergroup": lambda _, t: ("Registered",) if t.user_id else (),
    "userorganization": lambda desk, t: (
        desk.organizations.get(desk.members.get(t.user_id, 0), ""),
    ),
    "user": _people,
    "tags": lambda _, t: t.tags.split(),
}
"""Where a search looks, by the flags of its form."""


def search(ask: Ask) -> Reply:
    """Send the tickets that hold a text in one of the areas that were chosen, with posts."""
    desk, form = ask.desk, ask.request.form
    wanted = form.get("query", "").casefold()
    areas = [look for key, look in _AREAS.items() if form.get(key) == "1"]
    found = [
        ticket
        for ticket in desk.tickets.values()
        if ticket.department_id != TRASH
        and wanted not in EMPTY
        and any(wanted in one.casefold() for look in areas for one in look(desk, ticket))
    ]
    return listing(desk, tickets_reply(desk, found[:MOST_FOUND], with_posts=True))
