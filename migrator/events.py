"""What happens during a run, as data.

Rooms report what they do by calling a :class:`Listener` with one of these records; the command
line turns them into bars, lines and JSON. Times are Unix seconds, sizes bytes, durations seconds.
Listeners are called from the event loop's thread, must be quick and must not raise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run begins; ``done`` of ``listed`` attachments were settled by earlier runs."""

    run_id: int
    kind: str
    done: int = 0
    listed: int = 0
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class WorkExpected(Event):
    """The expected amount of work is known from a plan or from the archive."""

    tickets: int
    attachments: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TicketsCounted(Event):
    """The number of tickets in scope, as the source counts; None if unknown."""

    total: int | None


@dataclass(frozen=True, slots=True)
class TicketListed(Event):
    """The attachments of one ticket are in the ledger; ``todo`` of them are to be fetched.

    ``again`` means that this run has listed the ticket before and that it changed since.
    """

    ticket_id: int
    attachments: int
    todo: int
    todo_bytes: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class LeftoversQueued(Event):
    """Files that no list named are to be fetched, too: left by earlier runs, or found in texts."""

    todo: int
    todo_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AttachmentSettled(Event):
    """One attachment has reached a state; ``received`` counts decoded bytes from the network.

    ``since`` is when the first of its failures in a row was, None if the try before this one did
    not fail. ``tried`` counts the requests that earlier runs made for it.
    """

    attachment_id: int
    ticket_id: int
    state: str
    problem: str | None = None
    detail: str | None = None
    received: int = 0
    declared: int = 0
    deduped: bool = False
    since: int | None = None
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Requested(Event):
    """A request was answered, or failed, after ``seconds``, waiting for its turn included.

    ``outcome`` is ok or the code of the problem, of which ``detail`` is a sentence.
    """

    what: str
    outcome: str
    seconds: float
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Retrying(Event):
    """A request failed for a reason that may pass and is tried again after ``wait`` seconds."""

    what: str
    problem: str
    attempt: int
    wait: float


@dataclass(frozen=True, slots=True)
class PaceChanged(Event):
    """From now on at most ``limit`` of the ``most`` allowed requests are in flight.

    ``reason`` is overloaded (timeouts, 429, 502 to 504, 508, a ban and more), slow (far slower than
    at its best) or recovered.
    """

    limit: int
    most: int
    reason: str


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """No request is made for ``wait`` seconds; 0: the source answers again.

    ``asked`` means that the source asked for the pause, which ends by itself; else it is probed.
    ``reason`` is ours: ``quiet_hours``, or ``paused`` by somebody; then ``wait`` None is until
    somebody resumes.
    """

    wait: float | None
    asked: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BlobChecked(Event):
    """One blob was read again by ``verify`` or for a copy; ``verdict`` is ok, damaged or lost."""

    sha256: str
    size: int
    verdict: str
    total: int


@dataclass(frozen=True, slots=True)
class AttachmentAudited(Event):
    """One of ``total`` stored attachments was fetched again by ``audit``.

    ``verdict`` is agreed, differ, vanished or unasked; ``ours`` is what reading our own file has
    shown: ok, damaged or lost. ``received`` bytes came over the wire.
    """

    attachment_id: int
    ticket_id: int
    verdict: str
    ours: str
    received: int
    total: int


@dataclass(frozen=True, slots=True)
class FileHandedOver(Event):
    """One of ``total`` files was read and put into the handover; ``verdict`` as of BlobChecked.

    Only a file with the verdict ok is in the handover.
    """

    sha256: str
    size: int
    verdict: str
    total: int


@dataclass(frozen=True, slots=True)
class FileDelivered(Event):
    """One of ``total`` files that a delivery looks at is settled at the target, or not.

    ``state`` is delivered, already (it was there), refused, too_large, failed, or pending in a dry
    run.
    """

    attachment_id: int
    ticket_id: int
    state: str
    size: int
    total: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request under way: ``name`` is that of the file it is for, as the source has it, or empty.

    ``received`` bytes of the reply have come, of ``size``; 0: unknown. For a file that is read
    here ``received`` is None.
    """

    what: str
    name: str
    seconds: float
    received: int | None = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Slow(Event):
    """All requests that have been under way for long, the oldest first; none: there are no more."""

    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Some seconds have passed; a run that waits for a slow server is still alive."""


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """A sentence for the user; ``level`` is info or warning."""

    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """A run ends; ``counts`` holds the number of attachments by state.

    ``cut`` means that it ended before it had seen everything.
    """

    run_id: int
    exit_code: int
    counts: dict[str, int] = field(default_factory=dict)
    cut: bool = False


class Listener(Protocol):
    """A receiver of every event, in order."""

    def __call__(self, event: Event, /) -> None:
        """Handle one event, quickly and without raising."""


def ignore(event: Event, /) -> None:
    """Drop the event."""
