"""The calls for notes and time tracks of tickets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from migrator.sandbox.kayako.calls import (
    EMPTY,
    NO_TICKET,
    Ask,
    is_blank,
    listing,
    write_note,
)
from migrator.sandbox.kayako.messages import Body, Reply, XmlWriter, text, xml
from migrator.sandbox.kayako.model import Note, number


@dataclass(frozen=True, slots=True)
class Sort:
    """What one kind of notes is called."""

    kind: str
    root: str
    tag: str
    name: str


NOTES: Final = Sort("ticket", "notes", "note", "Ticket note")
TIME_TRACKS: Final = Sort("timetrack", "timetracks", "timetrack", "Ticket time tracking note")


def _reply(ask: Ask, sort: Sort, notes: list[Note]) -> Reply:
    writer = XmlWriter()
    with writer.inside(sort.root):
        for note in notes:
            kind = {"type": note.kind} if sort is NOTES else {}
            write_note(writer, ask.desk, sort.tag, note, **kind)
    return listing(ask.desk, xml(writer))


def list_notes(sort: Sort, ask: Ask, ticket_id: str, note_id: str = "") -> Reply:
    """List notes of a ticket; a mask or a merged id lists none."""
    if ask.desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    notes = ask.desk.notes.get((sort.kind, number(ticket_id) or 0), [])
    return _reply(ask, sort, [n for n in notes if note_id in {"", str(n.id)}])


def _find(ask: Ask, sort: Sort, ticket_id: str, note_id: str) -> Note | Reply:
    """Find a note with Kayako's three checks, in its order."""
    if ask.desk.find_ticket(ticket_id) is None:
        return text(404, NO_TICKET)
    of_kind = (notes for (kind, _), notes in ask.desk.notes.items() if kind == sort.kind)
    found = next((n for notes in of_kind for n in notes if n.id == number(note_id)), None)
    if found is None:
        return text(404, f"{sort.name} not Found")
    if found.of != number(ticket_id):
        return text(400, f"{sort.name} does not belong to the specified ticket")
    return found


def get_note(sort: Sort, ask: Ask, ticket_id: str, note_id: str) -> Reply:
    """Send one note."""
    found = _find(ask, sort, ticket_id, note_id)
    return found if isinstance(found, Reply) else _reply(ask, sort, [found])


def delete_note(sort: Sort, ask: Ask, ticket_id: str, note_id: str) -> Reply:
    """Delete a note; success has an empty body."""
    found = _find(ask, sort, ticket_id, note_id)
    if isinstance(found, Reply):
        return found
    ask.desk.delete_note(found)
    return Reply(Body(b""))


def post_note(ask: Ask) -> Reply:
    """Add a note; the name of a known member of staff wins over the one that is given."""
    form, desk = ask.request.form, ask.desk
    checked = _ticket_of(ask)
    if isinstance(checked, Reply):
        return checked
    author = desk.people.get((True, _number(ask, "staffid")))
    name = author.name if author else form.get("fullname", "").strip()
    if not name:
        return text(400, "No fullname or staff id specified")
    if "contents" not in form:
        return text(400, "No contents specified")
    reader = _number(ask, "forstaffid")
    note = Note(
        *(0, "ticket", checked, int(time.time()), form["contents"], _color(ask)),
        staff_id=author.id if author else 0,
        staff_name=name,
        for_staff_id=reader if (True, reader) in desk.people else 0,
    )
    return _added(ask, NOTES, note)


_WANTED: Final = {
    "contents": "No contents specified",
    "worktimeline": "No work timeline specified",
    "billtimeline": "No bill timeline specified",
    "timespent": "No time spent specified",
    "timebillable": "No time billable specified",
}
_MAY_BE_EMPTY: Final = {"contents", "timespent", "timebillable"}


def post_time_track(ask: Ask) -> Reply:
    """Add a time track."""
    form, desk = ask.request.form, ask.desk
    checked = _ticket_of(ask)
    if isinstance(checked, Reply):
        return checked
    author = desk.people.get((True, _number(ask, "staffid")))
    if author is None:
        return text(400, "No staff id specified")
    for key, sentence in _WANTED.items():
        if key not in form or (key not in _MAY_BE_EMPTY and form[key] in EMPTY):
            return text(400, sentence)
    worker = desk.people.get((True, _number(ask, "workerstaffid")))
    if "workerstaffid" in form and worker is None:
        return text(400, "Invalid worker staff id specified")
    note = Note(
        *(0, "timetrack", checked, _number(ask, "billtimeline"), form["contents"], _color(ask)),
        staff_id=author.id,
        staff_name=author.name,
        seconds=_number(ask, "timespent"),
        billable=_number(ask, "timebillable"),
        worked_at=_number(ask, "worktimeline"),
        worker=worker,
    )
    return _added(ask, TIME_TRACKS, note)


def _ticket_of(ask: Ask) -> int | Reply:
    """Return the id of the ticket that a form names."""
    if is_blank(ask.request.form, "ticketid"):
        return text(400, "No Ticket ID Specified")
    ticket = ask.desk.find_ticket(ask.request.form["ticketid"])
    return ticket.id if ticket else text(404, NO_TICKET)


def _number(ask: Ask, key: str) -> int:
    return number(ask.request.form.get(key, "")) or 0


def _color(ask: Ask) -> int:
    given = _number(ask, "notecolor")
    return given if given in range(1, 6) else 1


def _added(ask: Ask, sort: Sort, note: Note) -> Reply:
    """Add a note and list it, which shows nothing to those who named the ticket otherwise."""
    note = ask.desk.add_note(note)
    ask.desk.touch(note.of)
    given = number(ask.request.form["ticketid"])
    return _reply(ask, sort, [note] if given == note.of else [])
