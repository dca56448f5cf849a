"""A sink for the attachments that are fetched by hand, which keeps a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from migrator.errors import ConfigError
from migrator.transfer.sink import HashSink

__all__ = ["FileSink", "FileSinks", "HashSink"]


class FileSink(HashSink):
    """A sink that becomes a file in ``folder`` when it is kept; OSError ends here."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        with _writing(folder):
            fd, self._name = tempfile.mkstemp(prefix=".migrator-", dir=folder)
        self._file = open(fd, "wb")  # noqa: SIM115, PTH123 - lives as long as the sink

    def write(self, data: bytes, /) -> None:
        """Take the next bytes; raises ConfigError when they cannot be written."""
        super().write(data)
        with _writing(Path(self._name).parent):
            self._file.write(data)

    def keep(self, target: Path) -> None:
        """Give the file its name, whole and on disk; an existing file stays as it is."""
        with _writing(target):
            self._file.flush()
            os.fsync(self._file.fileno())
            try:
                # Claims the name: renaming alone would replace what is there.
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                raise ConfigError(
                    f"{str(target)!r} is there already and stays as it is; name another "
                    "with --output."
                ) from None
            os.replace(self._name, target)  # noqa: PTH105
        self._file.close()

    def abort(self) -> None:
        """Remove the temporary file; harmless when called again."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._name)  # noqa: PTH108


class FileSinks:
    """Makes file sinks, one per try, and removes what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[FileSink] = []

    def make(self) -> FileSink:
        """Make the next one."""
        self._made.append(FileSink(self._folder))
        return self._made[-1]

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Remove all that was not kept."""
        for sink in self._made:
            sink.abort()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(f"Cannot write {str(path)!r}: {exc.strerror}.") from exc
