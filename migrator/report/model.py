"""The one model behind every form of the report, built with a bounded number of queries."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.archive.records import Count, Group, Row, RunInfo, State
from migrator.report import verdict

if TYPE_CHECKING:
    from migrator.archive import Archive

ATTENTION_SHOWN = 50
"""How many failed, missing and gone attachments a report names; the CSV has them all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """How many attachments of a state have one problem code; None is no problem."""

    state: State
    problem: str | None
    n: int


@dataclass(frozen=True, slots=True)
class Report:
    """The ledger at one moment; times are Unix seconds, sizes bytes.

    ``files`` counts the different contents that are stored: less than ``states`` says where
    attachments share theirs. ``attention`` holds the first failed, missing and gone ones.
    """

    archive: str
    generated_at: int
    states: dict[State, Count]
    files: Count
    tickets: int
    departments: tuple[Group, ...]
    types: tuple[Group, ...]
    problems: tuple[Problem, ...]
    attention: tuple[Row, ...]
    last_run: RunInfo | None

    @property
    def listed(self) -> Count:
        """What the source ever listed: the sum of all states."""
        return verdict.total(self.states)

    @property
    def attention_total(self) -> int:
        """How many attachments are failed, missing or gone."""
        return sum(self.states[state].n for state in verdict.ATTENTION)

    @property
    def gaps(self) -> dict[str, int]:
        """What the lists of the last run left open, by kind; empty when nothing was."""
        return gaps(self.last_run)

    @property
    def exit_code(self) -> int:
        """0 when the lists were whole and nothing is pending, failed, missing or gone, else 3."""
        return 3 if self.gaps else verdict.exit_code(self.states)


def gaps(run: RunInfo | None) -> dict[str, int]:
    """Count what the lists of a run left open: a ledger cannot balance what was never listed.

    ``unlisted`` tickets did not name their attachments, ``unreadable`` rows of the ticket list
    could not be rendered, and ``short`` tickets were counted by the source but not listed.
    """
    summary = (run.summary if run else None) or {}
    found: dict[str, int] = {}
    for name in ("unlisted", "unreadable", "short"):
        value = summary.get(name)
        count = len(value) if isinstance(value, dict) else value
        if isinstance(count, int) and count:
            found[name] = count
    return found


def build(archive: Archive, *, now: int | None = None) -> Report:
    """Read the ledger of ``archive``, which a run may be filling at the same time."""
    ledger = archive.ledger
    counts = ledger.counts()
    runs = ledger.runs(1)
    return Report(
        archive=str(archive.path),
        generated_at=int(time.time()) if now is None else now,
        states={state: counts[state] for state in State},
        files=Count(*ledger.unique_bytes()),
        tickets=ledger.ticket_count(),
        departments=tuple(ledger.by_department()),
        types=tuple(ledger.by_type()),
        problems=tuple(Problem(*problem) for problem in ledger.problems()),
        attention=tuple(ledger.rows(states=verdict.ATTENTION, limit=ATTENTION_SHOWN)),
        last_run=runs[0] if runs else None,
    )
