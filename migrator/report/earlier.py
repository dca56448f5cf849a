"""Reading a report of earlier: its JSON document, or a handover with all attachments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.archive.records import Count, State
from migrator.errors import ConfigError
from migrator.report import machine, verdict

_LARGEST = 64 << 20
"""Bytes of a document; ours have far fewer, whatever the size of the archive."""
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


def of_path(path: Path) -> Side:
    """Read a report's JSON, or a handover: its directory, or the report in it.

    Raises ConfigError for anything else, for what a newer version of this tool has written, and
    for a handover that was not finished.
    """
    root = path if path.is_dir() else path.parent
    document = _document(path / _REPORT if path.is_dir() else path)
    whole = (root / _MARKER).is_file() and (path.is_dir() or path.name == _REPORT)
    if path.is_dir() and not whole:
        raise ConfigError(f"{str(path)!r} is no handover: there is no {_MARKER} in it.")
    if whole:
        _see_finished(root / _MARKER)
        return side(str(path), document, _manifest(root / _MANIFEST))
    return side(str(path), document)


def side(name: str, document: Mapping[str, Any], entries: Iterator[Entry] | None = None) -> Side:
    """Make a side of a report's document; without ``entries`` it has those that it names.

    Raises ConfigError for a document that is none.
    """
    _see_format(name, document)
    try:
        return _side(name, document, entries)
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


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
        document = json.loads(text) if len(text) <= _LARGEST else None
    except OSError as error:
        raise ConfigError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    except ValueError as error:
        raise _damaged(str(path), error) from error
    except RecursionError as error:
        raise _damaged(str(path), "it is nested too deeply") from error
    if not isinstance(document, dict):
        raise _damaged(str(path), "it is no JSON object of that kind")
    return document


def _see_format(name: str, document: Mapping[str, Any]) -> None:
    found = document.get("format")
    kind, _, version = machine.FORMAT.partition("/")
    if found == machine.FORMAT:
        return
    said, _, number = found.partition("/") if isinstance(found, str) else ("", "", "")
    if said == kind and number.isdecimal() and int(number[:9]) > int(version):
        raise ConfigError(
            f"{name!r} was written by a newer version of this tool ({found}; this one knows up to "
            f"{machine.FORMAT}). Install that version or a newer one."
        )
    raise _damaged(name, f"its format is not {machine.FORMAT}")


def _see_finished(marker: Path) -> None:
    if _document(marker).get("finished") is not True:
        raise ConfigError(
            f"The handover {str(marker.parent)!r} was not finished. Make it again with "
            "`migrator handover`, or compare with its report under another name."
        )


def _manifest(path: Path) -> Iterator[Entry]:
    """Yield what is failed, missing or gone in a manifest, a line at a time."""
    last = -1
    try:
        with path.open("rb") as file:
            for line in file:
                if any(quiet in line for quiet in _QUIET):
                    continue  # a name cannot hold that: its quotes are escaped
                entry = _entry(json.loads(line))
                if entry.id <= last:
                    raise _damaged(str(path), f"attachment {entry.id} is not in its place")
                last = entry.id
                yield entry
    except OSError as error:
        raise ConfigError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(str(path), error) from error


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
