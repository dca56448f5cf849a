"""Fills a helpdesk from its options: equal options give equal rows and bytes."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

from migrator.sandbox.kayako.faults import REFUSED
from migrator.sandbox.kayako.files import NAMES, ODD_NAMES, Source, chance
from migrator.sandbox.kayako.model import (
    Attachment,
    Department,
    Helpdesk,
    Note,
    Post,
    Status,
    Ticket,
)
from migrator.sandbox.kayako.options import FEWEST_DEPARTMENTS

EPOCH: Final = 1_546_300_800
"""The helpdesk opened on the first day of 2019, UTC."""

DEPARTMENTS: Final = (
    Department(1, "Support"),
    Department(2, "Sales & Orders"),
    Department(3, "Live Chat", app="livechat"),
    Department(4, "Rücksendungen", type="private"),
    Department(5, "Hardware", parent_id=1),
)
RETURNS: Final = 4
"""The department with statuses of its own."""
STATUSES: Final = (
    Status(1, "Open"),
    Status(2, "On Hold"),
    Status(3, "Closed", resolved=True),
    Status(4, "Waiting for parcel", department_id=RETURNS),
    Status(5, "Refunded", department_id=RETURNS, resolved=True),
)
ORGANIZATION: Final = 3
MEMBERS: Final = (2, 5, 8)
"""The users who belong to the one organization."""
SEEN: Final = "Seen & closed <b>today</b>"
ATTACHMENTS_PER_TICKET: Final = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 5, 8, 14)
"""Numbers of files for every twenty tickets: most have few, some have many."""

LOGO: Final = Source("png", key=7, size=400)
"""The logo of a signature: the same bytes under any name."""
SUBJECTS: Final = (
    "Printer does not print",
    "Bestellung 4711: Lieferung unvollständig",
    "Re: Re: AW: <b>urgent</b> & important",
    "返品について",
    "CDATA ]]> in a subject",
    "order\tand\ttabs",
)
USERS: Final = (
    "Jane Doe",
    "Ömer Şahin",
    'Bill "The Boss" O\'Hara',
    "山田 太郎",
    "<script>",
    "José",
)
FAULTY_NAMES: Final = {
    "latin1_name": b"Rechnung M\xfcller.pdf",
    "control_name": b"scan\x0b0001.pdf",
    "fffe_name": "photo\ufffe 1.png".encode(),
    "newline_name": b"two\nlines.txt",
    "cdata_name": b"x]]>y.txt",
    "entity_name": "Menú d'été.pdf".encode(),
}
FAULTY_SUBJECTS: Final = {
    "entity_subject": "Café fermé & <b>voilà</b>",
    **dict.fromkeys(REFUSED, "You have an error in your SQL syntax; check the manual"),
}
PLAIN: Final = 4
"""Tickets with attachments, but without a fault, that even a small helpdesk has."""


def populate(desk: Helpdesk) -> None:
    """Fill an empty helpdesk with everything that its options ask for."""
    rng = chance(desk.options.seed)
    desk.departments.update({d.id: d for d in _departments(desk.options.departments)})
    desk.statuses.update({s.id: s for s in STATUSES})
    tickets = _tickets(desk, rng)
    _attach(desk, rng, tickets)
    _attach_big(desk, tickets)
    _trash_and_merge(desk, rng, tickets)
    desk.organizations[ORGANIZATION] = "Müller & Söhne"
    desk.members.update(dict.fromkeys(MEMBERS, ORGANIZATION))
    for note in _notes(desk):
        desk.add_note(note)
    _spread_ticket_faults(desk)
    _spread_faults(desk, rng)
    _choose_unlistable(desk)


def _departments(number: int) -> Iterator[Department]:
    """Yield this number of departments with tickets, and one for chats."""
    yield from DEPARTMENTS
    for n in range(FEWEST_DEPARTMENTS, number):
        yield Department(n + 2, f"Team {n - 3}")


def _tickets(desk: Helpdesk, rng: Random) -> list[Ticket]:
    """Add the tickets with their posts; ids have gaps, as after deletions."""
    tickets, ticket_id = [], 0
    for n in range(desk.options.tickets):
        ticket_id += rng.choice((1, 1, 1, 2, 4))
        ticket = _ticket(desk, rng, ticket_id, EPOCH + n * 7200 + rng.randrange(3600))
        desk.add_ticket(ticket, _posts(rng, ticket.created_at))
        tickets.append(ticket)
    return tickets


def _ticket(desk: Helpdesk, rng: Random, ticket_id: int, created_at: int) -> Ticket:
    department = rng.choice([d for d in desk.departments.values() if d.app == "tickets"])
    statuses = (3, 4, 5) if department.id == RETURNS else (3, 1, 2)
    return Ticket(
        id=ticket_id,
        mask=_mask(rng),
        department_id=department.id,
        status_id=rng.choices(statuses, weights=(7, 2, 1))[0],
        subject=rng.choice(SUBJECTS),
        user=rng.choice(USERS),
        created_at=created_at,
        last_activity=created_at + rng.randrange(86_400),
        user_id=rng.randint(1, 9),
        owner_id=rng.randint(0, 3),
    )


def _mask(rng: Random) -> str:
    letters = "".join(rng.choices(string.ascii_uppercase, k=3))
    return f"{letters}-{rng.randrange(1000):03}-{rng.randrange(100_000):05}"


_PRIVATE = 3
"""The number of the private post of a ticket, if it has so many."""


def _posts(rng: Random, created_at: int) -> Iterator[Post]:
    """Yield one to four posts, of a user and of staff in turn, some as HTML, a fourth private."""
    for n in range(rng.randint(1, 4)):
        is_html = rng.random() < 0.3
        text = (
            '<img src="cid:image001.png@01D4A0"> see' if is_html else "It is broken.\nPlease help."
        )
        when, who, private = created_at + n * 600, 2 - n % 2, n == _PRIVATE
        yield Post(0, 0, when, who, text, is_html=is_html, is_private=private)


def _attach(desk: Helpdesk, rng: Random, tickets: list[Ticket]) -> None:
    """Assign files to posts; ids follow no ticket order and have gaps."""
    slots: list[Ticket] = []
    for start in range(0, len(tickets), len(ATTACHMENTS_PER_TICKET)):
        counts = rng.sample(ATTACHMENTS_PER_TICKET, k=len(ATTACHMENTS_PER_TICKET))
        for ticket, count in zip(tickets[start:], counts, strict=False):
            slots += [ticket] * count
    rng.shuffle(slots)
    for ticket, (name, source) in zip(slots, _files(rng), strict=False):
        desk.next_attachment_id += rng.choice((0, 0, 0, 1, 5))
        dateline = ticket.created_at + rng.randrange(3600)
        desk.insert(rng.choice(desk.posts_of(ticket.id)), name, source, dateline)


def _files(rng: Random) -> Iterator[tuple[str, Source]]:
    """Yield names and files without end: every kind, some odd names, a logo again and again."""
    kinds, odd, n = list(NAMES), list(ODD_NAMES), 0
    rng.shuffle(odd)
    while True:
        n += 1
        if n % 8 == 0:
            yield f"image{n % 3 + 1:03}.png", LOGO
            continue
        kind = kinds[n % len(kinds)]
        # A median of 20 KB, as the natural logarithm of bytes.
        size = min(int(rng.lognormvariate(9.9, 1.1)), 1_000_000)
        name = odd[n // 5 % len(odd)] if n % 5 == 0 else rng.choice(NAMES[kind])
        yield name, Source(kind, rng.getrandbits(48), size)


def _attach_big(desk: Helpdesk, tickets: list[Ticket]) -> None:
    for n, size in enumerate(desk.options.big):
        ticket = tickets[n % len(tickets)]
        source = Source("big", desk.options.seed * 1000 + n, size)
        desk.insert(desk.posts_of(ticket.id)[0], f"backup-{n + 1}.img", source, ticket.created_at)


def _trash_and_merge(desk: Helpdesk, rng: Random, tickets: list[Ticket]) -> None:
    """Trash one of every twenty tickets and merge one into another, all three with files."""
    spared = {t.id for t in tickets[: len(desk.options.big)]}
    for start in range(0, len(tickets), 20):
        ids = [t.id for t in tickets[start : start + 20] if t.id not in spared]
        with_files = [ticket_id for ticket_id in ids if desk.attachments_of(ticket_id)]
        # With few files only: the others are better tests, and the faults need them.
        with_files.sort(key=lambda ticket_id: len(desk.attachments_of(ticket_id)))
        if len(with_files) >= 9:
            trashed, old, into = rng.sample(with_files[:9], k=3)
            desk.trash(trashed)
            desk.merge(old, into)


def _notes(desk: Helpdesk) -> Iterator[Note]:
    """Yield notes of every kind: on some users, their organization, and all closed tickets."""
    yield Note(1, "user", 1, EPOCH, SEEN)
    yield Note(2, "userorganization", ORGANIZATION, EPOCH, SEEN)
    yield Note(3, "user", MEMBERS[0], EPOCH, SEEN, color=5)
    closed = [t for t in desk.tickets.values() if desk.statuses[t.status_id].resolved]
    for n, ticket in enumerate(closed, 1):
        when = ticket.created_at
        if n % 3 == 0:
            yield Note(n, "timetrack", ticket.id, when, "By telephone", seconds=300)
        text = SEEN if n % 4 else ""
        yield Note(2 * n, "ticket", ticket.id, when + 7200, text, staff_id=0, staff_name="System")
        yield Note(2 * n - 1, "ticket", ticket.id, when + 3600, SEEN, n % 5 + 1, for_staff_id=n % 3)


def _spread_ticket_faults(desk: Helpdesk) -> None:
    """Assign the chosen faults to tickets with attachments, one each.

    The newest is spared: a client looks for unlisted ids only below the highest one that it knows.
    """
    listed = [t for t in desk.tickets.values() if t.department_id and desk.attachments_of(t.id)]
    free = listed[:-1]
    rounds = max(1, len(desk.attachments) // 500)
    names = [name for name in desk.options.ticket_faults for _ in range(rounds)]
    names = names[: max(1, len(free) - PLAIN)]
    chance(desk.options.seed).shuffle(free)
    # The last faults hide attachments: they get the tickets with the fewest.
    free.sort(key=lambda ticket: len(desk.attachments_of(ticket.id)))
    for name, ticket in zip(reversed(names), free, strict=False):
        subject = FAULTY_SUBJECTS.get(name, ticket.subject)
        desk.tickets[ticket.id] = replace(ticket, fault=name, subject=subject)


def _eligible(desk: Helpdesk) -> list[Attachment]:
    """Return what a fault may hit: listed, not tiny, not huge, unique, with a plain name."""
    odd, listed = {name.encode() for name in ODD_NAMES}, desk.truth
    return [
        row
        for row in desk.attachments.values()
        if row.id in listed
        and 300 <= row.size <= 1 << 20
        and row.source != LOGO
        and row.name not in odd
    ]


def _spread_faults(desk: Helpdesk, rng: Random) -> None:
    """Assign the chosen faults to attachments, one each, more in a larger helpdesk."""
    chosen = desk.options.attachment_faults
    rows = _eligible(desk) if chosen else []
    rng.shuffle(rows)
    rounds = max(1, len(desk.attachments) // 500)
    for name in chosen * rounds:
        # A merge would take the ticket, and the fault of the ticket with it, out of all lists.
        free = (r for r in rows if name != "moved_between" or not desk.tickets[r.ticket_id].fault)
        if row := next(free, None):
            rows.remove(row)
            desk.attachments[row.id] = _faulty(desk, row, name)


def _faulty(desk: Helpdesk, row: Attachment, name: str) -> Attachment:
    """Return the row with a fault, changed where the fault is in the row itself."""
    row = replace(row, fault=name, name=FAULTY_NAMES.get(name, row.name))
    if name == "wrong_filesize":
        return replace(row, filesize=row.filesize + 77)
    if name == "odd_row":
        return replace(row, filesize=-5)
    if name == "empty_file":
        source = Source("empty")
        sha256, size = source.measure()
        return replace(row, source=source, sha256=sha256, size=size, filesize=size)
    if name == "moved_between":
        free = (t.id for t in desk.tickets.values() if t.department_id and not t.fault)
        into = next((key for key in free if key != row.ticket_id), None)
        if into is None:
            return replace(row, fault=None)
        desk.moves[row.id] = into
    return row


def _choose_unlistable(desk: Helpdesk) -> None:
    """Return the ticket of ``list_500``: one with files, and if possible without another fault."""

    def entangled(ticket: Ticket) -> tuple[bool, bool]:
        faulty = any(row.fault for row in desk.attachments_of(ticket.id))
        return bool(ticket.fault) or ticket.id in desk.moves.values(), faulty

    listed = [t for t in desk.tickets.values() if t.department_id and desk.attachments_of(t.id)]
    listed.sort(key=entangled)
    desk.unlistable_ticket = listed[0].id if listed else None
