"""Opening an archive: what is made, what is refused, and who may be there at the same time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from migrator.archive import (
    Archive,
    TicketRow,
    checkpoint,
    open_archive,
    open_beside,
    open_dry,
    schema,
)
from migrator.archive.checkpoint import Border, Checkpoint, translate
from migrator.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArchiveError,
    ArchiveMissing,
    ArchiveTooNew,
    ArchiveUnwritable,
)

Opener = Callable[[Path], Archive]


def for_run(path: Path) -> Archive:
    return open_archive(path, command="test")


EVERY = pytest.mark.parametrize("opener", [for_run, open_beside, open_dry])


def change(root: Path, sql: str) -> None:
    conn = sqlite3.connect(root / "checkpoint.db")
    conn.execute(sql)
    conn.commit()
    conn.close()


@pytest.fixture
def made(root: Path) -> Path:
    for_run(root).close()
    return root


def test_what_is_missing_is_made(tmp_path: Path) -> None:
    """A relative path with missing parents becomes an archive that can be opened again."""
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        with for_run(Path("a/b/archive")) as archive:
            assert archive.path == Path("a/b/archive")
        with open_beside(Path("a/b/archive")) as archive:
            assert archive.queries.runs() == []
    finally:
        os.chdir(old)


def test_beside_creates_nothing(tmp_path: Path) -> None:
    """Where there is no archive, serve and status say so and leave no trace."""
    with pytest.raises(ArchiveMissing, match="no archive at"):
        open_beside(tmp_path / "archive")
    with pytest.raises(ArchiveMissing):
        open_beside(tmp_path)
    assert list(tmp_path.iterdir()) == []


@EVERY
def test_a_newer_checkpoint_is_refused(made: Path, opener: Opener) -> None:
    """A checkpoint of a later version is not touched, and the text says what to do."""
    change(made, "PRAGMA user_version = 999")
    before = (made / "checkpoint.db").read_bytes()
    with pytest.raises(ArchiveTooNew, match="newer version of this tool"):
        opener(made)
    assert (made / "checkpoint.db").read_bytes() == before
    for_lock = open_archive(made.with_name("other"), command="test")
    for_lock.close()


@EVERY
@pytest.mark.parametrize(
    "damage", [b"not a database " * 300, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_a_damaged_checkpoint_is_told(made: Path, opener: Opener, damage: bytes) -> None:
    """Bytes that are no database are damage, not an empty archive, and the lock is free again."""
    (made / "checkpoint.db").write_bytes(damage)
    for _ in range(2):
        with pytest.raises(ArchiveDamaged, match=r"checkpoint\.db"):
            opener(made)
    assert (made / "checkpoint.db").read_bytes() == damage


@EVERY
@pytest.mark.parametrize(
    "sql", ["PRAGMA application_id = 7", "CREATE TABLE theirs (x)", "PRAGMA user_version = 1"]
)
def test_a_foreign_database_is_refused(tmp_path: Path, opener: Opener, sql: str) -> None:
    """A database of some other program is never taken for a checkpoint, nor changed."""
    change(tmp_path, sql)
    with pytest.raises(ArchiveDamaged, match="not a checkpoint of this tool"):
        opener(tmp_path)


@EVERY
def test_an_empty_file_is_a_new_checkpoint(tmp_path: Path, opener: Opener) -> None:
    """A crash between making the file and its tables is repaired by the next opening."""
    (tmp_path / "checkpoint.db").touch()
    with opener(tmp_path) as archive:
        assert len(archive.access.rules()) > 19


def test_an_older_checkpoint_waits_for_the_run(tmp_path: Path) -> None:
    """Beside a run an old checkpoint is not migrated: the text names the run."""
    (tmp_path / "checkpoint.db").touch()
    from migrator.archive.lock import RunLock

    lock = RunLock(tmp_path, command="long run")
    with pytest.raises(ArchiveBusy, match="long run"):
        open_beside(tmp_path)
    lock.release()
    open_beside(tmp_path).close()


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    """A migration is one transaction: when its last step fails the file is as before."""
    with closing(sqlite3.connect(tmp_path / "checkpoint.db")) as conn:
        conn.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        conn.execute("CREATE TABLE notices (x)")
        with pytest.raises(ArchiveError, match="already exists"):
            for_run(tmp_path)
        assert conn.execute("SELECT name FROM sqlite_master").fetchall() == [("notices",)]
        conn.execute("DROP TABLE notices")
    with for_run(tmp_path) as archive:
        archive.queries.self_check()


def test_closing_twice_is_harmless(root: Path) -> None:
    """close() may be called again, and what is closed says so in our words."""
    archive = for_run(root)
    archive.close()
    archive.close()
    with pytest.raises(ArchiveError, match="closed"):
        archive.queries.counts()


def test_a_failed_opening_gives_the_lock_back(made: Path) -> None:
    """After an error the archive is not busy."""
    change(made, "PRAGMA user_version = 999")
    with pytest.raises(ArchiveTooNew):
        for_run(made)
    change(made, f"PRAGMA user_version = {schema.VERSION}")
    for_run(made).close()


def test_readers_and_the_writer_do_not_stop_each_other(root: Path) -> None:
    """While a run writes, a reader beside it always sees whole groups and never an error."""
    with for_run(root) as run, open_beside(root) as beside:
        done = threading.Event()

        def write() -> None:
            for group in range(60):
                with run.ledger.atomic():
                    for ticket in range(5):
                        run.ledger.put_ticket(TicketRow(group * 5 + ticket + 1, 1))
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        seen = [0]
        while not done.is_set():
            seen.append(beside.queries.ticket_count())
            beside.access.map_queue(1, len(seen), "x")
        writer.join()
        assert beside.queries.ticket_count() == 300
    assert seen == sorted(seen)
    assert all(count % 5 == 0 for count in seen)


def test_a_writer_that_never_ends_is_told_as_busy(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that keeps the checkpoint locked is an error with a text, not a hang."""
    monkeypatch.setattr(checkpoint, "BUSY_TIMEOUT", 0.01)
    with open_beside(made) as first, open_beside(made) as second, first.ledger.atomic():
        first.access.map_queue(1, 1, "x")
        with pytest.raises(ArchiveBusy, match="locked by another process"):
            second.access.map_queue(1, 1, "x")


def error_of(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, ArchiveBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, ArchiveBusy),
        (sqlite3.SQLITE_LOCKED, ArchiveBusy),
        (sqlite3.SQLITE_NOTADB, ArchiveDamaged),
        (sqlite3.SQLITE_CORRUPT, ArchiveDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, ArchiveDamaged),
        (sqlite3.SQLITE_IOERR_READ, ArchiveDamaged),
        (sqlite3.SQLITE_IOERR_SHORT_READ, ArchiveDamaged),
        (sqlite3.SQLITE_IOERR_FSYNC, ArchiveUnwritable),
        (sqlite3.SQLITE_IOERR_WRITE, ArchiveUnwritable),
        (sqlite3.SQLITE_FULL, ArchiveUnwritable),
        (sqlite3.SQLITE_CANTOPEN, ArchiveUnwritable),
        (sqlite3.SQLITE_READONLY, ArchiveUnwritable),
        (sqlite3.SQLITE_PERM, ArchiveUnwritable),
        (sqlite3.SQLITE_CONSTRAINT, ArchiveError),
    ],
)
def test_what_sqlite_says_in_our_words(code: int, expected: type[ArchiveError]) -> None:
    """Each kind of SQLite error has its class, and so its exit code."""
    assert type(translate(error_of(code), Path("x"))) is expected


def test_no_error_of_sqlite_crosses_the_border() -> None:
    """All classes of errors that sqlite3 has are translated, and nothing else is."""
    kinds = [
        kind
        for kind in vars(sqlite3).values()
        if isinstance(kind, type) and issubclass(kind, sqlite3.Error)
    ]
    assert len(kinds) > 7
    for kind in kinds:
        with pytest.raises(ArchiveError), Border(Path("x")):
            raise kind("x")
    with pytest.raises(KeyError), Border(Path("x")):
        raise KeyError("x")


def test_an_old_sqlite_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict tables need SQLite 3.37; the text says what Python was built with."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(ArchiveError, match=r"3\.37 or newer"):
        Checkpoint.connect(made / "checkpoint.db")


def test_writes_are_durable_when_they_return(made: Path) -> None:
    """The checkpoint runs with a write-ahead log, full sync and foreign keys."""
    db = Checkpoint.connect(made / "checkpoint.db")
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        assert db.one(f"PRAGMA {pragma}") == (value,)
    db.close()
    for archive in (for_run(made), open_beside(made)):
        with archive, pytest.raises(ArchiveError, match="FOREIGN KEY"):
            archive.ledger.set_mark("success", 1, run_id=99)


def test_a_new_checkpoint_waits_for_whoever_looks_at_it(root: Path) -> None:
    """A process that opens the file while it is made ends no run: the run waits for it."""
    root.mkdir(exist_ok=True)
    (root / "checkpoint.db").touch(0o600)
    looking = sqlite3.connect(root / "checkpoint.db", isolation_level=None, check_same_thread=False)
    looking.execute("BEGIN IMMEDIATE")  # as whoever has SQLite write ahead in it
    leaving = threading.Timer(0.2, looking.close)
    leaving.start()
    with for_run(root) as archive:
        assert archive.queries.runs() == []
    leaving.join()


def test_opening_is_cheap() -> None:
    """An existing archive is opened without the parts that only reports and migrations need."""
    code = (
        "import sys, tempfile; from pathlib import Path; from migrator.archive import *\n"
        "root = Path(sys.argv[1])\n"
        "with open_archive(root, command='x') as a:\n"
        "    a.queries.counts(); a.ledger.begin_run('run', source='', scope={})\n"
        "assert not {'sqlite_utils', 'magic', 'click'} & set(sys.modules), sys.modules.keys()\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for_run(Path(folder)).close()
        subprocess.run([sys.executable, "-c", code, folder], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_archive_is_told(made: Path) -> None:
    """Without permission to write the text says so."""
    made.chmod(0o500)
    (made / "checkpoint.db").chmod(0o400)
    try:
        with pytest.raises(ArchiveUnwritable):
            for_run(made)
    finally:
        made.chmod(0o700)
