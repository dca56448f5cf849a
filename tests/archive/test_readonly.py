"""An archive opened for reading only: nothing of it changes, and changes by others are seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.archive import Archive, checkpoint, open_archive, open_beside, open_read_only
from migrator.archive.checkpoint import Checkpoint, ReadOnlyCheckpoint
from migrator.errors import ArchiveBusy, ArchiveDamaged, ArchiveMissing, ArchiveUnwritable

PROGRAM = """
import sys
from pathlib import Path
from migrator.archive import open_beside

for line in sys.stdin:
    if line == "open\\n":
        archive = open_beside(Path(sys.argv[1]))
    elif line == "close\\n":
        archive.close()
    else:
        archive.access.map_queue(1, int(line), "x")
    print(line, end="", flush=True)
"""


class Other:
    """Another process that writes: within one, SQLite shares what connections know of a file."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, command: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{command}\n"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        self("open")
        yield
        self("close")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def other(made: Path) -> Iterator[Other]:
    process = Other(made)
    yield process
    process.end()


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return inode, time of change and content of every file below ``root``."""
    return {
        str(path.relative_to(root)): (stat.st_ino, stat.st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
        for stat in [path.stat()]
    }


def numbers(archive: Archive) -> list[int]:
    return [queue.queue_id for queue in archive.access.queues()]


@pytest.fixture
def made(root: Path) -> Path:
    """Make an archive that nobody has open; one department has queue 1."""
    with open_archive(root, command="test") as archive:
        archive.access.map_queue(1, 1, "x")
    return root


def use(archive: Archive) -> None:
    """Read a little of everything; try to write."""
    assert archive.read_only
    assert numbers(archive)
    assert archive.access.rules()
    assert archive.queries.counts()
    assert archive.threads.ticket(1) is None
    for write in (
        lambda: archive.access.map_queue(1, 2, "y"),
        lambda: archive.access.revoke(1),
        lambda: archive.ledger.begin_run("run", source="x", scope={}),
    ):
        with pytest.raises(ArchiveUnwritable, match="open for reading only"):
            write()


def test_archive_at_rest_stays_as_it_is(made: Path) -> None:
    """No file is made or changed, also not by two readers at once; closing twice is harmless."""
    before = everything(made)
    with open_read_only(made) as one, open_read_only(made) as two:
        use(one)
        use(two)
    one.close()
    assert everything(made) == before


def test_archive_in_use_stays_as_it_is(made: Path, other: Other) -> None:
    """Beside a writer the reader leaves its files alone, and sees what it writes."""
    with other.opened():
        other(2)
        before = everything(made)
        with open_read_only(made) as reader:
            use(reader)
            assert numbers(reader) == [2]
            assert everything(made) == before
            other(3)
            assert numbers(reader) == [3]


def test_copy_of_a_killed_run_is_read(made: Path, tmp_path: Path) -> None:
    """A log without its index, and with an old one, holds what was written last."""
    copy = tmp_path / "copy"
    with open_beside(made) as writer:
        writer.access.map_queue(1, 2, "x")
        shutil.copytree(made, copy)
    for name in ("with its index", "without"):
        if name == "without":
            checkpoint.index(copy / "checkpoint.db").unlink()
        before = everything(copy)
        with open_read_only(copy) as reader:
            use(reader)
            assert numbers(reader) == [2]
        assert everything(copy) == before
        assert checkpoint.log_size(copy / "checkpoint.db")


@pytest.fixture
def killed(made: Path, other: Other) -> Path:
    """Leave the archive as a writer does that is killed."""
    other("open")
    other(2)
    other.end()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("index", [True, False], ids=["with its index", "without"])
def test_changes_after_a_kill_are_seen_at_once(killed: Path, index: bool) -> None:
    """What a killed writer left is read, and then what the next one makes of it."""
    if not index:
        checkpoint.index(killed / "checkpoint.db").unlink()
    other = Other(killed)
    try:
        with open_read_only(killed) as reader:
            assert numbers(reader) == [2]
            keep_up(reader, other)
    finally:
        other.end()


def test_changes_by_others_are_seen_at_once(made: Path, other: Other) -> None:
    """Whoever writes later, and however often the files come and go: the reader keeps up."""
    with open_read_only(made) as reader:
        assert numbers(reader) == [1]
        keep_up(reader, other)


def keep_up(reader: Archive, other: Other) -> None:
    for number in range(5, 10):
        with other.opened():
            other(number)
            assert numbers(reader) == [number]
            other(number + 100)
            assert numbers(reader) == [number + 100]
            assert len(list(reader.queries.rows())) == 0
        assert numbers(reader) == [number + 100]


def test_copy_that_is_replaced_is_seen(made: Path, tmp_path: Path) -> None:
    """A newer copy put in the place of the old one is what is read from then on."""
    shutil.copytree(made, tmp_path / "new")
    with open_beside(tmp_path / "new") as writer:
        writer.access.map_queue(1, 7, "x")
    with open_read_only(made) as reader:
        assert numbers(reader) == [1]
        (tmp_path / "new" / "checkpoint.db").replace(made / "checkpoint.db")
        assert numbers(reader) == [7]


def test_reading_between_two_writes_is_done_again(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read while the file changed is never believed, nor is an error then."""
    read = Checkpoint.execute
    left = 0

    def disturbed(self: Checkpoint, sql: str, params: tuple[object, ...] = ()) -> object:
        nonlocal left
        found = read(self, sql, params)
        if left > 0:
            left -= 1
            os.utime(made / "checkpoint.db", ns=(left, left))
            if left % 2:
                raise ArchiveDamaged("half of a page")
        return found

    with contextlib.closing(ReadOnlyCheckpoint(made / "checkpoint.db")) as reader:
        monkeypatch.setattr(Checkpoint, "execute", disturbed)
        left = 2
        assert reader.execute("SELECT 1") == [(1,)]
        assert left == 0
        left = 100
        with pytest.raises(ArchiveBusy, match="changes all the time"):
            reader.execute("SELECT 1")


def test_errors_of_an_archive_at_rest_are_told(made: Path) -> None:
    """Damage, absence and an older format have their own texts."""
    with pytest.raises(ArchiveMissing):
        open_read_only(made / "none")
    file = made / "checkpoint.db"
    with sqlite3.connect(file, isolation_level=None) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with pytest.raises(ArchiveUnwritable, match="older format"):
        open_read_only(made)
    content = file.read_bytes()
    file.write_bytes(b"x" * len(content))
    with pytest.raises(ArchiveDamaged):
        open_read_only(made)


@pytest.fixture
def mounted(made: Path, tmp_path: Path) -> Iterator[Path]:
    """Show the archive through a read-only bind mount."""
    place = tmp_path / "mounted"
    place.mkdir()
    commands = [["mount", "--bind", str(made), str(place)]]
    commands.append(["mount", "-o", "remount,ro,bind", str(place)])
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    done = [subprocess.run(command, capture_output=True, check=False) for command in commands]
    try:
        if any(each.returncode for each in done):
            pytest.skip(f"cannot mount here: {done[0].stderr.decode(errors='replace').strip()}")
        yield place
    finally:
        subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_read_only_file_system_is_read_as_such(mounted: Path, other: Other) -> None:
    """Where nothing can be written, every command that reads works without being told so."""
    with open_beside(mounted) as reader:
        use(reader)
        with other.opened():
            other(9)
            assert numbers(reader) == [9]
        assert numbers(reader) == [9]


def test_archive_of_somebody_else_is_read_as_such(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right to write, reading is still possible."""
    before = everything(made)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with open_beside(made) as reader:
        use(reader)
    assert everything(made) == before
