"""Files that survive a crash: the one module that makes bytes durable.

The order makes it safe: temporary file → length check → ``fsync`` of the file → rename →
``fsync`` of the directory that got the name, and of the parents whose entry may be new. Only
then may a row say that the file is there. After a power failure this is as good as the
disk: a drive that acknowledges a flush without doing it can still lose the last files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from migrator.errors import ArchiveUnwritable

# Thousands of these paths are built per minute, and a Path costs as much as a system call.
AnyPath = str | os.PathLike[str]

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
READ_ONLY = 0o400

_NO_LINK = frozenset(
    [errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS]
)
"""Another file system, too many links, or a file system without links: copy instead."""
_BUFFER = 1 << 16

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, then start again; nothing stored is lost",
    errno.EDQUOT: "the disk quota is used up: raise it or free some space, then start again",
    errno.EROFS: "the file system is read-only: mount it writable or choose another path",
    errno.EACCES: "permission denied: run as the owner of that directory or change its permissions",
    errno.EPERM: "not permitted: run as the owner of that directory or change its permissions",
    errno.ENOENT: "it vanished meanwhile: check that the disk is still mounted",
    errno.EMFILE: "too many files are open: raise `ulimit -n`, then start again",
    errno.EFBIG: "a file may not grow that large: raise `ulimit -f`, then start again",
    errno.ENOLCK: "No locks available: put the archive on a local disk",
    errno.EIO: "the disk reports an input/output error: check it (dmesg, smartctl) before going on",
}


@contextlib.contextmanager
def writing(root: Path, what: str = "archive") -> Iterator[None]:
    """Turn an OSError of the block into ArchiveUnwritable, which names the archive ``root``."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = _ADVICE.get(error.errno or 0, reason)
        could = "read" if _is_closed(root) else "written"
        raise ArchiveUnwritable(f"The {what} {str(root)!r} cannot be {could}: {advice}.") from error


def _is_closed(root: Path) -> bool:
    """Return whether nothing in the directory ``root`` can be reached."""
    try:
        os.stat(f"{root}/.")  # noqa: PTH116 - Path drops the dot
    except OSError as error:
        return error.errno == errno.EACCES
    return False


def make_dir(path: AnyPath) -> bool:
    """Create the directory ``path`` with mode 0700, whatever the umask; False if it exists."""
    try:
        os.mkdir(path, PRIVATE_DIR)  # noqa: PTH102 - see AnyPath
    except FileExistsError:
        # Another thread may have made it, and neither opened it to us yet, with a umask of 0777,
        # nor given it to its owner, who gets what is made in it.
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            if not status.st_mode & 0o777:
                os.chmod(path, PRIVATE_DIR)  # noqa: PTH101
            _give_directory(path)
        return False
    os.chmod(path, PRIVATE_DIR)  # noqa: PTH101
    _give_directory(path)
    return True


def _give_directory(path: AnyPath) -> None:
    if os.geteuid() == 0:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            give_to_owner(fd, path)
        finally:
            os.close(fd)


def make_dirs(path: Path) -> None:
    """Create ``path`` and its missing parents, each 0700 and durable; leave others as they are."""
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        if make_dir(folder):
            sync_dir(folder.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def create(path: AnyPath, mode: int = PRIVATE_FILE) -> int:
    """Create the new file ``path`` with exactly ``mode`` and return its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)
        give_to_owner(fd, path)
    except OSError:
        os.close(fd)
        Path(path).unlink(missing_ok=True)
        raise
    return fd


def give_to_owner(fd: int, path: AnyPath) -> None:
    """Give what root made at ``path`` to the owner of its directory, who must go on with it.

    Otherwise one run as root would end all later ones of the archive's owner. Only a file of one
    name is given: another one may be anybody's.
    """
    if os.geteuid() != 0:
        return
    above, made = os.stat(os.path.dirname(path) or "."), os.fstat(fd)  # noqa: PTH116, PTH120
    sole = stat.S_ISDIR(made.st_mode) or made.st_nlink == 1
    if above.st_uid != made.st_uid == 0 and sole:
        with contextlib.suppress(OSError):  # a file system without owners
            os.fchown(fd, above.st_uid, above.st_gid)


class NewFile:
    """A file that is written at ``temp`` and removed unless it is published.

    Its methods raise OSError.
    """

    def __init__(self, temp: AnyPath) -> None:
        self._temp = temp
        self._fd = create(temp)
        self._open, self._published = True, False
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Write all of the next bytes."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        self.size += len(data)

    def reopen(self) -> int:
        """Return another descriptor, for reading what was written, before it is published."""
        return open_file(self._temp)

    def publish(self, target: AnyPath, mode: int = READ_ONLY, *, replace: bool = True) -> None:
        """Make the bytes durable, then rename the file and set its ``mode``.

        The directories above ``target`` are the caller's: it must make them durable too
        (:func:`sync_dir`) before it relies on the name. Raises EIO when the file has the wrong
        length, and FileExistsError for a name that is taken, unless it may ``replace``.
        """
        if os.fstat(self._fd).st_size != self.size:
            raise OSError(errno.EIO, f"{Path(self._temp).name} is not {self.size} bytes long")
        os.fchmod(self._fd, mode)
        os.fsync(self._fd)
        if not replace:
            os.close(create(target))  # claims the name: renaming alone takes it from its file
        try:
            os.replace(self._temp, target)  # noqa: PTH105
        except OSError:
            if not replace:
                Path(target).unlink()
            raise
        self._published = True

    def close(self) -> None:
        """Close the file, and remove it unless it was published; harmless when called again."""
        if self._open:
            self._open = False
            with contextlib.suppress(OSError):
                os.close(self._fd)
            if not self._published:
                with contextlib.suppress(OSError):
                    Path(self._temp).unlink()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def write(
    target: Path,
    blocks: Iterable[bytes],
    *,
    temp: Path | None = None,
    mode: int = PRIVATE_FILE,
    replace: bool = True,
) -> None:
    """Write the file ``target`` durably and in one step.

    ``temp`` is its temporary name, by default beside it. Raises OSError, FileExistsError
    where it may not ``replace``, and whatever ``blocks`` raises; then ``target`` is unchanged.
    """
    with NewFile(temp or target.with_name(f".migrator-{secrets.token_hex(8)}")) as file:
        buffer = bytearray()
        for block in blocks:
            buffer += block
            if len(buffer) >= _BUFFER:
                file.write(bytes(buffer))
                buffer.clear()
        file.write(bytes(buffer))
        file.publish(target, mode, replace=replace)
    sync_dir(target.parent)


def copy(blocks: Iterable[bytes], target: Path, sha256: str, *, temp: Path) -> bool:
    """Write bytes to the read-only file ``target``; False, and no file, if their hash is wrong.

    The caller syncs the directory. Raises OSError.
    """
    digest = hashlib.sha256()
    with NewFile(temp) as file:
        for block in blocks:
            digest.update(block)
            file.write(block)
        if digest.hexdigest() != sha256:
            return False
        file.publish(target)
        return True


def link(source: AnyPath, target: Path) -> bool:
    """Link the file ``source`` to a second name; False where that is impossible. Raises OSError."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def sync_dir(path: AnyPath) -> None:
    """Make the entries of the directory ``path`` durable.

    Some network and FUSE file systems cannot do that and return EINVAL, which is tolerated; EIO
    never is.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def unlink_below(top: Path, path: Path) -> int:
    """Remove the regular file ``path``, relative to ``top``, and return its size in bytes.

    Every directory on the way is opened without following links, so that nothing outside of
    ``top`` can be removed. Raises OSError; ELOOP or ENOTDIR for a link on the way, EINVAL for
    anything but a regular file.
    """
    folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in path.parts[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{path.name} is not a regular file")
        os.unlink(path.name, dir_fd=folder)
        return status.st_size
    finally:
        os.close(folder)


def open_file(path: AnyPath) -> int:
    """Open the regular file ``path`` for reading and return its descriptor.

    It never waits, as a pipe would require, and follows no link. Raises OSError; EINVAL for
    anything but a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, f"{Path(path).name} is not a regular file")
    return fd


def kind_of(mode: int) -> str:
    """Return the kind of file of this ``st_mode``, with its article."""
    names = {
        "-": "a file",
        "d": "a directory",
        "l": "a symbolic link",
        "p": "a named pipe",
        "s": "a socket",
    }
    return names.get(stat.filemode(mode)[0], "a device")


def is_file(path: AnyPath) -> bool:
    """Return whether ``path`` itself is a regular file, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
