"""What has changed between a plan and the run after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from migrator.transfer.planfile import Entry

FIRST = 10
"""Attachments of each kind that are named; the others are counted."""


@dataclass(slots=True)
class Found:
    """Attachments of one kind: how many, their bytes, and the first of them."""

    n: int = 0
    bytes: int = 0
    first: list[Entry] = field(default_factory=list)
    before: list[Entry] = field(default_factory=list)
    """What the first ones were in the plan, if they are other than that."""

    def add(self, entry: Entry, before: Entry | None = None) -> None:
        """Count one."""
        self.n += 1
        self.bytes += entry.size
        if len(self.first) < FIRST:
            self.first.append(entry)
            if before is not None:
                self.before.append(before)

    def told(self) -> dict[str, object]:
        """Give it as the record of a run keeps it."""
        named = [_named(one) for one in self.first]
        for one, before in zip(named, self.before, strict=False):
            one["was"] = _named(before)
        return {"attachments": self.n, "bytes": self.bytes, "first": named}


@dataclass(slots=True)
class Drift:
    """How a helpdesk differs from a plan of it.

    ``new`` was listed by the run and not by the plan, ``changed`` by both but with another ticket,
    name or size (as it is now). ``vanished`` was in the plan and not listed any more; None when
    the run did not list everything, and so cannot know.
    """

    new: Found = field(default_factory=Found)
    changed: Found = field(default_factory=Found)
    vanished: Found | None = field(default_factory=Found)

    def told(self) -> dict[str, object]:
        """Give it as the record of a run keeps it."""
        return {
            "new": self.new.told(),
            "changed": self.changed.told(),
            "vanished": self.vanished and self.vanished.told(),
        }


def compare(planned: Iterable[Entry], listed: Iterable[Entry], *, whole: bool) -> Drift:
    """Compare what was planned with what was listed, both sorted by id, in one pass.

    ``whole`` tells that the run listed everything: else nothing is said to have vanished.
    """
    drift = Drift(vanished=Found() if whole else None)
    for then, now in _side_by_side(iter(planned), iter(listed)):
        if now is None:
            if drift.vanished is not None and then is not None:
                drift.vanished.add(then)
        elif then is None:
            drift.new.add(now)
        elif (then.ticket, then.name, then.size) != (now.ticket, now.name, now.size):
            drift.changed.add(now, then)
    return drift


def changes(before: Entry, now: Entry) -> str:
    """Say what an attachment was where it is not that any more."""
    texts = [
        f"ticket {before.ticket}" if before.ticket != now.ticket else "",
        f"named {before.name}" if before.name != now.name else "",
        f"{before.size:,} bytes, not {now.size:,}" if before.size != now.size else "",
    ]
    return ", ".join(filter(None, texts))


def _named(entry: Entry) -> dict[str, object]:
    return {"id": entry.id, "ticket": entry.ticket, "name": entry.name, "size": entry.size}


def _side_by_side(
    left: Iterator[Entry], right: Iterator[Entry]
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Pair the entries of one id; None stands for the one that is not there."""
    then, now = next(left, None), next(right, None)
    while then is not None or now is not None:
        if now is None or (then is not None and then.id < now.id):
            yield then, None
            then = next(left, None)
        elif then is None or now.id < then.id:
            yield None, now
            now = next(right, None)
        else:
            yield then, now
            then, now = next(left, None), next(right, None)
