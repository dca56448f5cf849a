"""What was delivered, looked at again: ``--verify`` reads it back, ``--undo`` removes it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from migrator.archive import Archive
from migrator.archive.records import DeliveredFile, Delivery
from migrator.deliver.client import Client
from migrator.deliver.match import show
from migrator.errors import Again, Declined, Interrupted, MigratorError, SourceError
from migrator.events import FileDelivered, Listener
from migrator.pull.options import Stop

FOUND = ("vanished", "differs")
"""Problems that an earlier look may have found, and that may have passed."""


@dataclass
class Report:
    """What was found: ``agreed``, ``differs``, ``vanished`` or ``unasked``; or ``removed``.

    ``chosen_from`` is the number of files of which a sample was looked at, 0 for all.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    chosen_from: int = 0
    lines: list[str] = field(default_factory=list)
    ended_by: MigratorError | None = None


async def verify(
    client: Client,
    archive: Archive,
    target: str,
    *,
    sample: int | None,
    most: int,
    listener: Listener,
    stop: Stop,
) -> Report:
    """Read delivered files back, byte for byte, and record what is no longer as it was.

    ``sample`` is how many of them, None for all; ``most`` bytes of one are read at the least.
    """
    report = Report()
    notes = {one.id: one for one in archive.queries.deliveries(target)}
    files = list(_there(archive, target))
    if sample is not None and sample < len(files):
        report.chosen_from = len(files)
        files = random.sample(files, sample)
    try:
        for one in files:
            if stop.asked:
                raise Interrupted("interrupted; what was done is recorded")
            note = notes.get(one.delivery_id or 0)
            if note is None or note.state != "delivered":
                continue
            verdict, why = await _verdict(client, note, one, most=most)
            report.counts[verdict] += 1
            if verdict == "unasked":
                report.lines.append(f"attachment {one.attachment_id}: {why}")
            else:
                state = "delivered" if verdict == "agreed" else "failed"
                problem = None if verdict == "agreed" else verdict
                report.bytes += one.size if verdict == "agreed" else 0
                if (state, problem) != (one.state, one.problem):
                    changed = replace(one, state=state, problem=problem, detail=why or None)
                    archive.ledger.put_delivered([changed])
                if why:
                    place = f"ticket {note.ticket_number}, {one.name}"
                    report.lines.append(f"{place} (attachment {one.attachment_id}): {why}")
            state = "already" if verdict == "agreed" else "failed"
            listener(FileDelivered(one.attachment_id, one.ticket_id, state, one.size, len(files)))
    except MigratorError as error:
        report.ended_by = error
    return report


def _there(archive: Archive, target: str) -> Iterator[DeliveredFile]:
    for one in archive.queries.all_delivered(target):
        if one.there_id is not None and (one.state == "delivered" or one.problem in FOUND):
            yield one


async def _verdict(
    client: Client, note: Delivery, one: DeliveredFile, *, most: int
) -> tuple[str, str]:
    what = f"attachment {one.there_id} of ticket {note.ticket_number}"
    try:
        sha256, size = await client.digest(
            note.ticket_number, one.there_id or "", most=max(most, 2 * one.size), what=what
        )
    except Declined as error:
        if error.status == 404:
            return "vanished", f"it is no longer there: {error.reason}"
        return "unasked", error.reason
    except SourceError as error:
        if error.again is Again.STOP:
            raise
        return "unasked", error.reason
    if (sha256, size) == (one.sha256, one.size):
        return "agreed", ""
    return "differs", f"it reads back as {size} bytes with SHA-256 {sha256}"


async def undo(
    client: Client, archive: Archive, target: str, *, writes: bool, stop: Stop
) -> Report:
    """Remove the notes that the ledger made; without ``writes`` only count them.

    A note that is not as we know it, or that Tickiti does not remove, stays in the ledger.
    """
    report = Report()
    try:
        # Notes go before the tickets that hold them.
        for one in sorted(archive.queries.deliveries(target), key=lambda one: one.kind):
            if stop.asked:
                raise Interrupted("interrupted; what was done is recorded")
            if one.state != "delivered":
                continue
            remove = _removed if one.kind == "note" else _removed_ticket
            try:
                outcome = await remove(client, one, writes=writes)
            except SourceError as error:
                if error.again is Again.STOP:
                    raise
                outcome = "left"
                report.lines.append(f"ticket {one.ticket_number}: {error.reason}")
            report.counts[outcome] += 1
            if writes and outcome in ("removed", "gone"):
                files = archive.queries.files_of_delivery(one.id)
                open_again = [replace(file, state="pending") for file in files]
                archive.ledger.settle_delivery(replace(one, state="undone"), open_again)
    except MigratorError as error:
        report.ended_by = error
    return report


async def _removed(client: Client, one: Delivery, *, writes: bool) -> str:
    """Remove a note if it stands there; return removed, gone or left."""
    if not await _stands(client, one):
        return "gone"
    if not writes:
        return "removed"
    number = one.response_id or ""
    facts = {"response_id": int(number) if number.isdigit() else number}
    what = f"the note in ticket {one.ticket_number}"
    try:
        await client.write("tickets/response-delete", json.dumps(facts).encode(), what=what)
    except Declined:
        raise
    except SourceError as error:
        if error.again is Again.STOP:
            raise  # of any other one we see below what it did
    return "left" if await _stands(client, one) else "removed"


async def _removed_ticket(client: Client, one: Delivery, *, writes: bool) -> str:
    """Remove a ticket that was made for one of ours, unless somebody else has written in it."""
    try:
        there = await show(client, one.ticket_number)
    except Declined as error:
        if error.status == 404:
            return "gone"
        raise
    if there.others > 0 or not any(note.marker == one.marker for note in there.notes):
        return "left"
    facts: dict[str, object] = {"ticket_numbers": [one.ticket_number]}
    what = f"ticket {one.ticket_number}"
    if writes:
        for more in ({"dry_run": True}, {}):
            body = json.dumps(facts | more).encode()
            await client.write("tickets/delete", body, what=what)
    return "removed"


async def _stands(client: Client, one: Delivery) -> bool:
    try:
        there = await show(client, one.ticket_number)
    except Declined as error:
        if error.status == 404:
            return False
        raise
    return any(note.response_id == one.response_id for note in there.notes)
