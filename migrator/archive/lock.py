"""The run lock: one run owns an archive, and everybody can see who.

A kernel lock (``flock``) on the file ``lock`` dies with its owner, however it ends; the text in
the file only tells who that is and is worth nothing without the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from migrator.archive import durable
from migrator.errors import ArchiveBusy

NAME = "lock"


class RunLock:
    """The lock of the archive at ``root``, held from creation to :meth:`release`."""

    def __init__(self, root: Path, *, command: str) -> None:
        """Take the lock.

        Raises ArchiveBusy, naming the holder, and ArchiveUnwritable.
        """
        with durable.writing(root):
            # Descriptors of Python are close-on-exec: no child can keep the lock alive.
            fd = os.open(root / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, durable.PRIVATE_FILE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = _holder(fd)
            os.close(fd)
            raise ArchiveBusy(
                f"The archive {str(root)!r} is in use by {text}. Wait for it to end, or stop it; "
                "a second run would only be in its way."
            ) from error
        except OSError as error:
            os.close(fd)
            raise durable.unwritable(root, error) from error
        self._fd: int | None = fd
        try:
            with durable.writing(root):
                self._sign(command)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; harmless when called again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # The file stays: removing it would let two runs lock two files of the same name.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)

    def _sign(self, command: str) -> None:
        assert self._fd is not None  # noqa: S101 - for the type checker
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": command,
            "since": int(time.time()),
        }
        os.fchmod(self._fd, durable.PRIVATE_FILE)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(owner).encode(), 0)


def _holder(fd: int) -> str:
    """Say who holds the lock; its text may be missing, torn or odd."""
    try:
        owner = json.loads(os.pread(fd, 4096, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(owner["since"])))
        command = json.dumps(str(owner["command"]))
        host = json.dumps(str(owner["host"]))
        return f"process {int(owner['pid'])} on {host} ({command}, since {since})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process that has not told its name"
