"""The rows of the checkpoint, as typed records.

The archive knows nothing of Kayako's XML: whoever lists attachments hands them over as
:class:`Listed`, whoever fetches them reports an :class:`Outcome`.
Times are Unix seconds in UTC, sizes bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class State(enum.StrEnum):
    """The one state of an attachment; see the ledger in FORMAT.md."""

    PENDING = "pending"
    """Listed, not decided yet."""
    STORED = "stored"
    """The bytes are in the archive under their SHA-256."""
    FAILED = "failed"
    """Tried, and refused or broken in a way that may pass: the next run tries again."""
    MISSING = "missing"
    """The source answered properly but has no bytes."""
    GONE = "gone"
    """Listed, but 404 when fetched: dropped at the source before we had it."""
    DELETED = "deleted"
    """We hold the bytes, the source no longer lists it."""


UNFINISHED = (State.PENDING, State.FAILED)
"""The states that the next run works on."""


@dataclass(frozen=True, slots=True)
class Department:
    """A department of the source."""

    id: int
    title: str
    app: str = "tickets"


@dataclass(frozen=True, slots=True)
class TicketRow:
    """A ticket of the source; ``display_id`` is its mask (ABC-123-45678) or plain number."""

    id: int
    department_id: int
    display_id: str = ""
    subject: str = ""
    created_at: int = 0
    last_activity: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """An attachment as a list of the source named it."""

    id: int
    ticket_id: int
    post_id: int
    filename: str
    declared_type: str
    declared_size: int
    created_at: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """An attachment that wants fetching."""

    id: int
    ticket_id: int
    declared_size: int
    filename: str
    attempts: int
    problem: str | None = None
    """The note of the list (``repaired_name``), kept when the fetch itself brings none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attachment that was tried.

    ``sha256``, ``size`` and ``mime_type`` are given with state ``stored`` only. ``ticket_id`` is
    given when the attachment turned out to belong to another ticket now (a merge). ``attempts``
    is the number of requests this run made for it.
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


@dataclass(frozen=True, slots=True)
class Row:
    """One attachment with all that the ledger knows, as reports and the endpoint read it.

    ``ticket_number`` is the mapped number or the ticket's Kayako id, as text; ``queue_id`` the
    mapped queue or the Kayako department id.
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


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is durable under its name.

    ``deduped`` is True when an equal blob was already there and was seen to be whole.
    """

    sha256: str
    size: int
    mime_type: str
    deduped: bool


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


class Verdict(enum.StrEnum):
    """What reading a blob again has shown."""

    OK = "ok"
    DAMAGED = "damaged"
    """There is a file of that name, but its bytes are others."""
    LOST = "lost"
    """There is no file of that name."""


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
    """How far the syncs have come: ``watermark``, ``full_pass`` or ``success``, see FORMAT.md.

    ``value`` is in Unix seconds: of the source's clock for ``watermark``, of ours for the others.
    ``run_id`` is the run that set it, ``at`` when it did.
    """

    name: str
    value: int
    run_id: int
    at: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What the endpoint does with one file name extension; without a rule staff must review.

    ``extension`` is lower case and without its dot, ``verdict`` is ``allow`` or ``block``.
    """

    extension: str
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """A department of the source and the queue that stands for it at the endpoint."""

    department_id: int
    title: str
    queue_id: int
    name: str
    tickets: int = 0
