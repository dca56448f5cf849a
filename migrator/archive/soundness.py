"""Checks that an archive is sound: its checkpoint alone, and checkpoint and files together.

The promises of FORMAT.md about a checkpoint are queries here. SQLite itself checks pages, indexes,
types, CHECKs and references; the rest is ours. Attachments are read from their table and not from
an index, so that damage to one of the two cannot hide what the other still knows.

A checkpoint without its files, or files without their checkpoint, may mean that a disk is not
mounted, or that a lost checkpoint was created anew. Going on would write new files to the wrong
disk, or remove good ones as waste.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from migrator.archive import checkpoint, lock, schema
from migrator.archive.checkpoint import Checkpoint, damaged
from migrator.archive.records import State
from migrator.archive.sql import decoded, decoded_list, state_list
from migrator.blobs import durable
from migrator.blobs.base import Store
from migrator.errors import ArchiveDamaged

MOST = 10
"""The most faults that are named."""
_LONGEST = 200
_STATES = tuple(State)

_NO_HASH = "(length({0}) <> 64 OR {0} GLOB '*[^0-9a-f]*')"

# The message for each row that the query finds, and the query.
_RULES = {
    "{} is missing": "SELECT value FROM json_each(:names) EXCEPT SELECT name FROM sqlite_master",
    "table {} takes values of any type": """
        SELECT name FROM pragma_table_list
        WHERE schema = 'main' AND type = 'table' AND NOT strict
            AND name IN (SELECT value FROM json_each(:names))""",
    "attachment {} has the unknown state {!r}": f"""
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
    "a reply of ticket {} names {!r}, which is no SHA-256": f"""
        SELECT ticket_id, sha256 FROM replies WHERE {_NO_HASH.format("sha256")}""",
    "a reply of ticket {} has {} bytes, and the same file {} of them": """
        SELECT r.ticket_id, r.size, o.size FROM replies AS r
        JOIN (SELECT sha256, size FROM blobs UNION SELECT sha256, size FROM replies) AS o
            ON o.sha256 = r.sha256 WHERE o.size <> r.size""",
    "ticket {} has {} newest replies of the kind {}": """
        SELECT ticket_id, count(*), kind FROM replies WHERE superseded_at IS NULL
        GROUP BY ticket_id, kind HAVING count(*) > 1""",
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
_UNFOUND = """
    SELECT id FROM posts WHERE id > 0 AND text <> ''
        AND id NOT IN (SELECT id FROM search_content) AND id NOT IN (SELECT id FROM unindexed)"""
_JSON = (
    ("tickets", "id", "details", decoded),
    ("posts", "id", "facts", decoded),
    ("people_notes", "id", "facts", decoded),
    ("articles", "id", "details", decoded),
    ("runs", "id", "scope", decoded),
    ("runs", "id", "summary", decoded),
    ("checks", "id", "summary", decoded),
    ("progress", "run_id", "facts", decoded),
    ("tokens", "id", "abilities", decoded_list(str)),
    ("tokens", "id", "queues", decoded_list(int)),
)


_FILES = (checkpoint.NAME, f"{checkpoint.NAME}-wal", f"{checkpoint.NAME}-shm", lock.NAME)

_KNOWS = """
    SELECT EXISTS (SELECT 1 FROM attachments), EXISTS (SELECT 1 FROM blobs) {replies},
        coalesce((SELECT finished_at IS NULL FROM runs ORDER BY id DESC LIMIT 1), 0)"""
_SOME = """
    SELECT sha256 FROM blobs WHERE sha256 >= :start {replies} ORDER BY sha256 LIMIT :most"""
_FEW = 32
REPLIES_SINCE = 7
"""The version of the format that has the table of replies."""


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
        # More findings would only be noise.
        yield from (str(row[0]).replace("\n", ", ") for row in found)
        return
    for table, row, other, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to a row of {other} that is not there"
    names = {"names": json.dumps(sorted(schema.names()))}
    for text, sql in _RULES.items():
        for values in db.execute(f"{sql} LIMIT {MOST + 1}", names):
            yield text.format(*(str(value)[:_LONGEST] for value in values))
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'search_content'"):
        for (post,) in db.execute(f"{_UNFOUND} LIMIT {MOST + 1}"):
            yield f"no search finds the text of post {post}"
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table in schema.names():
            yield from _unreadable(db, table)
    for table, key, column, decode in _JSON:
        yield from _undecodable(db, table, key, column, decode)


def _unreadable(db: Checkpoint, table: str) -> Iterator[str]:
    """Find texts that are not UTF-8, which SQLite does not check."""
    try:
        db.read_through(f"SELECT * FROM {table}")
    except ArchiveDamaged:
        yield f"a text in {table} is not UTF-8"


def _undecodable(
    db: Checkpoint, table: str, key: str, column: str, decode: Callable[[str, str], object]
) -> Iterator[str]:
    sql = f"""
        SELECT {key}, {column} FROM {table} WHERE {key} > :after AND {column} IS NOT NULL
        ORDER BY {key} LIMIT :most"""
    for number, text in db.stream(sql, -1 << 63):
        try:
            decode(text, column)
        except ArchiveDamaged:
            yield f"{table}.{column} of {key} {number} cannot be read"


def check_parts(root: Path, blobs: Store) -> None:
    """Check the kinds of the files in the archive's directory without opening any.

    Anything may be missing. Raises ArchiveDamaged, and OSError for an unreadable directory.
    """
    for name in _FILES:
        mode = _mode(root / name)
        if mode is not None and not stat.S_ISREG(mode):
            back = "" if name == lock.NAME else ", and bring back the file that was there"
            raise ArchiveDamaged(
                f"{str(root / name)!r} is {durable.kind_of(mode)}, where a file must be. Move it "
                f"away{back}; nothing was changed."
            )
    blobs.missing()


def check_no_files(blobs: Store, what: str = "is missing or empty") -> None:
    """Raise ArchiveDamaged if there are files beside a checkpoint that knows none.

    ``what`` says what is wrong with the checkpoint.
    """
    if any(entry.kind == "blob" for entry in blobs.scan()):
        if blobs.waits:
            raise ArchiveDamaged(
                f"There are files in {blobs.where!r}, but the checkpoint {what}. `migrator restore "
                "s3://BUCKET/PREFIX TO` makes one of the newest snapshot there. If there is none, "
                "bring it back from a backup, or take another prefix; nothing was changed."
            )
        raise ArchiveDamaged(
            f"There are files in {blobs.where!r}, but the checkpoint beside them {what}. "
            f"Bring {checkpoint.NAME} and its -wal back from a backup. Without one, move the "
            "directory blobs away and start again; nothing was changed."
        )


def check_both(blobs: Store, db: Checkpoint, *, repairing: bool = False) -> None:
    """Check that files and checkpoint belong together; raises ArchiveDamaged if they cannot.

    In a healthy archive this looks for one file. ``repairing`` accepts a checkpoint that has lost
    its files, as long as their place is there.
    """
    if schema.version(db) == 0:
        check_no_files(blobs)
        return
    old = schema.version(db) < REPLIES_SINCE
    also = "" if old else "OR EXISTS (SELECT 1 FROM replies)"
    ((rows, kept, running),) = db.execute(_KNOWS.format(replies=also))
    if not (rows or kept or running):  # a run that was killed has rows before it has files
        check_no_files(blobs, "knows no attachment")
    also = "" if old else "UNION SELECT sha256 FROM replies WHERE sha256 >= :start"
    if not kept or _some_are_there(blobs, db, _SOME.format(replies=also)):
        return
    missing, where = blobs.missing(), blobs.where
    if not missing and repairing:
        return
    there = f"there is no {where!r}" if where in missing else f"none of them is in {where!r}"
    made = f"make the directory {missing[-1]!r} by hand, and " if missing else ""
    raise ArchiveDamaged(
        f"The checkpoint knows files, but {there}. {blobs.if_bare} and start again; nothing "
        f"was changed. If they are really lost, {made}`migrator verify --repair` fetches "
        "them again."
    )


def _some_are_there(blobs: Store, db: Checkpoint, some: str) -> bool:
    """Return whether one of a few files from all over the store exists."""
    for start, limit in (("", _FEW), *((digit, 1) for digit in "123456789abcdef")):
        for (sha256,) in db.execute(some, {"start": start, "most": limit}):
            try:
                if blobs.has(sha256):
                    return True
            except ValueError:
                raise checkpoint.damaged("it knows a file by what is no SHA-256", db.path) from None
    return False


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
