"""Shared by the commands: the configuration, parameter types, printing."""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.process import telling
from migrator.errors import ArchiveError, ArchiveUnwritable, ConfigError, user_file
from migrator.text import iso_time, shown

if TYPE_CHECKING:
    from migrator.archive import Access, Archive
    from migrator.cli.notifying import Notifier
    from migrator.config import Config
    from migrator.events import Event, Requested
    from migrator.hours import Halt, Halted, Hours
    from migrator.sources.kayako.signing import KayakoSettings


@dataclass
class App:
    """The state of one invocation of the command line; the object of click's context."""

    config_path: Path | None = None
    log_format: str = "text"
    config: Config | None = None
    run_id: int | None = None
    """The latest run of this process."""
    command: str = ""
    error: tuple[str, str] = ("", "")
    """Kind and text of the error that ended the command."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    """The last messages on stderr."""
    notifier: Notifier | None = None
    published: float | None = None
    """When the snapshot was made that this process published last."""
    verbosity: int = 0
    """-1 with -q, 1 with -v."""
    say: Callable[[str], None] | None = None
    """Prints a line on stderr where a bar is shown there."""

    def load(self, *, need_source: bool = True) -> Config:
        """Load the configuration and print its warnings once; ConfigError lists all mistakes."""
        from migrator.config import load

        told = self.config.warnings if self.config is not None else ()
        self.config = load(self.config_path, need_source=need_source)
        for warning in self.config.warnings:
            if warning not in told:
                note(warning, level="warning")
        return self.config

    def started(self) -> None:
        """Note that the work of the command begins: who waits for a ping is told."""
        if self.config is not None and self.config.notify.tells:
            from migrator.cli.notifying import notifier_of

            notifier_of(self, self.config).begin()

    def scrub(self, text: str) -> str:
        """Return a text without the secrets that this process knows."""
        from migrator.config import METRICS_TOKEN, NOTIFY, SECRETS, TOKEN
        from migrator.sources.kayako.signing import Credentials

        known = [Credentials(*(os.environ.get(name, "") for name in SECRETS.values()))]
        if self.config is not None:
            known.append(settings_from(self.config).credentials)
        for credentials in known:
            text = credentials.scrub(text)
        names = (TOKEN, METRICS_TOKEN, *NOTIFY.values())
        tokens = {os.environ.get(name, "") for name in names}
        if self.config is not None:
            tokens.add(self.config.deliver.token.get_secret_value())
            tokens.add(self.config.metrics.token.get_secret_value())
            notify = self.config.notify
            tokens |= {getattr(notify, name).get_secret_value() for name in NOTIFY}
        secrets = (part for token in tokens for part in (token, token.partition("|")[2]))
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


_PLAIN_WORD = re.compile(r"\w[\w.@+-]*")
"""A word that every shell takes as one, whatever it is."""
ID = click.IntRange(0, 2**63 - 1)
"""A parameter that names a row of the archive or of Kayako."""
pass_app = click.make_pass_decorator(App)


def settings_from(config: Config, *, by_hand: bool = False) -> KayakoSettings:
    """Translate ``[kayako]`` into the settings of the source room.

    A few calls ``by_hand`` wait neither for ``kayako.windows`` nor for the end of a pause.
    """
    from migrator.sources.kayako.signing import Credentials, KayakoSettings, UrlForm

    kayako = config.kayako
    secrets = {"api_key", "secret_key", "http_user", "http_password"}
    pulled = {"posts", "linked_files", "knowledge_base", "custom_fields"}
    timed = {"windows", "bytes_per_second", "timezone"}
    others = {*secrets, *pulled, *timed, "url_form", "include_trash"}
    hours = config.hours
    return KayakoSettings(
        halted=None if by_hand else halted(config.archive.path, hours),
        rate=(lambda: hours.rate(time.time())) if hours.rates else None,
        credentials=Credentials(
            kayako.api_key.get_secret_value(),
            kayako.secret_key.get_secret_value(),
            kayako.http_user,
            kayako.http_password.get_secret_value(),
        ),
        url_form=UrlForm(kayako.url_form),
        **kayako.model_dump(exclude=others),
    )


def halted(root: Path, hours: Hours | None = None) -> Halted:
    """Return what says why no request may start: out of hours, or while somebody paused it.

    It looks for the pause of the archive at ``root`` once in a second, as its disk may be slow.
    """
    looked, pause = -math.inf, None

    def halt() -> Halt | None:
        nonlocal looked, pause
        from migrator.archive import lock

        if (clock := time.monotonic()) - looked >= 1.0:
            looked, pause = clock, lock.halt(root, time.time())
        return pause or (hours.halt(time.time()) if hours is not None else None)

    return halt


def print_retry(event: Event, /) -> None:
    """Listen for commands that make a few calls only: print why they wait, with -v all outcomes."""
    from migrator.events import Requested, Retrying

    if isinstance(event, Retrying):
        soon = f"in {event.wait:.0f} s" if event.wait >= 0.5 else "at once"
        note(f"Trying again {soon}: {event.what} ({event.problem})")
    elif isinstance(event, Requested) and verbosity() > 0:
        note(outcome(event))


def outcome(event: Requested) -> str:
    """Return in a line how a request ended."""
    why = f": {event.detail}" if event.detail else ""
    return f"{event.what}: {event.outcome} after {event.seconds:.2f} s{why}"


def open_beside(app: App, *, read_only: bool = False) -> tuple[Config, Archive]:
    """Load the configuration and open the archive beside a run that may be at work.

    The queues and ticket numbers of the configuration are applied, so that every command sees
    the same ones. A read-only archive keeps those it has.
    """
    from migrator.archive import open_beside as opened
    from migrator.archive import open_read_only

    config = app.load(need_source=False)
    archive = (open_read_only if read_only else opened)(config.archive.path)
    try:
        apply_config(archive, config)
    except ArchiveUnwritable:
        if not archive.read_only:
            archive.close()
            raise
        note(
            "The archive is read-only: queues and ticket numbers are those it has, which are not "
            "those of the configuration.",
            level="warning",
        )
    except BaseException:
        archive.close()
        raise
    return config, archive


def choose_store(config: Config) -> None:
    """Let a new archive keep its files where the configuration says."""
    from migrator.blobs import Place, choose, place_of

    url, s3 = config.archive.blobs, config.s3
    place = Place(url, s3.endpoint, s3.region, s3.allow_http) if url else None
    choose(config.archive.path, place)
    if config.archive.publish and place_of(config.archive.path) is None:
        raise ConfigError("archive.publish needs a bucket: set archive.blobs for a new archive.")


def apply_config(archive: Archive, config: Config) -> None:
    """Write the queues and ticket numbers of the configuration into the archive.

    It also learns when requests may be made, which is kept nowhere.
    """
    from migrator.config import load_ticket_numbers

    archive.hours = config.hours
    tickiti = config.tickiti
    numbers = load_ticket_numbers(tickiti.ticket_numbers) if tickiti.ticket_numbers else {}
    queues = {department: (queue.id, queue.name) for department, queue in tickiti.queues.items()}
    archive.access.apply_config(queues, numbers)


def reader(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return an option's callback from a reader of the configuration, such as ``duration``."""

    def read(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        from migrator import config

        try:
            if isinstance(value, tuple):
                return tuple(map(getattr(config, name), value))
            return None if value is None else getattr(config, name)(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx=ctx, param=param) from None

    return read


# Values for ``callback=`` of an option:
duration = reader("duration")
"""For an option such as ``90d``: the command gets seconds."""
fraction = reader("fraction")
"""For an option such as ``5%``: the command gets a fraction of 1."""
size = reader("size")
"""For an option such as ``25MiB``: the command gets bytes."""


def _departments(access: Access) -> Iterator[tuple[str, int]]:
    return ((one.title, one.department_id) for one in access.queues())


def _queues(access: Access) -> Iterator[tuple[str, int]]:
    return ((one.name, one.queue_id) for one in access.queues())


def _tokens(access: Access) -> Iterator[tuple[str, int]]:
    return ((one.name, one.id) for one in access.tokens() if one.revoked_at is None)


def _rules(access: Access) -> Iterator[tuple[str, int]]:
    return ((extension, 0) for extension in access.rules())


_COMPLETIONS = {
    "departments": _departments,
    "queues": _queues,
    "tokens": _tokens,
    "rules": _rules,
}
"""What can be completed with what is in the archive: names, and the ids that stand for them."""


def from_archive(what: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return a completion with what the checkpoint has, one of :data:`_COMPLETIONS`.

    It opens nothing else, so no bucket and no helpdesk is asked. A name that a shell would take
    apart is completed with its id. Nothing is completed without a usable archive.
    """

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        with suppress(Exception):
            from migrator.archive.access import Access
            from migrator.archive.checkpoint import NAME, ReadOnlyCheckpoint
            from migrator.config import load

            config = load(ctx.find_root().params.get("config_path"), need_source=False)
            checkpoint = ReadOnlyCheckpoint(config.archive.path / NAME)
            try:
                found = list(_COMPLETIONS[what](Access(checkpoint)))
            finally:
                checkpoint.close()
            items = {}
            for name, number in found:
                plain = _PLAIN_WORD.fullmatch(name) and name.startswith(incomplete)
                word = name if plain else str(number or "")
                if word and word.startswith(incomplete):
                    items[word] = CompletionItem(word, help=shown(name))
            return list(items.values())
        return []

    return complete


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def pull_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that ``run`` and ``sync`` share, for :func:`options_from`."""
    for option in (
        click.option(
            "--moved", is_flag=True, help="The helpdesk of this archive has another address now."
        ),
        click.option(
            "--accept-changes",
            is_flag=True,
            help="Go on when the source lists other files under known ids; keep what we hold.",
        ),
        click.option(
            "--accept-deletions",
            is_flag=True,
            help="Go on when the source lists far fewer attachments; mark the others deleted.",
        ),
    ):
        command = option(command)
    return command


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    """Read a date (UTC) or an age as Unix seconds; 0 when not given."""
    if value is None:
        return 0
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
        except ValueError as error:
            raise click.BadParameter("is not a day of the calendar", ctx, param) from error
    from migrator.config import duration

    try:
        return int(time.time() - duration(value))
    except ValueError as error:
        text = "must be a day such as 2026-01-31 or an age such as 30d"
        raise click.BadParameter(text, ctx, param) from error


def scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one ``scope``."""

    @click.option(
        "--department",
        "departments",
        multiple=True,
        metavar="ID|TITLE",
        shell_complete=from_archive("departments"),
        help="Only this department; may be given several times.",
    )
    @click.option(
        "--since",
        callback=_since,
        metavar="DAY|AGE",
        help="Only tickets active since then: 2026-01-31 or 30d.",
    )
    @click.option(
        "--limit-tickets", type=click.IntRange(1), metavar="N", help="Only the first N tickets."
    )
    @click.option("--include-trash", is_flag=True, help="Tickets in the trash too.")
    @functools.wraps(command)
    def wrapped(*args: Any, departments: tuple[str, ...], **kwargs: Any) -> Any:
        from migrator.sources.base import Scope

        narrowed = {name: kwargs.pop(name) for name in ("since", "limit_tickets", "include_trash")}
        scope = Scope(departments=frozenset(departments) or None, **narrowed)
        return command(*args, scope=scope, **kwargs)

    return wrapped


def published_at(made: float | None = None) -> float | None:
    """Return when the snapshot was made that this process published last; set it to ``made``."""
    app = _app()
    if app is not None and made is not None:
        app.published = made
    return app.published if app else None


def configured_hours() -> Hours:
    """Return when requests may be made, by the configuration of this invocation."""
    from migrator.hours import ANY_TIME

    app = _app()
    return app.config.hours if app and app.config else ANY_TIME


def command() -> str:
    """Return the name of the command of this invocation."""
    app = _app()
    return app.command if app else ""


def verbosity() -> int:
    """Return -1 with -q, 1 with -v, else 0."""
    app = _app()
    return app.verbosity if app else 0


def _app() -> App | None:
    ctx = click.get_current_context(silent=True)
    return ctx.find_object(App) if ctx else None


def told(name: str, reasons: Mapping[str, str]) -> str:
    """Return a name safe to print, followed by its reason, if any."""
    return shown(f"{name}: {reasons[name]}" if name in reasons else name)


def note(text: str, level: str = "info") -> None:
    """Print a line on stderr, beside the result; ``level`` is info or warning."""
    app = _app()
    remember_line(text)
    if level == "info" and verbosity() < 0:
        return
    if app is not None and app.log_format == "json":
        print_event(app, "notice", level=level, text=text)
    else:
        _say(app, ("Warning: " if level == "warning" else "") + shown(text))


def print_lines_with(say: Callable[[str], None] | None) -> None:
    """Let ``say`` print the lines for people on stderr from now on; None: nobody in particular."""
    if (app := _app()) is not None:
        app.say = say


def _say(app: App | None, line: str) -> None:
    if app is not None and app.say is not None:
        app.say(line)
    else:
        click.echo(line, err=True)


class LogLines(logging.Handler):
    """Prints log records, ours and those of libraries, in the user's format."""

    def __init__(self, app: App) -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; its traceback only with MIGRATOR_DEBUG=1."""
        debug = os.environ.get("MIGRATOR_DEBUG") == "1"
        text = self._app.scrub(self.format(record) if debug else record.getMessage())
        level = record.levelname.lower()
        self._app.lines.append(self._app.scrub(record.getMessage()))
        with suppress(OSError):  # a server does not end because nobody reads its log
            if self._app.log_format == "json":
                print_event(self._app, "notice", level=level, text=text)
            else:
                lines = f"{level.capitalize()}: {text}".split("\n")
                _say(self._app, "\n".join(map(shown, lines)))


def print_event(app: App, event: str, **facts: object) -> None:
    """Print one line of --log-format json, with the time and the run, on stderr."""
    line = {"ts": iso_time(now()), "run": app.run_id, "event": event, **facts}
    click.echo(json.dumps(line), err=True)


def record_check(
    archive: Archive, kind: str, started_at: int, *, whole: bool, **facts: Any
) -> None:
    """Record in the archive that a ``verify`` or ``audit`` finished, if that is possible.

    ``facts`` are ``exit_code`` and ``summary`` of :meth:`Proof.add_check`.
    """
    try:
        archive.ledger.add_check(kind, started_at=started_at, whole=whole, **facts)
    except ArchiveError as error:  # the findings are printed all the same
        note(f"Reports will not mention this {kind}, which could not be recorded: {error}")


def remember_run(run_id: int | None) -> None:
    """Set the run that later messages belong to."""
    if (app := _app()) is not None:
        app.run_id = run_id


def remember_line(text: str) -> None:
    """Keep a message for those who are told how the command ended."""
    if (app := _app()) is not None:
        app.lines.append(text)


def write(pieces: Iterable[str], output: Path | None) -> None:
    """Write a result as UTF-8 to the file ``output``, or to stdout for None.

    A file appears whole or not at all; an existing one is replaced. Only its owner can read it:
    it holds names of files and tickets. Raises ConfigError when it cannot be written.
    """
    encoded = (piece.encode("utf-8", "backslashreplace") for piece in pieces)
    if output is None:
        for piece in encoded:
            click.echo(piece, nl=False)
        return
    from migrator.blobs import durable

    target = output.resolve()
    with user_file(output, "write"):
        if target.exists() and not target.is_file():  # a pipe or a device such as /dev/stdout
            with target.open("wb") as sink:
                sink.writelines(encoded)
        else:
            durable.write(target, encoded)


def print_json(value: object) -> None:
    """Print a result as JSON on stdout, which somebody reads: without it the command failed."""
    if stdout := telling(sys.stdout):
        stdout.needed = True
    click.echo(json.dumps(value, indent=2))


def print_result(facts: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result on stdout: facts as JSON, or lines of text."""
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(lines))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in aligned columns on stdout; cells are made safe, the head shown always."""
    table = [head, *(tuple(map(shown, row)) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def now() -> int:
    """Return the time in Unix seconds."""
    return int(time.time())


def user_name(unnamed: str, owned: Path | None = None) -> str:
    """Return who owns ``owned``, else who runs this process, whatever the environment says.

    ``unnamed`` with the number is for users without a name, as in some containers.
    """
    import pwd

    uid = os.geteuid()
    if owned is not None:
        with suppress(OSError):
            uid = owned.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return unnamed.format(uid)


# Of malloc.h:
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_LARGE = 1 << 20
_SPARE = 8 << 20


def share_one_heap() -> None:
    """Use one malloc arena: one for each thread would keep megabytes, while the GIL is shared.

    Blocks of a megabyte, as large lists are, go back to the kernel as soon as they are free.
    """
    _mallopt((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGE))


def keep_blocks() -> None:
    """Allocate blocks of less than a megabyte from the heap, and keep some free for the next.

    Otherwise malloc may ask the kernel for every block of 128 KiB or more, whose pages are then
    cleared and mapped one by one.
    """
    _mallopt((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _SPARE))


def _mallopt(*options: tuple[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        libc = ctypes.CDLL(None)
        for name, value in options:
            libc.mallopt(name, value)
