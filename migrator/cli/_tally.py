"""What the events of a run add up to, and how much of it is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from migrator import events


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan says that there is: all tickets, and the attachments that are still to come."""

    tickets: int
    attachments: int
    bytes: int


@dataclass
class Tally:
    """What the events so far add up to; ``todo`` grows while tickets are still being listed.

    ``found`` are attachments listed, ``settled`` those that came to an end; their bytes are as
    declared, ``received`` came over the wire. ``plan`` tells what to expect, where there is one.
    ``pace`` tells how many requests are made at once while those are fewer than allowed.
    """

    run_id: int | None = None
    kind: str = "run"
    plan: Expected | None = None
    tickets: int = 0
    tickets_total: int | None = None
    found: int = 0
    todo: int = 0
    todo_bytes: int = 0
    settled: int = 0
    settled_bytes: int = 0
    received: int = 0
    retries: int = 0
    states: Counter[str] = field(default_factory=Counter)
    opening: str = ""
    pace: str = ""

    def take(self, event: events.Event) -> None:
        """Add one event."""
        match event:
            case events.RunStarted():
                self.kind = event.kind
                self.run_id = None if event.kind == "plan" else event.run_id  # it makes none
                self.opening = f"{'Resuming' if event.resumes else 'Starting'} {event.kind}"
                if event.listed:
                    self.opening += f": {event.done:,} of {event.listed:,} attachments are settled"
            case events.TicketsCounted():
                self.tickets_total = event.total
            case events.TicketListed():
                self.tickets += 1
                self.found += event.attachments
                self._queue(event.todo, event.todo_bytes)
            case events.LeftoversQueued():
                self._queue(event.todo, event.todo_bytes)
            case events.AttachmentSettled():
                self.settled += 1
                self.settled_bytes += event.declared
                self.received += event.received
                self.states[event.state] += 1
            case events.AttachmentAudited() | events.BlobChecked() | events.FileHandedOver():
                self._check(event)
            case events.Retrying():
                self.retries += 1
            case events.PaceChanged():
                slower = event.limit < event.most
                self.pace = f"{event.limit} of {event.most} at once" if slower else ""
            case _:
                pass

    def _queue(self, todo: int, size: int) -> None:
        self.todo += todo
        self.todo_bytes += size

    def _check(
        self, event: events.AttachmentAudited | events.BlobChecked | events.FileHandedOver
    ) -> None:
        """Add one file or attachment that was read again."""
        self.settled += 1
        self.todo = event.total
        if isinstance(event, events.AttachmentAudited):
            self.kind = "audit"
            self.received += event.received
            self.states[event.verdict if event.ours == "ok" else event.ours] += 1
        else:
            self.kind = "verify"
            self.received += event.size
            self.states[event.verdict] += 1

    @property
    def all_tickets(self) -> int | None:
        """Tell how many tickets there are, by the source or else by the plan."""
        return self.plan.tickets if self.tickets_total is None and self.plan else self.tickets_total

    @property
    def listed(self) -> int:
        """Count the tickets listed; one that changed meanwhile is listed twice, but told once."""
        total = self.all_tickets
        return self.tickets if total is None else min(self.tickets, total)

    @property
    def unit(self) -> str:
        """Name what is being counted."""
        return "file" if self.kind == "verify" else "attachment"

    @property
    def known(self) -> int:
        """Tell how many attachments are to be settled, by the plan and by what is listed."""
        return max(self.todo, self.plan.attachments if self.plan else 0)

    @property
    def known_bytes(self) -> int:
        """Tell how many bytes those have, as declared."""
        return max(self.todo_bytes, self.plan.bytes if self.plan else 0)

    def expected(self) -> float:
        """Estimate how many will be settled in the end, from the tickets listed so far."""
        return self._scaled(self.todo) if self.plan is None else self.known

    def _scaled(self, value: float) -> float:
        if not self.tickets or not self.all_tickets:
            return value
        return value * max(1.0, self.all_tickets / self.tickets)

    def share(self) -> float | None:
        """Estimate which part of the work is done, 0 to 1; None when nothing can be said yet.

        Requests and bytes both take their time, so what counts is the mean of the two.
        """
        if self.kind == "plan":
            total = self.all_tickets
            return self.listed / total if total and self.tickets else None
        if not self.settled:
            return None
        shares = [min(1.0, self.settled / max(self.expected(), 1))]
        size = self._scaled(self.todo_bytes) if self.plan is None else self.known_bytes
        if size and self.settled_bytes:
            shares.append(min(1.0, self.settled_bytes / size))
        return sum(shares) / len(shares)

    def troubles(self) -> dict[str, int]:
        """Count what went wrong so far, by state, and how often a request was tried again."""
        names = ("failed", "missing", "gone", "damaged", "lost", "differ", "vanished", "unasked")
        found = {name: self.states[name] for name in names if self.states[name]}
        return found | ({"retries": self.retries} if self.retries else {})
