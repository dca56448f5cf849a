"""What the questions share: conditions as SQL, and how rows become records.

A condition on posts (p), headers (h) or attachments (a) is a piece of SQL and what stands for its
question marks.
"""
# ruff: noqa: S608 - only constants of this module become SQL

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from typing import Any, TypeVar

from migrator.archive.checkpoint import Tuple, damaged
from migrator.archive.records import ResponseFilter, Row, State, TicketRow

ROW = ", ".join("attachment_id" if f.name == "id" else f.name for f in fields(Row))
_STATE, _SHA256, _SIZE = map([f.name for f in fields(Row)].index, ("state", "sha256", "size"))
_STATES = frozenset(map(str, State))
_HELD = frozenset(map(str, (State.STORED, State.DELETED)))
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

T = TypeVar("T")
Condition = tuple[str, tuple[object, ...]]
Range = tuple[int | None, int | None]
"""From and to in Unix seconds, both included; None is open."""

_SURROGATE = re.compile("[\ud800-\udfff]")
TICKET = tuple(field.name for field in fields(TicketRow))
"""Columns that say what the source says of a ticket."""
_PLAIN_NUMBER = re.compile("[0-9]{1,18}")

_NUMBERED = """
    SELECT ticket_id FROM ticket_numbers WHERE number IN (SELECT value FROM json_each(?))
    UNION ALL SELECT value FROM json_each(?)
        WHERE value NOT IN (SELECT ticket_id FROM ticket_numbers)
        AND CAST(value AS TEXT) NOT IN (SELECT number FROM ticket_numbers)"""

# A department is its own queue unless the configuration, or else a command, names another.
_DEPARTMENTS = """
    SELECT department_id FROM queues AS q
        WHERE queue_id IN (SELECT value FROM json_each(?)) AND (origin = 'config' OR NOT EXISTS (
            SELECT 1 FROM queues
            WHERE department_id = q.department_id AND origin = 'config'))
    UNION ALL SELECT value FROM json_each(?)
        WHERE value NOT IN (SELECT department_id FROM queues)"""

OF_RESPONSE = "iif(a.post_id > 0, a.post_id, -a.ticket_id)"
"""In the very words of the index."""
_HAS_ATTACHMENTS = f"""
    SELECT 1 FROM attachments AS a
    WHERE {OF_RESPONSE} = p.id AND a.ticket_id = p.ticket_id"""

# Places for files that belong to no post (p.id < 0) are never read and stay as they are.
_IS_READ = """NOT (p.note IS 'not_kept' AND p.id > 0
    AND (SELECT posts_activity FROM tickets WHERE id = p.ticket_id) IS NULL)"""


def wanted_by(wanted: ResponseFilter) -> list[Condition]:
    """Translate a filter into conditions on p (posts) and h (headers)."""
    where = [*allowed(wanted.queues), *undeleted(wanted.deleted)]
    where += between("p.created_at", (wanted.created_from, wanted.created_to))
    if wanted.queue_names is not None:
        where.append(
            ("h.queue_name IN (SELECT value FROM json_each(?))", (as_json(wanted.queue_names),))
        )
    if wanted.ticket_numbers is not None:
        where.append((f"p.ticket_id IN ({_NUMBERED})", _numbers(wanted.ticket_numbers)))
    if wanted.is_internal is not None:
        where.append(("p.is_private = ?", (wanted.is_internal,)))
    if wanted.staff is not None:
        where.append(("p.staff = ?", (wanted.staff,)))
    if wanted.response_ids is not None:
        where.append(("p.id IN (SELECT value FROM json_each(?))", (as_json(wanted.response_ids),)))
    if wanted.author_email is not None:
        where.append(("lower(p.author_email) = lower(?)", (clean(wanted.author_email),)))
    if not wanted.unread:
        where.append((_IS_READ, ()))
    if wanted.has_attachments is not None:
        negation = "" if wanted.has_attachments else "NOT "
        where.append((f"{negation}EXISTS ({_HAS_ATTACHMENTS})", ()))
    return where


def allowed(queues: frozenset[int] | None) -> list[Condition]:
    """Let through tickets of these queues, as the endpoint names them; None: of all."""
    if queues is None:
        return []
    return [(f"h.department_id IN ({_DEPARTMENTS})", (as_json(queues),) * 2)]


def undeleted(deleted: bool) -> list[Condition]:
    """Let through tickets that the source still has; if ``deleted``, the others as well."""
    return [] if deleted else [("h.deleted_at IS NULL", ())]


def between(column: str, given: Range) -> list[Condition]:
    """Let through what lies in a range of times."""
    start, end = given
    where: list[Condition] = [] if start is None else [(f"{column} >= ?", (fit(start),))]
    return where if end is None else [*where, (f"{column} <= ?", (fit(end),))]


def _numbers(numbers: Iterable[str]) -> tuple[str, str]:
    """Give the two lists that _NUMBERED asks for: as mapped, and as plain Kayako ids."""
    given = list(numbers)
    return as_json(given), as_json([int(one) for one in given if _PLAIN_NUMBER.fullmatch(one)])


def number_is(number: str) -> Condition:
    """Let through the ticket of that number, or with that id shown by Kayako."""
    where = f"(h.id IN ({_NUMBERED}) OR h.display_id = ?)"
    return where, (*_numbers([number]), clean(number))


def contains(text: str, *columns: str) -> Condition:
    """Let through what holds a text in one of the columns."""
    where = " OR ".join(f"instr(lower({column}), lower(?))" for column in columns)
    return f"({where})", (clean(text),) * len(columns)


def has_file(text: str) -> Condition:
    """Let through tickets with a text in the name of an attachment."""
    inside, params = contains(text, "a.filename")
    return f"EXISTS (SELECT 1 FROM attachments AS a WHERE a.ticket_id = h.id AND {inside})", params


def one_of(*conditions: Condition) -> Condition:
    """Join conditions with OR."""
    where = " OR ".join(condition for condition, _ in conditions)
    return f"({where})", tuple(value for _, params in conditions for value in params)


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Join conditions with AND."""
    given = list(conditions)
    where = " AND ".join(condition for condition, _ in given) or "true"
    return where, tuple(value for _, params in given for value in params)


def fit(number: int) -> int:
    """Return the nearest number that SQLite can hold."""
    return min(max(number, -(1 << 63)), (1 << 63) - 1)


def as_json(values: Iterable[object]) -> str:
    """Give values as SQLite's json_each() takes them."""
    return json.dumps(list(values))


def clean(value: str) -> str:
    """Return the text without lone surrogates, which SQLite cannot hold."""
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)


def upsert(table: str, *columns: str, keys: int = 1) -> str:
    """Return a statement that adds a row, or changes the one with its first ``keys`` columns."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[keys:])
    return f"""
        INSERT INTO {table} ({", ".join(columns)}) VALUES ({", ".join("?" * len(columns))})
        ON CONFLICT ({", ".join(columns[:keys])}) DO UPDATE SET {changes}"""


def ticket_values(ticket: TicketRow) -> Tuple:
    """Return the values of TICKET."""
    return (
        ticket.id,
        ticket.department_id,
        clean(ticket.display_id),
        clean(ticket.subject),
        ticket.created_at,
        ticket.last_activity,
        ticket.status_id,
        clean(ticket.requester_name),
        clean(ticket.requester_email),
        clean(ticket.owner_name),
    )


def state_from(value: str) -> State:
    """Return the state of that name; raises ArchiveDamaged when there is none."""
    try:
        return State(value)
    except ValueError:
        raise damaged("it names a state of attachments that there is not") from None


def state_list(states: Collection[State]) -> str:
    """Return the states as a list for SQL's IN."""
    return ", ".join(f"'{State(state)}'" for state in states)


def row_from(values: Tuple) -> Row:
    """Give the row whose columns are ROW; raises ArchiveDamaged for values that cannot be."""
    columns = list(values)
    see_state(columns[_STATE], columns[_SHA256], values[0])
    if (columns[_SHA256] is None) is not (columns[_SIZE] is None):
        raise damaged(f"attachment {values[0]} has a file without a size, or none with one")
    columns[_STATE] = State(columns[_STATE])
    return Row(*columns)


def see_state(state: object, sha256: object, attachment_id: object) -> None:
    """See that an attachment has a state that there is, and a hash where its state asks for one.

    Raises ArchiveDamaged.
    """
    if state not in _STATES:
        raise damaged(f"attachment {attachment_id} has no state that there is")
    held = sha256 is not None
    if held is not (state in _HELD) or (held and not HASH.fullmatch(str(sha256))):
        raise damaged(f"attachment {attachment_id} has no SHA-256 that fits its state")


def decoded(text: str, column: str) -> dict[str, Any]:
    """Return the JSON object that a column holds; raises ArchiveDamaged when it holds none."""
    value = _decoded(text)
    if not isinstance(value, dict):
        raise damaged(f"{column} holds no JSON object")
    return value


def decoded_list(kind: type[T]) -> Callable[[str, str], list[T]]:
    """Return a function as :func:`decoded`, for a JSON array of that type."""

    def decode(text: str, column: str) -> list[T]:
        value = _decoded(text)
        # True is an int to Python, and no number to anybody else.
        if not isinstance(value, list) or any(type(one) is not kind for one in value):
            raise damaged(f"{column} holds no JSON array of what it must hold")
        return value

    return decode


def _decoded(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
