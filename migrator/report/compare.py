"""What changed between two reports: the ledger now, a report of earlier, or a handover.

As JSON it is ``migrator.comparison/1``: ``before`` and ``after`` (``name``, ``generated_at``,
``exit_code``), and then whatever differs, each with the values ``before`` and ``after``:
``numbers`` and ``counts`` by name, ``groups`` by dimension, ``problems``. ``attention`` tells of
failed, missing and gone attachments: numbers of ``new``, ``resolved`` and ``changed`` ones, the
first new ones in ``rows``, and ``compared_to``, the highest attachment id that both sides tell
of, null where they name all of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from migrator.archive.records import Count
from migrator.report import machine, verdict
from migrator.report.earlier import Entry, Side, side
from migrator.report.model import ATTENTION_SHOWN, OTHERS, build
from migrator.report.plain import brief, human_bytes, shown

if TYPE_CHECKING:
    from migrator.archive import Archive

FORMAT = "migrator.comparison/1"
CHANGES_SHOWN = 20
_NOTHING = Count()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A group whose attachments or bytes are others than before."""

    key: str
    title: str
    before: Count
    after: Count


@dataclass(slots=True)
class Attention:
    """What became of failed, missing and gone attachments.

    ``new`` are those that were none of them before; ``rows`` has the first. ``compared_to`` is
    the highest id that was compared, None when all were.
    """

    new: int = 0
    resolved: int = 0
    changed: int = 0
    rows: list[Entry] = field(default_factory=list)
    compared_to: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that differs between two sides; what is equal is left out."""

    before: Side
    after: Side
    numbers: Mapping[str, tuple[int, int]]
    counts: Mapping[str, tuple[Count, Count]]
    groups: Mapping[str, tuple[Change, ...]]
    problems: Mapping[tuple[str, str | None], tuple[int, int]]
    attention: Attention

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        told = self.attention
        return bool(
            self.numbers
            or self.counts
            or any(self.groups.values())
            or self.problems
            or told.new
            or told.resolved
            or told.changed
        )


def of_archive(archive: Archive, *, posts: bool = True) -> Side:
    """Take the ledger as it is now; its attachments are read while they are compared."""
    document = json.loads(machine.to_json(build(archive, posts=posts)))
    rows = archive.ledger.rows(states=verdict.ATTENTION)
    entries = (
        Entry(row.id, row.ticket_number, row.filename, row.state.value, row.problem) for row in rows
    )
    return side(str(archive.path), document, entries)


def compare(before: Side, after: Side) -> Comparison:
    """Tell what is different in ``after``. Reads the attachments of both sides, once."""
    problems = dict.fromkeys(chain(before.problems, after.problems))
    groups = {
        name: tuple(_changes(before.groups[name], after.groups[name]))
        for name in after.groups
        if name in before.groups
    }
    return Comparison(
        before,
        after,
        _differing(before.numbers, after.numbers),
        _differing(before.counts, after.counts),
        {name: changes for name, changes in groups.items() if changes},
        {
            key: (old, new)
            for key in problems
            if (old := before.problems.get(key, 0)) != (new := after.problems.get(key, 0))
        },
        _attention(before, after),
    )


def _differing(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, tuple[T, T]]:
    """Pair what both sides tell: an older tool knew fewer numbers."""
    return {
        name: (before[name], value)
        for name, value in after.items()
        if name in before and before[name] != value
    }


def _changes(
    before: Mapping[str, tuple[str, Count]], after: Mapping[str, tuple[str, Count]]
) -> list[Change]:
    """Give the groups that differ, those with the most bytes of difference first."""
    found = []
    for key in dict.fromkeys(chain(after, before)):
        one_sided = key not in before or key not in after
        if one_sided and (OTHERS in before or OTHERS in after):
            continue  # the other side may have it among its others
        title = after.get(key, before.get(key, ("", _NOTHING)))[0]
        old, new = (one.get(key, ("", _NOTHING))[1] for one in (before, after))
        if old != new:
            found.append(Change(key, title, old, new))
    return sorted(found, key=lambda one: (-abs(one.after.bytes - one.before.bytes), one.key))


def _attention(before: Side, after: Side) -> Attention:
    """Walk along both lists, which are sorted by id."""
    limits = [one.named_to for one in (before, after) if one.named_to is not None]
    told = Attention(compared_to=min(limits, default=None))
    olds, news = (_up_to(one.entries, told.compared_to) for one in (before, after))
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if old is None or (new is not None and new.id < old.id):
            told.new += 1
            if new is not None and len(told.rows) < ATTENTION_SHOWN:
                told.rows.append(new)
            new = next(news, None)
        elif new is None or old.id < new.id:
            told.resolved += 1
            old = next(olds, None)
        else:
            told.changed += (old.state, old.problem) != (new.state, new.problem)
            old, new = next(olds, None), next(news, None)
    return told


def _up_to(entries: Iterator[Entry], limit: int | None) -> Iterator[Entry]:
    for entry in entries:
        if limit is not None and entry.id > limit:
            return
        yield entry


def to_json(found: Comparison) -> str:
    """Write a comparison as a JSON document that ends with a line end."""

    def pair(values: tuple[object, object]) -> dict[str, object]:
        return dict(zip(("before", "after"), map(_plain, values), strict=True))

    sides = {"before": found.before, "after": found.after}
    document = {
        "format": FORMAT,
        **{
            key: {"name": one.name, "generated_at": one.generated_at, "exit_code": one.exit_code}
            for key, one in sides.items()
        },
        "numbers": {name: pair(values) for name, values in found.numbers.items()},
        "counts": {name: pair(values) for name, values in found.counts.items()},
        "groups": {name: list(map(asdict, changes)) for name, changes in found.groups.items()},
        "problems": [
            {"state": state, "problem": problem, **pair(values)}
            for (state, problem), values in found.problems.items()
        ],
        "attention": asdict(found.attention),
    }
    return json.dumps(document, indent=2) + "\n"


def _plain(value: object) -> Any:
    return asdict(value) if isinstance(value, Count) else value


def to_text(found: Comparison) -> str:
    """Write a comparison for people."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Comparison) -> Iterator[str]:
    for word, one in (("From", found.before), ("To  ", found.after)):
        yield f"{word} {shown(one.name)}, {shown(one.generated_at)}"
    if not found.differs:
        yield from ("", "Nothing changed.")
    if found.counts or found.numbers:
        yield from ("", f"  {'':<16} {'before':>12} {'after':>12} {'change':>12} {'of bytes':>12}")
        for name, (old, new) in found.counts.items():
            size = _signed_bytes(new.bytes - old.bytes)
            yield _line(name, old.n, new.n) + f" {size:>12}"
        for name, (before, after) in found.numbers.items():
            yield _line(name, before, after)
    for name, changes in found.groups.items():
        yield from _groups(f"By {name}", changes)
    if found.problems:
        yield from ("", "Problems")
        for (state, problem), (before, after) in found.problems.items():
            yield f"  {after - before:>+12,}  {state:<8}  {brief(problem or '(none)')}"
    yield from _told(found.attention)


def _line(name: str, before: int, after: int) -> str:
    title = _TITLES.get(name, name)
    return f"  {title:<16} {before:>12,} {after:>12,} {after - before:>+12,}"


_TITLES = {
    "files": "different files",
    "threads_missing": "posts not read",
}


def _signed_bytes(size: int) -> str:
    return ("-" if size < 0 else "+") + human_bytes(abs(size))


def _groups(title: str, changes: tuple[Change, ...]) -> Iterator[str]:
    yield from ("", title)
    for one in changes[:CHANGES_SHOWN]:
        n, size = one.after.n - one.before.n, one.after.bytes - one.before.bytes
        yield f"  {n:>+12,}  {_signed_bytes(size):>12}  {brief(one.title or one.key) or '(none)'}"
    if len(changes) > CHANGES_SHOWN:
        yield f"  and {len(changes) - CHANGES_SHOWN:,} others, see --format json"


def _told(told: Attention) -> Iterator[str]:
    yield ""
    yield (
        f"Failed, missing and gone: {told.new:,} new, {told.resolved:,} no longer, "
        f"{told.changed:,} for another reason."
    )
    for row in told.rows:
        place = f"ticket {brief(row.ticket_number)}, attachment {row.id}"
        why = f": {brief(row.problem)}" if row.problem else ""
        yield f"  {row.state:<8}  {place}, {brief(row.filename)}{why}"
    if told.new > len(told.rows):
        yield f"  and {told.new - len(told.rows):,} more"
    if told.compared_to is not None:
        yield (
            f"Compared up to attachment {told.compared_to} only: a report names the first of them, "
            "a handover all."
        )
