"""``migrator sandbox``: a Kayako look-alike to rehearse on."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.common import duration, note, size, write
from migrator.cli.process import STOP_SIGNALS, on_signals

if TYPE_CHECKING:
    from migrator.sandbox.kayako import Helpdesk


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8481, show_default=True, help="Port; 0 takes a free one.")
@click.option("--tickets", default=40, show_default=True, type=click.IntRange(0), help="Size.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same helpdesk.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME",
    help="Switch a fault on; `all` for every fault of single attachments and tickets, and more.",
)
@click.option("--list-faults", is_flag=True, help="List the faults and exit; * is in `all`.")
@click.option(
    "--departments",
    default=4,
    show_default=True,
    type=click.IntRange(4),
    help="Departments with tickets.",
)
@click.option("--latency", callback=duration, metavar="50ms", help="Wait before each reply.")
@click.option(
    "--big", multiple=True, callback=size, metavar="200MiB", help="Add one file of this size."
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result of a perfect run here, as JSON: attachments by id, and the gaps.",
)
def sandbox(
    *,
    host: str,
    port: int,
    tickets: int,
    seed: int,
    faults: tuple[str, ...],
    list_faults: bool,
    departments: int,
    latency: float | None,
    big: tuple[int, ...],
    truth: Path | None,
) -> None:
    """Serve a Kayako Classic look-alike, with faults by switch, until Ctrl-C.

    Prints a config.toml that fits it on stdout.

    \b
    Examples:
      migrator sandbox --fault all > config.toml
      migrator sandbox --tickets 2000 --latency 50ms --big 200MiB
      migrator sandbox --departments 200 --fault short_queries
    """
    from migrator.errors import ConfigError
    from migrator.sandbox.kayako import ALL_FAULTS, IN_ALL, Helpdesk, SandboxOptions, SandboxServer

    if list_faults:
        width = max(map(len, ALL_FAULTS))
        for name, text in ALL_FAULTS.items():
            click.echo(f"{'*' if name in IN_ALL else ' '} {name:<{width}}  {text}")
        return
    try:
        options = SandboxOptions(
            seed=seed,
            tickets=tickets,
            faults=frozenset(faults),
            latency=latency or 0.0,
            big=big,
            departments=departments,
        )
    except ValueError as error:
        raise ConfigError(f"{error}; see `migrator sandbox --list-faults`") from error
    helpdesk = Helpdesk.build(options)
    if truth is not None:
        _write_truth(helpdesk, truth)
    try:
        server = SandboxServer(helpdesk, host=host, port=port)
        server.start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    ended = threading.Event()
    try:
        # From here on, so that a signal that comes meanwhile is not lost.
        with on_signals(lambda *_: ended.set(), *STOP_SIGNALS):
            click.echo(server.config, nl=False)
            sys.stdout.flush()
            attachments = f"{len(helpdesk.truth):,} attachments"
            note(f"Sandbox with {attachments} at {server.url}; Ctrl-C ends it.")
            ended.wait()
    finally:
        server.stop()


def _write_truth(helpdesk: Helpdesk, path: Path) -> None:
    told: dict[str, object] = {
        str(attachment_id): {
            "state": truth.state,
            "problem": truth.problem,
            "sha256": truth.sha256,
            "size": truth.size,
            "faults": list(truth.faults),
        }
        for attachment_id, truth in sorted(helpdesk.truth.items())
    }
    if gaps := helpdesk.gaps:
        told["gaps"] = {str(ticket_id): fault for ticket_id, fault in sorted(gaps.items())}
    write([json.dumps(told, indent=2) + "\n"], path)
