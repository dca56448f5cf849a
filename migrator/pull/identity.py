"""Whose archive it is: an archive belongs to one helpdesk, and another one must not fill it.

Two things tell. The address is compared without asking anybody. What survives a change of
address and betrays a change of helpdesk is what Kayako never changes and nobody can choose: when
a ticket was created, and its mask (``ABC-123-45678``, drawn by lot). The oldest and the newest
tickets that the archive knows are the witnesses, since a fresh installation counts from 1 again
and one restored from a backup agrees on the oldest only. Departments and statuses are no
witnesses: every fresh installation has the same ones, and people rename them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from migrator.archive.records import Witness
from migrator.errors import Again, NotFound, OtherHelpdesk, SafetyLimit, SourceError
from migrator.events import Listener, Notice
from migrator.pull.protocols import Archive, Source
from migrator.pull.walk import BY_ID, Scope, look_around, page_of
from migrator.sources.base import Ticket

MOST_ASKED = 10
"""Witnesses that are asked for at the most, where the first ones leave doubt."""
LISTED = 100
"""Tickets of a list that are looked through, where none is known by its id."""
FEWEST_ABSENT = 5
"""Witnesses of which the source must know at least one: so many are not deleted by chance."""

_MASK = re.compile(r"[A-Z]{3}-[0-9]{3}-[0-9]{5}")
_PORTS = {"http": 80, "https": 443}


def same_address(one: str, other: str) -> bool:
    """Tell whether two addresses are of one API, however they are written.

    Upper case, a default port, a trailing slash and the change from http to https make no other
    helpdesk of it.
    """
    return _plain(one) == _plain(other)


def _plain(address: str) -> tuple[str, int | None, str]:
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        return address, None, ""
    if port == _PORTS.get(parts.scheme.lower()):
        port = None
    host = (parts.hostname or "").rstrip(".")
    path = re.sub(r"/+", "/", parts.path).rstrip("/")
    return host, port, path.removesuffix("/index.php")


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the witnesses said: how many agree, contradict, are unknown to the source."""

    agree: int = 0
    contradict: int = 0
    absent: int = 0
    difference: str = ""
    """The first contradiction, for people."""

    @property
    def same(self) -> bool:
        """Whether at least one witness says that it is the same helpdesk."""
        return self.agree > 0

    @property
    def other(self) -> bool:
        """Whether the witnesses say that it is another one, and none disagrees."""
        return not self.agree and (self.contradict > 0 or self.absent >= FEWEST_ABSENT)

    @property
    def told(self) -> str:
        """Say why it looks like another one."""
        if self.difference:
            return self.difference
        return f"it knows none of {self.absent} tickets that the archive knows"


async def compare(source: Source, witnesses: Sequence[Witness]) -> Likeness:
    """Ask the source for the witnesses until they leave no doubt; two requests, mostly.

    A witness that cannot be asked for, or was merged into another ticket, says nothing. Raises
    SourceError when the source refuses us or is gone.
    """
    agree = contradict = absent = 0
    difference = ""
    left = list(witnesses[:MOST_ASKED])
    while left:
        batch, left = left[:2], left[2:]
        answers = await asyncio.gather(*(_ask(source, one) for one in batch))
        for answer in answers:
            agree += answer == _AGREES
            absent += answer == _ABSENT
            if answer not in (_AGREES, _ABSENT, _SILENT):
                contradict += 1
                difference = difference or answer
        if agree and not contradict:
            break
    likeness = Likeness(agree, contradict, absent, difference)
    if likeness.other and not contradict:
        return await _compare_lists(source, witnesses, likeness)
    return likeness


async def _compare_lists(
    source: Source, witnesses: Sequence[Witness], likeness: Likeness
) -> Likeness:
    """Look for the witnesses in the lists, where none was known by its id."""
    known = {one.id: one for one in witnesses}
    with suppress(SourceError):
        helpdesk = await look_around(source)
        for area in helpdesk.areas(Scope()):
            page = await page_of(source, area, 0, LISTED, sort=BY_ID.sort, order=BY_ID.direction)
            for ticket in page:
                if ticket.id in known and _judge(known[ticket.id], ticket) == _AGREES:
                    return replace(likeness, agree=likeness.agree + 1)
    return likeness


_AGREES, _ABSENT, _SILENT = "agrees", "absent", ""


async def _ask(source: Source, witness: Witness) -> str:
    """Ask for one witness, twice where it contradicts: one stray answer proves nothing."""
    said = await _ask_once(source, witness)
    if said in (_AGREES, _ABSENT, _SILENT):
        return said
    again = await _ask_once(source, witness)
    return said if said == again else again if again == _AGREES else _SILENT


async def _ask_once(source: Source, witness: Witness) -> str:
    try:
        ticket = await source.ticket(witness.id)
    except NotFound:
        return _ABSENT
    except SourceError as error:
        if error.again is Again.STOP:
            raise
        return _SILENT
    if ticket.id != witness.id:
        return _SILENT
    return _judge(witness, ticket)


def _judge(witness: Witness, ticket: Ticket) -> str:
    name = f"its ticket {witness.id}"
    if witness.created_at and ticket.created_at and witness.created_at != ticket.created_at:
        return f"{name} was created at another time"
    masks = (witness.display_id, ticket.display_id)
    if masks[0] != masks[1] and all(map(_MASK.fullmatch, masks)):
        return f"{name} is {masks[1]}, not {masks[0]}"
    before = (witness.subject, witness.requester_name, witness.requester_email)
    now = (ticket.subject, ticket.full_name, ticket.email)
    pairs = [(one, two) for one, two in zip(before, now, strict=True) if one and two]
    if pairs and all(one != two for one, two in pairs) and len(pairs) > 1:
        return f"{name} has another subject and another requester"
    if witness.created_at and ticket.created_at:
        return _AGREES
    return _AGREES if any(one == two for one, two in pairs) else _SILENT


def see_address(
    archive: Archive, address: str, *, moved: bool, listener: Listener | None = None
) -> bool:
    """Compare the address with that of the archive; tell whether it is a new one.

    Raises OtherHelpdesk for another address, unless the helpdesk is said to have ``moved``.
    An older archive has the address of its newest run, which is told once, to a ``listener``.
    """
    known = archive.queries.helpdesk()
    if known is None or not archive.queries.witnesses(1):  # nothing in it is anybody's
        return False
    if same_address(known.address, address):
        if not known.told and listener is not None:
            others = [
                one for one in archive.queries.sources() if not same_address(one, known.address)
            ]
            listener(Notice(f"this archive belongs to {known.address}, as its newest run says"))
            if others:
                text = (
                    f"earlier runs filled it from {', '.join(others[:3])}: if that was another "
                    "helpdesk, its files are among these; `migrator audit` compares them"
                )
                listener(Notice(text, "warning"))
            archive.ledger.set_helpdesk(known.address, run_id=known.run_id)
        return False
    if moved:
        return True
    raise OtherHelpdesk(
        f"This archive belongs to the helpdesk at {known.address}, not to the one at {address}; "
        "nothing was changed. An archive holds one helpdesk: give [archive] path another "
        "directory for the other one. If the same helpdesk has moved to another address, say so "
        "once with `migrator run --moved` (or `migrator sync --moved`), which compares a few "
        "tickets first."
    )


def see_moved(likeness: Likeness, known: str, address: str) -> None:
    """Raise OtherHelpdesk unless a helpdesk that is said to have moved is the same one."""
    if likeness.same and not likeness.contradict:
        return
    if likeness.contradict or likeness.absent:
        why = likeness.told
    else:
        why = "none of the tickets that the archive knows could be compared"
    raise OtherHelpdesk(
        f"The helpdesk at {address} is not the one at {known}, whose archive this is: {why}. "
        "Nothing was changed. Give [archive] path another directory for it."
    )


def see_same(
    likeness: Likeness,
    address: str,
    *,
    accept_deletions: bool = False,
    accept_changes: bool = False,
) -> None:
    """Raise SafetyLimit when the known address answers as another helpdesk."""
    if not likeness.other or accept_changes:
        return
    if likeness.contradict:
        raise SafetyLimit(
            f"{address} answers as another helpdesk than the one of this archive: "
            f"{likeness.told}. Was it installed anew, or restored from a backup? Nothing was "
            "changed. Give [archive] path another directory to pull it; to go on in this one all "
            "the same, keeping what it holds, run again with --accept-changes."
        )
    if not accept_deletions:
        raise SafetyLimit(
            f"{address} may be another helpdesk than the one of this archive: {likeness.told}. "
            "Was it installed anew? Nothing was changed. If these tickets were deleted on "
            "purpose, run again with --accept-deletions."
        )


async def see_helpdesk(source: Source, archive: Archive, address: str) -> None:
    """Compare the witnesses, for a command that only reads from the helpdesk.

    Raises SafetyLimit. A source that does not answer is left to the command.
    """
    with suppress(SourceError):
        see_same(await compare(source, archive.queries.witnesses(MOST_ASKED)), address)
