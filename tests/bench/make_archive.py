"""Make an archive of any size, quickly, that looks like one of a helpdesk of many years.

    python -m tests.bench.make_archive --rows 1000000 DIR

The checkpoint is written through the real schema, its triggers included. The same options give
the same rows. Contents are written only with ``--blobs``; without them every hash is made up, so
``report``, ``status`` and the pages work and ``verify`` finds all lost but one, which is damaged:
without any file it would be an archive whose disk is not mounted.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from migrator.archive import Store, open_archive
from tests.blobs.layout import path_of

DEPARTMENTS = {1: "Support", 2: "Sales", 3: "Billing", 4: "Returns", 5: "IT", 6: "Human Resources"}
# Extension, declared type, found type, share in percent:
TYPES = (
    ("png", "image/png", "image/png", 29),
    ("pdf", "application/pdf", "application/pdf", 24),
    ("jpg", "image/jpeg", "image/jpeg", 22),
    ("docx", "application/octet-stream", "application/vnd.openxmlformats", 7),
    ("xlsx", "application/octet-stream", "application/vnd.openxmlformats", 5),
    ("txt", "text/plain", "text/plain", 4),
    ("zip", "application/zip", "application/zip", 3),
    ("msg", "application/octet-stream", "application/vnd.ms-office", 3),
    ("csv", "text/csv", "text/plain", 2),
    ("exe", "application/octet-stream", "application/x-dosexec", 1),
)
# What stands between a row and its bytes, in a thousand; the rest is plainly stored:
TROUBLES = (
    ("stored", "size_mismatch", 3),
    ("stored", "repaired_name", 2),
    ("missing", "source_lost_file", 3),
    ("gone", "not_found", 2),
    ("failed", "server_error", 1),
    ("deleted", None, 2),
    ("pending", None, 1),
)
FIRST_DAY, LAST_DAY = 1_230_768_000, 1_767_225_600  # 2009 to 2025
RUN_SECONDS = 6 * 3600
PER_TICKET = 3
DUPLICATES = 0.18
"""Share of attachments whose content another one has: logos in signatures, mostly."""

Values = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """How large an archive is made; ``median`` is that of the contents, in bytes."""

    rows: int
    median: int = 60_000
    seed: int = 1

    @property
    def tickets(self) -> int:
        """Return the number of tickets."""
        return -(-self.rows // PER_TICKET)


def make(root: Path, size: Size, *, blobs: bool = False) -> None:
    """Make an archive in ``root``, which must not hold one yet."""
    with open_archive(root, command="make_archive") as archive:
        run = archive.ledger.begin_run("run", source="https://help.example.com", scope={})
        rows = _Rows(size, run.started_at, archive.blobs if blobs else None)
        with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")  # who loses power makes it again
            db.execute("BEGIN")
            _fill(db, rows)
            db.execute("COMMIT")
        archive.ledger.finish_run(run.id, exit_code=3, summary={})
        for sha256, _ in archive.queries.expected_blobs(limit=0 if blobs else 1):
            file = path_of(archive, sha256)
            file.parent.mkdir(parents=True)
            file.touch()
    with closing(sqlite3.connect(root / "checkpoint.db", isolation_level=None)) as db:
        db.execute("UPDATE runs SET finished_at = started_at + ?", (RUN_SECONDS,))


def _fill(db: sqlite3.Connection, rows: _Rows) -> None:
    db.executemany("INSERT INTO departments VALUES (?, ?, 'tickets')", DEPARTMENTS.items())
    db.executemany(
        "INSERT INTO tickets (id, department_id, display_id, subject, created_at, last_activity, "
        "listed_run) VALUES (?, ?, ?, ?, ?, ?, 1)",
        rows.tickets(),
    )
    db.executemany(
        "INSERT INTO attachments (id, ticket_id, post_id, filename, declared_type, "
        "declared_size, created_at, state, problem, detail, attempts, sha256, size, stored_at, "
        "first_run, last_run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, 1, 1)",
        rows.attachments(),
    )
    db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", rows.blobs())
    db.execute("UPDATE tickets SET posts_activity = last_activity WHERE id % 100 <> 0")


class _Rows:
    """The rows of all tables, the same for the same size."""

    def __init__(self, size: Size, started: int, store: Store | None) -> None:
        self._size = size
        self._started = started
        self._store = store
        self._chance = random.Random(size.seed)
        self._contents: list[tuple[str, int, str]] = []

    def tickets(self) -> Iterator[Values]:
        for number in range(1, self._size.tickets + 1):
            created = _born(number / self._size.tickets)
            active = created + self._chance.randrange(30 * 86_400)
            department = min(int(self._chance.expovariate(0.6)) + 1, len(DEPARTMENTS))
            if number % 500 == 0:
                department = 0
            mask = f"ABC-{number % 1000:03}-{number:05}"
            yield number, department, mask, f"Question {number}", created, active

    def attachments(self) -> Iterator[Values]:
        types = [one[:3] for one in TYPES for _ in range(one[3])]
        troubles = [one[:2] for one in TROUBLES for _ in range(one[2])]
        troubles += [("stored", None)] * (1000 - len(troubles))
        chance, rows = self._chance, self._size.rows
        for number in range(1, rows + 1):
            extension, declared, found = chance.choice(types)
            state, problem = chance.choice(troubles)
            size = int(chance.lognormvariate(0, 1.8) * self._size.median)
            sha256 = held = stored_at = None
            if state in {"stored", "deleted"}:
                sha256, held = self._content(number, size, found)
                stored_at = self._started + RUN_SECONDS * number // rows
                size = held + (problem == "size_mismatch")
            why = f"No bytes for attachment {number}." if problem and sha256 is None else None
            yield (
                number,
                -(-number // PER_TICKET),
                number // 2 + 1,
                f"file {number}.{extension}",
                declared,
                size,
                _born(number / rows),
                state,
                problem,
                why,
                sha256,
                held,
                stored_at,
            )

    def blobs(self) -> Iterator[Values]:
        return ((*content, self._started) for content in self._contents)

    def _content(self, number: int, size: int, found: str) -> tuple[str, int]:
        chance = self._chance.random()
        if self._contents and chance < DUPLICATES:
            popular = int(len(self._contents) * (chance / DUPLICATES) ** 3)
            return self._contents[popular][:2]
        if self._store is None:
            sha256 = hashlib.sha256(b"%d" % number).hexdigest()
        else:
            writer = self._store.writer()
            line = b"%d\n" % number
            writer.write((line * (size // len(line) + 1))[:size])
            sha256 = writer.commit().sha256
        self._contents.append((sha256, size, found))
        return sha256, size


def _born(share: float) -> int:
    """Give the time at which this share of all had come: every year brings more than the last."""
    return FIRST_DAY + int((LAST_DAY - FIRST_DAY) * share**0.6)


def main() -> None:
    """Read the command line and make the archive."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.make_archive", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--median", type=int, default=60_000, help="median size in bytes")
    parser.add_argument("--blobs", action="store_true", help="write the contents, too")
    given = parser.parse_args()
    begun = time.monotonic()
    make(given.root, Size(given.rows, given.median, given.seed), blobs=given.blobs)
    took = time.monotonic() - begun
    sys.stderr.write(f"{given.rows:,} attachments in {took:.1f} s\n")


if __name__ == "__main__":
    main()
