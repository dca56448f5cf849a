"""Whether the ledger balances, and the exit code that says so to a script."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.archive.records import Count, State

ATTENTION = (State.FAILED, State.MISSING, State.GONE)
"""The states whose attachments are listed at the end of a report."""

_CUT = "The last pass did not come to its end."


def total(counts: Mapping[State, Count]) -> Count:
    """Add all states up to what the source ever listed."""
    return Count(sum(c.n for c in counts.values()), sum(c.bytes for c in counts.values()))


def exit_code(counts: Mapping[State, Count]) -> int:
    """Return 0 when we hold every attachment that was ever listed, else 3."""
    troubles = (State.PENDING, *ATTENTION)
    return 3 if any(counts[state].n for state in troubles if state in counts) else 0


def sentence(counts: Mapping[State, Count], *, cut: bool = False) -> str:
    """Say what the counts mean and what to do next.

    ``cut`` tells that the last pass ended early: what it did not come to is not proven.
    """

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
        begin = f"{_CUT} Of what was listed by then" if cut else "Complete, but"
        return (
            f"{begin} the source itself no longer has {lost:,} of its attachments. "
            "`migrator run --recheck` asks for them once more."
        )
    if cut:
        return f"{_CUT} What was listed by then is in the archive."
    return "Complete: every attachment that the source ever listed is in the archive."


def closing(counts: Mapping[State, Count], gaps: Mapping[str, int], *, cut: bool = False) -> str:
    """Say how complete the migration is, the gaps of the lists included."""
    if not gaps:
        return sentence(counts, cut=cut)
    texts = {
        "unlisted": "{:,} tickets did not name their attachments",
        "unreadable": "{:,} rows of the ticket list could not be read",
        "short": "the source counts {:,} tickets more than it lists",
    }
    found = "; ".join(texts[name].format(count) for name, count in gaps.items())
    return f"Not complete: {found}. `migrator run` lists all of them again."
