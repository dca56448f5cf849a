"""What is promised of a checkpoint (see FORMAT.md), as questions to it.

SQLite sees for itself that pages, indexes, types, CHECKs and references are whole; the rest is
ours. Attachments are read from their table and not from an index, so that damage to one of the
two cannot hide what the other still knows.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from migrator.archive import schema
from migrator.archive.checkpoint import Checkpoint, damaged
from migrator.archive.records import State
from migrator.archive.sql import as_json, decoded, decoded_list, state_list
from migrator.errors import ArchiveDamaged

MOST = 10
"""Faults that are named."""
_LONGEST = 200
_STATES = tuple(State)
_PAGE = 500

_NO_HASH = "(length({0}) <> 64 OR {0} GLOB '*[^0-9a-f]*')"

# What is wrong with each row that the question finds, in the words of the first text.
_RULES = {
    "{} is missing": "SELECT value FROM json_each(?) EXCEPT SELECT name FROM sqlite_master",
    "table {} takes values of any type": """
        SELECT name FROM pragma_table_list
        WHERE schema = 'main' AND type = 'table' AND NOT strict
            AND name IN (SELECT value FROM json_each(?))""",
    "attachment {} has the state {!r}, which there is not": f"""
        SELECT id, state FROM attachments NOT INDEXED WHERE state NOT IN ({state_list(_STATES)})""",
    "attachment {} has bytes that its state {} does not allow, or lacks them": f"""
        SELECT id, state FROM attachments NOT INDEXED
        WHERE (state IN ({state_list((State.STORED, State.DELETED))})) <> (sha256 IS NOT NULL)
            OR (sha256 IS NULL) <> (size IS NULL)""",
    "attachment {} names {!r}, which is no SHA-256": f"""
        SELECT id, sha256 FROM attachments NOT INDEXED WHERE {_NO_HASH.format("sha256")}""",
    "attachment {} has {} bytes, and its file {} of them": """
        SELECT a.id, a.size, coalesce(b.size, 'none') FROM attachments AS a NOT INDEXED
        LEFT JOIN blobs AS b ON b.sha256 = a.sha256
        WHERE a.sha256 IS NOT NULL AND b.size IS NOT a.size""",
    "a file is known by {!r}, which is no SHA-256": f"""
        SELECT sha256 FROM blobs WHERE {_NO_HASH.format("sha256")}""",
    "token {} has no SHA-256": f"""
        SELECT id FROM tokens WHERE {_NO_HASH.format("secret_sha256")}""",
    "the tally of {} says {} attachments of {} bytes, and there are {} of {}": f"""
        WITH known (state) AS (VALUES {", ".join(f"('{state}')" for state in _STATES)}),
        counted AS (
            SELECT state, count(*) AS n, sum(coalesce(size, declared_size)) AS bytes
            FROM attachments NOT INDEXED GROUP BY state)
        SELECT k.state, coalesce(t.n, 'no'), coalesce(t.bytes, 'no'), coalesce(c.n, 0),
            coalesce(c.bytes, 0)
        FROM known AS k LEFT JOIN tallies AS t ON t.state = k.state
        LEFT JOIN counted AS c ON c.state = k.state
        WHERE t.n IS NOT coalesce(c.n, 0) OR t.bytes IS NOT coalesce(c.bytes, 0)""",
}
_JSON = (
    ("runs", "id", "scope", decoded),
    ("runs", "id", "summary", decoded),
    ("checks", "id", "summary", decoded),
    ("progress", "run_id", "facts", decoded),
    ("tokens", "id", "abilities", decoded_list(str)),
    ("tokens", "id", "queues", decoded_list(int)),
)


def check(db: Checkpoint) -> None:
    """Read the whole checkpoint; raises ArchiveDamaged that names the first faults in it."""
    found = db.together(lambda: list(islice(_faults(db), MOST + 1)))
    if not found:
        return
    named = "; ".join(shown[:_LONGEST] for shown in found[:MOST])
    raise damaged(named + ("; and more" if len(found) > MOST else ""), db.path)


def _faults(db: Checkpoint) -> Iterator[str]:
    found = db.execute(f"PRAGMA integrity_check({MOST + 1})")
    if found != [("ok",)]:
        # What else is read of it now would only be noise.
        yield from (str(row[0]).replace("\n", ", ") for row in found)
        return
    for table, row, other, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to a row of {other} that is not there"
    for text, sql in _RULES.items():
        params = (as_json(sorted(schema.names())),) if "?" in sql else ()
        for values in db.execute(f"{sql} LIMIT {MOST + 1}", params):
            yield text.format(*(str(value)[:_LONGEST] for value in values))
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table in schema.names():
            yield from _unreadable(db, table)
    for table, key, column, decode in _JSON:
        yield from _undecodable(db, table, key, column, decode)


def _unreadable(db: Checkpoint, table: str) -> Iterator[str]:
    """Find texts that are no UTF-8, for which SQLite does not look."""
    try:
        db.read_through(f"SELECT * FROM {table}")
    except ArchiveDamaged:
        yield f"a text in {table} is no text"


def _undecodable(
    db: Checkpoint, table: str, key: str, column: str, decode: Callable[[str, str], object]
) -> Iterator[str]:
    sql = f"""
        SELECT {key}, {column} FROM {table} WHERE {key} > ? AND {column} IS NOT NULL
        ORDER BY {key} LIMIT {_PAGE}"""
    after = -1 << 63
    while page := db.execute(sql, (after,)):
        for after, text in page:
            try:
                decode(text, column)
            except ArchiveDamaged:
                yield f"{table}.{column} of {key} {after} cannot be read"
