"""The rows of the checkpoint, as typed records.

The archive knows nothing of Kayako's XML: listing passes attachments on as :class:`Listed`,
fetching reports an :class:`Outcome`. Times are Unix seconds in UTC, sizes bytes.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class State(enum.StrEnum):
    """The one state of an attachment; see the ledger in FORMAT.md."""

    PENDING = "pending"
    """Listed, not fetched yet."""
    STORED = "stored"
    """The bytes are in the archive under their SHA-256."""
    FAILED = "failed"
    """Tried and failed for a reason that may pass: the next run tries again."""
    MISSING = "missing"
    """The source answered properly but has no bytes."""
    GONE = "gone"
    """Listed, but 404 when fetched: dropped at the source before we had it."""
    DELETED = "deleted"
    """We hold the bytes, the source no longer lists it."""


UNFINISHED = (State.PENDING, State.FAILED)
"""The states that the next run works on."""
LOSSES = (State.MISSING, State.GONE, State.FAILED)
"""The states that somebody may accept."""


@dataclass(frozen=True, slots=True)
class Department:
    """A department of the source."""

    id: int
    title: str
    app: str = "tickets"


@dataclass(frozen=True, slots=True)
class TicketRow:
    """A ticket of the source; ``display_id`` is its mask (ABC-123-45678) or plain number.

    ``requester_name`` and ``requester_email`` name the customer, ``owner_name`` is the staff
    member it is assigned to ("": nobody). ``details`` is whatever else the source says of it, by
    the source's own names and fit for JSON. ``status_id`` is one of :class:`StatusRow`.
    """

    id: int
    department_id: int
    display_id: str = ""
    subject: str = ""
    created_at: int = 0
    last_activity: int = 0
    status_id: int = 0
    requester_name: str = ""
    requester_email: str = ""
    owner_name: str = ""
    user_id: int = 0
    organization_id: int = 0
    details: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A ticket status of the source; ``resolved`` tickets need no more work."""

    id: int
    title: str
    department_id: int = 0
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A name that tickets and notes refer to by id: a ``priority``, ``type`` or ``staff``."""

    kind: str
    id: int
    title: str
    email: str = ""


@dataclass(frozen=True, slots=True)
class PostRow:
    """A post of a ticket as the source sent it.

    ``kind`` is ``post``, or ``note``, ``timetrack`` or ``customfield`` for what only the staff
    sees; :func:`note_id` gives the ids of those. ``staff`` marks a post of the staff,
    ``is_private`` one that users do not see. ``facts`` is what else it says, fit for JSON: a post,
    that it came by e-mail (``is_emailed``).
    ``note`` holds short codes of what happened to ``text``, joined by commas.
    """

    id: int
    created_at: int = 0
    author_name: str = ""
    author_email: str = ""
    staff: bool = False
    is_private: bool = False
    is_html: bool = False
    text: str = ""
    note: str | None = None
    kind: str = "post"
    facts: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class PeopleNote:
    """A note of the staff about a user or an organization, kept once for all their tickets.

    ``about`` is ``user`` or ``organization``, and ``about_id`` says which. ``facts`` and ``note``
    are as in :class:`PostRow`.
    """

    id: int
    about: str
    about_id: int
    created_at: int = 0
    author_name: str = ""
    is_html: bool = False
    text: str = ""
    note: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict, hash=False)


_NOTES = {"note": 10**12, "timetrack": 2 * 10**12, "customfield": 3 * 10**12}


def note_id(kind: str, number: int) -> int:
    """Return the id of the response for a note, a time track, or the custom fields of a ticket.

    Posts, notes, time tracks and tickets count separately.
    """
    return _NOTES[kind] + number


@dataclass(frozen=True, slots=True)
class ArticleRow:
    """An article of the knowledge base (``article``) or a step of the troubleshooter (``step``).

    ``details`` and ``note`` are as in :class:`TicketRow` and :class:`PostRow`. ``deleted_at`` is
    when we learned that the source deleted it.
    """

    kind: str
    id: int
    subject: str = ""
    author_name: str = ""
    created_at: int = 0
    is_html: bool = True
    text: str = ""
    note: str | None = None
    deleted_at: int | None = None
    details: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the source about a ticket, kept as it came.

    ``kind`` is ``posts`` (the ticket with its posts, notes and time tracks) or ``fields`` (its
    custom fields). ``sha256`` and ``size`` are those of its blob, a gzip file of ``unpacked``
    bytes. ``superseded_at`` is when another one took its place, None for the newest.
    """

    ticket_id: int
    kind: str
    sha256: str
    size: int
    unpacked: int
    received_at: int
    superseded_at: int | None = None


@dataclass(frozen=True, slots=True)
class TicketHeader:
    """A ticket as the endpoint and the pages show it.

    ``ticket_number`` is the mapped number or the Kayako id as text, ``queue_id`` and
    ``queue_name`` the mapped queue or the Kayako department. ``status`` is ``open``, ``on-hold``
    or ``closed``, ``details`` a JSON object as in :class:`TicketRow`,
    ``priority`` and ``type`` titles ("": unknown). ``merged_into`` is the
    ticket that took its posts, ``deleted_at`` when we
    learned that the source deleted it.
    """

    id: int
    ticket_number: str
    display_id: str
    department_id: int
    queue_id: int
    queue_name: str
    subject: str
    status: str
    requester_name: str
    requester_email: str
    owner_name: str
    created_at: int
    last_activity: int
    merged_into: int | None
    deleted_at: int | None = None
    user_id: int = 0
    organization_id: int = 0
    details: str = "{}"
    priority: str = ""
    type: str = ""
    owner_email: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A post or a note of a ticket as the endpoint and the pages show it.

    ``kind`` is ``post``, ``note``, ``timetrack`` or ``customfield``; ``facts`` is a JSON object
    with what else is known of it: of a post, whether it came by e-mail.

    ``note`` says what happened to ``text``: ``not_kept`` (the post is known only from
    attachments that name it), ``repaired_text``, ``cut_text``, ``odd_number`` (no time) or
    ``unknown_privacy`` (old versions do not say whether users see it), joined by commas.
    The ``id`` is the post's; attachments that name no post share a response with the negative
    id of their ticket. ``length`` is that of the whole text in characters, also where ``text`` is
    cut.
    """

    id: int
    ticket_id: int
    ticket_number: str
    queue_id: int
    created_at: int
    author_name: str
    author_email: str
    staff: bool
    is_private: bool
    is_html: bool
    text: str
    note: str | None
    kind: str = "post"
    facts: str | None = None
    length: int = field(default=0, compare=False)

    @property
    def heading(self) -> str:
        """Return what a note or a time track says beside its text, in a line; "" for a post."""
        return "" if self.kind == "post" else _heading(self.kind, self._facts())

    @property
    def is_emailed(self) -> bool:
        """Return whether the source says that this post came by e-mail."""
        return self.kind == "post" and self._facts().get("is_emailed") is True

    def _facts(self) -> Mapping[str, object]:
        try:
            facts = json.loads(self.facts or "{}")
        except (ValueError, RecursionError):
            facts = {}
        return facts if isinstance(facts, dict) else {}


def _heading(kind: str, facts: Mapping[str, object]) -> str:
    if kind == "timetrack":
        worked, billable = facts.get("seconds_worked", 0), facts.get("seconds_billable", 0)
        by = f" by {name}" if (name := facts.get("worker_name", "")) else ""
        return f"Time track: {worked} seconds worked{by}, {billable} billable."
    if kind == "customfield":
        return "Custom fields."
    only = facts.get("for_staff_id", 0)
    return f"Note for staff member {only} only." if only else "Note."


@dataclass(frozen=True, slots=True)
class ResponseFilter:
    """A filter for responses; None is no restriction, an empty set matches nothing.

    ``is_empty`` selects by whether there is neither text nor image in the body; a post whose body
    was not kept passes neither.

    ``queues`` is what the caller may see. Times are Unix seconds, both ends included. ``deleted``
    includes tickets that the source has deleted, ``unread`` includes posts known only from an
    attachment: their time is that of the attachment, and changes when they are read.
    """

    queues: frozenset[int] | None = None
    queue_names: frozenset[str] | None = None
    ticket_numbers: frozenset[str] | None = None
    created_from: int | None = None
    created_to: int | None = None
    is_internal: bool | None = None
    staff: bool | None = None
    response_ids: frozenset[int] | None = None
    author_email: str | None = None
    has_attachments: bool | None = None
    is_empty: bool | None = None
    deleted: bool = True
    unread: bool = True


@dataclass(frozen=True, slots=True)
class Listed:
    """An attachment as a list of the source named it.

    ``problem`` are the codes of what was odd in its row, most serious first, joined by commas.
    ``kind`` says what holds the file: ``post``, ``customfield``, ``article``, ``step`` or
    ``linked``. For all but posts ``place`` says where the source has it, in the source's words;
    ``ticket_id`` 0 is no ticket. ``sha256`` is the hash of its bytes where the list has them.
    """

    id: int
    ticket_id: int
    post_id: int
    filename: str
    declared_type: str
    declared_size: int
    created_at: int
    problem: str | None = None
    kind: str = "post"
    place: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """An attachment to fetch, with what the latest list said of it.

    ``problem`` are the notes of the list (``repaired_name``, ``changed_at_source``), joined by
    commas, kept when the fetch itself brings none. ``failing_since`` is when the first of the
    failures in a row was, None where the last try did not fail. ``kind`` and ``place`` are as in
    :class:`Listed`.
    """

    id: int
    ticket_id: int
    declared_size: int
    filename: str
    attempts: int
    problem: str | None = None
    created_at: int = 0
    failing_since: int | None = None
    kind: str = "post"
    place: str = ""


@dataclass(slots=True)
class Recorded:
    """The result of recording a list in the ledger.

    ``todo`` is to be fetched. ``again`` counts the attachments that we hold and that were listed
    unchanged. ``changed`` names those that we hold with another name, size or date; they are in
    ``todo``, too. ``moved`` maps attachments that we hold under another ticket to that one: they
    are not recorded before it is known whether it was merged.
    """

    todo: list[Work] = field(default_factory=list)
    again: int = 0
    changed: list[int] = field(default_factory=list)
    moved: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of trying to fetch an attachment.

    ``sha256``, ``size`` and ``mime_type`` are given with state ``stored`` only. ``ticket_id`` is
    given when the attachment turned out to belong to another ticket now (a merge). ``attempts``
    is the number of requests this run made for it. ``filename`` is the name in the reply, which
    counts where the list had no readable one. ``work`` is what was requested: its row may have
    become another file meanwhile. ``received`` counts the decoded bytes from the network;
    ``deduped`` means that an equal blob was there already. These two are not stored.
    """

    attachment_id: int
    state: State
    problem: str | None = None
    detail: str | None = None
    sha256: str | None = None
    size: int | None = None
    mime_type: str | None = None
    ticket_id: int | None = None
    attempts: int = 1
    filename: str = ""
    work: Work | None = None
    received: int = 0
    deduped: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One attachment with all that the ledger knows, as reports and the endpoint read it.

    ``ticket_number`` is the mapped number or the ticket's Kayako id, as text; ``queue_id`` the
    mapped queue or the Kayako department id. ``kind`` and ``place`` are as in :class:`Listed`;
    a file of no ticket has ticket 0, no number, and department and queue -1. ``accepted`` says
    who accepted the loss, when and why; None where it is not an accepted loss.
    """

    id: int
    ticket_id: int
    post_id: int
    ticket_number: str
    department_id: int
    queue_id: int
    filename: str
    declared_type: str
    declared_size: int
    size: int | None
    sha256: str | None
    mime_type: str | None
    state: State
    problem: str | None
    detail: str | None
    attempts: int
    created_at: int
    stored_at: int | None
    kind: str = "post"
    accepted: str | None = None
    place: str = ""

    @property
    def holder(self) -> str:
        """What has the file, in words; "" for a linked file of no ticket."""
        if self.ticket_number:
            return f"ticket {self.ticket_number}"
        return "" if self.kind == "linked" else f"{self.kind} {self.place}"

    @property
    def where(self) -> str:
        """Where the file is, in words."""
        return ", ".join(filter(None, (self.holder, f"attachment {self.id}")))


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A filter for rows of the ledger; None is no restriction, an empty set matches nothing.

    The values are the keys of the figures that break the ledger down: a type as in ``by_type``, a
    year as in ``by_year`` ("": unknown), a size as in ``by_size``, a problem ("": none).
    ``kinds`` selects by what holds the file. ``duplicates`` selects, of attachments with equal
    content, all but the first. ``accepted`` selects by whether somebody accepted the loss.
    """

    states: frozenset[State] | None = None
    departments: frozenset[int] | None = None
    queues: frozenset[int] | None = None
    types: frozenset[str] | None = None
    years: frozenset[str] | None = None
    sizes: frozenset[str] | None = None
    problems: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    duplicates: bool = False
    accepted: bool | None = None


EVERYTHING = RowFilter()


@dataclass(frozen=True, slots=True)
class Token:
    """An API token of the endpoint, without its secret.

    ``queues`` is None when the token sees all queues.
    """

    id: int
    name: str
    abilities: frozenset[str]
    queues: frozenset[int] | None
    is_staff: bool
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """A number of attachments and their bytes: stored ones as held, others as declared."""

    n: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a break-down, as by department or by type."""

    key: str
    title: str
    n: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PacePoint:
    """The amount stored in one step of a run; ``at`` is when the step began, in Unix seconds."""

    at: int
    attachments: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run over the archive; ``finished_at`` is None while it runs or after it was killed."""

    id: int
    kind: str
    source: str
    scope: Mapping[str, object]
    started_at: int
    finished_at: int | None = None
    exit_code: int | None = None
    summary: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far runs have come: ``watermark``, ``full_pass``, ``success``, ``links``: see FORMAT.md.

    ``value`` is in Unix seconds: of the source's clock for ``watermark``, of ours for the others.
    Of ``links`` it says what was looked for.
    ``run_id`` is the run that set it, ``at`` when it did.
    """

    name: str
    value: int
    run_id: int
    at: int


@dataclass(frozen=True, slots=True)
class Helpdesk:
    """The helpdesk of the archive: its address, without credentials.

    ``run_id`` is the run that recorded it, ``at`` when. ``told`` is False until the user was told
    that an older archive was given the address of its newest run.
    """

    address: str
    run_id: int | None
    at: int
    told: bool


@dataclass(frozen=True, slots=True)
class Check:
    """A verify or an audit that finished, and what it found.

    ``kind`` is ``verify`` or ``audit``; ``whole`` is False for a sample. ``summary`` holds figures,
    fit for JSON. Times are Unix seconds.
    """

    id: int
    kind: str
    started_at: int
    finished_at: int
    whole: bool
    exit_code: int
    summary: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A note in a ticket of a target, or a ticket made there, as ``deliveries`` in FORMAT.md."""

    target: str
    ticket_id: int
    ticket_number: str
    marker: str
    idempotency_key: str = ""
    body: bytes = b""
    kind: str = "note"
    state: str = "pending"
    response_id: str | None = None
    problem: str | None = None
    detail: str | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file at a target, as ``delivered_files`` in FORMAT.md; one that has no row is pending."""

    target: str
    attachment_id: int
    sha256: str
    ticket_id: int
    size: int
    state: str = "pending"
    problem: str | None = None
    detail: str | None = None
    delivery_id: int | None = None
    name: str | None = None
    there_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveredLine:
    """A file of a ticket at a target, for a list: ``name`` and ``there_id`` are what it has there.

    ``response_id`` is the note that holds it, or that says why it is not there.
    """

    target: str
    ticket_id: int
    ticket_number: str | None
    attachment_id: int
    filename: str | None
    sha256: str
    size: int
    state: str
    problem: str | None
    detail: str | None
    response_id: str | None
    there_id: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class TicketDelivered:
    """What became of the files of a ticket at a target, by state, and in which notes they are.

    ``number`` is the ticket there, None without one; ``reasons`` say why files are not there.
    """

    ticket_id: int
    number: str | None
    files: Mapping[str, int]
    notes: Sequence[str]
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """The endpoint's rule for one file name extension; without a rule staff must review.

    ``extension`` is lower case and without its dot, ``verdict`` is ``allow`` or ``block``.
    """

    extension: str
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """A department of the source and its queue at the endpoint.

    ``mapped`` is False for a department that keeps its own id and title.
    """

    department_id: int
    title: str
    queue_id: int
    name: str
    tickets: int = 0
    mapped: bool = field(default=False, compare=False)
