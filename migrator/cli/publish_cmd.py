"""``migrator publish`` and ``restore``: the checkpoint into the bucket of the files, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.common import App, note, now, open_beside, pass_app, published_at, reader
from migrator.errors import ArchiveUnwritable, MigratorError, SourceError
from migrator.text import counted, human_bytes, iso_time

if TYPE_CHECKING:
    from migrator.archive import Archive
    from migrator.archive.snapshots import Snapshot
    from migrator.blobs import Place
    from migrator.config import Config


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to reach a bucket, for :func:`place_from`."""
    for option in (
        click.option(
            "--allow-http", is_flag=True, default=None, help="Allow http://. [s3.allow_http]"
        ),
        click.option("--region", metavar="NAME", help="Of the bucket. [s3.region, or AWS_REGION]"),
        click.option(
            "--endpoint",
            metavar="URL",
            callback=reader("endpoint_url"),
            help="The service. [s3.endpoint, or AWS_ENDPOINT_URL, or Amazon]",
        ),
    ):
        command = option(command)
    return command


bucket = reader("bucket_url")
"""For an option or argument such as ``s3://bucket/prefix``."""


def place_from(
    url: str,
    config: Config | None,
    *,
    endpoint: str | None,
    region: str | None,
    allow_http: bool | None,
) -> Place:
    """Return the place of a command line; what it leaves out is that of ``[s3]``, if there is one.

    ``http://`` needs to be allowed once: by the option, the configuration or AWS_ALLOW_HTTP.
    """
    import os

    from migrator.blobs import Place

    told = config.s3 if config else None
    may = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return Place(
        url,
        endpoint or (told.endpoint if told else None),
        region or (told.region if told else None),
        bool(allow_http or (told and told.allow_http) or may),
    )


def config_if_any(app: App) -> Config | None:
    """Return the configuration; None where there is none and none was named."""
    from migrator.config import DEFAULT_PATH

    if app.config_path is None and not DEFAULT_PATH.exists():
        return None
    return app.load(need_source=False)


@click.command()
@pass_app
def publish(app: App) -> None:
    """Write a snapshot of the checkpoint into the bucket that has the files.

    Then the bucket is a whole archive: `migrator serve --from` serves it on any machine, and
    `migrator restore` makes an archive of it. A run may be at work. With archive.publish = true
    every run and sync does this at its end, and so does every change of tokens, rules and queues.

    \b
    Example:
      migrator publish
    """
    from migrator.cli.textfile import measured

    config, archive = open_beside(app)
    with archive, measured(config, archive):
        app.started()
        tell_published(archive, config)


@click.command()
@click.argument("url", callback=bucket, metavar="s3://BUCKET/PREFIX")
@click.argument("target", type=click.Path(path_type=Path), metavar="TO")
@click.option("--snapshot", metavar="NAME", help="An earlier snapshot. [the newest]")
@place_options
@pass_app
def restore(app: App, /, *, url: str, target: Path, snapshot: str | None, **how: Any) -> None:
    """Make an archive at TO from a bucket alone.

    TO gets the checkpoint of the newest snapshot, verified by its hash, and a note of where the
    files are; they stay in the bucket. With archive.path = TO the next `migrator run` goes on from
    there. Let only one archive write into a bucket: give up the one that was there before.

    \b
    Example:
      migrator restore s3://bucket/prefix ./archive
    """
    from migrator.archive import open_beside, snapshots

    place = place_from(url, config_if_any(app), **how)
    made = snapshots.restore(place, target, snapshot)
    with open_beside(target) as archive:
        files = sum(count.n for count in archive.queries.counts().values())
    click.echo(
        f"Restored {str(target)!r} from {url}: {counted(files, 'attachment')}, "
        f"as of {iso_time(made.time)}."
    )
    note("What was pulled later than that is pulled again by the next run.")


def tell_published(archive: Archive, config: Config) -> None:
    """Publish a snapshot and say so. Raises ConfigError, ArchiveUnwritable."""
    tell(*published(archive, config))


def published(archive: Archive, config: Config) -> tuple[Snapshot, str]:
    """Publish a snapshot; the result is for :func:`tell`. Raises ConfigError, ArchiveUnwritable."""
    from migrator.archive import snapshots

    try:
        return snapshots.publish(archive, keep=config.archive.keep_snapshots, now=now())
    except ArchiveUnwritable as error:
        raise ArchiveUnwritable(
            f"{error} This concerns the snapshot alone: servers may go on with an earlier "
            "one until `migrator publish` ends well."
        ) from error


def tell(made: Snapshot, problem: str) -> None:
    """Say what was published."""
    published_at(made.time)
    size = f"{human_bytes(made.size)}, {human_bytes(made.unpacked)} unpacked"
    note(f"Published {made.name} ({size}).")
    if problem:
        note(problem, level="warning")


@contextmanager
def publishing(archive: Archive, config: Config) -> Iterator[None]:
    """With ``archive.publish``, publish after the block, also after a source that went away."""
    try:
        yield
    except SourceError:
        if config.archive.publish:
            try:
                tell_published(archive, config)
            except MigratorError as error:
                note(str(error), level="warning")
        raise
    if config.archive.publish:
        tell_published(archive, config)
