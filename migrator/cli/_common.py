"""What the commands share: the configuration, parameter types, small ways to print."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator.errors import ArchiveError, ArchiveUnwritable

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.config import Config
    from migrator.events import Event
    from migrator.sources.kayako.signing import KayakoSettings


@dataclass
class App:
    """What one invocation of the command line knows; the object of click's context."""

    config_path: Path | None = None
    log_format: str = "text"
    config: Config | None = None
    run_id: int | None = None
    """The latest run of this process."""

    def load(self, *, need_source: bool = True) -> Config:
        """Load the configuration and tell its warnings once; ConfigError lists all mistakes."""
        from migrator.config import load

        told = self.config.warnings if self.config is not None else ()
        self.config = load(self.config_path, need_source=need_source)
        for warning in self.config.warnings:
            if warning not in told:
                note(warning, level="warning")
        return self.config

    def scrub(self, text: str) -> str:
        """Remove every secret that this process knows from a text."""
        from migrator.sources.kayako.signing import Credentials

        names = ("KAYAKO_API_KEY", "KAYAKO_SECRET_KEY")
        pairs = [tuple(os.environ.get(name, "") for name in names)]
        if self.config is not None:
            kayako = self.config.kayako
            pairs.append((kayako.api_key.get_secret_value(), kayako.secret_key.get_secret_value()))
        for api_key, secret_key in pairs:
            text = Credentials(api_key, secret_key).scrub(text)
        return text


ID = click.IntRange(0, 2**63 - 1)
"""A parameter that names a row of the archive or of Kayako."""
pass_app = click.make_pass_decorator(App)


def settings_from(config: Config) -> KayakoSettings:
    """Translate ``[kayako]`` into what the source room wants to know."""
    from migrator.sources.kayako.signing import Credentials, KayakoSettings, UrlForm

    kayako = config.kayako
    return KayakoSettings(
        url=kayako.url,
        credentials=Credentials(
            kayako.api_key.get_secret_value(), kayako.secret_key.get_secret_value()
        ),
        url_form=UrlForm(kayako.url_form),
        ca_file=kayako.ca_file,
        timeout=kayako.timeout,
        concurrency=kayako.concurrency,
        requests_per_second=kayako.requests_per_second,
        attempts=kayako.attempts,
        max_body=kayako.max_body,
        patience=kayako.patience,
        page_size=kayako.page_size,
    )


def tell_retry(event: Event, /) -> None:
    """Listen for the commands that make a few calls only: say why they take their time."""
    from migrator.events import Retrying

    if isinstance(event, Retrying):
        note(f"Trying again in {event.wait:.0f} s: {event.what} ({event.problem})")


def open_beside(app: App, *, read_only: bool = False) -> tuple[Config, Archive]:
    """Load the configuration and open the archive beside a run that may be at work.

    What the configuration says about queues and ticket numbers is applied, so that every
    command sees the same ones. An archive that is or shall be read-only keeps those it has.
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


def apply_config(archive: Archive, config: Config) -> None:
    """Write the queues and ticket numbers of the configuration into the archive."""
    from migrator.config import load_ticket_numbers

    tickiti = config.tickiti
    numbers = load_ticket_numbers(tickiti.ticket_numbers) if tickiti.ticket_numbers else {}
    queues = {department: (queue.id, queue.name) for department, queue in tickiti.queues.items()}
    archive.access.apply_config(queues, numbers)


OptionReader = Callable[[click.Context, click.Parameter, str | None], float | None]


def _reader(name: str) -> OptionReader:
    """Make an option's callback of a reader of the configuration, such as ``duration``."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        from migrator import config

        try:
            return None if value is None else float(getattr(config, name)(value))
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx=ctx, param=param) from None

    return read


duration = _reader("duration")
"""``callback=`` of an option given as ``90d``: the command gets seconds."""
fraction = _reader("fraction")
"""``callback=`` of an option given as ``5%``: the command gets a fraction of 1."""


def shown(text: str) -> str:
    """Make a text of unknown origin safe to print on a terminal, in one line."""
    from migrator.text import shown as escaped

    return escaped(text)


def told(name: str, reasons: Mapping[str, str]) -> str:
    """Make a name safe to print, with the reason that belongs to it, if there is one."""
    return shown(f"{name}: {reasons[name]}" if name in reasons else name)


def note(text: str, level: str = "info") -> None:
    """Tell the user something beside the result: a line on stderr; ``level`` is info or warning."""
    ctx = click.get_current_context(silent=True)
    app = ctx.find_object(App) if ctx else None
    if app is not None and app.log_format == "json":
        tell_event(app, "notice", level=level, text=text)
    else:
        click.echo(("Warning: " if level == "warning" else "") + shown(text), err=True)


class LogLines(logging.Handler):
    """Tells what is logged, by us or a library, the way the user wants everything told."""

    def __init__(self, app: App) -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record; its traceback only with MIGRATOR_DEBUG=1."""
        debug = os.environ.get("MIGRATOR_DEBUG") == "1"
        text = self._app.scrub(self.format(record) if debug else record.getMessage())
        level = record.levelname.lower()
        with suppress(OSError):  # a server does not end because nobody reads its log
            if self._app.log_format == "json":
                tell_event(self._app, "notice", level=level, text=text)
            else:
                lines = f"{level.capitalize()}: {text}".split("\n")
                click.echo("\n".join(map(shown, lines)), err=True)


def tell_event(app: App, event: str, **facts: object) -> None:
    """Print one line of --log-format json, with the time and the run, on stderr."""
    from migrator.text import iso_time

    line = {"ts": iso_time(now()), "run": app.run_id, "event": event, **facts}
    click.echo(json.dumps(line), err=True)


def write_down(archive: Archive, kind: str, started_at: int, *, whole: bool, **facts: Any) -> None:
    """Note in the archive that a ``verify`` or ``audit`` came to its end, if that can be.

    ``facts`` are ``exit_code`` and ``summary`` of :meth:`Proof.add_check`.
    """
    try:
        archive.ledger.add_check(kind, started_at=started_at, whole=whole, **facts)
    except ArchiveError as error:  # what was found is told all the same
        note(f"Reports will not know of this {kind}, which could not be written down: {error}")


def remember_run(run_id: int | None) -> None:
    """Note the run that what is told from now on belongs to."""
    ctx = click.get_current_context(silent=True)
    app = ctx.find_object(App) if ctx else None
    if app is not None:
        app.run_id = run_id


def print_json(value: object) -> None:
    """Print a result for machines on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in aligned columns on stdout; cells are made safe, the head shown always."""
    table = [head, *(tuple(map(shown, row)) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def now() -> int:
    """Tell the time in Unix seconds."""
    return int(time.time())
