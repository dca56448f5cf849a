"""The data of the simulated helpdesk, and what its people do."""

from __future__ import annotations

import copy
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, Final, Self

from migrator.sandbox.kayako.files import Source
from migrator.sandbox.kayako.options import (
    ALL_FAULTS,
    FILE_FAULTS,
    GLOBAL_FAULTS,
    ROW_FAULTS,
    TICKET_FAULTS,
    SandboxOptions,
)

TRASH: Final = 0
"""The department of trashed tickets."""
SHORTENING: Final = frozenset({"short_contents", "size_contradiction"})
"""The faults with which only a part of a file is sent."""
_NOTES_OF_TICKETS: Final = ("ticket", "timetrack")
"""The kinds of notes that go where their ticket goes."""
_NOTES_OF_PEOPLE: Final = ("user", "userorganization")
"""The kinds of notes that share their ids."""


@dataclass(frozen=True, slots=True)
class Department:
    """A department; ``app`` is tickets or livechat."""

    id: int
    title: str
    app: str = "tickets"
    type: str = "public"
    parent_id: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A ticket status; ``department_id`` 0 means that it is valid everywhere."""

    id: int
    title: str
    department_id: int = 0
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """A post of a ticket; ``creator`` is 1 for staff, namely ``staff_id``, and 2 for a user."""

    id: int
    ticket_id: int
    dateline: int
    creator: int
    text: str
    has_attachments: bool = False
    is_html: bool = False
    is_private: bool = False
    staff_id: int = 1


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket with the columns that lists filter and sort by."""

    id: int
    mask: str
    department_id: int
    status_id: int
    subject: str
    user: str
    created_at: int
    last_activity: int
    user_id: int = 0
    owner_id: int = 0
    fault: str | None = None
    priority_id: int = 1
    type_id: int = 1
    flag: int = 0
    tags: str = ""
    address: str = ""
    """That of the user, where it is another one than of the rest."""
    creator: int = 2
    mode: int = 3
    by_phone: bool = False

    @property
    def email(self) -> str:
        """The address of the user."""
        return self.address or f"user{self.user_id}@example.com"


@dataclass(frozen=True, slots=True)
class User:
    """A user, or ``staff``; the first of the addresses need not be the main one."""

    id: int
    name: str
    emails: tuple[str, ...]
    staff: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A note, which only staff may read; ``of`` is the ticket, user or organization it is about.

    ``kind`` is ticket, user, userorganization, or timetrack: that one is of a ticket, and took
    ``seconds``. Ids are unique among notes of tickets, among those of users and organizations,
    and among time tracks. ``staff_id`` 0 is nobody's; ``for_staff_id`` 0 is meant for all staff.
    """

    id: int
    kind: str
    of: int
    created_at: int
    text: str
    color: int = 1
    staff_id: int = 1
    staff_name: str = "Jane Staff"
    for_staff_id: int = 0
    seconds: int = 0
    billable: int | None = None
    worked_at: int | None = None
    worker: User | None = None
    """Where these are None: all seconds, when the note was made, whoever made it."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment row. ``name`` is bytes, as the database of Kayako does not check them.

    ``filesize`` is what the row says; ``size`` and ``sha256`` are those of the true bytes.
    """

    id: int
    ticket_id: int
    post_id: int
    name: bytes
    filesize: int
    dateline: int
    source: Source
    sha256: str
    size: int
    fault: str | None = None
    kind: str = "post"
    """What ``post_id`` is the id of: post, customfield, article or step; linked has none."""


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """A group of custom fields; ``kind`` is Kayako's ``grouptype``."""

    id: int
    title: str
    kind: int

    @property
    def of_tickets(self) -> bool:
        """Whether its fields are those of tickets, not of users, articles or others."""
        return self.kind in {3, 4, 9}

    @property
    def is_public(self) -> bool:
        """Whether users see it, too."""
        return self.kind != 3


FILE_FIELD: Final = 11
"""The ``fieldtype`` of a field that holds a file."""


@dataclass(frozen=True, slots=True)
class CustomField:
    """A custom field; ``kind`` is Kayako's ``fieldtype``."""

    id: int
    group_id: int
    title: str
    kind: int
    name: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guide:
    """An article of the knowledge base or a step of the troubleshooter, by its ``kind``.

    ``status`` is 1 for what is published, 2 for a draft. ``parent_id`` is the step before it.
    """

    id: int
    kind: str
    category_id: int
    subject: str
    text: str
    dateline: int
    status: int = 1
    parent_id: int = 0
    has_attachments: bool = True
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """A category of articles or steps; ``type`` is 1 global, 2 public, 3 private, 4 inherited."""

    id: int
    kind: str
    title: str
    parent_id: int = 0
    type: int = 2


@dataclass(frozen=True, slots=True)
class Truth:
    """The result of a perfect pull for one file.

    ``state`` and ``problem`` are the words of the ledger; ``sha256`` and ``size`` are those of
    the bytes that the server is able to send, None when it sends none.
    """

    state: str
    problem: str | None
    sha256: str | None
    size: int | None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backup of a helpdesk, for :meth:`Helpdesk.restore`."""

    made: dict[str, Any] = field(repr=False)


@dataclass
class Helpdesk:
    """A whole helpdesk in memory. Every method may be called from any thread.

    ``merges`` is the merge log (old ticket id to the survivor), ``switches`` the global faults
    that are on. :meth:`build` makes one from options; one made by hand starts empty.
    """

    options: SandboxOptions = field(default_factory=SandboxOptions)
    departments: dict[int, Department] = field(default_factory=dict)
    statuses: dict[int, Status] = field(default_factory=dict)
    tickets: dict[int, Ticket] = field(default_factory=dict)
    posts: dict[int, Post] = field(default_factory=dict)
    attachments: dict[int, Attachment] = field(default_factory=dict)
    notes: dict[tuple[str, int], list[Note]] = field(default_factory=dict)
    """By their kind and what they are about; see :meth:`add_note`."""
    organizations: dict[int, str] = field(default_factory=dict)
    members: dict[int, int] = field(default_factory=dict)
    """The organizations that users belong to now."""
    merges: dict[int, int] = field(default_factory=dict)
    next_attachment_id: int = 1
    moves: dict[int, int] = field(default_factory=dict)
    """Attachments whose first fetch merges their ticket into another one."""
    unlistable_ticket: int | None = None
    """The ticket whose list of attachments ``list_500`` and ``list_empty`` hit."""
    doubles: dict[int, Attachment] = field(default_factory=dict)
    """Second rows of ids that another ticket lists, too."""
    people: dict[tuple[bool, int], User] = field(default_factory=dict)
    """By whether they are staff, and their ids."""
    field_groups: dict[int, FieldGroup] = field(default_factory=dict)
    custom_fields: dict[int, CustomField] = field(default_factory=dict)
    field_values: dict[int, dict[int, str | Attachment]] = field(default_factory=dict)
    """Texts and files in custom fields, by the ticket that they were set on and the field."""
    guides: dict[tuple[str, int], Guide] = field(default_factory=dict)
    guide_files: dict[int, Attachment] = field(default_factory=dict)
    categories: list[Category] = field(default_factory=list)
    links: dict[str, Attachment] = field(default_factory=dict)
    """Public files of the helpdesk's own host that texts link to, by their paths."""
    portal: str = "http://help.example.com"
    foreign: str = "http://images.example.net"
    """Where texts say that the helpdesk is, and where another host is; see :meth:`locate`."""
    lock: RLock = field(default_factory=RLock, repr=False)

    def __post_init__(self) -> None:
        """Switch the chosen faults on."""
        self.switches = set(self.options.chosen & GLOBAL_FAULTS.keys())
        self._quiet: set[str] = set()
        self._vanished: dict[int, Attachment] = {}
        self._hits: Counter[tuple[str, int]] = Counter()
        self._struck: set[tuple[str, object]] = set()
        self._post_id = 0
        self._posts_of: defaultdict[int, set[int]] = defaultdict(set)
        self._attachments_of: defaultdict[int, set[int]] = defaultdict(set)

    @classmethod
    def build(cls, options: SandboxOptions) -> Self:
        """Return the helpdesk of these options: always the same one."""
        from migrator.sandbox.kayako.build import populate  # noqa: PLC0415 - it imports this module

        desk = cls(options)
        populate(desk)
        return desk

    # What a perfect pull finds

    @property
    def truth(self) -> dict[int, Truth]:
        """The outcome of every attachment that a walk of the departments lists, by id.

        Computed from the present helpdesk; also holds those deleted between list and fetch.
        """
        with self.lock:
            rows = [*self.attachments.values(), *self._vanished.values()]
            return {row.id: self._truth(row) for row in rows if self._listed(row)}

    @property
    def trash_truth(self) -> dict[int, Truth]:
        """The same for the attachments of trashed tickets, by id."""
        with self.lock:
            return {r.id: self._truth(r) for r in self.attachments.values() if self._trashed(r)}

    @property
    def truths(self) -> dict[str, dict[str, Truth]]:
        """The outcome of every file of every kind, by kind and key.

        Keys are the id of an attachment of a ``post``, an ``article`` or a ``step``, the ticket
        and the field of a ``customfield`` (``7/1``; a merged ticket by its old id), and the path
        of a ``linked`` file. Left out are files that no pull can learn of: those of tickets in
        the trash, deleted, or hidden by a fault.
        """
        with self.lock:
            truths = {"post": {str(key): true for key, true in self.truth.items()}}
            truths["customfield"] = {
                f"{ticket}/{field_id}": self._truth(row)
                for ticket, values in sorted(self.field_values.items())
                if self._seen(self.find_ticket(str(ticket)))
                for field_id, row in values.items()
                if isinstance(row, Attachment)
            }
            for kind in ("article", "step"):
                rows = [row for row in self.guide_files.values() if row.kind == kind]
                truths[kind] = {str(row.id): self._truth(row) for row in rows}
            linked = {path: row for path, row in self.links.items() if self.texts_with(path)}
            truths["linked"] = {path: self._truth(row) for path, row in linked.items()}
            return truths

    @property
    def seen_notes(self) -> dict[tuple[str, int], Note]:
        """The notes and time tracks that a pull sees, each once, by kind and id."""
        with self.lock:
            tickets = [t for t in self.tickets.values() if t.department_id != TRASH]
            seen = [t for t in tickets if self.fault_of(t) != "refused_ticket"]
            return {(n.kind, n.id): n for ticket in seen for n in self.notes_of(ticket)}

    def texts_with(self, path: str) -> list[tuple[str, int]]:
        """Return kind and id of every post, note, article and step that a pull sees with a link."""
        with self.lock:
            return [(kind, key) for kind, key, _ in self._texts_with(path)]

    def tickets_with(self, path: str) -> set[int]:
        """Return the ids of the tickets in whose texts a pull sees a link; 0 is for all others."""
        with self.lock:
            return {ticket for _, _, ticket in self._texts_with(path)}

    def _texts_with(self, path: str) -> Iterator[tuple[str, int, int]]:
        for post in self.posts.values():
            if path in post.text and self._seen(self.tickets.get(post.ticket_id)):
                yield "post", post.id, post.ticket_id
        for (kind, of), notes in self.notes.items():
            ticket = of if kind in _NOTES_OF_TICKETS else 0
            if not ticket or self._seen(self.tickets.get(ticket)):
                yield from ((f"{kind} note", n.id, ticket) for n in notes if path in n.text)
        yield from ((*key, 0) for key, guide in self.guides.items() if path in guide.text)

    def _seen(self, ticket: Ticket | None) -> bool:
        """Return whether a pull sees a ticket."""
        return (
            ticket is not None
            and ticket.department_id != TRASH
            and not _hides(self.fault_of(ticket))
        )

    @property
    def gaps(self) -> dict[int, str]:
        """The tickets that a perfect pull reports as not seen, by id, with their fault.

        The pull names the id, or the row where no list shows the ticket. :attr:`truth` leaves out
        the attachments of tickets whose fault is ``hidden``. A ticket with ``refused_row`` answers
        by its id: the pull finds its attachments, and need not report it then.
        """
        with self.lock:
            listed = [t for t in self.tickets.values() if t.department_id != TRASH]
            gaps = {t.id: name for t in listed if (name := self.fault_of(t)) and _gap(name)}
            if "list_500" in self.switches and self.unlistable_ticket in self.tickets:
                gaps.setdefault(self.unlistable_ticket, "list_500")
            return gaps

    @property
    def field_gaps(self) -> dict[int, str]:
        """The tickets whose custom fields a perfect pull reports as unread, with the fault.

        It cannot know of the files in them; :attr:`truths` has these all the same.
        """
        with self.lock:
            rows = [row for values in self.field_values.values() for row in values.values()]
            files = [row for row in rows if isinstance(row, Attachment)]
            named = {row.ticket_id: self.fault_of(row) for row in files}
            return {key: name for key, name in named.items() if name and FILE_FAULTS[name].hidden}

    def _trashed(self, row: Attachment) -> bool:
        return self.tickets[row.ticket_id].department_id == TRASH

    def _listed(self, row: Attachment) -> bool:
        if "list_500" in self.switches and row.ticket_id == self.unlistable_ticket:
            return False
        ticket = self.tickets.get(row.ticket_id)
        if ticket is not None and _hides(self.fault_of(ticket)):
            return False
        return row.id in self._vanished or not self._trashed(row)

    def _truth(self, row: Attachment) -> Truth:
        name = self.fault_of(row)
        if name is None:
            return Truth("stored", None, row.sha256, row.size)
        fault = FILE_FAULTS[name]
        if fault.state != "stored":
            return Truth(fault.state, fault.problem, None, None, (name,))
        if self.effect_on(row) in SHORTENING:
            short = shortened(row.source.read())
            return Truth(
                "stored", fault.problem, hashlib.sha256(short).hexdigest(), len(short), (name,)
            )
        return Truth("stored", fault.problem, row.sha256, row.size, (name,))

    # Faults

    def set_fault(self, name: str, *, on: bool) -> None:
        """Switch a fault on or off while the server runs.

        A fault of an attachment or a ticket can be turned off, and on again, only where the
        helpdesk was built with it, and those of ``ROW_FAULTS`` cannot. Raises ValueError for any
        other name.
        """
        if name not in ALL_FAULTS:
            raise ValueError(f"unknown fault: {name}")
        with self.lock:
            if name in GLOBAL_FAULTS:
                (self.switches.add if on else self.switches.discard)(name)
            elif name not in self.options.chosen or name in ROW_FAULTS:
                raise ValueError(f"{name} is not a fault that this helpdesk can turn on and off")
            else:
                (self._quiet.discard if on else self._quiet.add)(name)

    def fault_of(self, row: Attachment | Ticket | Guide) -> str | None:
        """Return the fault of a row, unless it is turned off."""
        return None if row.fault in self._quiet else row.fault

    def effect_on(self, row: Attachment) -> str | None:
        """Return the fault of a file without its kind: what it does is the same for all kinds."""
        fault = self.fault_of(row)
        return fault and fault.removeprefix(f"{row.kind}_")

    def hit(self, row: Attachment | Ticket | Guide) -> int:
        """Count one more request that a row's fault may hit, and return its number, from 1."""
        kind = type(row).__name__ if isinstance(row, Ticket) else f"{type(row).__name__} {row.kind}"
        with self.lock:
            self._hits[kind, row.id] += 1
            return self._hits[kind, row.id]

    def once(self, name: str, at: object = None) -> bool:
        """Return whether a fault of the helpdesk happens now: once for each ``at``."""
        with self.lock:
            fresh = name in self.switches and (name, at) not in self._struck
            if fresh:
                self._struck.add((name, at))
            return fresh

    def stranger(self, ticket: Ticket) -> Ticket:
        """Return a listed ticket with attachments that a confused server takes for this one.

        It is of another department and has no fault, if possible. The ticket itself stands in
        where there is no other.
        """
        others = [
            t
            for t in self.tickets.values()
            if t.id != ticket.id and t.department_id != TRASH and self._attachments_of[t.id]
        ]
        others.sort(key=lambda t: (t.department_id == ticket.department_id, bool(t.fault)))
        return others[0] if others else ticket

    # Look-ups as in Kayako

    def find_ticket(self, text: str) -> Ticket | None:
        """Return a ticket by id, following merges, or by its present mask.

        The mask of a merged ticket finds nothing: Kayako returns before it looks that up.
        """
        ticket_id = number(text)
        if ticket_id is None:
            return next((t for t in self.tickets.values() if t.mask == text), None)
        while ticket_id in self.merges:
            ticket_id = self.merges[ticket_id]
        return self.tickets.get(ticket_id)

    def attachments_of(self, ticket_id: int) -> list[Attachment]:
        """Return the rows of a ticket by id."""
        rows = [self.attachments[key] for key in self._attachments_of[ticket_id]]
        rows += [row for row in self.doubles.values() if row.ticket_id == ticket_id]
        return sorted(rows, key=lambda row: row.id)

    def find_attachment(self, ticket: str, attachment: str) -> Attachment | None:
        """Return a row by its id: that of the ticket, if several tickets list the id."""
        key = number(attachment) or 0
        double = self.doubles.get(key)
        if double is not None and double.ticket_id == number(ticket):
            return double
        return self.attachments.get(key)

    def marked(self, ticket_id: int) -> bool:
        """Return whether the ticket's row says that it has attachments."""
        lie = "lying_marks" in self.switches and ticket_id % 20 == 0
        return bool(self._attachments_of.get(ticket_id)) is not lie

    def posts_of(self, ticket_id: int) -> list[Post]:
        """Return the posts of a ticket in the order of the setting."""
        keys = sorted(self._posts_of[ticket_id], reverse="posts_desc" in self.switches)
        return [self.posts[key] for key in keys]

    def notes_of(self, ticket: Ticket) -> list[Note]:
        """Return the notes that come with a ticket: in four groups, each by date.

        Those of its user and of that user's present organization come with all tickets of theirs.
        """
        about = {
            "ticket": ticket.id,
            "user": ticket.user_id,
            "userorganization": self.members.get(ticket.user_id, 0),
            "timetrack": ticket.id,
        }
        groups = (self.notes.get(key, []) for key in about.items())
        return [note for group in groups for note in sorted(group, key=lambda n: n.created_at)]

    def find_guide(self, kind: str, text: str) -> Guide | None:
        """Return an article or a step by id."""
        return self.guides.get((kind, number(text) or 0))

    def files_of(self, guide: Guide) -> list[Attachment]:
        """Return the attachments of an article or a step by id."""
        of = (guide.kind, guide.id)
        return [row for row in self.guide_files.values() if (row.kind, row.post_id) == of]

    def name_of(self, staff_id: int) -> str:
        """Return the name of a member of staff; there is one even where no staff was made."""
        found = self.people.get((True, staff_id))
        return found.name if found else "Jane Staff" * bool(staff_id)

    # What people do

    def locate(self, portal: str, foreign: str) -> None:
        """Let all texts say that the helpdesk is there, and the other host here."""

        def moved(text: str) -> str:
            text = text.replace(_host(self.foreign), _host(foreign))
            return text.replace(_host(self.portal), _host(portal))

        with self.lock:
            self.posts = {k: replace(p, text=moved(p.text)) for k, p in self.posts.items()}
            self.guides = {k: replace(g, text=moved(g.text)) for k, g in self.guides.items()}
            for key, notes in self.notes.items():
                self.notes[key] = [replace(note, text=moved(note.text)) for note in notes]
            self.portal, self.foreign = portal, foreign

    def add_ticket(self, ticket: Ticket, posts: Iterable[Post]) -> None:
        """Add a ticket with its posts, and set their ids and ticket ids."""
        with self.lock:
            self.tickets[ticket.id] = ticket
            for post in posts:
                self._post_id += 1
                self._put(replace(post, id=self._post_id, ticket_id=ticket.id))

    def add_post(self, ticket: int, post: Post) -> Post:
        """Add a reply to a ticket, which moves its ``last_activity``; return it with its id."""
        with self.lock:
            self._post_id += 1
            post = replace(post, id=self._post_id, ticket_id=ticket)
            self._put(post)
            self.touch(ticket)
            return post

    def delete_post(self, post: Post) -> None:
        """Delete a post with its attachments; the ticket's ``last_activity`` does not move."""
        with self.lock:
            for key in sorted(self._attachments_of[post.ticket_id]):
                if self.attachments[key].post_id == post.id:
                    self.delete_attachment(key)
            self._posts_of[post.ticket_id].discard(post.id)
            del self.posts[post.id]

    def touch(self, ticket: int) -> None:
        """Set the ``last_activity`` of a ticket to now."""
        with self.lock:
            self.tickets[ticket] = replace(self.tickets[ticket], last_activity=int(time.time()))

    def add_note(self, note: Note) -> Note:
        """Add a note or a time track, and set its id unless it has one; touch no ticket."""
        with self.lock:
            if not note.id:
                shared = _NOTES_OF_PEOPLE if note.kind in _NOTES_OF_PEOPLE else (note.kind,)
                ids = [n.id for (kind, _), ns in self.notes.items() if kind in shared for n in ns]
                note = replace(note, id=max(ids, default=0) + 1)
            self.notes.setdefault((note.kind, note.of), []).append(note)
            return note

    def delete_note(self, note: Note) -> None:
        """Delete a note or a time track; no ticket's ``last_activity`` moves."""
        with self.lock:
            self.notes[note.kind, note.of].remove(note)

    def set_field(self, ticket: int, field_id: int, name: str | bytes, data: bytes) -> Attachment:
        """Put a file into a custom field of a ticket, whose ``last_activity`` does not move."""
        with self.lock:
            rows = (row for values in self.field_values.values() for row in values.values())
            used = [row.id for row in rows if isinstance(row, Attachment)]
            row = make_row(
                *(max(used, default=0) + 1, "customfield", ticket, field_id, name),
                *(Source("given", given=data), int(time.time())),
            )
            self.field_values.setdefault(ticket, {})[field_id] = row
            return row

    def attach(
        self,
        guide: Guide,
        name: str | bytes,
        source: Source,
        dateline: int,
        fault: str | None = None,
    ) -> Attachment:
        """Attach a file to an article or a step; ids are those of attachments of posts."""
        with self.lock:
            made = (self.next_attachment_id, guide.kind, 0, guide.id, name, source, dateline)
            row = replace(make_row(*made), fault=fault)
            self.next_attachment_id += 1
            self.guide_files[row.id] = row
            return row

    def merge(self, old: int, into: int) -> None:
        """Merge a ticket into another: posts, notes and attachments move and keep their ids.

        The survivor's ``last_activity`` is not touched. Raises KeyError for an unknown ticket and
        ValueError for a merge with itself.
        """
        with self.lock:
            if old == into:
                raise ValueError("a ticket cannot be merged into itself")
            survivor = self.tickets[into].id
            del self.tickets[old]
            self.merges[old] = survivor
            rows: list[Post | Attachment] = [*self.posts_of(old), *self.attachments_of(old)]
            for row in rows:
                moved = replace(row, ticket_id=survivor)
                if isinstance(moved, Attachment) and row is self.doubles.get(row.id):
                    self.doubles[row.id] = moved
                else:
                    self._put(moved)
            del self._posts_of[old], self._attachments_of[old]
            for kind in _NOTES_OF_TICKETS:
                for note in self.notes.pop((kind, old), ()):
                    self.add_note(replace(note, of=survivor))

    def trash(self, ticket: int) -> None:
        """Move a ticket to the trash: it leaves the lists and can still be requested by id."""
        with self.lock:
            self.tickets[ticket] = replace(self.tickets[ticket], department_id=TRASH)

    def delete_ticket(self, ticket: int) -> None:
        """Delete a ticket with its posts and attachments. Raises KeyError for an unknown one."""
        with self.lock:
            del self.tickets[ticket]
            for kind in _NOTES_OF_TICKETS:
                self.notes.pop((kind, ticket), None)
            for key in self._attachments_of.pop(ticket, ()):
                del self.attachments[key]
            self.doubles = {k: row for k, row in self.doubles.items() if row.ticket_id != ticket}
            for key in self._posts_of.pop(ticket, ()):
                del self.posts[key]

    def add_attachment(self, ticket: int, name: str | bytes, data: bytes) -> int:
        """Attach a file to the newest post of a ticket and return the new id.

        As through Kayako's REST API, the ticket's ``last_activity`` is not touched. Raises
        KeyError for an unknown ticket.
        """
        with self.lock:
            source = Source("given", given=data)
            return self.insert(self._newest_post(ticket), name, source, int(time.time())).id

    def insert(self, post: Post, name: str | bytes, source: Source, dateline: int) -> Attachment:
        """Add an attachment row under the next id and raise the post's flag."""
        with self.lock:
            row = _row(self.next_attachment_id, post, name, source, dateline)
            self.next_attachment_id += 1
            self._put(row)
            self._put(replace(post, has_attachments=True))
            return row

    def delete_attachment(self, attachment: int) -> None:
        """Delete an attachment. Raises KeyError for an unknown one.

        Its id comes back only by :meth:`reuse_id`, or after :meth:`restore`.
        """
        with self.lock:
            row = self.attachments.pop(attachment)
            self._attachments_of[row.ticket_id].discard(row.id)

    # What a restored or confused database does

    def reuse_id(self, attachment: int, ticket: int, name: str | bytes, data: bytes) -> None:
        """Delete an attachment, if it still exists, and reuse its id for a new file of a ticket.

        InnoDB before MySQL 8 does so when it is restarted after the newest rows were deleted.
        Raises KeyError for an unknown ticket or an id that was never used.
        """
        with self.lock:
            post = self._newest_post(ticket)
            if attachment not in range(1, self.next_attachment_id):
                raise KeyError(attachment)
            if attachment in self.attachments:
                self.delete_attachment(attachment)
            self._vanished.pop(attachment, None)
            self._put(_row(attachment, post, name, Source("given", given=data), int(time.time())))
            self._put(replace(post, has_attachments=True))

    def list_twice(self, attachment: int, ticket: int, name: str | bytes, data: bytes) -> None:
        """Add the id of an attachment to a second ticket, for another file.

        A request for the id gets the file of the requested ticket; :attr:`truth` knows the first
        one only. Raises KeyError for an unknown ticket or attachment, and ValueError for the
        ticket that lists it already.
        """
        with self.lock:
            post = self._newest_post(ticket)
            if self.attachments[attachment].ticket_id == ticket:
                raise ValueError("the ticket lists that attachment already")
            source = Source("given", given=data)
            self.doubles[attachment] = _row(attachment, post, name, source, int(time.time()))
            self._put(replace(post, has_attachments=True))

    def snapshot(self) -> Snapshot:
        """Return a backup of the data, without the counts of faults."""
        with self.lock:
            return Snapshot(copy.deepcopy({name: getattr(self, name) for name in _MADE}))

    def restore(self, backup: Snapshot) -> None:
        """Restore a backup: newer data is gone, and its ids are used again."""
        with self.lock:
            here = self.portal, self.foreign
            for name, value in copy.deepcopy(backup.made).items():
                setattr(self, name, value)
            self.locate(*here)

    def _newest_post(self, ticket: int) -> Post:
        return self.posts[max(self._posts_of[self.tickets[ticket].id])]

    def vanish(self, row: Attachment) -> None:
        """Delete an attachment that was just listed; :attr:`truth` keeps it as gone."""
        with self.lock:
            self.delete_attachment(row.id)
            self._vanished[row.id] = row

    def _put(self, row: Post | Attachment) -> None:
        """Add a row, and index it by ticket."""
        if isinstance(row, Post):
            self.posts[row.id] = row
            self._posts_of[row.ticket_id].add(row.id)
        else:
            self.attachments[row.id] = row
            self._attachments_of[row.ticket_id].add(row.id)


_MADE: Final = (
    "departments",
    "statuses",
    "tickets",
    "posts",
    "attachments",
    "doubles",
    "notes",
    "organizations",
    "members",
    "merges",
    "moves",
    "people",
    "field_groups",
    "custom_fields",
    "field_values",
    "guides",
    "guide_files",
    "categories",
    "links",
    "portal",
    "foreign",
    "next_attachment_id",
    "_post_id",
    "_posts_of",
    "_attachments_of",
    "_vanished",
)
"""The attributes of a helpdesk that a backup holds."""


def _row(key: int, post: Post, name: str | bytes, source: Source, dateline: int) -> Attachment:
    return make_row(key, "post", post.ticket_id, post.id, name, source, dateline)


def make_row(  # noqa: PLR0917 - the columns of a row
    key: int, kind: str, ticket: int, of: int, name: str | bytes, source: Source, dateline: int
) -> Attachment:
    """Return the row of a file of any kind."""
    sha256, size = source.measure()
    return Attachment(
        id=key,
        kind=kind,
        ticket_id=ticket,
        post_id=of,
        name=name if isinstance(name, bytes) else name.encode(errors="surrogateescape"),
        filesize=size,
        dateline=dateline,
        source=source,
        sha256=sha256,
        size=size,
    )


def _host(url: str) -> str:
    return url.partition("//")[2]


def _gap(fault: str | None) -> bool:
    return fault in TICKET_FAULTS and TICKET_FAULTS[fault].gap


def _hides(fault: str | None) -> bool:
    return fault in TICKET_FAULTS and TICKET_FAULTS[fault].hidden


def number(text: str) -> int | None:
    """Return ASCII digits that fit a database column as a number, else None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def shortened(data: bytes) -> bytes:
    """Return the rest of a file that lost a chunk."""
    return data[: len(data) * 2 // 3]
