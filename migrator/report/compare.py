"""The changes between two reports: the ledger now, an earlier report, or a handover.

As JSON it is ``migrator.comparison/1``: ``before`` and ``after`` (``name``, ``generated_at``,
``exit_code``), and then whatever differs, each with the values ``before`` and ``after``:
``numbers`` and ``counts`` by name, ``groups`` by dimension, ``problems``. ``attention`` is about
failed, missing and gone attachments: numbers of ``new``, ``resolved`` and ``changed`` ones, the
first new ones in ``rows``, and ``compared_to``, the highest attachment id that both sides
cover, null where they name all of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from migrator.archive.records import Count, State
from migrator.errors import ConfigError, user_file
from migrator.report import json_report, verdict
from migrator.report.model import ATTENTION_SHOWN, OTHERS, build
from migrator.text import brief, human_bytes, shown

if TYPE_CHECKING:
    from migrator.archive import Archive

LARGEST = 64 << 20
"""The most bytes of a document; ours have far fewer, whatever the archive's size."""
_MANIFEST, _MARKER, _REPORT = "manifest.jsonl", "handover.json", "report.json"
_DIMENSIONS = {"department": "departments", "type": "types", "year": "years", "size": "sizes"}
_QUIET = tuple(
    f'"state":{space}"{state}"'.encode()
    for state in State
    if state not in verdict.ATTENTION
    for space in (" ", "")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An attachment that is failed, missing or gone."""

    id: int
    ticket_number: str
    filename: str
    state: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """One of two reports that are compared.

    ``groups`` has (title, count) by dimension and key, ``problems`` numbers by state and code.
    ``entries`` are sorted by id and read once; ``named_to`` is the last id they reach when they
    are not all, else None.
    """

    name: str
    generated_at: str
    exit_code: int
    numbers: Mapping[str, int]
    counts: Mapping[str, Count]
    groups: Mapping[str, Mapping[str, tuple[str, Count]]]
    problems: Mapping[tuple[str, str | None], int]
    entries: Iterator[Entry]
    named_to: int | None = None


def of_path(path: Path, *, largest: int = LARGEST) -> Side:
    """Read a report's JSON, or a handover: its directory, or the report in it.

    Raises ConfigError for anything else, for a document of more than ``largest`` bytes, for what a
    newer version of this tool has written, and for a handover that was not finished.
    """
    root = path if path.is_dir() else path.parent
    document = _document(path / _REPORT if path.is_dir() else path, largest)
    whole = (root / _MARKER).is_file() and (path.is_dir() or path.name == _REPORT)
    if path.is_dir() and not whole:
        raise ConfigError(f"{str(path)!r} is no handover: there is no {_MARKER} in it.")
    if whole:
        _see_finished(root / _MARKER)
        return side(str(path), document, _manifest(root / _MANIFEST))
    return side(str(path), document)


def side(name: str, document: Mapping[str, Any], entries: Iterator[Entry] | None = None) -> Side:
    """Return a side from a report's document; without ``entries`` it has those that it names.

    Raises ConfigError for anything but a report.
    """
    _see_format(name, document)
    with _reading(name):
        return _side(name, document, entries)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Raise ConfigError when the block cannot read a report."""
    try:
        with user_file(name):
            yield
    except RecursionError as error:
        raise _damaged(name, "it is nested too deeply") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(name, error) from error


def _side(name: str, document: Mapping[str, Any], entries: Iterator[Entry] | None) -> Side:
    counts = {key: Count(**document[key]) for key in ("listed",)}
    counts |= {state.value: Count(**document["states"][state]) for state in State}
    counts |= {key: Count(**document[key]) for key in ("files", "duplicates") if key in document}
    attention, named_to = document["attention"], None
    if entries is None:
        named = [_entry(row) for row in attention["rows"]]
        entries = iter(named)
        if attention["total"] > len(named):
            named_to = named[-1].id if named else 0
    return Side(
        name=name,
        generated_at=str(document["generated_at"]),
        exit_code=int(document["exit_code"]),
        numbers={
            key: int(document[key])
            for key in ("tickets", "threads_missing")
            if document.get(key) is not None
        },
        counts=counts,
        groups={
            dimension: {
                str(one["key"]): (str(one["title"]), Count(int(one["n"]), int(one["bytes"])))
                for one in document[key]
            }
            for dimension, key in _DIMENSIONS.items()
            if key in document
        },
        problems={
            (str(one["state"]), _text(one["problem"])): int(one["n"])
            for one in document["problems"]
        },
        entries=entries,
        named_to=named_to,
    )


def _document(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    with _reading(str(path)), path.open("rb") as file:
        text = file.read(largest + 1)
        document = json.loads(text) if len(text) <= largest else None
    if not isinstance(document, dict):
        raise _damaged(str(path), "it is no JSON object of that kind")
    return document


def _see_format(name: str, document: Mapping[str, Any]) -> None:
    found = document.get("format")
    kind, _, version = json_report.FORMAT.partition("/")
    if found == json_report.FORMAT:
        return
    said, _, number = found.partition("/") if isinstance(found, str) else ("", "", "")
    if said == kind and number.isdecimal() and int(number[:9]) > int(version):
        raise ConfigError(
            f"{name!r} was written by a newer version of this tool ({found}; this one knows up to "
            f"{json_report.FORMAT}). Install that version or a newer one."
        )
    raise _damaged(name, f"its format is not {json_report.FORMAT}")


def _see_finished(marker: Path) -> None:
    if _document(marker).get("finished") is not True:
        raise ConfigError(
            f"The handover {str(marker.parent)!r} was not finished. Make it again with "
            "`migrator handover`, or compare with its report under another name."
        )


def _manifest(path: Path) -> Iterator[Entry]:
    """Yield the failed, missing and gone attachments of a manifest, a line at a time."""
    last = -1
    with _reading(str(path)), path.open("rb") as file:
        for line in file:
            if any(quiet in line for quiet in _QUIET):
                continue  # a name cannot hold that: its quotes are escaped
            entry = _entry(json.loads(line))
            if entry.id <= last:
                raise _damaged(str(path), f"attachment {entry.id} is not in its place")
            last = entry.id
            yield entry


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        int(row["attachment_id"]),
        str(row["ticket_number"]),
        str(row["filename"]),
        str(row["state"]),
        _text(row["problem"]),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _damaged(name: str, why: object) -> ConfigError:
    return ConfigError(
        f"{name!r} is no report that can be compared: {why}. Give a file that `migrator report "
        "--format json` wrote, or the directory of a handover."
    )


FORMAT = "migrator.comparison/1"
CHANGES_SHOWN = 20
_NOTHING = Count()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A group whose number of attachments or bytes has changed."""

    key: str
    title: str
    before: Count
    after: Count


@dataclass(slots=True)
class Attention:
    """Changes of failed, missing and gone attachments.

    ``new`` are those that were not among them before; ``rows`` has the first. ``compared_to`` is
    the highest id that was compared, None when all were.
    """

    new: int = 0
    resolved: int = 0
    changed: int = 0
    rows: list[Entry] = field(default_factory=list)
    compared_to: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences between two sides."""

    before: Side
    after: Side
    numbers: Mapping[str, tuple[int, int]]
    counts: Mapping[str, tuple[Count, Count]]
    groups: Mapping[str, tuple[Change, ...]]
    problems: Mapping[tuple[str, str | None], tuple[int, int]]
    attention: Attention

    @property
    def differs(self) -> bool:
        """Whether anything differs."""
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
    """Return the ledger as it is now; its attachments are read during the comparison."""
    document = json.loads(json_report.to_json(build(archive, posts=posts)))
    rows = archive.queries.rows(states=verdict.ATTENTION)
    entries = (
        Entry(row.id, row.ticket_number, row.filename, row.state.value, row.problem) for row in rows
    )
    return side(str(archive.path), document, entries)


def compare(before: Side, after: Side) -> Comparison:
    """Return what differs in ``after``. Reads the attachments of both sides, once."""
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
    """Pair what both sides have: an older version knew fewer numbers."""
    return {
        name: (before[name], value)
        for name, value in after.items()
        if name in before and before[name] != value
    }


def _changes(
    before: Mapping[str, tuple[str, Count]], after: Mapping[str, tuple[str, Count]]
) -> list[Change]:
    """Return the groups that differ, by difference in bytes, largest first."""
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
    limits = [one.named_to for one in (before, after) if one.named_to is not None]
    told = Attention(compared_to=min(limits, default=None))
    olds, news = (_up_to(one.entries, told.compared_to) for one in (before, after))
    for old, new in side_by_side(olds, news):
        if old is not None and new is not None:
            told.changed += (old.state, old.problem) != (new.state, new.problem)
        elif new is None:
            told.resolved += 1
        else:
            told.new += 1
            if len(told.rows) < ATTENTION_SHOWN:
                told.rows.append(new)
    return told


class Numbered(Protocol):
    """Something with an id."""

    @property
    def id(self) -> int:
        """The id."""


N = TypeVar("N", bound=Numbered)


def side_by_side(left: Iterator[N], right: Iterator[N]) -> Iterator[tuple[N | None, N | None]]:
    """Yield pairs of equal id, both sides sorted by id; None for a missing partner."""
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.id < other.id):
            yield one, None
            one = next(left, None)
        elif one is None or other.id < one.id:
            yield None, other
            other = next(right, None)
        else:
            yield one, other
            one, other = next(left, None), next(right, None)


def _up_to(entries: Iterator[Entry], limit: int | None) -> Iterator[Entry]:
    for entry in entries:
        if limit is not None and entry.id > limit:
            return
        yield entry


def to_json(found: Comparison) -> str:
    """Return a comparison as a JSON document that ends with a line end."""

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
    """Return a comparison as text."""
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
        ticket = f"ticket {brief(row.ticket_number)}, " if row.ticket_number else ""
        place = f"{ticket}attachment {row.id}"
        why = f": {brief(row.problem)}" if row.problem else ""
        yield f"  {row.state:<8}  {place}, {brief(row.filename)}{why}"
    if told.new > len(told.rows):
        yield f"  and {told.new - len(told.rows):,} more"
    if told.compared_to is not None:
        yield (
            f"Compared up to attachment {told.compared_to} only: a report names the first of them, "
            "a handover all."
        )
