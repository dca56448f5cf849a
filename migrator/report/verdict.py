"""Whether the ledger balances, and the exit code that says so to a script."""

from __future__ import annotations

import re
from collections.abc import Mapping

from migrator.archive.records import Count, State

ATTENTION = (State.FAILED, State.MISSING, State.GONE)
"""The states whose attachments are listed at the end of a report."""


_BY_THEN = {
    "Complete: every attachment that the source ever listed is": "What was listed by then is",
    "Complete, but the source": "Of what was listed by then the source",
}
"""How a verdict begins that holds only as far as a pass has come."""


def total(counts: Mapping[State, Count]) -> Count:
    """Add all states up to what the source ever listed."""
    return Count(sum(c.n for c in counts.values()), sum(c.bytes for c in counts.values()))


def exit_code(counts: Mapping[State, Count]) -> int:
    """Return 0 when we hold every attachment that was ever listed, else 3."""
    troubles = (State.PENDING, *ATTENTION)
    return 3 if any(counts[state].n for state in troubles if state in counts) else 0


def sentence(counts: Mapping[State, Count]) -> str:
    """Say in one sentence what the counts mean and what to do next."""

    def n(state: State) -> int:
        return counts[state].n if state in counts else 0

    if not total(counts).n:
        return "No attachment has been listed yet."
    if unfinished := n(State.PENDING) + n(State.FAILED):
        return (
            f"Not complete: {unfinished:,} attachments are pending or failed. "
            "`migrator run` goes on where it stopped and tries them again."
        )
    if lost := n(State.MISSING) + n(State.GONE):
        return (
            f"Complete, but the source itself no longer has {lost:,} of its attachments. "
            "`migrator run --recheck` asks for them once more."
        )
    return "Complete: every attachment that the source ever listed is in the archive."


def closing(counts: Mapping[State, Count], gaps: Mapping[str, int], *, cut: bool = False) -> str:
    """Say how complete the migration is, the gaps of the lists included.

    ``cut`` tells that the last pass ended early: what it did not come to is not proven.
    """
    if not gaps:
        text = sentence(counts)
        for whole, by_then in _BY_THEN.items() if cut else ():
            text = re.sub(f"^{whole}", f"The last pass did not come to its end. {by_then}", text)
        return text
    texts = {
        "unlisted": "{:,} tickets did not name their attachments",
        "unreadable": "{:,} rows of the ticket list could not be read",
        "short": "the source counts {:,} tickets more than it lists",
    }
    found = "; ".join(texts[name].format(count) for name, count in gaps.items())
    return f"Not complete: {found}. `migrator run` lists all of them again."
