"""Fills a helpdesk from its options: equal options give equal rows and bytes."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

from migrator.sandbox.files import NAMES, ODD_NAMES, Source
from migrator.sandbox.model import Attachment, Department, Helpdesk, Post, Status, Ticket

EPOCH: Final = 1_546_300_800
"""The helpdesk opened on the first day of 2019, UTC."""

DEPARTMENTS: Final = (
    Department(1, "Support"),
    Department(2, "Sales & Orders"),
    Department(3, "Live Chat", app="livechat"),
    Department(4, "Rücksendungen", type="private"),
    Department(5, "Hardware", parent_id=1),
)
STATUSES: Final = (
    Status(1, "Open"),
    Status(2, "On Hold"),
    Status(3, "Closed", resolved=True),
    Status(4, "Waiting for parcel", department_id=4),
    Status(5, "Refunded", department_id=4, resolved=True),
)
ATTACHMENTS_PER_TICKET: Final = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 5, 8, 14)
"""Dealt out anew to every twenty tickets: most have few files, some have many."""

LOGO_KEY: Final = 7
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
NAME_FAULTS: Final = {
    "latin1_name": b"Rechnung M\xfcller.pdf",
    "control_name": b"scan\x0b0001.pdf",
    "fffe_name": "photo\ufffe 1.png".encode(),
    "newline_name": b"two\nlines.txt",
    "cdata_name": b"x]]>y.txt",
}


def populate(desk: Helpdesk) -> None:
    """Fill an empty helpdesk with everything that its options ask for."""
    rng = Random(desk.options.seed)
    desk.departments.update({d.id: d for d in DEPARTMENTS})
    desk.statuses.update({s.id: s for s in STATUSES})
    tickets = [_ticket(desk, rng, n) for n in range(desk.options.tickets)]
    _attach(desk, rng, tickets)
    _attach_big(desk, tickets)
    _trash_and_merge(desk, rng, tickets)
    _spread_faults(desk, rng)
    _choose_unlistable(desk)


def _ticket(desk: Helpdesk, rng: Random, n: int) -> Ticket:
    """Add one ticket with its posts; ids have gaps, as after deletions."""
    ticket_id = max(desk.tickets, default=0) + rng.choice((1, 1, 1, 2, 4))
    department = rng.choice([d for d in DEPARTMENTS if d.app == "tickets"])
    status = rng.choices((3, 1, 2), weights=(7, 2, 1))[0]
    if department.id == 4 and n % 2:
        status = rng.choice((4, 5))
    created = EPOCH + n * 7200 + rng.randrange(3600)
    posts = rng.randint(1, 4)
    ticket = Ticket(
        id=ticket_id,
        mask=_mask(rng),
        department_id=department.id,
        status_id=status,
        subject=rng.choice(SUBJECTS),
        user=rng.choice(USERS),
        created_at=created,
        last_activity=created + posts * 600 + rng.randrange(86_400),
        user_id=rng.randint(1, 9),
        owner_id=rng.randint(0, 3),
    )
    desk.tickets[ticket_id] = ticket
    for m in range(posts):
        is_html = rng.random() < 0.3
        text = (
            'See <img src="cid:image001.png@01D4A0"> please'
            if is_html
            else "It is broken.\nPlease help."
        )
        _post(desk, Post(0, ticket_id, created + m * 600, 1 + (m + 1) % 2, text, is_html=is_html))
    return ticket


def _post(desk: Helpdesk, post: Post) -> None:
    post_id = max(desk.posts, default=0) + 1
    desk.posts[post_id] = replace(post, id=post_id)


def _mask(rng: Random) -> str:
    letters = "".join(rng.choices(string.ascii_uppercase, k=3))
    return f"{letters}-{rng.randrange(1000):03}-{rng.randrange(100_000):05}"


def _attach(desk: Helpdesk, rng: Random, tickets: list[Ticket]) -> None:
    """Deal files to posts; ids follow no ticket order and have gaps."""
    slots: list[Ticket] = []
    for start in range(0, len(tickets), len(ATTACHMENTS_PER_TICKET)):
        counts = rng.sample(ATTACHMENTS_PER_TICKET, k=len(ATTACHMENTS_PER_TICKET))
        for ticket, count in zip(tickets[start:], counts, strict=False):
            slots += [ticket] * count
    rng.shuffle(slots)
    posts: dict[int, list[int]] = {}
    for post in desk.posts.values():
        posts.setdefault(post.ticket_id, []).append(post.id)
    for ticket, (name, source) in zip(slots, _files(rng), strict=False):
        desk.next_attachment_id += rng.choice((0, 0, 0, 1, 5))
        dateline = ticket.created_at + rng.randrange(3600)
        desk.insert(ticket.id, rng.choice(posts[ticket.id]), name, source, dateline)


def _files(rng: Random) -> Iterator[tuple[str, Source]]:
    """Give names and files without end: every kind, some odd names, a logo again and again."""
    kinds, odd, n = list(NAMES), list(ODD_NAMES), 0
    rng.shuffle(odd)
    while True:
        n += 1
        if n % 8 == 0:
            # The logo of a signature: the same bytes under whatever name a mail program gives.
            yield f"image{n % 3 + 1:03}.png", Source("png", LOGO_KEY, 400)
            continue
        kind = kinds[n % len(kinds)]
        size = min(int(rng.lognormvariate(9.9, 1.1)), 1_000_000)
        name = odd[n // 5 % len(odd)] if n % 5 == 0 else rng.choice(NAMES[kind])
        yield name, Source(kind, rng.getrandbits(48), size)


def _attach_big(desk: Helpdesk, tickets: list[Ticket]) -> None:
    for n, size in enumerate(desk.options.big):
        ticket = tickets[n % len(tickets)]
        post = min(p.id for p in desk.posts.values() if p.ticket_id == ticket.id)
        key = desk.options.seed * 1000 + n
        desk.insert(
            ticket.id, post, f"backup-{n + 1}.img", Source("big", key, size), ticket.created_at
        )


def _trash_and_merge(desk: Helpdesk, rng: Random, tickets: list[Ticket]) -> None:
    """Put one ticket in twenty into the trash and merge two old ids in twenty into a neighbour."""
    keep = {t.id for t in tickets[: len(desk.options.big)]}
    for start in range(0, len(tickets) - 9, 20):
        some = [t.id for t in tickets[start : start + 10] if t.id not in keep]
        with_files = [t for t in some if desk.attachments_of(t)]
        if len(with_files) < 3:
            continue
        trashed, first, second = rng.sample(with_files, k=3)
        desk.trash(trashed)
        desk.merge(first, second)


def _eligible(desk: Helpdesk) -> list[Attachment]:
    """Return what a fault may hit: listed, not tiny, nobody's twin, plainly named."""
    odd = {name.encode() for name in ODD_NAMES}
    return [
        row
        for row in desk.attachments.values()
        if row.id in desk.truth
        and 300 <= row.size <= 1 << 20
        and row.source.key != LOGO_KEY
        and row.name not in odd
    ]


def _spread_faults(desk: Helpdesk, rng: Random) -> None:
    """Deal the chosen faults to attachments, one each, the more the larger the helpdesk."""
    chosen = desk.options.attachment_faults
    rows = _eligible(desk) if chosen else []
    rng.shuffle(rows)
    rounds = max(1, len(desk.attachments) // 500)
    for name, row in zip(chosen * rounds, rows, strict=False):
        desk.attachments[row.id] = _faulty(desk, row, name)


def _faulty(desk: Helpdesk, row: Attachment, name: str) -> Attachment:
    """Return the row with a fault, changed where the fault is in the row itself."""
    row = replace(row, fault=name)
    if name == "wrong_filesize":
        return replace(row, filesize=row.filesize + 77)
    if name == "empty_file":
        source = Source("empty")
        sha256, size = source.measure()
        return replace(
            row, name=b"empty.txt", source=source, sha256=sha256, size=size, filesize=size
        )
    if name == "moved_between":
        desk.moves[row.id] = next(
            t.id for t in desk.tickets.values() if t.department_id and t.id != row.ticket_id
        )
    return replace(row, name=NAME_FAULTS.get(name, row.name))


def _choose_unlistable(desk: Helpdesk) -> None:
    """Pick the ticket of ``list_500``: with files, and without faults if there is such a one."""
    candidates = [t for t in desk.tickets.values() if t.department_id and desk.attachments_of(t.id)]
    candidates.sort(key=lambda t: any(row.fault for row in desk.attachments_of(t.id)))
    desk.unlistable_ticket = candidates[0].id if candidates else None
