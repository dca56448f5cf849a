"""The file of a plan: what a dry run has listed, to compare with a later run.

JSON lines. The first is the head, with the ``format``, its ``source`` and ``scope``, the
time (``made_at``, Unix seconds), whether the lists were ``complete``, and the totals
``tickets``, ``attachments``, ``bytes``, ``to_fetch`` and ``to_fetch_bytes``. Every other line is an
attachment: ``id``, ``ticket``, ``name``, ``size`` and ``created``, sorted by id, so that two of
them are compared in one pass and in constant memory: :func:`compare` tells what has changed between
a plan and the run after it.

While a dry run is under way it keeps a :class:`Journal`, from which the next one resumes: JSON
lines beside the plan to be, a head, then a line for each ticket whose attachments were listed. A
line is whole or, after a kill, torn; so the first bad one ends it. A line may be lost by a power
cut, and then its ticket is listed again; there is no need to sync.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from io import FileIO
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from migrator.archive.records import UNFINISHED, Count, Row, State
from migrator.blobs import durable
from migrator.errors import ConfigError, user_file
from migrator.events import WorkExpected
from migrator.report.compare import side_by_side
from migrator.sources.base import Attachment, Scope
from migrator.text import human_bytes, shown

FORMAT = "migrator.plan-journal/1"
SUFFIX = ".partial"
BLOCK = 1 << 14

_FIELDS = fields(Attachment)


class Journal:
    """The attachments of tickets listed so far; it stays open during a dry run.

    ``head`` identifies it. A journal at ``path`` of the same head is continued; raises
    ConfigError for another one, for any other file, and when the file cannot be written or
    another process writes it.
    """

    def __init__(self, path: Path, head: Mapping[str, object]) -> None:
        self.path = path
        self._places: dict[int, int] = {}
        with user_file(path, "write"):
            self._file = _open(path)
        try:
            with user_file(path, "write"):
                self._load({"format": FORMAT, **head})
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        """Return the number of known tickets."""
        return len(self._places)

    def find(self, ticket_id: int, activity: int) -> list[Attachment] | None:
        """Return the attachments of a ticket that had that last activity; None if not known."""
        place = self._places.get(ticket_id)
        if place is None:
            return None
        with user_file(self.path, "write"):
            line = _line_at(self._file, place)
        _, then, files = json.loads(line)
        if then != activity:
            return None
        return [replace(one, notes=tuple(one.notes)) for one in (Attachment(*row) for row in files)]

    def add(self, ticket_id: int, activity: int, files: Sequence[Attachment]) -> None:
        """Add the attachments of a ticket that has that last activity."""
        self._places[ticket_id] = self._append([ticket_id, activity, [astuple(x) for x in files]])

    def remove(self) -> None:
        """Delete the file, once the plan is saved."""
        with user_file(self.path, "write"), contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file and keep it for the next dry run, unless it is empty."""
        if not self._places:
            self.remove()
        self._file.close()

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _append(self, value: object) -> int:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        with user_file(self.path, "write"):
            place = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return place

    def _load(self, head: Mapping[str, object]) -> None:
        lines = _whole_lines(self._file)
        _, end, found = next(lines, (0, 0, None))
        if found is None and not self._file.seek(0, os.SEEK_END):
            self._append(head)
            return
        if found != json.loads(json.dumps(head)):
            raise ConfigError(
                f"{str(self.path)!r} is not the beginning of a plan of this helpdesk, but of "
                "another one or something else: give the plan another name, or remove it."
            )
        for place, behind, entry in lines:
            if not _is_entry(entry):
                break
            self._places[entry[0]] = place
            end = behind
        self._file.truncate(end)


def _open(path: Path) -> FileIO:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        durable.give_to_owner(fd, path)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"Another dry run is writing {str(path)!r}; wait for it.") from None
    except OSError:
        os.close(fd)
        raise
    return FileIO(fd, "r+")


def _whole_lines(file: FileIO) -> Iterator[tuple[int, int, Any]]:
    """Yield the complete lines: where each begins and ends, and its value."""
    place = file.seek(0)
    with open(os.dup(file.fileno()), "rb") as lines:  # noqa: PTH123 - it is open already
        for line in lines:
            value = _value(line)
            if value is None:
                return
            yield place, place + len(line), value
            place += len(line)


def _value(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, list)
        and [type(one) for one in value] == [int, int, list]
        and all(isinstance(row, list) and len(row) == len(_FIELDS) for row in value[2])
    )


def _line_at(file: FileIO, place: int) -> bytes:
    pieces: list[bytes] = []
    while piece := os.pread(file.fileno(), BLOCK, place):
        line, end, _ = piece.partition(b"\n")
        pieces.append(line)
        if end:
            break
        place += len(piece)
    return b"".join(pieces)


NAME = "migrator.plan-file"
VERSION = 1
SLACK = 3600
"""Seconds by which the same age may differ between a plan and its run."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a plan, with its totals; the bytes are as held, else as declared.

    ``complete`` is False for a plan made from incomplete lists, ``fast`` True for an estimate.
    """

    source: str
    scope: dict[str, Any]
    made_at: int
    complete: bool
    fast: bool
    tickets: int
    attachments: int
    bytes: int
    to_fetch: int
    to_fetch_bytes: int


class Entry(NamedTuple):
    """An attachment in the plan."""

    id: int
    ticket: int
    name: str
    size: int
    created: int


def entry_of(row: Row) -> Entry:
    """Return an attachment of the ledger as a plan has it: as the source declares it."""
    return Entry(row.id, row.ticket_id, row.filename, row.declared_size, row.created_at)


def lines(head: Head, rows: Iterable[Row]) -> Iterator[str]:
    """Write a plan; ``rows`` are sorted by id."""
    yield json.dumps({"format": f"{NAME}/{VERSION}", **asdict(head)}) + "\n"
    for row in rows:
        yield json.dumps(entry_of(row)._asdict(), separators=(",", ":")) + "\n"


class PlanFile:
    """A saved plan. Raises ConfigError for anything but a complete one of a known format.

    ``drift`` says how the helpdesk differs from it, once a run was compared with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.drift: Drift | None = None
        self.head = self._read_head()

    def check(self, source: str, scope: Scope, *, now: int) -> None:
        """Check that it is a plan of this source and scope, and complete.

        Raises ConfigError otherwise.
        """
        if self.head.source != source:
            raise ConfigError(
                f"{str(self.path)!r} is a plan of {self.head.source}, not of {source}: see url in "
                "[kayako], or make a plan of this one with `migrator plan --save-plan`."
            )
        if not same_scope(self.head.scope, scope.told(), age=now - self.head.made_at):
            raise ConfigError(
                f"{str(self.path)!r} was made with {_options(self.head.scope)}; run with the same, "
                "or make a plan of what this run is asked for."
            )
        for _ in self.entries():
            pass

    def expected(self, counts: Mapping[State, Count], /) -> WorkExpected:
        """Return the work of a run by this plan, without what was settled since."""
        head, settled = self.head, [one for state, one in counts.items() if state not in UNFINISHED]
        return WorkExpected(
            head.tickets,
            max(0, head.attachments - sum(one.n for one in settled)),
            max(0, head.bytes - sum(one.bytes for one in settled)),
        )

    def compare(self, listed: Iterator[Row], /, *, whole: bool) -> dict[str, object]:
        """Compare the plan with what a run has listed; return the drift for the run's record."""
        self.drift = compare(self.entries(), map(entry_of, listed), whole=whole)
        return self.drift.told()

    def entries(self) -> Iterator[Entry]:
        """Yield the attachments by id. Raises ConfigError when the file is incomplete."""
        last = count = 0
        with user_file(self.path), self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    continue
                entry = _entry(line)
                if entry is None or entry.id <= last:
                    raise ConfigError(f"{str(self.path)!r} is damaged in line {number:,}.")
                last, count = entry.id, count + 1
                yield entry
        if count != self.head.attachments:
            raise ConfigError(
                f"{str(self.path)!r} is not whole: it names {count:,} of "
                f"{self.head.attachments:,} attachments."
            )

    def _read_head(self) -> Head:
        with user_file(self.path), self.path.open("rb") as file:
            line = file.readline(1 << 20)
        try:
            found = json.loads(line)
            name, _, version = found.pop("format").partition("/")
        except (ValueError, AttributeError, KeyError, TypeError):
            name = ""
        if name != NAME or not version.isdigit():
            raise ConfigError(
                f"{str(self.path)!r} is not a plan: `migrator plan --save-plan FILE` writes one."
            )
        if int(version) > VERSION:
            raise ConfigError(
                f"{str(self.path)!r} was written by a newer version of this tool; upgrade, or make "
                "the plan again."
            )
        try:
            return _head(found)
        except (KeyError, TypeError) as exc:
            raise ConfigError(f"{str(self.path)!r} is damaged in line 1.") from exc


def _head(found: dict[str, Any]) -> Head:
    head = Head(**{one.name: found[one.name] for one in fields(Head)})
    numbers = (head.made_at, head.tickets, head.attachments, head.bytes, head.to_fetch)
    for value in (*numbers, head.to_fetch_bytes):
        if type(value) is not int:
            raise TypeError
    if type(head.source) is not str or type(head.scope) is not dict:
        raise TypeError
    return head


def _entry(line: bytes) -> Entry | None:
    try:
        found = Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    numbers = (found.id, found.ticket, found.size, found.created)
    whole = all(type(one) is int for one in numbers) and isinstance(found.name, str)
    return found if whole else None


def same_scope(then: dict[str, Any], now: dict[str, Any], *, age: int) -> bool:
    """Return whether two scopes are the same; an age means a later day ``age`` later."""
    first, second = dict(then), dict(now)
    since: object = first.pop("since", 0)
    later: int = second.pop("since", 0)
    if first != second or not isinstance(since, int) or bool(since) != bool(later):
        return False
    return later == since or abs(later - since - age) <= SLACK


def _options(scope: dict[str, Any]) -> str:
    """Return a scope as command line options."""
    options = [f"--department {name!r}" for name in scope.get("departments") or ()]
    if scope.get("since"):
        options.append("another --since")
    if scope.get("limit_tickets"):
        options.append(f"--limit-tickets {scope['limit_tickets']}")
    if scope.get("include_trash"):
        options.append("the trash included")
    return ", ".join(options) or "no option that narrows it"


FIRST = 10
"""Attachments of each kind that are named; the others are counted."""


@dataclass(slots=True)
class Found:
    """Attachments of one kind: how many, their bytes, and the first of them."""

    n: int = 0
    bytes: int = 0
    first: list[Entry] = field(default_factory=list)
    before: list[Entry] = field(default_factory=list)
    """The first ones as they were in the plan, where they have changed."""

    def add(self, entry: Entry, before: Entry | None = None) -> None:
        """Count one."""
        self.n += 1
        self.bytes += entry.size
        if len(self.first) < FIRST:
            self.first.append(entry)
            if before is not None:
                self.before.append(before)

    def told(self) -> dict[str, object]:
        """Return it in the form that the record of a run keeps."""
        named = [_named(one) for one in self.first]
        for one, before in zip(named, self.before, strict=False):
            one["was"] = _named(before)
        return {"attachments": self.n, "bytes": self.bytes, "first": named}


@dataclass(slots=True)
class Drift:
    """The differences of a helpdesk from its plan.

    ``new`` was listed by the run and not by the plan, ``changed`` by both but with another ticket,
    name or size (as it is now). ``vanished`` was in the plan and not listed any more; None when
    the run did not list everything, and so cannot know.
    """

    new: Found = field(default_factory=Found)
    changed: Found = field(default_factory=Found)
    vanished: Found | None = field(default_factory=Found)

    def told(self) -> dict[str, object]:
        """Return it in the form that the record of a run keeps."""
        return {
            "new": self.new.told(),
            "changed": self.changed.told(),
            "vanished": self.vanished and self.vanished.told(),
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text for people."""
        kinds = (("new", self.new), ("vanished", self.vanished), ("changed", self.changed))
        words = [f"{one.n:,} {name} ({human_bytes(one.bytes)})" for name, one in kinds if one]
        yield f"Since the plan: {', '.join(words)}"
        for name, found in kinds:
            if found is None:
                yield "  What has vanished is not known: not everything was listed."
                continue
            for entry, before in zip_longest(found.first, found.before):
                was = f" (was: {changes(before, entry)})" if before else ""
                text = f"attachment {entry.id} of ticket {entry.ticket}, {entry.name}{was}"
                yield f"  {name}: {shown(text)}"
            if found.n > len(found.first):
                yield f"  {name}: and {found.n - len(found.first):,} more"


def compare(planned: Iterable[Entry], listed: Iterable[Entry], *, whole: bool) -> Drift:
    """Compare what was planned with what was listed, both sorted by id, in one pass.

    ``whole`` means that the run listed everything: else nothing counts as vanished.
    """
    drift = Drift(vanished=Found() if whole else None)
    for then, now in side_by_side(iter(planned), iter(listed)):
        if now is None:
            if drift.vanished is not None and then is not None:
                drift.vanished.add(then)
        elif then is None:
            drift.new.add(now)
        elif (then.ticket, then.name, then.size) != (now.ticket, now.name, now.size):
            drift.changed.add(now, then)
    return drift


def changes(before: Entry, now: Entry) -> str:
    """Return in words what has changed of an attachment."""
    texts = [
        f"ticket {before.ticket}" if before.ticket != now.ticket else "",
        f"named {before.name}" if before.name != now.name else "",
        f"{before.size:,} bytes, not {now.size:,}" if before.size != now.size else "",
    ]
    return ", ".join(filter(None, texts))


def _named(entry: Entry) -> dict[str, object]:
    return {"id": entry.id, "ticket": entry.ticket, "name": entry.name, "size": entry.size}
