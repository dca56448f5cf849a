"""What may be believed of an archive: whose it is, who checked it, which losses are accepted.

The verdict over an archive (:mod:`migrator.report.verdict`) is drawn from this and the ledger.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.figures import state_list
from migrator.archive.reading import decoded
from migrator.archive.records import Check, Count, Helpdesk, State, Witness
from migrator.archive.sql import as_json
from migrator.errors import ConfigError

LOSSES = (State.MISSING, State.GONE, State.FAILED)
"""The states that somebody may accept."""

LONGEST_REASON = 1000
"""Characters of a reason, and of the name of whoever gives it."""

_WITNESS = ", ".join(field.name for field in fields(Witness))
_CHECK = ", ".join(field.name for field in fields(Check))


class Proof:
    """The helpdesk, checks, accepted losses and progress; errors as of :class:`Ledger`.

    Every writing method is one transaction, or part of the caller's. Any thread may call them.
    """

    def __init__(self, checkpoint: Checkpoint, *, clock: Callable[[], float] = time.time) -> None:
        """Read and write ``checkpoint``; ``clock`` gives Unix seconds."""
        self._db = checkpoint
        self._clock = clock

    # Whose archive it is

    def helpdesk(self) -> Helpdesk | None:
        """Return the one helpdesk of the archive; None before the first run."""
        found = self._db.one("SELECT address, run_id, at, told FROM helpdesk")
        return Helpdesk(found[0], found[1], found[2], bool(found[3])) if found else None

    def set_helpdesk(self, address: str, *, run_id: int | None) -> None:
        """Write down the address of the helpdesk, for good or until it is declared to have moved.

        It counts as told.
        """
        sql = """
            INSERT INTO helpdesk (id, address, run_id, at, told) VALUES (1, ?, ?, ?, 1)
            ON CONFLICT (id) DO UPDATE SET address = excluded.address, run_id = excluded.run_id,
                at = excluded.at, told = 1"""
        with self._db.atomic():
            self._db.execute(sql, (address, run_id, self._now()))

    def witnesses(self, limit: int) -> list[Witness]:
        """Return tickets by which the helpdesk can be told: the oldest and the newest in turn.

        Without those that were merged, deleted or never listed.
        """
        sql = f"""
            SELECT {_WITNESS} FROM tickets
            WHERE merged_into IS NULL AND deleted_at IS NULL AND listed_run IS NOT NULL
            ORDER BY id {{}} LIMIT ?"""
        sides = [self._db.execute(sql.format(way), (limit,)) for way in ("ASC", "DESC")]
        found = {row[0]: Witness(*row) for pair in zip(*sides, strict=True) for row in pair}
        return list(found.values())[:limit]

    def sources(self) -> list[str]:
        """Return the addresses of all runs that listed something, the latest first."""
        sql = """
            SELECT source FROM runs WHERE source <> '' AND EXISTS (
                SELECT 1 FROM attachments WHERE first_run = runs.id
            ) GROUP BY source ORDER BY max(id) DESC"""
        return [row[0] for row in self._db.execute(sql)]

    # Checks

    def add_check(
        self,
        kind: str,
        *,
        started_at: int,
        whole: bool,
        exit_code: int,
        summary: Mapping[str, object],
    ) -> None:
        """Write down that a ``verify`` or an ``audit`` came to its end, and what it found."""
        sql = """
            INSERT INTO checks (kind, started_at, finished_at, whole, exit_code, summary)
            VALUES (?, ?, ?, ?, ?, ?)"""
        text = json.dumps(dict(summary))
        with self._db.atomic():
            self._db.execute(sql, (kind, started_at, self._now(), whole, exit_code, text))

    def checks(self, kind: str, limit: int = 20) -> list[Check]:
        """Return the latest checks of a kind, newest first."""
        sql = f"SELECT {_CHECK} FROM checks WHERE kind = ? ORDER BY id DESC LIMIT ?"
        return [_check(*row) for row in self._db.execute(sql, (kind, limit))]

    # Accepted losses

    def accept(self, ids: Collection[int], *, by: str, reason: str) -> int:
        """Accept that these attachments are lost; give how many are accepted now by this.

        Raises ConfigError, and accepts none, when one of them was never listed or is no loss.
        """
        named = as_json(ids)
        self._see_losses(named, set(ids))
        sql = """
            INSERT INTO accepted (attachment_id, accepted_at, accepted_by, reason)
            SELECT value, ?, ?, ? FROM json_each(?) WHERE true
            ON CONFLICT (attachment_id) DO UPDATE SET accepted_at = excluded.accepted_at,
                accepted_by = excluded.accepted_by, reason = excluded.reason
            RETURNING attachment_id"""
        with self._db.atomic():
            return len(self._db.execute(sql, (self._now(), *_signed(by, reason), named)))

    def accept_all(self, states: Collection[State], *, by: str, reason: str) -> int:
        """Accept all losses in some states that nobody has accepted yet; give their number."""
        sql = f"""
            INSERT INTO accepted (attachment_id, accepted_at, accepted_by, reason)
            SELECT id, ?, ?, ? FROM attachments WHERE state IN ({state_list(states)})
            ON CONFLICT (attachment_id) DO NOTHING RETURNING attachment_id"""
        with self._db.atomic():
            return len(self._db.execute(sql, (self._now(), *_signed(by, reason))))

    def unaccept(self, ids: Collection[int] | None) -> int:
        """Take back the acceptance of these attachments (None: of all); give their number.

        Raises ConfigError, and takes none back, when the loss of one of them is not accepted.
        """
        where = "" if ids is None else "WHERE attachment_id IN (SELECT value FROM json_each(?))"
        params = () if ids is None else (as_json(ids),)
        with self._db.atomic():
            sql = f"DELETE FROM accepted {where} RETURNING attachment_id"
            undone = {row[0] for row in self._db.execute(sql, params)}
            if others := sorted(set(ids or ()) - undone):
                raise ConfigError(
                    f"The loss of attachment {others[0]} is not accepted; nothing was taken back. "
                    "`migrator accept` lists those that are."
                )
            return len(undone)

    def accepted(self) -> dict[State, Count]:
        """Count the losses that are accepted, by state; a state without any is left out."""
        sql = f"""
            SELECT a.state, count(*), sum(a.declared_size) FROM accepted AS y
            JOIN attachments AS a ON a.id = y.attachment_id
            WHERE a.state IN ({state_list(LOSSES)}) GROUP BY a.state"""
        return {State(state): Count(n, size) for state, n, size in self._db.execute(sql)}

    def accepted_ids(self) -> Iterator[int]:
        """Yield the attachments whose loss is accepted, by id."""
        sql = f"""
            SELECT y.attachment_id FROM accepted AS y JOIN attachments AS a
                ON a.id = y.attachment_id
            WHERE a.state IN ({state_list(LOSSES)}) ORDER BY 1"""
        return (row[0] for row in self._db.execute(sql))

    # Progress

    def put_progress(self, run_id: int, facts: Mapping[str, object]) -> None:
        """Write down how far a run is, for whoever looks at the archive meanwhile.

        ``facts`` must be fit for JSON. Only the latest run keeps its progress.
        """
        sql = """
            INSERT INTO progress (run_id, at, facts) VALUES (?, ?, ?)
            ON CONFLICT (run_id) DO UPDATE SET at = excluded.at, facts = excluded.facts"""
        with self._db.atomic():
            self._db.execute("DELETE FROM progress WHERE run_id <> ?", (run_id,))
            self._db.execute(sql, (run_id, self._now(), json.dumps(dict(facts))))

    def progress(self, run_id: int) -> tuple[int, Mapping[str, Any]] | None:
        """Return when the progress of a run was written down (Unix seconds), and its facts."""
        found = self._db.one("SELECT at, facts FROM progress WHERE run_id = ?", (run_id,))
        return (found[0], decoded(found[1], "progress.facts")) if found else None

    def _see_losses(self, named: str, ids: set[int]) -> None:
        sql = "SELECT id, state FROM attachments WHERE id IN (SELECT value FROM json_each(?))"
        states: dict[int, str] = dict(self._db.execute(sql, (named,)))
        if unknown := sorted(ids - states.keys()):
            raise ConfigError(
                f"Attachment {unknown[0]} was never listed; nothing was accepted. "
                "`migrator report --format csv --state missing` names the ids."
            )
        others = sorted((key, state) for key, state in states.items() if state not in LOSSES)
        if others:
            raise ConfigError(
                f"Attachment {others[0][0]} is {others[0][1]}, which is no loss; nothing was "
                "accepted. Only missing, gone and failed ones can be."
            )

    def _now(self) -> int:
        return int(self._clock())


def _signed(by: str, reason: str) -> tuple[str, str]:
    """Return who and why as one line each; raises ConfigError without a reason."""
    who, why = (
        " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_REASON]
        for text in (by, reason)
    )
    if not why:
        raise ConfigError("An accepted loss needs a reason: --reason TEXT.")
    return who or "unknown", why


def _check(*row: Any) -> Check:
    return Check(
        row[0], row[1], row[2], row[3], bool(row[4]), row[5], decoded(row[6], "checks.summary")
    )
