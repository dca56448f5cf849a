"""``migrator accept``: losses that somebody has looked at and accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migrator.cli.common import (
    ID,
    App,
    json_option,
    open_beside,
    pass_app,
    print_json,
    print_result,
    print_table,
    user_name,
)

if TYPE_CHECKING:
    from migrator.archive import Archive, State

_AT_ONCE = 500


@click.command()
@click.argument("ids", metavar="[ATTACHMENT_ID]...", nargs=-1, type=ID)
@click.option("--reason", metavar="TEXT", help="Why nothing more is to be done about it.")
@click.option("--by", metavar="NAME", help="Who accepts it. [the name of the user]")
@click.option("--all-missing", is_flag=True, help="Accept all that are missing.")
@click.option("--all-gone", is_flag=True, help="Accept all that are gone.")
@click.option(
    "--undo", is_flag=True, help="Undo the acceptance of the attachments named, or of --all."
)
@click.option("--all", "everything", is_flag=True, help="With --undo: undo all.")
@json_option
@pass_app
def accept(
    app: App,
    /,
    *,
    ids: tuple[int, ...],
    reason: str | None,
    by: str | None,
    all_missing: bool,
    all_gone: bool,
    undo: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Accept that attachments are lost, and say why; without arguments list what is accepted.

    Only missing, gone and failed attachments can be accepted. They then count as settled: runs
    and reports name them, with who accepted them and why, and they no longer cause exit code 3.
    One that is stored after all, or listed as another file, is no longer accepted. If one of
    several ids is unknown or not a loss, none is accepted. Works while a run is at work, too.

    \b
    Examples:
      migrator accept
      migrator accept 88 239 --reason "asked the customer, not needed"
      migrator accept --all-missing --reason "lost in the disk crash of 2014" --by "J. Doe"
      migrator accept --undo 88
      migrator accept --undo --all
    """
    from migrator.archive import State

    states = [State.MISSING] * all_missing + [State.GONE] * all_gone
    if everything and not undo:
        raise click.UsageError("--all goes with --undo; accept with --all-missing or --all-gone.")
    if undo and (states or reason is not None or by is not None or bool(ids) is everything):
        raise click.UsageError("--undo takes ATTACHMENT_IDs, or --all alone.")
    if not undo and (ids or states) and reason is None:
        raise click.UsageError("An accepted loss needs a reason: --reason TEXT.")
    if not (undo or ids or states) and (reason is not None or by is not None):
        raise click.UsageError("Name ATTACHMENT_IDs, or give --all-missing or --all-gone.")
    _, archive = open_beside(app)
    with archive:
        if undo:
            done = archive.ledger.unaccept(None if everything else ids)
        elif ids or states:
            done = _accept(archive, ids, states, by=by or user_name("user {}"), reason=reason or "")
        else:
            _list(archive, as_json=as_json)
            return
        left = _not_accepted(archive)
    facts = {"taken_back" if undo else "accepted": done, "not_accepted": left}
    line = f"{'Taken back' if undo else 'Accepted'}: {done:,}. {_described(left)}"
    print_result(facts, [line], as_json=as_json)


def _accept(
    archive: Archive, ids: tuple[int, ...], states: list[State], *, by: str, reason: str
) -> int:
    """Accept all that is named, or nothing; return how many."""
    done = 0
    with archive.ledger.atomic():
        if ids:
            done += archive.ledger.accept(set(ids), by=by, reason=reason)
        if states:
            done += archive.ledger.accept_all(states, by=by, reason=reason)
    return done


def _list(archive: Archive, *, as_json: bool) -> None:
    left, ids = _not_accepted(archive), list(archive.queries.accepted_ids())
    batches = (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
    found = (row for batch in batches for row in archive.queries.among(batch).values())
    rows = [row for row in found if row.accepted is not None]
    names = ("id", "ticket_id", "ticket_number", "filename", "state", "accepted")
    if as_json:
        facts = [{name: getattr(row, name) for name in names} for row in rows]
        told = [{"attachment_id": one.pop("id"), **one} for one in facts]
        print_json({"accepted": told, "not_accepted": left})
        return
    if rows:
        head = ("ID", "TICKET", "NAME", "STATE", "ACCEPTED")
        cells = [
            (str(row.id), row.ticket_number, row.filename, row.state.value, row.accepted or "")
            for row in rows
        ]
        print_table(head, cells)
    click.echo(f"Accepted losses: {len(rows):,}. {_described(left)}")


def _not_accepted(archive: Archive) -> dict[str, int]:
    """Return the numbers of losses that nobody has accepted, by state."""
    from migrator.archive import Count
    from migrator.archive.records import LOSSES

    counts, accepted = archive.queries.together(
        lambda: (archive.queries.counts(), archive.queries.accepted())
    )
    return {one.value: counts[one].n - accepted.get(one, Count()).n for one in LOSSES}


def _described(left: dict[str, int]) -> str:
    named = ", ".join(f"{n:,} {state}" for state, n in left.items() if n)
    return f"Not accepted: {named}." if named else "No loss is left that is not accepted."
