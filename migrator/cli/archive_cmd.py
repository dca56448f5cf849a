"""``migrator archive copy``: the files into another store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.common import App, note, now, pass_app, told
from migrator.cli.publish_cmd import place_from, place_options
from migrator.errors import ConfigError
from migrator.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.archive.copying import Copied, Tell
    from migrator.blobs import Place
    from migrator.blobs.base import Store

COPIES = 8
"""Files copied at the same time: each waits for the network most of the time."""
SHOWN = 50
_ALL = 1 << 30


@click.group()
def archive() -> None:
    """Copy or move the files of the archive."""


@archive.command()
@click.argument("target", metavar="TO")
@click.option("--switch", is_flag=True, help="Then let the archive use the copy.")
@place_options
@pass_app
def copy(app: App, /, *, target: str, switch: bool, **how: Any) -> int:
    """Copy every file to TO: a bucket, or a directory.

    TO is s3://BUCKET/PREFIX or a directory, which gets blobs/. Each file is hashed on the way;
    damaged and lost ones are named, and the exit code is 6. What TO has already, by name and size,
    is not copied again: if it is interrupted, run the same command again. A bucket gets a snapshot
    of the checkpoint as well, so that it is a whole archive. With --switch the archive uses the
    copy from then on; to bring the files back to the disk, TO is the archive itself. Nothing is
    removed from the place before. No run can be at work meanwhile.

    \b
    Examples:
      migrator archive copy s3://mirror/helpdesk
      migrator archive copy s3://bucket/prefix --switch
      migrator archive copy ./archive --switch
    """
    from migrator.archive import open_archive, snapshots
    from migrator.archive.copying import copy_blobs
    from migrator.blobs import move
    from migrator.cli.handover_cmd import watched
    from migrator.events import BlobChecked, WorkExpected

    config = app.load(need_source=False)
    path = config.archive.path
    place = _place(target, app, **how)
    store = _store(path, place, Path(target), switch=switch)
    with (
        open_archive(path, command="archive copy", repairing=True) as source,
        ThreadPoolExecutor(COPIES, thread_name_prefix="copy") as pool,
    ):

        def work(tell: Tell, stopped: Callable[[], bool]) -> Copied:
            return copy_blobs(source, store, pool, tell=tell, stopped=stopped)

        expected = WorkExpected(0, *source.queries.kept_blobs())
        done = watched(app, work, expected, BlobChecked)
        _print(done)
        if place is not None:
            made, _ = snapshots.publish(source, keep=_ALL, now=now(), place=place)
            note(f"Published {made.name} there.")
        if switch and done.exit_code == 0:
            move(path, place)
            line = f'archive.blobs = "{place.url}"' if place else "no archive.blobs"
            note(f"The archive uses {store.where} now: have {line} in the configuration.")
        elif done.exit_code:
            text = "The archive was not switched" if switch else "The copy lacks these files"
            note(f"{text}. `migrator verify --repair` comes first.")
    return done.exit_code


def _place(target: str, app: App, **how: Any) -> Place | None:
    """Return the bucket that TO names, None for a directory."""
    if "://" not in target:
        if given := [name for name, value in how.items() if value is not None]:
            raise click.UsageError(f"--{given[0].replace('_', '-')} goes with a bucket.")
        return None
    from migrator.config import bucket_url

    try:
        return place_from(bucket_url(target), app.config, **how)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TO") from None


def _store(path: Path, place: Place | None, folder: Path, *, switch: bool) -> Store:
    """Return the store to copy to. Raises ConfigError for one that would harm another archive."""
    from migrator.blobs import beside, in_bucket, place_of

    known = place_of(path)
    if place is not None:
        if known is not None and known.url == place.url:
            raise ConfigError(f"The files are in {place.url} already.")
        return in_bucket(path, place)
    same = folder.resolve() == path.resolve()
    if same and known is None:
        raise ConfigError(f"The files are in {str(path)!r} already.")
    if switch and not same:
        raise ConfigError(f"On a disk, files are beside the checkpoint: TO must be {str(path)!r}.")
    if not same and (folder / "checkpoint.db").exists():
        raise ConfigError(f"There is another archive at {str(folder)!r}.")
    return beside(folder)


def _print(done: Copied) -> None:
    click.echo(f"copied   {done.copied:>12,}  {human_bytes(done.bytes)}, each read and hashed")
    click.echo(f"there    {done.there:>12,}  by name and size")
    for name, hashes in (("damaged", done.damaged), ("lost", done.lost)):
        click.echo(f"{name:<7}  {len(hashes):>12,}")
        for sha256 in hashes[:SHOWN]:
            click.echo(f"  {told(sha256, {})}")
