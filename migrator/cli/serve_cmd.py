"""``migrator serve``: the archive as Tickiti's API, and as pages for the staff."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.access_cmd import warn_of_queues
from migrator.cli.common import App, duration, keep_blocks, note, open_beside, pass_app, size
from migrator.cli.publish_cmd import bucket, config_if_any, place_from, place_options
from migrator.cli.textfile import metrics_room
from migrator.errors import ConfigError
from migrator.hours import ANY_TIME, Hours

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from migrator.archive import Archive
    from migrator.blobs import Place
    from migrator.config import Config, MetricsConfig, TickitiConfig
    from migrator.serve import Face
    from migrator.serve.audit_log import AuditLog
    from migrator.serve.catalog import EndpointSettings
    from migrator.serve.replica import Replica
    from migrator.serve.server import ServerOptions

FILE = click.Path(path_type=Path, dir_okay=False)

_PLAIN = (
    "Without TLS, anybody on the way can read the tokens and the files that are sent. Set "
    "--tls-cert (tickiti.tls_cert), or listen on 127.0.0.1 behind a proxy that speaks TLS."
)
_OPEN_METRICS = (
    "Anybody who reaches this address can read /metrics: how many files there are and how the "
    "migration goes. Set metrics.token to ask for one."
)
_MOST_PROXIES = 8
"""Bits: a network of fewer is no network of proxies."""


@click.command()
@click.option("--host", help="Address to listen on. [tickiti.host of the configuration]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 takes any free one. [tickiti.port of the configuration]",
)
@click.option("--tls-cert", type=FILE, help="Serve TLS with this certificate. [tickiti.tls_cert]")
@click.option("--tls-key", type=FILE, help="The key, if in another file. [tickiti.tls_key]")
@click.option(
    "--forwarded-allow-ips",
    metavar="ADDRESSES",
    help="Proxies whose X-Forwarded headers are trusted. [tickiti.forwarded_allow_ips, or none]",
)
@click.option(
    "--audit-log", type=FILE, help="Append a line for each download. [tickiti.audit_log, or none]"
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that serve together; each bounds its clients and wrong tokens for itself.",
)
@click.option(
    "--read-only",
    is_flag=True,
    help="Never write to the archive, not even when a token was last used.",
)
@click.option(
    "--from",
    "url",
    callback=bucket,
    metavar="s3://BUCKET/PREFIX",
    help="Serve what `migrator publish` put into a bucket. Needs no configuration.",
)
@click.option(
    "--look-every",
    callback=duration,
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="With --from: how often to look for a newer snapshot.",
)
@click.option(
    "--cache",
    callback=size,
    default="1GiB",
    show_default=True,
    metavar="SIZE",
    help="With --from: files that are kept in the directory for temporary files (TMPDIR).",
)
@click.option(
    "--metrics",
    is_flag=True,
    help="Answer at /metrics, for Prometheus. [metrics.serve, or a token in metrics.token]",
)
@place_options
@pass_app
def serve(
    app: App,
    /,
    *,
    host: str | None,
    port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    forwarded_allow_ips: str | None,
    audit_log: Path | None,
    workers: int,
    read_only: bool,
    url: str | None,
    look_every: float,
    cache: int,
    metrics: bool,
    **how: Any,
) -> None:
    """Serve the archive as Tickiti's API and as staff pages, until Ctrl-C.

    A run may fill the archive at the same time. Open the address in a browser and sign in with
    a token to search tickets, read threads and download files of any size. With --read-only
    several servers can stand side by side on one copy of an archive.

    With --from, servers stand side by side on any machines. They hold nothing but a private copy of
    the newest snapshot and some files, and write nothing. Tokens, revocations and all else are as
    of that snapshot: what is published reaches a server within --look-every and the time to fetch
    it. Only [tickiti] and [s3] of a configuration are read, if there is one.

    \b
    Examples:
      migrator token create --name reader --ability tickets:read
      migrator serve --port 8480
      migrator serve --from s3://bucket/prefix
    """
    from migrator.config import TickitiConfig, metrics_from_environment
    from migrator.serve import load_faces
    from migrator.serve.audit_log import AuditLog
    from migrator.serve.catalog import EndpointSettings

    keep_blocks()
    given = {
        "host": host,
        "port": port,
        "tls_cert": tls_cert,
        # The key of the configuration belongs to the certificate there.
        "tls_key": tls_key or tls_cert,
        "forwarded_allow_ips": forwarded_allow_ips,
        "audit_log": audit_log,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    with ExitStack() as stack:
        config, replica = config_if_any(app) if url else app.load(need_source=False), None
        if url:
            from migrator.archive.lock import scratch

            folder = stack.enter_context(scratch())
            place = place_from(url, config, **how)
            replica = _replica(place, folder, look_every, cache // workers)
        elif needless := [name for name, value in how.items() if value is not None]:
            raise click.UsageError(f"--{needless[0].replace('_', '-')} goes with --from.")
        settings = config.metrics if config else metrics_from_environment()
        measured = _metrics(config, settings, wanted=metrics)
        tickiti = (config.tickiti if config else TickitiConfig()).model_copy(update=changes)
        options = _options(tickiti)
        served = _Served(
            *_look(app, replica, read_only=read_only, forks=workers > 1),
            load_faces(*measured),
            EndpointSettings(
                max_download=tickiti.max_download,
                serve_deleted=tickiti.serve_deleted,
                posts_follow=config.keeps_posts if config else True,
                snapshot=replica.age if replica else None,
            ),
            AuditLog(tickiti.audit_log) if tickiti.audit_log is not None else None,
            replica,
            open_metrics=bool(measured) and not settings.token.get_secret_value(),
            hours=config.hours if config and not replica else ANY_TIME,
        )
        for doubt in doubts(tickiti):
            note(doubt, level="warning")
        _serve(served, options, workers, host=tickiti.host, port=tickiti.port)


def _serve(served: _Served, options: ServerOptions, workers: int, **address: Any) -> None:
    """Serve with this process or with ``workers`` until the stop."""
    from migrator.serve import server
    from migrator.serve.workers import serve_workers

    def ready(url: str) -> None:
        here, *others = server.urls_of(url) or [url]
        what = served.replica.place.url if served.replica else served.path
        note(f"Serving {what} at {here} until Ctrl-C.")
        if others := list(filter(server.is_exposed, others)):
            note(f"From other machines: {' or '.join(others)}")
        if options.tls is None and server.is_exposed(url):
            note(_PLAIN, level="warning")
        if served.open_metrics and server.is_exposed(url):
            note(_OPEN_METRICS, level="warning")

    if workers == 1:
        with served.open() as application:
            server.serve(application, **address, options=options, on_ready=ready)
        return
    options = replace(options, parent=os.getpid())

    def work(listener: socket) -> None:
        with served.open() as application:
            server.serve_on(listener, application, options=options)

    secure = options.tls is not None
    serve_workers(work, workers=workers, **address, secure=secure, on_ready=ready)


def _metrics(config: Config | None, settings: MetricsConfig, *, wanted: bool) -> list[Face]:
    """Return the face for Prometheus where it is configured or ``wanted``."""
    if not (wanted or settings.served):
        return []
    metrics_room()
    from migrator.serve.metrics import Face

    token = settings.token.get_secret_value()
    return [Face(token=token, target=config.deliver.url if config else "")]


def _replica(place: Place, folder: Path, every: float, cache: int) -> Replica:
    from migrator.serve.replica import Replica

    if every < 1:
        raise click.BadParameter("must be at least 1s", param_hint="--look-every")
    return Replica(place, folder, every=every, cache=cache)


def _look(app: App, replica: Replica | None, *, read_only: bool, forks: bool) -> tuple[Path, bool]:
    """Return where there is something to serve, and whether it is read-only; tell the doubts."""
    from migrator.archive import open_read_only
    from migrator.blobs import place_of
    from migrator.serve.workers import apart

    path = replica.folder if replica else app.load(need_source=False).archive.path

    def look() -> bool:
        if replica:
            replica.fetch()
            opened = open_read_only(path, store=replica.bucket())
        else:
            opened = open_beside(app, read_only=read_only)[1]
        with opened as archive:
            _tell_doubts(archive)
            return archive.read_only

    # The library for buckets does not survive a fork.
    in_bucket = replica is not None or place_of(path) is not None
    return path, apart(look) if forks and in_bucket else look()


def _tell_doubts(archive: Archive) -> None:
    if not any(token.revoked_at is None for token in archive.access.tokens()):
        note("There is no token yet; `migrator token create` makes one.", level="warning")
    warn_of_queues(archive.access.queues())
    if clashes := archive.access.clashes():
        note(_clash(clashes), level="warning")


@dataclass(frozen=True)
class _Served:
    """The parts to serve; each process opens its own."""

    path: Path
    read_only: bool
    faces: list[Face]
    settings: EndpointSettings
    log: AuditLog | None
    replica: Replica | None = None
    open_metrics: bool = False
    hours: Hours = ANY_TIME

    @contextmanager
    def open(self) -> Iterator[ASGIApp]:
        """Open the archive, once for each face, and return the application over it."""
        from migrator.archive import open_beside, open_read_only
        from migrator.serve import join_faces
        from migrator.serve.audit_log import Audited

        with ExitStack() as stack:
            store = stack.enter_context(self.replica.followed()) if self.replica else None

            def opened() -> Archive:
                again = open_read_only if self.read_only else open_beside
                archive = stack.enter_context(again(self.path, store=store))
                archive.hours = self.hours
                return archive

            application = join_faces(self.faces, opened, self.settings)
            yield application if self.log is None else Audited(application, self.log)


def doubts(tickiti: TickitiConfig) -> Iterator[str]:
    """Yield what the settings leave open to strangers, in a sentence each."""
    for proxy in map(str.strip, (tickiti.forwarded_allow_ips or "").split(",")):
        with suppress(ValueError):  # told as a mistake elsewhere
            if proxy == "*" or (proxy and ip_network(proxy).prefixlen < _MOST_PROXIES):
                yield (
                    f"forwarded_allow_ips = {proxy!r} believes anybody who names another address: "
                    "the bounds for one address bind nobody, and the audit log holds what clients "
                    "claim. Name the addresses of your proxies."
                )
    key = tickiti.tls_key or tickiti.tls_cert
    with suppress(OSError):
        status = key.stat() if key else None
        # A group may read the key where root says so, as of ssl-cert on Debian.
        if status and stat.S_IMODE(status.st_mode) & (0o007 if status.st_uid == 0 else 0o077):
            yield f"Other users may read the TLS key {key}. Run: chmod 600 {shlex.quote(str(key))}"


def _clash(tickets: list[int]) -> str:
    named = ", ".join(map(str, tickets))
    return (
        f"The ids of tickets without a number are numbers of other tickets: {named}, and perhaps "
        "more. Under that number clients get the other one, these by ticket_id only. Give them "
        "numbers in tickiti.ticket_numbers."
    )


def _options(tickiti: TickitiConfig) -> ServerOptions:
    from migrator.serve.bounds import Limits
    from migrator.serve.server import ServerOptions, server_context, trusted_proxies

    if tickiti.tls_cert is None and tickiti.tls_key is not None:
        raise ConfigError(
            "tickiti.tls_key needs a certificate: set tickiti.tls_cert or --tls-cert as well."
        )
    return ServerOptions(
        tls=server_context(tickiti.tls_cert, tickiti.tls_key) if tickiti.tls_cert else None,
        trusted_proxies=trusted_proxies(tickiti.forwarded_allow_ips or ""),
        limits=Limits(connections=tickiti.max_connections),
    )
