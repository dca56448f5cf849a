"""Checks of the archive's disk: by the doctor, and before every run."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from migrator.blobs import durable, place_of, store_of
from migrator.cli.common import note
from migrator.errors import ArchiveUnwritable, ConfigError, MigratorError
from migrator.text import human_bytes


class Finding(NamedTuple):
    """One line of the doctor; ``exit_code`` is 0 for what does not prevent a run."""

    mark: str
    text: str
    exit_code: int = 0


def ok(text: str) -> Finding:
    """Return a finding that something is right."""
    return Finding("ok", text)


def warn(text: str) -> Finding:
    """Return a finding that something works, but needs attention."""
    return Finding("warn", text)


def fail(text: str, exit_code: int) -> Finding:
    """Return a finding that prevents a run."""
    return Finding("FAIL", text, exit_code)


NETWORK = re.compile(
    r"9p|afpfs|afs|beegfs|ceph|cifs|davfs|fuse\.(ceph|gcsfuse|glusterfs|rclone|s3fs|sshfs)|"
    r"glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|smb3|smbfs|vboxsf|virtiofs"
)
"""File systems where SQLite's write-ahead log or its locks cannot be relied on."""

MOUNTS = Path("/proc/self/mounts")
"""The system's list of mounts: Linux only, elsewhere nothing is known."""
EARLIEST = 2025
"""The first year that a clock can truly say."""
LITTLE_ROOM = 10 << 30
FEW_FILES = 100_000


def check(
    archive: Path,
    mounts: Path | None = None,
    *,
    little_room: int = LITTLE_ROOM,
    few_files: int = FEW_FILES,
) -> Iterator[Finding]:
    """Check the archive's directory, or where it would be created; leave nothing behind.

    Yields a warning for less room than ``little_room`` bytes or ``few_files`` files.
    """
    try:
        place = _place(archive)
    except OSError as exc:
        advice = f"cannot reach {archive}: {exc.strerror}; run as its owner"
        yield fail(f"{advice} or choose another [archive] path", ArchiveUnwritable.exit_code)
        return
    if not place.is_dir():
        text = f"{place} is {durable.kind_of(place.stat().st_mode)}, where a directory must be"
        yield fail(f"archive: {text}; choose another [archive] path", ConfigError.exit_code)
        return
    yield ok(f"archive: {archive}" + ("" if place == archive else " (made by the first run)"))
    for where in [place, *_files(archive)]:
        yield from _writable(where)
        if where == place or where.stat().st_dev != place.stat().st_dev:
            yield from _room(where, little_room, few_files)
            yield from _kind(where, mounts or MOUNTS)
    yield from _trial(place)
    yield from _bucket(archive)
    if place == archive:
        yield from _ours(archive)
        yield from _modes(archive)


def is_obstructed(archive: Path) -> bool:
    """Return whether something that is no directory is at the archive's path."""
    return os.path.exists(archive) and not os.path.isdir(archive)  # noqa: PTH110, PTH112 - never raise


def warn_of_network(archive: Path) -> None:
    """Print a warning on stderr when the archive is, or would be, on a network share."""
    with contextlib.suppress(OSError):  # the run itself reports what it cannot reach
        for finding in _kind(_place(archive), MOUNTS):
            if finding.mark == "warn":
                note(finding.text.removeprefix("disk: "), level="warning")


def _place(archive: Path) -> Path:
    """Return what is at the archive's path, or its nearest existing parent; raises OSError."""
    return next(path for path in (archive, *archive.parents) if path.exists())


def _writable(place: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(prefix=".migrator-doctor-", dir=place) as folder:
            durable.write(Path(folder, "blob"), [b"migrator"])
    except OSError as exc:
        advice = f"cannot write durably in {place}: {exc.strerror}"
        yield fail(f"{advice}; choose another [archive] path", ArchiveUnwritable.exit_code)
    else:
        yield ok(f"disk: a file was written in {place}, synced and renamed")


def _trial(place: Path) -> Iterator[Finding]:
    """Make an archive with a file beside the real one: what a run needs of locks and SQLite."""
    from migrator.archive import open_archive

    try:
        with (
            tempfile.TemporaryDirectory(
                prefix=".migrator-doctor-", dir=place, ignore_cleanup_errors=True
            ) as folder,
            open_archive(Path(folder, "archive"), command="doctor") as archive,
            archive.blobs.writer() as writer,
        ):
            writer.write(b"migrator")
            writer.commit()
            archive.queries.self_check()
    except MigratorError as exc:
        yield fail(f"disk: {exc}", exc.exit_code)
    except OSError:
        return  # was told already
    else:
        yield ok("disk: an archive could be made, locked and written")


def _files(archive: Path) -> list[Path]:
    """Return the directory of an archive's files, unless they are in a bucket."""
    with contextlib.suppress(MigratorError):
        if place_of(archive) is None and os.path.isdir(store_of(archive).where):  # noqa: PTH112
            return [Path(store_of(archive).where)]
    return []


def _bucket(archive: Path) -> Iterator[Finding]:
    """Check that the bucket of an archive that has one can be reached."""
    try:
        place = place_of(archive)
        if place is not None:
            store_of(archive).prepare()
            yield ok(f"bucket: {place.url} can be read")
    except MigratorError as exc:
        yield fail(f"bucket: {exc}", exc.exit_code)


def _ours(archive: Path) -> Iterator[Finding]:
    """Check that what is in the archive can be written by whoever runs this."""
    try:
        paths = [archive, *archive.glob("checkpoint.db*"), *archive.glob("lock")]
        for files in _files(archive):
            paths += [path for path in (files, *files.glob("*")) if path.is_dir()]
        others = [path for path in paths if not os.access(path, os.W_OK)]
    except OSError as exc:
        yield fail(f"archive: cannot look into it: {exc.strerror}", ArchiveUnwritable.exit_code)
        return
    if others:
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        advice = f"cannot write {others[0]}{more}: run as the owner of the archive, or give it back"
        yield fail(f"archive: {advice} with chown", ArchiveUnwritable.exit_code)


def limits(concurrency: int) -> Iterator[Finding]:
    """Check what the shell or the service manager lets a run have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < (needed := 48 + 2 * concurrency):
        text = f"limits: only {files:,} files may be open; raise `ulimit -n` to {needed:,} or more"
        yield fail(text, ConfigError.exit_code)
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY:
        yield warn(f"limits: a file may not be larger than {human_bytes(largest)} (`ulimit -f`)")


def clock(moment: float) -> Iterator[Finding]:
    """Check that a clock is not far off: certificates, ages and schedules go by it."""
    year = time.gmtime(moment).tm_year
    if not EARLIEST <= year < EARLIEST + 75:
        yield warn(f"clock: it says that this is the year {year}; set it before a run")


def _room(place: Path, little_room: int, few_files: int) -> Iterator[Finding]:
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    tell = ok if free >= little_room else warn
    yield tell(f"disk: {human_bytes(free)} free; `migrator plan` shows how much is needed")
    if facts.f_files and facts.f_favail < few_files:
        yield warn(f"disk: room for {facts.f_favail:,} more files only (inodes)")


def _kind(place: Path, mounts: Path) -> Iterator[Finding]:
    kind = file_system(place, mounts)
    if kind and NETWORK.fullmatch(kind):
        yield warn(
            f"disk: {place} is on a network share ({kind}), where SQLite cannot keep its "
            "promises; use a local disk and copy the finished archive"
        )
    elif kind:
        yield ok(f"disk: the file system is {kind}")


def file_system(place: Path, mounts: Path) -> str | None:
    """Return the type of the file system that holds ``place``; None where unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        # Spaces and the like in a mount point are written as octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
        if place.resolve().is_relative_to(point) and (not found or len(point) >= found[0]):
            found = len(point), kind  # of equal ones the later mount covers the earlier
    return found[1] if found else None


def _modes(archive: Path) -> Iterator[Finding]:
    if stat.S_IMODE(archive.stat().st_mode) & 0o077:
        yield warn(f"archive: others can look into {archive}; run `chmod 700` on it")
    else:
        yield ok("archive: only its owner can look into it")
