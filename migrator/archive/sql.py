"""Shared by queries and writes: values of statements, and how rows become records."""
# ruff: noqa: S608 - only constants of this module become SQL

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from migrator.archive.checkpoint import Tuple, damaged, folded
from migrator.archive.records import Row, State, TicketRow

ROW = ", ".join("attachment_id" if f.name == "id" else f.name for f in fields(Row))
_STATE, _SHA256, _SIZE = map([f.name for f in fields(Row)].index, ("state", "sha256", "size"))
_STATES = frozenset(map(str, State))
_HELD = frozenset(map(str, (State.STORED, State.DELETED)))
HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")
TICKET = tuple(field.name for field in fields(TicketRow))
"""Columns with the source's data of a ticket."""
_PLAIN_NUMBER = re.compile("#?0*([0-9]{1,18})")
_DASH = re.compile("[\u2010-\u2015\u2212]")
_MARK = re.compile(r"\s*([-#\[\]])\s*")
MERGES = 20
"""The most merges followed from one ticket."""


class Values(dict[str, object]):
    """The values of a statement, by the names of their placeholders."""

    def __call__(self, value: object) -> str:
        """Add a value and return its placeholder."""
        name = f"value_{len(self)}"
        self[name] = value
        return f":{name}"

    def each(self, values: Iterable[object]) -> str:
        """Add a list of numbers or texts and return its placeholder behind IN.

        SQLite reads a text up to a NUL only: one with a NUL equals nothing.
        """
        given = [one for one in values if not (isinstance(one, str) and "\0" in one)]
        return f"(SELECT value FROM json_each({self(json.dumps(given))}))"

    def tickets(self, numbers: Collection[str], *, shown: bool = False) -> str:
        """Add ticket numbers and return the placeholder of the ids of the tickets they mean.

        A number means the ticket that it is mapped to as it stands; else, without zeros before
        it or a #, the one that this is mapped to; else the one with this id, unless that has
        another number. With ``shown``, also all that Kayako showed under it, however it is typed.
        A ticket that was merged stands for all that it was merged into.
        """
        # SQLite reads a text up to a NUL only: one with a NUL is no number.
        given = [
            (one, _plain(as_shown(one) if shown and one.isascii() else one))
            for one in numbers
            if "\0" not in one
        ]
        masks = {form for one in numbers for form in (clean(one), as_shown(one)) if form}
        masked = f"""
                UNION SELECT id, 0 FROM tickets
                WHERE display_id IN {self.each(masks | {one.lower() for one in masks})}"""
        number = "SELECT ticket_id FROM ticket_numbers WHERE number ="
        return f"""(
            WITH RECURSIVE given(text, plain) AS (
                SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
                FROM json_each({self(json.dumps(given))})
            ), meant(id, merges) AS (
                SELECT coalesce(
                    ({number} text),
                    ({number} plain),
                    (SELECT id FROM tickets WHERE id = CAST(plain AS INTEGER)
                        AND id NOT IN (SELECT ticket_id FROM ticket_numbers))
                ), 0 FROM given{masked if shown else ""}
                UNION SELECT merged_into, merges + 1 FROM meant JOIN tickets USING (id)
                WHERE merged_into IS NOT NULL AND merges < {MERGES}
            )
            SELECT id FROM meant WHERE id IS NOT NULL)"""

    def departments(self, queues: Collection[int]) -> str:
        """Add queues and return the placeholder of the departments they stand for.

        A department is its own queue unless the configuration, or else a command, names another.
        """
        given = self.each(queues)
        return f"""(
            SELECT department_id FROM queues AS q
                WHERE queue_id IN {given} AND (origin = 'config' OR NOT EXISTS (
                    SELECT 1 FROM queues
                    WHERE department_id = q.department_id AND origin = 'config'))
            UNION ALL SELECT value FROM {given} WHERE value NOT IN (
                SELECT department_id FROM queues))"""


def as_shown(number: str) -> str:
    """Return a number that somebody typed or copied as Kayako shows it, without ``[#`` and ``]``.

    Its masks, such as ABC-123-45678, are in upper case.
    """
    text = _DASH.sub("-", folded(clean(number)).upper())
    return _MARK.sub(r"\1", text).strip(" \t[]#:")


def _plain(number: str) -> str | None:
    found = _PLAIN_NUMBER.fullmatch(number)
    return found and found[1]


def fit(number: int) -> int:
    """Return the nearest number that SQLite can hold."""
    return min(max(number, -(1 << 63)), (1 << 63) - 1)


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
        ticket.user_id,
        ticket.organization_id,
        as_json(ticket.details),
    )


def as_json(facts: Mapping[str, object]) -> str:
    """Return an object as JSON that SQLite can hold."""
    return clean(json.dumps(facts, ensure_ascii=False)) if facts else "{}"


def state_from(value: str) -> State:
    """Return the state of that name; raises ArchiveDamaged when there is none."""
    try:
        return State(value)
    except ValueError:
        raise damaged("it names an unknown state of attachments") from None


def state_list(states: Collection[State]) -> str:
    """Return the states as a list for SQL's IN."""
    return ", ".join(f"'{State(state)}'" for state in states)


def row_from(values: Tuple) -> Row:
    """Return the row whose columns are ROW; raises ArchiveDamaged for impossible values."""
    columns = list(values)
    check_state(columns[_STATE], columns[_SHA256], values[0])
    if (columns[_SHA256] is None) is not (columns[_SIZE] is None):
        raise damaged(f"attachment {values[0]} has a file without a size, or none with one")
    columns[_STATE] = State(columns[_STATE])
    return Row(*columns)


def check_state(state: object, sha256: object, attachment_id: object) -> None:
    """Check that an attachment has a known state, and a hash where its state needs one.

    Raises ArchiveDamaged.
    """
    if state not in _STATES:
        raise damaged(f"attachment {attachment_id} has an unknown state")
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
