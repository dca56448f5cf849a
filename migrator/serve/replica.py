"""A server's own copy of an archive in a bucket: the newest snapshot, and files that are in use.

All processes of a server share the checkpoint; one of them at a time looks for a newer one. A new
one takes the place of the old in one step, and the next request finds it. Each process keeps the
files that it served last for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from migrator.archive import checkpoint, snapshots
from migrator.blobs import CachedStore, Place, durable, in_bucket
from migrator.blobs.base import Store
from migrator.errors import ArchiveError, MigratorError

PATIENCE: Final = 10.0
"""Seconds in which a request to the bucket is repeated: a client waits."""

_STATE: Final = "snapshot.json"
_LOCK: Final = "replica.lock"

_log = logging.getLogger(__name__)


class Replica:
    """The copy of what is at ``place`` in the directory ``folder``, of this server alone.

    Newer snapshots are looked for every so many seconds; each process keeps files of at most
    ``cache`` bytes.
    """

    def __init__(self, place: Place, folder: Path, *, every: float, cache: int) -> None:
        self.place = place
        self.folder = folder
        self._every = every
        self._cache = cache

    def fetch(self) -> None:
        """Fetch the newest snapshot unless it is here or another process does.

        Raises ArchiveMissing when there is none, ArchiveError.
        """
        with durable.writing(self.folder, "copy"), (self.folder / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            known = self._state()
            if known and 0 <= time.time() - float(str(known["seen"])) < self._every / 2:
                return
            bucket = in_bucket(self.folder, self.place, patience=PATIENCE)
            began, found = time.time(), snapshots.newest(bucket)
            if not known or known["sha256"] != found.sha256:
                snapshots.unpack(bucket, found, self.folder / checkpoint.NAME)
            facts = {
                "name": found.name,
                "sha256": found.sha256,
                "time": found.time,
                "seen": began,
            }
            durable.write(self.folder / _STATE, [json.dumps(facts).encode()])

    def bucket(self) -> Store:
        """Return the store of the files, without any kept here."""
        return in_bucket(self.folder, self.place, patience=PATIENCE)

    def age(self) -> Mapping[str, object]:
        """Return which snapshot is served, how old it is, and when the bucket was last asked.

        ``checked`` is in seconds as well: a newer one may be there for so long.
        """
        known, now = self._state() or {"name": "", "time": 0, "seen": 0}, time.time()
        return {
            "name": known["name"],
            "time": known["time"],
            "age": max(0, int(now - float(str(known["time"])))),
            "checked": max(0, int(now - float(str(known["seen"])))),
        }

    @contextlib.contextmanager
    def followed(self) -> Iterator[Store]:
        """Look for newer snapshots during the block; yield the store of the files."""
        mine = self.folder / "files" / str(os.getpid())
        with durable.writing(self.folder, "copy"):
            durable.make_dirs(mine)
            for other in mine.parent.iterdir():
                if not _lives(int(other.name)):
                    shutil.rmtree(other, ignore_errors=True)
        bucket = in_bucket(mine, self.place, patience=PATIENCE)
        ended = threading.Event()
        thread = threading.Thread(target=self._follow, args=(ended,), daemon=True, name="replica")
        thread.start()
        try:
            yield CachedStore(bucket, mine, self._cache)
        finally:
            ended.set()
            shutil.rmtree(mine, ignore_errors=True)

    def _follow(self, ended: threading.Event) -> None:
        told = ""
        while not ended.wait(self._every):
            try:
                self.fetch()
                told = ""
            except MigratorError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("The snapshot before is served on: %s", told)

    def _state(self) -> dict[str, object] | None:
        try:
            found: dict[str, object] = json.loads((self.folder / _STATE).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArchiveError(f"The copy of the snapshot cannot be read: {error}.") from error
        return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
