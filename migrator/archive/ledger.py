"""The ledger: every attachment that the source ever listed has one row and one state."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.planning import Planning
from migrator.archive.records import (
    UNFINISHED,
    Department,
    Listed,
    Outcome,
    RunInfo,
    State,
    TicketRow,
    Work,
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST = 1 << 42
"""Sizes declared above 4 TiB are nonsense of the source, and their sum must fit 64 bits."""

_PUT_DEPARTMENT = """
    INSERT INTO departments (id, title, app) VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, app = excluded.app"""

_PUT_TICKET = """
    INSERT INTO tickets
        (id, department_id, display_id, subject, created_at, last_activity, status_id,
         requester_name, requester_email, owner_name, listed_run)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        department_id = excluded.department_id,
        display_id = excluded.display_id,
        subject = excluded.subject,
        created_at = excluded.created_at,
        last_activity = excluded.last_activity,
        status_id = excluded.status_id,
        requester_name = excluded.requester_name,
        requester_email = excluded.requester_email,
        owner_name = excluded.owner_name,
        merged_into = NULL,
        deleted_at = NULL,
        listed_run = coalesce(excluded.listed_run, listed_run)"""

_KNOW_TICKET = """
    INSERT INTO tickets (id, department_id)
    SELECT ?, coalesce((SELECT department_id FROM tickets WHERE id = ?), 0)
    WHERE true ON CONFLICT (id) DO NOTHING"""

# A row that is fetched anew starts anew: its old problem is history, the list's note is not.
_PUT_ATTACHMENT = """
    INSERT INTO attachments
        (id, ticket_id, post_id, filename, declared_type, declared_size, created_at, note,
         problem, state, first_run, last_run)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 'pending', ?9, ?9)
    ON CONFLICT (id) DO UPDATE SET
        ticket_id = excluded.ticket_id,
        post_id = excluded.post_id,
        filename = excluded.filename,
        declared_type = excluded.declared_type,
        declared_size = excluded.declared_size,
        created_at = excluded.created_at,
        note = excluded.note,
        state = CASE
            WHEN state = 'deleted' THEN 'stored'
            WHEN state = 'gone' OR (state = 'missing' AND ?10) THEN 'pending'
            ELSE state END,
        problem = CASE
            WHEN state IN ('gone', 'pending') OR (state = 'missing' AND ?10) THEN excluded.note
            ELSE problem END,
        detail = CASE
            WHEN state IN ('gone', 'deleted') OR (state = 'missing' AND ?10) THEN NULL
            ELSE detail END,
        last_run = excluded.last_run
    RETURNING state, attempts"""

_SETTLE = """
    UPDATE attachments SET state = ?, problem = ?, detail = ?, sha256 = ?, size = ?,
        stored_at = ?, attempts = attempts + ? WHERE id = ?"""

_SET_MARK = """
    INSERT INTO marks (name, value, run_id, at) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET
        value = excluded.value, run_id = excluded.run_id, at = excluded.at"""

_PUT_BLOB = """
    INSERT INTO blobs (sha256, size, mime_type, stored_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (sha256) DO NOTHING"""


class Ledger(Planning):
    """The whole ledger. Every writing method is one transaction, or part of the caller's.

    All methods may be called from any thread. They raise ArchiveBusy, ArchiveUnwritable or
    ArchiveDamaged when the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Checkpoint, *, clock: Callable[[], float] = time.time) -> None:
        """Read and write ``checkpoint``; ``clock`` gives Unix seconds."""
        super().__init__(checkpoint)
        self._clock = clock

    def atomic(self) -> AbstractContextManager[None]:
        """Group all writes of the block into one durable transaction; may be nested."""
        return self._db.atomic()

    def whole(self) -> AbstractContextManager[None]:
        """Group all writes of the block into one transaction that any error in it undoes."""
        return self._db.whole()

    def begin_run(self, kind: str, *, source: str, scope: Mapping[str, object]) -> RunInfo:
        """Note that a run of ``kind`` over ``source`` begins; ``scope`` must be fit for JSON."""
        started, text = self._now(), json.dumps(dict(scope))
        sql = "INSERT INTO runs (kind, source, scope, started_at) VALUES (?, ?, ?, ?) RETURNING id"
        with self.atomic():
            ((run_id,),) = self._db.execute(sql, (kind, source, text, started))
        return RunInfo(run_id, kind, source, json.loads(text), started)

    def finish_run(self, run_id: int, *, exit_code: int, summary: Mapping[str, object]) -> None:
        """Note how the run ended; ``summary`` must be fit for JSON."""
        sql = "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE id = ?"
        with self.atomic():
            self._db.execute(sql, (self._now(), exit_code, json.dumps(dict(summary)), run_id))

    def set_mark(self, name: str, value: int, *, run_id: int) -> None:
        """Note how far run ``run_id`` has come; ``name`` and ``value`` as in :class:`Mark`."""
        with self.atomic():
            self._db.execute(_SET_MARK, (name, value, run_id, self._now()))

    def put_departments(self, departments: Sequence[Department]) -> None:
        """Add or rename departments; those no longer listed stay, their tickets need them."""
        with self.atomic():
            for department in departments:
                values = (department.id, _text(department.title), _text(department.app))
                self._db.execute(_PUT_DEPARTMENT, values)

    def put_ticket(self, ticket: TicketRow) -> None:
        """Add or change a ticket without saying anything of its attachments."""
        self._put_ticket(ticket, None)

    def mark_merged(self, old_ticket_id: int, into_ticket_id: int) -> None:
        """Note that a ticket was merged; its attachments, ids unchanged, are the other's now.

        Where the other one is known to be merged itself, they are its survivor's.
        """
        if old_ticket_id == into_ticket_id:
            raise ValueError("a ticket is not merged into itself")
        move = "UPDATE attachments SET ticket_id = ? WHERE ticket_id = ?"
        with self.atomic():
            into_ticket_id = self._survivor(into_ticket_id, of=old_ticket_id)
            self._know_ticket(into_ticket_id, like=old_ticket_id)
            self._know_ticket(old_ticket_id, like=into_ticket_id)
            sql = "UPDATE tickets SET merged_into = ? WHERE id = ?"
            self._db.execute(sql, (into_ticket_id, old_ticket_id))
            self._db.execute(move, (into_ticket_id, old_ticket_id))

    def mark_ticket_deleted(self, ticket_id: int) -> None:
        """Note that the source has no such ticket any more; undone when it is listed again."""
        sql = "UPDATE tickets SET deleted_at = ? WHERE id = ?"
        with self.atomic():
            self._db.execute(sql, (self._now(), ticket_id))

    def record_ticket(
        self, run_id: int, ticket: TicketRow, listed: Sequence[Listed], *, recheck: bool = False
    ) -> list[Work]:
        """Write down a ticket and the attachments that the source lists for it.

        A new attachment is pending; one that was gone is pending again, one that was deleted is
        stored again, because the source lists it; with ``recheck`` a missing one is pending
        too. An attachment known under another ticket has moved here. Returns those of
        ``listed`` that want fetching, by id.
        """
        work = {}
        with self.atomic():
            self._put_ticket(ticket, run_id)
            for item in listed:
                if item.ticket_id != ticket.id:
                    self._know_ticket(item.ticket_id, like=ticket.id)
                size = min(max(item.declared_size, 0), _LARGEST)
                name = _text(item.filename)
                values = (item.id, item.ticket_id, item.post_id, name, _text(item.declared_type))
                values += (size, item.created_at, item.problem, run_id, recheck)  # type: ignore[assignment]
                ((state, attempts),) = self._db.execute(_PUT_ATTACHMENT, values)
                if state in UNFINISHED:
                    found = Work(item.id, item.ticket_id, size, name, attempts, item.problem)
                    work[item.id] = found
        return [work[key] for key in sorted(work)]

    def settle(self, outcome: Outcome) -> State:
        """Write down what became of an attachment and return the state it has now.

        What we hold stays held: a stored or deleted row keeps its state and its SHA-256,
        whatever a later fetch brings; only attempts and ticket change, and for the same bytes
        problem and detail. Raises ValueError for an unknown attachment or an outcome that is
        not one.
        """
        stored = outcome.state is State.STORED
        if outcome.state is State.DELETED or stored is (outcome.sha256 is None):
            raise ValueError(f"not an outcome: {outcome}")
        sql = "SELECT state, ticket_id, note, sha256, size, stored_at FROM attachments WHERE id = ?"
        with self.atomic():
            row = self._db.one(sql, (outcome.attachment_id,))
            if row is None:
                raise ValueError(f"attachment {outcome.attachment_id} was never listed")
            if outcome.ticket_id is not None and outcome.ticket_id != row[1]:
                self._move(outcome.attachment_id, row[1], outcome.ticket_id)
            if row[3] is not None and row[3] != outcome.sha256:
                return self._keep(outcome, State(row[0]))
            return self._decide(outcome, row)

    def mark_deleted(self, attachment_id: int, detail: str) -> bool:
        """Note that the source no longer lists a stored attachment; False if it is not stored."""
        sql = """
            UPDATE attachments SET state = 'deleted', detail = ?
            WHERE id = ? AND state = 'stored' RETURNING id"""
        with self.atomic():
            return bool(self._db.execute(sql, (_text(detail), attachment_id)))

    def _decide(self, outcome: Outcome, row: tuple[object, ...]) -> State:
        held, _, note, sha256, size, stored_at = row
        state, problem = outcome.state, outcome.problem
        if state is State.STORED:
            now = self._now()
            blob = (outcome.sha256, outcome.size, outcome.mime_type, now)
            self._db.execute(_PUT_BLOB, blob)
            problem = problem or note  # type: ignore[assignment]
            if sha256 is None:
                sha256, size, stored_at = outcome.sha256, outcome.size, now
            elif held == State.DELETED:
                state = State.DELETED
        detail = None if outcome.detail is None else _text(outcome.detail)
        values = (state, problem, detail, sha256, size, stored_at, outcome.attempts)
        self._db.execute(_SETTLE, (*values, outcome.attachment_id))
        return state

    def _keep(self, outcome: Outcome, state: State) -> State:
        sql = "UPDATE attachments SET attempts = attempts + ? WHERE id = ?"
        self._db.execute(sql, (outcome.attempts, outcome.attachment_id))
        return state

    def _put_ticket(self, ticket: TicketRow, run_id: int | None) -> None:
        values = (
            ticket.id,
            ticket.department_id,
            _text(ticket.display_id),
            _text(ticket.subject),
            ticket.created_at,
            ticket.last_activity,
            ticket.status_id,
            _text(ticket.requester_name),
            _text(ticket.requester_email),
            _text(ticket.owner_name),
            run_id,
        )
        with self.atomic():
            self._db.execute(_PUT_TICKET, values)

    def _move(self, attachment_id: int, old: int, new: int) -> None:
        self._know_ticket(new, like=old)
        sql = "UPDATE attachments SET ticket_id = ? WHERE id = ?"
        self._db.execute(sql, (new, attachment_id))

    def _survivor(self, ticket_id: int, *, of: int) -> int:
        """Follow the merges from a ticket to the last one.

        Where they lead back they are out of date: then it is the ticket itself that is there.
        """
        sql = "SELECT merged_into FROM tickets WHERE id = ?"
        seen, last = {of}, ticket_id
        while last not in seen:
            seen.add(last)
            row = self._db.one(sql, (last,))
            if row is None or row[0] is None:
                return last
            last = row[0]
        self._db.execute("UPDATE tickets SET merged_into = NULL WHERE id = ?", (ticket_id,))
        return ticket_id

    def _know_ticket(self, ticket_id: int, *, like: int) -> None:
        """Make sure that the ticket has a row; an unknown one gets the department of ``like``."""
        self._db.execute(_KNOW_TICKET, (ticket_id, like))

    def _now(self) -> int:
        return int(self._clock())


def _text(value: str) -> str:
    """Return the text without lone surrogates, which SQLite cannot hold."""
    return _SURROGATE.sub("\ufffd", value)
