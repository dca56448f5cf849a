"""Fills a helpdesk from its options: equal options give equal rows and bytes."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

from migrator.sandbox.kayako.faults import REFUSED
from migrator.sandbox.kayako.files import NAMES, ODD_NAMES, Source, chance
from migrator.sandbox.kayako.model import (
    FILE_FIELD,
    Attachment,
    Category,
    CustomField,
    Department,
    FieldGroup,
    Guide,
    Helpdesk,
    Note,
    Post,
    Status,
    Ticket,
    User,
    make_row,
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
STAFF: Final = ("Jane Staff", "Ben Staff", "Łucja <Staff>")
FIELD_GROUPS: Final = (
    FieldGroup(1, "Order & delivery", 4),
    FieldGroup(2, "Internal", 3),
    FieldGroup(3, "Person", 1),
    FieldGroup(4, "Device", 9),
)
FIELDS: Final = (
    CustomField(1, 1, "Invoice", FILE_FIELD, "tqpx1"),
    CustomField(2, 1, "Colours", 7, "wzk02", ("red", "light, blue", "green")),
    CustomField(3, 1, 'Remark of "the customer"', 1, "k3pd9"),
    CustomField(4, 1, "Bought on", 10, "d8ma4"),
    CustomField(5, 1, "Product", 9, "p5qr7", ("Printer", "Laser")),
    CustomField(6, 2, "Password of the device", 3, "s6wx2"),
    CustomField(7, 2, "Signed form", FILE_FIELD, "f7yz3"),
    CustomField(8, 3, "Photograph", FILE_FIELD, "u8ab5"),
    CustomField(9, 4, "Warranty", 5, "r9cd6", ("yes", "no")),
)
FILLED: Final[tuple[dict[int, str], ...]] = (
    {2: "red, light\\, blue", 3: "Ring twice & wait", 6: "hunter2"},
    {4: "05/24/2011", 5: "Printer &gt; Laser", 9: "yes"},
    {},
)
"""What the tickets have in fields that hold no file, in turn."""
CATEGORIES: Final = (
    Category(1, "article", "Printers & scanners"),
    Category(2, "article", "Interna", parent_id=1, type=3),
    Category(1, "step", "It does not print", type=1),
)
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
    _add_people(desk)
    more = chance(desk.options.seed + (1 << 40))
    _fill_fields(desk, more)
    for kind, number in (("article", desk.options.articles), ("step", desk.options.steps)):
        _write_guides(desk, more, kind, number)
    _link(desk, more)


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
        mask=new_mask(rng),
        department_id=department.id,
        status_id=rng.choices(statuses, weights=(7, 2, 1))[0],
        subject=rng.choice(SUBJECTS),
        user=rng.choice(USERS),
        created_at=created_at,
        last_activity=created_at + rng.randrange(86_400),
        user_id=rng.randint(1, 9),
        owner_id=rng.randint(0, 3),
        priority_id=ticket_id % 3 + 1,
        type_id=ticket_id % 2 + 1,
        flag=ticket_id % 7,
        tags="" if ticket_id % 3 else "vip returns",
    )


def new_mask(rng: Random) -> str:
    """Return the mask of a ticket."""
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
    number = desk.options.notes
    if not number:
        return
    yield Note(1, "user", 1, EPOCH, SEEN)
    yield Note(2, "userorganization", ORGANIZATION, EPOCH, SEEN)
    yield Note(3, "user", MEMBERS[0], EPOCH, SEEN, color=5)
    closed = [t for t in desk.tickets.values() if desk.statuses[t.status_id].resolved]
    for n, ticket in enumerate(closed, 1):
        when = ticket.created_at
        if n % 3 == 0:
            yield Note(n, "timetrack", ticket.id, when, "By telephone", seconds=300)
        text = SEEN if n % 4 else ""
        for nth in range(number, 0, -1):
            made = (number * (n - 1) + nth, "ticket", ticket.id, when + nth * 3600)
            if nth % 2:
                yield Note(*made, SEEN, n % 5 + 1, for_staff_id=n % 3)
            else:
                yield Note(*made, text, staff_id=0, staff_name="System")


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


def _add_people(desk: Helpdesk) -> None:
    """Add the staff and the users, of whom every third has a second address."""
    for n, name in enumerate(STAFF, 1):
        address = "staff@help.example.com" if n == 1 else f"staff{n}@help.example.com"
        desk.people[True, n] = User(n, name, (address,), staff=True)
    for n in range(1, desk.options.users + 1):
        older = (f"old{n}@example.org",) if n % 3 == 0 else ()
        addresses = (*older, f"user{n}@example.com")
        desk.people[False, n] = User(n, USERS[(n - 1) % len(USERS)], addresses)


def _calm(desk: Helpdesk) -> list[Ticket]:
    """Return the tickets that every pull sees, before and after those that change under it."""
    left_out = {desk.attachments[key].ticket_id for key in desk.moves} | {*desk.moves.values()}
    left_out |= desk.gaps.keys()
    return [t for t in desk.tickets.values() if t.department_id and t.id not in left_out]


def _plain_files(rng: Random) -> Iterator[tuple[str, Source]]:
    """Yield names and files without end, none of them empty."""
    return ((name, source) for name, source in _files(rng) if source.kind != "empty")


def _fill_fields(desk: Helpdesk, rng: Random) -> None:
    """Define the custom fields and fill them: files with a fault have their tickets to themselves.

    One file more is on a ticket that was merged away, and one is on two tickets.
    """
    number, tickets = desk.options.field_files, _calm(desk)
    desk.field_groups.update({group.id: group for group in FIELD_GROUPS})
    of_tickets = {group.id for group in FIELD_GROUPS if group.of_tickets}
    for one in FIELDS:
        if number or one.kind != FILE_FIELD or one.group_id not in of_tickets:
            desk.custom_fields[one.id] = one
    for n, ticket in enumerate(tickets):
        if FILLED[n % len(FILLED)]:
            desk.field_values[ticket.id] = dict(FILLED[n % len(FILLED)])
    if not number or not tickets:
        return
    files = _plain_files(rng)
    faults = desk.options.faults_of("customfield")[: max(1, len(tickets) - PLAIN)]
    rng.shuffle(tickets)
    rest = tickets[len(faults) :] or tickets
    places: list[tuple[int, int, str | None]] = [
        (tickets[n % len(tickets)].id, 1, name) for n, name in enumerate(faults)
    ]
    places += [(rest[n % len(rest)].id, (1, 7)[n // len(rest) % 2], None) for n in range(number)]
    places += [(old, 1, None) for old, into in desk.merges.items() if into in desk.tickets][:1]
    for key, (ticket_id, field_id, fault) in enumerate(places, 1):
        name, source = next(files)
        made = (key, "customfield", ticket_id, field_id, name, source, EPOCH)
        desk.field_values.setdefault(ticket_id, {})[field_id] = _faulty_file(make_row(*made), fault)
    shared = desk.field_values[places[len(faults)][0]][1]
    if len(rest) > number:
        desk.field_values.setdefault(rest[number].id, {})[1] = shared


def _faulty_file(row: Attachment, fault: str | None) -> Attachment:
    """Return the row of a file in a custom field with a fault."""
    row = replace(row, fault=fault)
    if fault == "customfield_control_name":
        return replace(row, name=FAULTY_NAMES["control_name"])
    source = None
    if fault == "customfield_encoded_file":
        source = Source("given", given=base64.b64encode(row.source.read()))
    elif fault == "customfield_oversize":
        source = Source("big", row.id, 8 << 20)
    return _with(row, source) if source else row


def _with(row: Attachment, source: Source) -> Attachment:
    """Return the row with other bytes."""
    sha256, size = source.measure()
    return replace(row, source=source, sha256=sha256, size=size, filesize=size)


def _write_guides(desk: Helpdesk, rng: Random, kind: str, number: int) -> None:
    """Write articles or steps, with up to three files each; one fault is on one of its own.

    Some are drafts. The second has files in spite of its flag, as when REST has added them.
    """
    faults = desk.options.faults_of(kind) if number else ()
    files = _plain_files(rng)
    desk.categories += [category for category in CATEGORIES if category.kind == kind and number]
    ids = [category.id for category in desk.categories if category.kind == kind]
    for n, fault in enumerate([*[None] * number, *faults], 1):
        listed = fault if fault and fault.endswith("_list") else None
        guide = Guide(
            *(n, kind, ids[n % len(ids)], f"{rng.choice(SUBJECTS)} ({n})"),
            *(f"<p>{rng.choice(SUBJECTS)}</p>", EPOCH + n * 86_400),
            status=2 if n % 5 == 4 else 1,
            parent_id=n - 1,
            has_attachments=n != 2 or kind == "step",
            fault=listed,
        )
        desk.guides[kind, n] = guide
        for key in range(2 if fault else n % 4):
            name, source = next(files)
            row = desk.attach(guide, name, source, guide.dateline)
            if fault and not listed and not key:
                name_ = fault.removeprefix(f"{kind}_")
                row = replace(row, fault=fault, name=FAULTY_NAMES.get(name_, row.name))
                desk.guide_files[row.id] = _with(row, Source("empty")) if "empty" in name_ else row


def _link(desk: Helpdesk, rng: Random) -> None:
    """Let posts, a note, an article and a step link to files of the helpdesk's own host.

    One file is linked twice. Some links look alike and must not be followed: to another host, to
    one whose address begins as this one's, and to attachments, which need signing in.
    """
    calm = _calm(desk)
    posts = [post for t in calm for post in desk.posts_of(t.id) if post.is_html]
    faults = desk.options.faults_of("linked")
    if not desk.options.links or not posts or not desk.attachments:
        return
    rng.shuffle(posts)
    tags = []
    for n, fault in enumerate([*[None] * desk.options.links, *faults], 1):
        kind = "pdf" if n % 5 == 4 and not fault else ("png", "gif")[n % 2]
        source = Source(kind, rng.getrandbits(48), rng.randrange(200, 20_000))
        sha1 = hashlib.sha1(source.read(), usedforsecurity=False).hexdigest()
        name = f"{EPOCH + n}{sha1[::-1] if fault == 'linked_damaged' else sha1}.{kind}"
        if kind == "pdf":
            name = f"file_{sha1[:15]}.pdf"
        row = replace(make_row(n, "linked", 0, 0, name, source, EPOCH), fault=fault)
        if fault == "linked_oversize":
            row = replace(row, source=Source("big", n, 128 << 20))
        path = f"/__swift/files/{name}"
        desk.links[path] = row
        tags.append(
            f'<a href="{desk.portal}{path}">manual</a>'
            if kind == "pdf"
            else f'<p><img src="{desk.portal}{path}" alt="" /></p>'
        )
    for n, tag in enumerate(tags):
        _append(desk, posts[n % len(posts)], tag)
    foreign = f"{desk.foreign}/__swift/files/{EPOCH}{'0' * 40}.png"
    disguised = foreign.replace("//", f"//{desk.portal.partition('//')[2]}@")
    row = next(iter(desk.attachments.values()))
    call = f"Tickets/Ticket/GetAttachment/{row.ticket_id}/{row.id}"
    signed_in = f"{desk.portal}/index.php?/{call}"
    for n, url in enumerate((foreign, disguised, signed_in)):
        _append(desk, posts[n % len(posts)], f'<img src="{url}" />')
    _append(desk, posts[-1], tags[0])
    for key in (("article", 1), ("step", 1)):
        if guide := desk.guides.get(key):
            desk.guides[key] = replace(guide, text=guide.text + tags[-1])
    noted = next((ns for t in calm if (ns := desk.notes.get(("ticket", t.id)))), None)
    if noted:
        noted[0] = replace(noted[0], text=f"{SEEN} {tags[0]}")


def _append(desk: Helpdesk, post: Post, html: str) -> None:
    post = desk.posts[post.id]
    desk.posts[post.id] = replace(post, text=f"{post.text} {html}")
