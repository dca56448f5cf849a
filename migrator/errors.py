"""Every error this tool raises on purpose, in one tree.

::

    MigratorError                  1    a bug, unless a class below says otherwise
    ├── ConfigError                2    a wrong option, key or file of the user's
    │   └── OtherHelpdesk               the archive belongs to another helpdesk
    ├── SourceError                4    Kayako did not send what was requested
    │   ├── SourceUnreachable           no connection, no answer in time          (again later)
    │   │   └── SourceDown              it did not come back in time              (stop all)
    │   ├── SourceRefused               key, signature, API switched off, TLS     (stop all)
    │   ├── ServerFailed                5xx                                       (again later)
    │   ├── Throttled                   429, or 503 with Retry-After              (again later)
    │   ├── Truncated                   the reply ended before its document       (again later)
    │   ├── NotXml                      text, HTML or broken XML at 200           (again later)
    │   ├── BadBase64                   contents that are not base64              (again later)
    │   ├── UnexpectedReply             well-formed, but not what was asked       (again later)
    │   │   └── PartialReply            a list that was only partly readable      (again later)
    │   ├── MemoryExhausted             PHP ran out of memory for this file       (never again)
    │   ├── NotFound                    404 of Kayako itself                      (never again)
    │   ├── WrongTicket                 400: the attachment is another ticket's   (never again)
    │   ├── BadRequest                  any other 4xx                             (never again)
    │   ├── TooLarge                    over max_body, or a bound of our own      (never again)
    │   └── Declined                    Tickiti refuses a call of `deliver`       (never again)
    ├── ArchiveError               6
    │   ├── ArchiveBusy            5    another run holds the lock                (stop all)
    │   ├── ArchiveMissing         2    there is no archive at that path          (stop all)
    │   ├── ArchiveTooNew          2    written by a newer version of this tool   (stop all)
    │   ├── SqliteTooOld           2    Python's SQLite cannot hold an archive    (stop all)
    │   ├── ArchiveDamaged         6    checkpoint or blobs are damaged           (stop all)
    │   │   └── ArchiveUnreachable 4    the bucket did not answer, or refused     (stop all)
    │   ├── ArchiveUnwritable      7    disk full, read-only, permissions         (stop all)
    │   ├── ArchiveReplaced        6    a server's archive has gone or is another (stop all)
    │   └── QueryStopped           5    a query took too long, or nobody waits    (again later)
    ├── SafetyLimit                8    too much deleted, orphaned or changed     (stop all)
    └── Interrupted              130    Ctrl-C or SIGTERM; progress is saved      (stop all)

The number is the exit code of the process when the error reaches the command line. ``again`` tells
the pull what to do: try later, record and go on, or stop the run. In a run that was answered
before, a refusal stops it only after the configured patience. ``problem`` is the short code
that the ledger keeps beside a row. Texts of errors are for users: they say what happened and what
to do next, and they never hold a key, a signature or a whole URL with its query.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

_OF = re.compile(r"^((the [a-z]+|attachment \d+|post \d+) of )?ticket \d+: ", re.ASCII)


def how_to_install(extra: str) -> str:
    """Return what to do about a missing extra; on PyPI, "migrator" is somebody else's project."""
    return f"In the directory of the source, install '.[{extra}]' as you installed '.'"


def reason_of(text: str) -> str:
    """Return the text of an error without the ticket or attachment that it is of."""
    return _OF.sub("", text)


class Again(enum.Enum):
    """Whether to try again."""

    LATER = "later"
    """It may pass: try again, with a wait and a cap."""
    NEVER = "never"
    """The same request gets the same reply: record it and go on."""
    STOP = "stop"
    """No other request can work either: stop the run, keep what is done."""


class MigratorError(Exception):
    """Base of all errors raised on purpose; its text is fit for a user."""

    exit_code: ClassVar[int] = 1
    again: ClassVar[Again] = Again.STOP
    problem: ClassVar[str] = "bug"


class ConfigError(MigratorError):
    """An option, a configuration key or a file named by the user is wrong."""

    exit_code = 2
    problem = "config"


@contextmanager
def user_file(path: object, verb: str = "read") -> Iterator[None]:
    """Raise ConfigError when the block cannot read (or ``verb``) a file of the user."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"Cannot {verb} {str(path)!r}: {error.strerror}.") from error


class OtherHelpdesk(ConfigError):
    """The archive belongs to another helpdesk than the configured one."""

    problem = "other_helpdesk"


class SourceError(MigratorError):
    """Kayako did not send what was requested; ``attempts`` counts the requests.

    ``number`` is that of the last one among all. ``shared`` means that others may get the same: the
    source is away, or turns all of us away. A request for something else shows whether it does.
    ``overload`` means that it has too much to do, which nobody's own request is to blame for.
    """

    exit_code = 4
    again = Again.LATER
    problem = "source_error"
    attempts: int = 1
    number: int = 0
    shared: bool = False
    overload: bool = False

    @property
    def reason(self) -> str:
        """The text, for a line that names the ticket or attachment itself."""
        return reason_of(str(self))


class SourceUnreachable(SourceError):
    """No connection, or no answer in time."""

    problem = "unreachable"
    shared = True


class SourceDown(SourceUnreachable):
    """The source went away during the run and did not come back in time."""

    again = Again.STOP


class SourceRefused(SourceError):
    """The source refuses us: key, signature, disabled API, certificate."""

    again = Again.STOP
    problem = "refused"
    shared = True


class ServerFailed(SourceError):
    """A status of 500 or above, from PHP, the web server or a proxy; ``status`` 0 if not known."""

    problem = "server_error"
    status: int = 0
    shared = True


class Throttled(SourceError):
    """The source asks us to slow down.

    ``retry_after`` is in seconds; None where the source named no time.
    """

    problem = "throttled"
    shared = True
    overload = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Truncated(SourceError):
    """The reply ended before its document was closed."""

    problem = "truncated"


class NotXml(SourceError):
    """A reply with status 200 that is text, an HTML page or broken XML."""

    problem = "not_xml"
    shared = True


class BadBase64(SourceError):
    """The contents are not base64, not even by PHP's lenient rules."""

    problem = "bad_base64"


class UnexpectedReply(SourceError):
    """A well-formed reply that does not fit the request."""

    problem = "unexpected_reply"


class PartialReply(UnexpectedReply):
    """A list that was only partly readable: what it leaves out may exist all the same.

    ``rows`` are the records that could be read, in their order. ``problems`` describe the first
    that could not. ``lost`` are the places of rows without a usable id, counted from 0.
    ``doubted`` are the ids of records whose rows are damaged, read as far as they could be.
    ``strays`` means that there was something beside rows, so that any may be missing.
    """

    def __init__(
        self,
        message: str,
        *,
        rows: Iterable[Any] = (),
        problems: Iterable[str] = (),
        lost: Iterable[int] = (),
        doubted: Iterable[int] = (),
        strays: bool = True,
    ) -> None:
        super().__init__(message)
        self.rows = tuple(rows)
        self.problems = tuple(problems)
        self.lost = tuple(lost)
        self.doubted = frozenset(doubted)
        self.strays = strays


class MemoryExhausted(SourceError):
    """PHP ran out of memory building this reply; it will again."""

    again = Again.NEVER
    problem = "memory_exhausted"


class NotFound(SourceError):
    """Kayako itself says that there is no such ticket, post or attachment."""

    again = Again.NEVER
    problem = "not_found"


class WrongTicket(SourceError):
    """The attachment belongs to another ticket, as after a merge."""

    again = Again.NEVER
    problem = "wrong_ticket"


class BadRequest(SourceError):
    """Any other 4xx status."""

    again = Again.NEVER
    problem = "bad_request"
    shared = True


class TooLarge(SourceError):
    """The reply is larger than the configured ``max_body``, or than a bound of our own."""

    again = Again.NEVER
    problem = "too_large"


class Declined(SourceError):
    """Tickiti refuses a call of ``deliver``, with an HTTP ``status`` and its ``code``, or ""."""

    again = Again.NEVER
    problem = "declined"

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ArchiveError(MigratorError):
    """The archive cannot be used as requested."""

    exit_code = 6
    problem = "archive"


class ArchiveBusy(ArchiveError):
    """Another run holds the archive."""

    exit_code = 5


class ArchiveMissing(ArchiveError):
    """There is no archive at the configured path."""

    exit_code = 2


class SqliteTooOld(ArchiveError):
    """The SQLite that Python was built with is too old for an archive."""

    exit_code = 2


class ArchiveTooNew(ArchiveError):
    """The checkpoint was written by a newer version of this tool."""

    exit_code = 2


class ArchiveDamaged(ArchiveError):
    """The checkpoint or a blob is damaged."""


class ArchiveUnreachable(ArchiveDamaged):
    """The bucket does not answer or refuses us, which says nothing about the blobs in it."""

    exit_code = 4
    problem = "unreachable"


class ArchiveUnwritable(ArchiveError):
    """The disk is full, read-only or gone, or permissions are missing."""

    exit_code = 7


class ArchiveReplaced(ArchiveError):
    """The archive that a server has served is gone, or another one is in its place."""


class QueryStopped(ArchiveError):
    """A query took longer than it may, or nobody waits for its answer any more."""

    exit_code = 5


class SafetyLimit(MigratorError):
    """A step was refused: too much would be deleted, removed or changed."""

    exit_code = 8


class Interrupted(MigratorError):
    """The user or the system asked us to stop; progress is saved."""

    exit_code = 130
