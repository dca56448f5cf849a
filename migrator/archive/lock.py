"""The run lock: one run owns an archive, and everybody can see who.

A kernel lock (``flock``) on the file ``lock`` dies with its owner, however it ends; the text in
the file only names the owner and means nothing without the lock. A directory for copies has such a
lock too, so that one whose owner was killed is known.

The file ``pause`` holds up requests, also of runs that begin later, until somebody resumes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from migrator.blobs import durable
from migrator.errors import ArchiveBusy, ArchiveDamaged
from migrator.hours import Halt

NAME = "lock"
PAUSE = "pause"
"""The file that asks whoever works on the archive to make no request."""

_SCRATCH = "migrator-copy-"

_AGAIN = 0.05
"""Seconds: a process that only asks for the holder keeps the lock for much less."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the run lock, as far as it is known; ``since`` is in Unix seconds."""

    pid: int | None = None
    host: str | None = None
    command: str | None = None
    since: int | None = None


class RunLock:
    """The lock of the archive at ``root``, held from creation to :meth:`release`."""

    def __init__(self, root: Path, *, command: str) -> None:
        """Acquire the lock.

        Raises ArchiveBusy, naming the holder, ArchiveUnwritable, and ArchiveDamaged when
        its place is taken by anything but a file.
        """
        # Descriptors of Python are close-on-exec: no child can keep the lock alive.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with durable.writing(root), contextlib.ExitStack() as stack:
            fd = os.open(root / NAME, flags, durable.PRIVATE_FILE)
            stack.callback(os.close, fd)
            if not stat.S_ISREG(mode := os.fstat(fd).st_mode):
                raise ArchiveDamaged(
                    f"{str(root / NAME)!r} is {durable.kind_of(mode)}, where a file must be. "
                    "Remove it and start again; nothing else is wrong with the archive."
                )
            try:
                _take(fd)
            except BlockingIOError as error:
                text = _describe(_parsed(os.pread(fd, 4096, 0)))
                raise ArchiveBusy(
                    f"The archive {str(root)!r} is in use by {text}. Wait for it to end, or "
                    "stop it."
                ) from error
            owner = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "command": command,
                "since": int(time.time()),
            }
            os.fchmod(fd, durable.PRIVATE_FILE)
            durable.give_to_owner(fd, root / NAME)
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(owner).encode(), 0)
            stack.pop_all()
        self._fd: int | None = fd

    def release(self) -> None:
        """Release the lock; harmless when called again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # The file stays: removing it would let two runs lock two files of the same name.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)


def holder(root: Path) -> Holder | None:
    """Return who holds the run lock of the archive at ``root``; None if nobody does.

    The kernel's lock decides; the text in the file only names the holder. Nothing is written,
    and an archive that cannot be read counts as free.
    """
    with contextlib.suppress(OSError), FileIO(durable.open_file(root / NAME)) as file:
        text = file.read(4096)
        if text and _is_held(file):  # without a text it was given back
            return _parsed(text)
    return None


@dataclass(frozen=True, slots=True)
class Pause:
    """The wish that no request is made, and whose it is; times in Unix seconds.

    ``until`` None is until somebody resumes. What is unknown was in a file that cannot be read.
    """

    by: str | None = None
    host: str | None = None
    since: int | None = None
    until: int | None = None

    def told(self) -> str:
        """Return the pause as a sentence, without its end."""
        who = f" by {self.by} on {self.host}" if self.by else ""
        until = f", until {_utc(self.until)}" if self.until is not None else ""
        since = f" at {_utc(self.since)}" if self.since is not None else ""
        return f"paused{who}{since}{until}; `migrator resume` goes on"


def pause(root: Path, wish: Pause) -> None:
    """Ask whoever works on the archive, now or later, to make no request.

    Raises ArchiveUnwritable.
    """
    with durable.writing(root):
        durable.write(root / PAUSE, [json.dumps(asdict(wish)).encode()])


def resume(root: Path) -> None:
    """End a pause, if there is one. Raises ArchiveUnwritable."""
    with durable.writing(root):
        (root / PAUSE).unlink(missing_ok=True)


def paused(root: Path, now: float) -> Pause | None:
    """Return the pause that holds now; None: nobody asked for one, or it is over.

    When in doubt there is one.
    """
    try:
        with FileIO(durable.open_file(root / PAUSE)) as file:
            told = json.loads(file.read(4096))
        found = Pause(**{name: told.get(name) for name in ("by", "host", "since", "until")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError):
        return Pause()
    odd = not all(one is None or isinstance(one, str) for one in (found.by, found.host))
    if odd or not all(one is None or type(one) is int for one in (found.since, found.until)):
        return Pause()
    return found if found.until is None or now < found.until else None


def halt(root: Path, now: float) -> Halt | None:
    """Return the pause that holds now as a reason to make no request."""
    found = paused(root, now)
    if found is None:
        return None
    return Halt("paused", found.told(), None if found.until is None else found.until - now)


@contextlib.contextmanager
def kept_free(root: Path) -> Iterator[bool]:
    """Keep runs out during the block; yield False when one holds the archive already."""
    with contextlib.ExitStack() as stack:
        free = True  # no run was ever here, or the file cannot be opened
        with contextlib.suppress(OSError):
            file = stack.enter_context(FileIO(durable.open_file(root / NAME)))
            free = False
            free = not _is_held(file)
        yield free


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a directory for copies below TMPDIR; remove those that killed processes left there.

    Raises OSError.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError), _owned(left):
            shutil.rmtree(left)
    with contextlib.ExitStack() as stack:
        while True:
            name = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True)
            )
            try:
                stack.enter_context(_owned(Path(name)))
            except (BlockingIOError, FileNotFoundError):
                continue  # another process has just taken it for one that was left
            except OSError:
                pass  # a file system without such locks: then nobody removes any there
            yield Path(name)
            return


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory of ours. Raises BlockingIOError while its owner lives."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _is_held(file: FileIO) -> bool:
    """Acquire a shared lock until the file is closed, unless a run holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _take(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # It may be a process that asks for the holder after a kill.
        time.sleep(_AGAIN)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _parsed(text: bytes) -> Holder:
    """Read what a holder wrote; it may be missing, torn or odd."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return Holder()
    if not isinstance(told, dict):
        return Holder()
    numbers = {key: told[key] for key in ("pid", "since") if isinstance(told.get(key), int)}
    texts = {key: told[key] for key in ("host", "command") if isinstance(told.get(key), str)}
    return Holder(**numbers, **texts)


def _describe(found: Holder) -> str:
    if found.pid is None or found.since is None:
        return "another process that left no name"
    host, command = json.dumps(found.host), json.dumps(found.command)
    return f"process {found.pid} on {host} ({command}, since {_utc(found.since)})"


def _utc(at: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"
