"""``migrator pause`` and ``resume``: hold up whoever makes requests, from another terminal."""

from __future__ import annotations

import socket

import click

from migrator.cli.common import App, duration, now, open_beside, pass_app, user_name
from migrator.text import human_duration, shown


@click.command()
@click.option(
    "--for",
    "seconds",
    callback=duration,
    metavar="DURATION",
    help="Resume by itself after this long, such as 2h.",
)
@pass_app
def pause(app: App, /, *, seconds: float | None) -> None:
    """Let no command ask Kayako or Tickiti for anything until `migrator resume`.

    Requests under way still finish. What runs waits and keeps the archive; Ctrl-C ends it as
    always. The pause holds for what is started later, too, and through restarts. What asks
    neither of them goes on: reading files again, copying them, serving and publishing.

    \b
    Examples:
      migrator pause
      migrator pause --for 2h
    """
    from migrator.archive import lock

    if seconds is not None and seconds < 1:
        raise click.BadParameter("must be at least 1s", param_hint="--for")
    _, archive = open_beside(app, read_only=True)
    with archive:
        root, at = archive.path, now()
        until = None if seconds is None else at + round(seconds)
        lock.pause(root, lock.Pause(user_name("user {}"), socket.gethostname(), at, until))
        owner = lock.holder(root)
    end = "until `migrator resume`" if seconds is None else f"for {human_duration(seconds)}"
    if owner is None:
        told = f"Paused {end}. Nothing holds the archive: what asks Kayako or Tickiti next waits."
    else:
        work = f"The {owner.command or 'command'} of process {owner.pid}"
        told = f"Paused {end}. {work} asks neither Kayako nor Tickiti for anything further."
    click.echo(shown(told))


@click.command()
@pass_app
def resume(app: App, /) -> None:
    """End a pause: what waits goes on.

    \b
    Example:
      migrator resume
    """
    from migrator.archive import lock

    _, archive = open_beside(app, read_only=True)
    with archive:
        held = lock.paused(archive.path, now()) is not None
        lock.resume(archive.path)
        owner = lock.holder(archive.path)
    if not held:
        click.echo("Nothing was paused.")
    elif owner is None:
        click.echo("Resumed.")
    else:
        told = f"Resumed. The {owner.command or 'command'} of process {owner.pid} goes on."
        click.echo(shown(told))
