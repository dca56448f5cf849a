"""An archive that an older version made is opened by this one, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive, State, open_archive, open_beside, open_dry, schema
from migrator.errors import ArchiveBusy

HERE = Path(__file__).parent
Opener = Callable[[Path], Archive]
OLDER = pytest.mark.parametrize("number", [1, 3, 4, 5])
EVERY = pytest.mark.parametrize(
    "opener", [lambda root: open_archive(root, command="test"), open_beside, open_dry]
)


def made(root: Path, number: int) -> Path:
    """Make an archive of an older format; of its blobs there is a name only."""
    root.mkdir(0o700)
    conn = sqlite3.connect(root / "checkpoint.db")
    conn.executescript((HERE / f"format_{number}.sql").read_text("utf-8"))
    hashes = [row[0] for row in conn.execute("SELECT sha256 FROM blobs")]
    conn.close()
    for sha256 in hashes:
        folder = root / "blobs" / sha256[:2] / sha256[2:4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sha256).write_bytes(b"abc")
    return root


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Make an archive of format 1, with all six states, a merge and a mapped queue."""
    return made(tmp_path / "archive", 1)


def rows(root: Path, tables: list[str]) -> dict[str, Any]:
    conn = sqlite3.connect(root / "checkpoint.db")
    conn.row_factory = sqlite3.Row
    found = {
        table: [dict(row) for row in conn.execute(f"SELECT * FROM {table}")] for table in tables
    }
    conn.close()
    return found


TABLES = (
    "runs departments tickets blobs attachments tallies tokens rules queues ticket_numbers ledger"
)


@OLDER
def test_nothing_is_lost_on_the_way_to_the_new_format(tmp_path: Path, number: int) -> None:
    """Every value of every row is what it was, but that threads are to be read again."""
    old = made(tmp_path / "archive", number)
    before = rows(old, TABLES.split())
    assert before["attachments"]
    open_archive(old, command="test").close()
    after = rows(old, TABLES.split())
    for row in before["tickets"]:
        if number < 5 and row.get("posts_activity") is not None:  # their notes were not kept
            row["posts_activity"] = -1
    for table, old_rows in before.items():
        same = [
            {name: row[name] for name in old_row}
            for old_row, row in zip(old_rows, after[table], strict=True)
        ]
        assert same == old_rows, table
    assert all(row["deleted_at"] is None for row in after["tickets"])


@EVERY
def test_an_old_archive_is_opened_in_every_way(old: Path, opener: Opener) -> None:
    """For a run, beside one and dry: the ledger says what it said, and knows of no sync yet."""
    with opener(old) as archive:
        counts = {state.value: count.n for state, count in archive.queries.counts().items()}
        assert counts == dict.fromkeys(State, 1)
        assert archive.queries.mark("watermark") is None
        assert archive.queries.unmet(2) == [10]
        assert archive.queries.ticket_count() == 1
        assert [queue.name for queue in archive.access.queues()] == ["Sales"]
        archive.queries.self_check()


def test_a_dry_opening_leaves_the_old_format(old: Path) -> None:
    """Who writes nothing migrates nothing."""
    before = (old / "checkpoint.db").read_bytes()
    open_dry(old).close()
    assert (old / "checkpoint.db").read_bytes() == before


def test_an_old_archive_is_not_migrated_under_a_run(old: Path) -> None:
    """Beside a run of the old version it stays as it is, and the text names the run."""
    with open_archive(old.parent / "other", command="test"):
        pass
    (old / "lock").touch()
    with (old / "lock").open("r+") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArchiveBusy):
            open_beside(old)
    conn = sqlite3.connect(old / "checkpoint.db")
    assert conn.execute("PRAGMA user_version").fetchone() == (1,)
    conn.close()


@OLDER
def test_an_older_archive_belongs_to_the_helpdesk_of_its_newest_run(
    tmp_path: Path, number: int
) -> None:
    """The address of the newest run that listed something; nobody was told before format 4."""
    with open_archive(made(tmp_path / "archive", number), command="test") as archive:
        helpdesk, runs = archive.queries.helpdesk(), archive.queries.runs()
        assert helpdesk is not None
        assert (helpdesk.address, helpdesk.told) == (runs[0].source, number >= 4)
        archive.queries.self_check()


@OLDER
def test_an_opened_archive_has_the_schema_of_a_new_one(tmp_path: Path, number: int) -> None:
    """Migrated or made today: the same tables, columns, triggers and views."""
    old = made(tmp_path / "archive", number)

    def shape(root: Path) -> set[tuple[str, ...]]:
        open_archive(root, command="test").close()
        conn = sqlite3.connect(root / "checkpoint.db")
        found = conn.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        assert conn.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        conn.close()
        return {(kind, name, " ".join(str(sql).split())) for kind, name, sql in found}

    assert shape(old) == shape(tmp_path / "new")
