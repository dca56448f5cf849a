"""The identity of the helpdesk: an archive belongs to one, and another one must not fill it.

Two things identify it. The address is compared without a request. Behind another address, or
another helpdesk behind the same one, tickets decide by what the source never changes of them. The
oldest and the newest tickets that the archive knows are the witnesses, since a fresh installation
counts from 1 again and one restored from a backup agrees on the oldest only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from migrator.archive import Archive
from migrator.archive.records import TicketRow
from migrator.errors import OtherHelpdesk, SafetyLimit, SourceError
from migrator.events import Listener, Notice
from migrator.sources.base import Likeness, Source, Ticket

MOST_ASKED = 10
"""The most witnesses requested, where the first ones leave doubt."""

_PORTS = {"http": 80, "https": 443}


def same_address(one: str, other: str) -> bool:
    """Return whether two addresses are of one API, however they are written.

    Upper case, a default port, a trailing slash and http for https make no difference.
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


async def compare(source: Source, witnesses: Sequence[TicketRow]) -> Likeness:
    """Return how well the source's tickets agree with the witnesses."""
    return await source.compare(
        [
            Ticket(
                one.id,
                one.display_id,
                subject=one.subject,
                full_name=one.requester_name,
                email=one.requester_email,
                created_at=one.created_at,
            )
            for one in witnesses[:MOST_ASKED]
        ]
    )


def see_address(
    archive: Archive, address: str, *, moved: bool, listener: Listener | None = None
) -> bool:
    """Compare the address with that of the archive; return whether it is a new one.

    Raises OtherHelpdesk for another address, unless the helpdesk is said to have ``moved``.
    An older archive has the address of its newest run, which a ``listener`` is told once.
    """
    known = archive.queries.helpdesk()
    if known is None or not archive.queries.witnesses(1):  # nothing in it yet
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
