"""``migrator status``: where we are, in a glance or for a monitor."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli._common import App, open_beside, pass_app, print_json
from migrator.report.plain import iso_time

if TYPE_CHECKING:
    from migrator.archive import Archive


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_app
def status(app: App, as_json: bool) -> None:
    """Tell where we are, also while a run is at work.

    \b
    Example:
      migrator status
      migrator status --json | jq .states.failed.n
    """
    _, archive = open_beside(app)
    with archive:
        if as_json:
            print_json(_facts(archive))
        else:
            click.echo("\n".join(_lines(archive)))


def _lines(archive: Archive) -> list[str]:
    from migrator.cli._common import shown
    from migrator.report.text import describe_run, ledger

    runs = archive.ledger.runs(1)
    owner = _owner(archive.path)
    return [
        f"Archive {shown(str(archive.path))}",
        _describe(owner) if owner is not None else "No run is at work.",
        describe_run(runs[0]) if runs else "There has been no run yet.",
        "",
        *ledger(archive.ledger.counts()),
    ]


def _describe(owner: Mapping[str, object]) -> str:
    from migrator.cli._common import shown

    since = owner.get("since")
    return shown(
        f"In use by process {owner.get('pid', '?')} on {owner.get('host', '?')} "
        f"({owner.get('command', '?')}), "
        f"since {iso_time(since if isinstance(since, int) else 0) or '?'}."
    )


def _facts(archive: Archive) -> dict[str, object]:
    from migrator.report import exit_code
    from migrator.report.machine import run_facts
    from migrator.report.model import gaps

    counts = archive.ledger.counts()
    runs = archive.ledger.runs(1)
    left = gaps(runs[0] if runs else None)
    return {
        "archive": str(archive.path),
        "held_by": _owner(archive.path),
        "exit_code": 3 if left else exit_code(counts),
        "gaps": left,
        "states": {state.value: {"n": c.n, "bytes": c.bytes} for state, c in counts.items()},
        "last_run": run_facts(runs[0] if runs else None),
    }


def _owner(root: Path) -> dict[str, object] | None:
    """Tell who holds the run lock: pid, host, command and since (Unix seconds); None if nobody.

    The kernel's lock is the truth, the text in the file only says whose it is.
    """
    try:
        with (root / "lock").open("rb") as file:
            text = file.read(4096)
            if not text:  # given back; asking the kernel would be in the way of a starting run
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _parsed(text)
    except OSError:
        return None
    return None


def _parsed(text: bytes) -> dict[str, object]:
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
