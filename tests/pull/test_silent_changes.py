"""What changes at the helpdesk without any activity of a ticket: whole passes find it all.

Kayako says nothing of it, so syncs of what was active since cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from migrator.archive import Archive, ResponseFilter
from migrator.archive.records import note_id
from migrator.pull.options import RunResult
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sandbox.kayako.build import EPOCH, MEMBERS, ORGANIZATION
from migrator.sandbox.kayako.files import Source
from migrator.sandbox.kayako.model import Note
from migrator.sources.base import Increment
from tests.pull.test_fields import pull

Change = Callable[[Helpdesk, str], object]
Seen = Callable[[Archive, str], bool]


def ticket_of(desk: Helpdesk) -> int:
    """Give a ticket that is listed."""
    return next(key for key, ticket in desk.tickets.items() if ticket.department_id)


def user_of(desk: Helpdesk) -> int:
    """Give the user of a ticket that is listed."""
    return desk.tickets[ticket_of(desk)].user_id


def add_note(kind: str, of: Callable[[Helpdesk], int]) -> Change:
    return lambda desk, word: desk.add_note(Note(0, kind, of(desk), EPOCH, word))


def edit_note(desk: Helpdesk, word: str) -> None:
    notes = next(notes for (kind, _), notes in desk.notes.items() if kind == "ticket")
    notes[0] = replace(notes[0], text=word)


def add_link(desk: Helpdesk, word: str) -> None:
    path, row = next((path, row) for path, row in desk.links.items() if not row.fault)
    place = path.replace(path.rpartition("/")[2][:10], "1999999999")
    desk.links[place] = row
    text = f'{word} <img src="{desk.portal}{place}">'
    desk.add_note(Note(0, "user", user_of(desk), EPOCH, text))


def set_value(desk: Helpdesk, word: str) -> None:
    desk.field_values.setdefault(ticket_of(desk), {})[3] = word


def set_tags(desk: Helpdesk, word: str) -> None:
    key = ticket_of(desk)
    desk.tickets[key] = replace(desk.tickets[key], tags=word)


def edit(kind: str) -> Change:
    def change(desk: Helpdesk, word: str) -> None:
        desk.guides[kind, 1] = replace(desk.guides[kind, 1], text=word)

    return change


def attach(kind: str) -> Change:
    def change(desk: Helpdesk, word: str) -> None:
        source = Source("given", given=word.encode())
        desk.attach(desk.guides[kind, 1], word, source, EPOCH)

    return change


def in_responses(archive: Archive, word: str) -> bool:
    return any(word in one.text for one in archive.threads.query(ResponseFilter(), limit=10_000))


def in_people_notes(archive: Archive, word: str) -> bool:
    headers = archive.threads.all_tickets()
    notes = (note for header in headers for note in archive.threads.people_notes(header))
    return any(word in note.text for note in notes)


def in_data(archive: Archive, word: str) -> bool:
    return any(word in header.details for header in archive.threads.all_tickets())


def in_article(kind: str) -> Seen:
    def seen(archive: Archive, word: str) -> bool:
        article = archive.threads.article(kind, 1)
        return article is not None and article.text == word

    return seen


def is_stored(archive: Archive, word: str) -> bool:
    rows = archive.queries.rows()
    return any(row.state == "stored" and word in row.filename for row in rows)


SILENT: dict[str, tuple[Change, Seen]] = {
    "note of a ticket": (add_note("ticket", ticket_of), in_responses),
    "edited note": (edit_note, in_responses),
    "time track": (add_note("timetrack", ticket_of), in_responses),
    "note about a user": (add_note("user", user_of), in_people_notes),
    "note about an organization": (
        add_note("userorganization", lambda _: ORGANIZATION),
        in_people_notes,
    ),
    "value of a custom field": (set_value, in_responses),
    "data of a ticket": (set_tags, in_data),
    "article": (edit("article"), in_article("article")),
    "step": (edit("step"), in_article("step")),
    "file of an article": (attach("article"), is_stored),
    "file of a step": (attach("step"), is_stored),
    "linked file": (add_link, lambda archive, _: is_stored(archive, "1999999999")),
}


def everything(
    server: SandboxServer, archive: Archive, increment: Increment | None = None
) -> RunResult:
    """Do a pass that keeps all there is."""
    return pull(server, archive, articles=True, linked=True, increment=increment)


def test_a_whole_pass_finds_what_changed_in_silence(archive: Archive) -> None:
    """A sync of what was active finds none of it, and asks for hardly anything."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=8))
    assert any(ticket.user_id in MEMBERS for ticket in desk.tickets.values())

    def found() -> set[str]:
        return {name for name, (_, seen) in SILENT.items() if seen(archive, f"News: {name}.")}

    with SandboxServer(desk) as server:
        assert everything(server, archive).exit_code == 0
        for name, (change, _) in SILENT.items():
            change(desk, f"News: {name}.")
        active = max(one.last_activity for one in archive.threads.all_tickets())
        before = len(server.requests)
        everything(server, archive, Increment(active + 1))
        assert len(server.requests) - before < 15
        assert found() == set()
        assert everything(server, archive).exit_code == 0
    assert found() == SILENT.keys()


def test_a_deleted_note_stays(archive: Archive) -> None:
    """Whatever people wrote is kept, as with posts: we may hold the only copy."""
    desk = Helpdesk.build(SandboxOptions(seed=2, tickets=8))
    with SandboxServer(desk) as server:
        everything(server, archive)
        note = next(notes[0] for (kind, _), notes in desk.notes.items() if kind == "ticket")
        desk.delete_note(note)
        assert everything(server, archive).exit_code == 0
    assert archive.threads.text(note_id("note", note.id)) == note.text
