"""The ledger: one row and one state for every attachment that the source ever listed."""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, TypeVar

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.records import (
    LOSSES,
    DeliveredFile,
    Delivery,
    Department,
    Listed,
    Outcome,
    Recorded,
    RunInfo,
    State,
    TicketRow,
    Work,
)
from migrator.archive.sql import (
    TICKET,
    Values,
    clean,
    state_from,
    state_list,
    ticket_values,
    upsert,
)
from migrator.errors import ConfigError

T = TypeVar("T")

_LARGEST = 1 << 42
"""Larger declared sizes (over 4 TiB) are wrong, and the sum of all must fit 64 bits."""

_PUT_DEPARTMENT = upsert("departments", "id", "title", "app")
_PUT_TICKET = upsert("tickets", *TICKET, "listed_run").replace(
    "listed_run = excluded.listed_run",
    "listed_run = coalesce(excluded.listed_run, listed_run), merged_into = NULL, deleted_at = NULL",
)

_KNOW_TICKET = """
    INSERT INTO tickets (id, department_id)
    SELECT ?, coalesce((SELECT department_id FROM tickets WHERE id = ?), 0)
    WHERE true ON CONFLICT (id) DO NOTHING"""

# A row that is fetched again loses its old problem and keeps the list's note.
# Nothing is returned for a row that we hold and that is listed differently: Kayako never
# changes an attachment, so its bytes may be those of another file by now.
_PUT_ATTACHMENT = """
    INSERT INTO attachments
        (id, ticket_id, post_id, filename, declared_type, declared_size, created_at, note,
         problem, state, kind, place, first_run, last_run)
    VALUES {rows}
    ON CONFLICT (id) DO UPDATE SET
        ticket_id = excluded.ticket_id,
        post_id = excluded.post_id,
        filename = iif(excluded.filename = '', filename, excluded.filename),
        declared_type = excluded.declared_type,
        declared_size = excluded.declared_size,
        created_at = iif(excluded.created_at = 0, created_at, excluded.created_at),
        note = coalesce(
            excluded.note,
            iif(note = 'changed_at_source' OR (last_run = excluded.last_run AND {changed}),
                'changed_at_source', NULL)),
        state = CASE
            WHEN state = 'deleted' THEN 'stored'
            WHEN state = 'gone' OR (state = 'missing' AND ({recheck} OR {changed})) THEN 'pending'
            ELSE state END,
        problem = CASE
            WHEN state IN ('gone', 'pending') OR (state = 'missing' AND ({recheck} OR {changed}))
                THEN coalesce(excluded.problem, iif(note = 'changed_at_source', note, NULL))
            ELSE problem END,
        detail = CASE
            WHEN state IN ('gone', 'deleted') OR (state = 'missing' AND ({recheck} OR {changed}))
                THEN NULL
            ELSE detail END,
        next_try = iif({changed}, NULL, next_try),
        last_run = excluded.last_run
    WHERE sha256 IS NULL OR NOT (ticket_id IS NOT excluded.ticket_id OR {changed})
    RETURNING id, state, attempts, note, failing_since, next_try, sha256"""

# Unreadable values of a list contradict nothing.
_CHANGED = """(
    (filename <> excluded.filename AND filename <> '' AND excluded.filename <> ''
        AND instr(coalesce(note, '') || coalesce(excluded.note, ''), 'repaired_name') = 0)
    OR (declared_size <> excluded.declared_size AND excluded.kind <> 'customfield'
        AND instr(coalesce(note, '') || coalesce(excluded.note, ''), 'odd_number') = 0)
    OR (created_at <> excluded.created_at AND created_at > 0 AND excluded.created_at > 0))"""
_PUT_ATTACHMENTS = {
    recheck: _PUT_ATTACHMENT.replace("{changed}", _CHANGED).replace("{recheck}", str(recheck))
    for recheck in (False, True)
}

_COPY = """
    INSERT INTO attachments
        (id, ticket_id, post_id, filename, declared_type, declared_size, created_at, note, state,
         problem, detail, sha256, size, stored_at, first_run, last_run, kind, place,
         original_id)
    SELECT (SELECT max(:first, coalesce(max(id), 0)) + 1 FROM attachments),
        nullif(:ticket_id, 0), post_id, :filename, declared_type, :declared_size, :created_at,
        :note, 'deleted', 'replaced_at_source', :detail, :sha256, :size, :stored_at, first_run,
        last_run, kind, place, id
    FROM attachments WHERE id = :id AND NOT EXISTS (
        SELECT 1 FROM attachments AS c WHERE c.original_id = :id
            AND (c.sha256, coalesce(c.ticket_id, 0), c.filename, c.declared_size, c.created_at)
                = (:sha256, :ticket_id, :filename, :declared_size, :created_at))"""

_REPLACE = """
    UPDATE attachments SET
        ticket_id = ?, post_id = ?, filename = ?, declared_type = ?, declared_size = ?,
        created_at = ?, note = 'changed_at_source', problem = 'changed_at_source', detail = ?,
        state = 'pending', sha256 = NULL, size = NULL, stored_at = NULL, failures = 0,
        failing_since = NULL, next_try = NULL, last_run = ?
    WHERE id = ? RETURNING attempts"""

_KNOWN = """
    SELECT id, state, coalesce(ticket_id, 0), note, sha256, size, stored_at, failures,
        failing_since, filename, declared_size, created_at
    FROM attachments WHERE id IN ({rows})"""

_SETTLE = """
    UPDATE attachments SET state = ?, problem = ?, detail = ?, sha256 = ?, size = ?,
        stored_at = ?, attempts = attempts + ?, failures = ?, failing_since = ?, next_try = ?,
        filename = iif(filename = '', ?, filename)
    WHERE id = ?"""

LONGEST_REASON = 1000
"""Characters of a reason, and of the name of the person who gives it."""

FIRST_COPY = 9_000_000_000_000_000
"""Copies that keep what a reused id held have larger ids; Kayako's are below. They fit a
number in JSON."""

DAY = 86_400
AGAIN_AFTER = (0, 900, 3600, 4 * 3600, DAY, 3 * DAY, 7 * DAY)
"""Seconds until a retry after one, two, three, … failed runs in a row; then always the last."""

_SET_MARK = upsert("marks", "name", "value", "run_id", "at")

_PUT_DELIVERED = upsert(
    "delivered_files",
    *("target", "attachment_id", "sha256", "ticket_id", "size", "state", "problem", "detail"),
    *("delivery_id", "name", "there_id", "at"),
    keys=3,
)

_PUT_BLOB = """
    INSERT INTO blobs (sha256, size, mime_type, stored_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (sha256) DO NOTHING"""


@dataclass(slots=True)
class _Known:
    """A row of an attachment, in the order of _KNOWN."""

    id: int
    state: str
    ticket_id: int
    note: str | None
    sha256: str | None
    size: int | None
    stored_at: int | None
    failures: int
    failing_since: int | None
    filename: str
    declared_size: int
    created_at: int


class Ledger:
    """The whole ledger. Every writing method is one transaction, or part of the caller's.

    All methods may be called from any thread. They raise ArchiveBusy, ArchiveUnwritable or
    ArchiveDamaged when the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Checkpoint, *, clock: Callable[[], float] = time.time) -> None:
        """Read and write ``checkpoint``; ``clock`` returns Unix seconds."""
        self._db = checkpoint
        self._clock = clock

    def atomic(self) -> AbstractContextManager[None]:
        """Group all writes of the block into one durable transaction; may be nested."""
        return self._db.atomic()

    def whole(self) -> AbstractContextManager[None]:
        """Group all writes of the block into one transaction that any error in it undoes."""
        return self._db.whole()

    def begin_run(self, kind: str, *, source: str, scope: Mapping[str, object]) -> RunInfo:
        """Record that a run of ``kind`` over ``source`` begins; ``scope`` must be fit for JSON."""
        started, text = self._now(), json.dumps(dict(scope))
        sql = "INSERT INTO runs (kind, source, scope, started_at) VALUES (?, ?, ?, ?) RETURNING id"
        with self.atomic():
            ((run_id,),) = self._db.execute(sql, (kind, source, text, started))
        return RunInfo(run_id, kind, source, json.loads(text), started)

    def finish_run(self, run_id: int, *, exit_code: int, summary: Mapping[str, object]) -> None:
        """Record how the run ended; ``summary`` must be fit for JSON."""
        sql = "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE id = ?"
        with self.atomic():
            self._db.execute(sql, (self._now(), exit_code, json.dumps(dict(summary)), run_id))

    def set_mark(self, name: str, value: int, *, run_id: int) -> None:
        """Record how far run ``run_id`` has come; ``name`` and ``value`` as in :class:`Mark`."""
        with self.atomic():
            self._db.execute(_SET_MARK, (name, value, run_id, self._now()))

    def put_departments(self, departments: Sequence[Department]) -> None:
        """Add or rename departments; keep those no longer listed, their tickets need them."""
        with self.atomic():
            rows = [(one.id, clean(one.title), clean(one.app)) for one in departments]
            self._db.execute_many(_PUT_DEPARTMENT, rows)

    def put_ticket(self, ticket: TicketRow) -> None:
        """Add or change a ticket; leave its attachments alone."""
        with self.atomic():
            self._db.execute(_PUT_TICKET, (*ticket_values(ticket), None))

    def mark_merged(self, old_ticket_id: int, into_ticket_id: int) -> None:
        """Record that a ticket was merged; its attachments, ids unchanged, are the other's now.

        If the other one is merged too, they belong to the ticket that it was merged into.
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
        """Record that the source no longer has a ticket; undone when it is listed again."""
        sql = "UPDATE tickets SET deleted_at = ? WHERE id = ?"
        with self.atomic():
            self._db.execute(sql, (self._now(), ticket_id))

    def record_ticket(
        self,
        run_id: int,
        ticket: TicketRow,
        listed: Sequence[Listed],
        *,
        recheck: bool = False,
        follow: bool = False,
    ) -> Recorded:
        """Record a ticket and the attachments that the source lists for it.

        A new attachment is pending; one that was gone is pending again, one that was deleted is
        stored again, because the source lists it; with ``recheck`` a missing one is pending
        too. A failed one is in :attr:`Recorded.todo` only when its time has come, or with
        ``recheck``. What we hold under another name, size or date is pending again, and a copy
        keeps what we hold. What we hold under another ticket is left as it is with ``follow``,
        and else treated likewise.
        """
        (recorded,) = self.record_tickets(
            run_id, [(ticket, listed)], recheck=recheck, follow=follow
        )
        return recorded

    def record_tickets(
        self,
        run_id: int,
        lists: Sequence[tuple[TicketRow, Sequence[Listed]]],
        *,
        recheck: bool = False,
        follow: bool = False,
    ) -> list[Recorded]:
        """Record many tickets as :meth:`record_ticket` does, at a fraction of the cost."""
        noted = [Recorded() for _ in lists]
        with self.atomic():
            tickets = [(*ticket_values(ticket), run_id) for ticket, _ in lists]
            self._db.execute_many(_PUT_TICKET, tickets)
            items: list[tuple[Listed, Recorded]] = []
            for (ticket, listed), recorded in zip(lists, noted, strict=True):
                items += [(item, recorded) for item in listed]
                for item in listed:
                    if item.ticket_id != ticket.id:
                        self._know_ticket(item.ticket_id, like=ticket.id)
            self._record(run_id, items, recheck=recheck, follow=follow)
        return noted

    def record_files(
        self, run_id: int, listed: Sequence[Listed], *, recheck: bool = False
    ) -> Recorded:
        """Record files that belong to no post, as :meth:`record_ticket` does for attachments.

        Their tickets must be known.
        """
        recorded = Recorded()
        with self.atomic():
            self._record(run_id, [(one, recorded) for one in listed], recheck=recheck)
        return recorded

    def _record(
        self,
        run_id: int,
        items: Sequence[tuple[Listed, Recorded]],
        *,
        recheck: bool,
        follow: bool = False,
    ) -> None:
        now = self._now()
        for group in _apart(items, lambda one: one[0].id):
            rows = [_listed(item, run_id) for item, _ in group]
            found = self._db.execute_rows(_PUT_ATTACHMENTS[recheck], rows)
            put = {row[0]: row for row in found}
            for (item, recorded), row in zip(group, rows, strict=True):
                known = put.get(item.id)
                if known is None or (item.sha256 and (known[6] or item.sha256) != item.sha256):
                    known = self._contradicted(item, row, recorded, follow)
                if known is None:
                    continue
                _, state, attempts, note, since, next_try, sha256 = known
                recorded.again += sha256 is not None
                due = recheck or next_try is None or next_try <= now
                if state == "pending" or (state == "failed" and due):
                    work = (item.id, item.ticket_id, row[5], row[3], attempts, note)
                    what = (item.kind, item.place)
                    recorded.todo.append(Work(*work, item.created_at, since, *what))
                else:
                    state_from(state)
        for recorded in {id(one): one for _, one in items}.values():
            todo = {work.id: work for work in recorded.todo}
            recorded.todo = [todo[key] for key in sorted(todo)]

    def _contradicted(
        self, item: Listed, row: Tuple, recorded: Recorded, follow: bool
    ) -> Tuple | None:
        """Record that a held attachment is listed differently; return its row if it is pending.

        ``follow`` leaves one that is only in another ticket as it is.
        """
        known = self._known([item.id])[item.id]
        figures = (known.filename, known.declared_size, known.created_at)
        notes = f"{known.note},{item.problem}"
        if follow and _alike(figures, (row[3], row[5], item.created_at), notes):
            recorded.moved[item.id] = known.ticket_id
            return None
        recorded.changed.append(item.id)
        return item.id, "pending", self._replace(known, row), "changed_at_source", None, None, None

    def _replace(self, known: _Known, row: Tuple) -> int:
        """Record what we hold as a copy, and have the row fetched again; return its attempts."""
        detail = (
            f"the source gave attachment {known.id} to another file, or changed its row; "
            "these are the bytes that it had before"
        )
        was = (
            f"until now it was {known.filename!r} of {known.declared_size:,} bytes in ticket "
            f"{known.ticket_id}"
        )
        self._copy(asdict(known), detail)
        self._db.execute("DELETE FROM accepted WHERE attachment_id = ?", (known.id,))
        values = (*row[1:7], f"the source lists it differently; {was}", row[-1], known.id)
        ((attempts,),) = self._db.execute(_REPLACE, values)
        return int(attempts)

    def _copy(self, figures: Mapping[str, object], detail: str) -> None:
        """Record bytes of an attachment under an id of their own, unless that was done before."""
        self._db.execute(_COPY, {**figures, "first": FIRST_COPY, "detail": detail})

    def _known(self, ids: Sequence[int]) -> dict[int, _Known]:
        found = self._db.execute_rows(_KNOWN, [(one,) for one in ids])
        return {row[0]: _Known(*row) for row in found}

    def settle(self, outcome: Outcome) -> State:
        """Record the outcome of an attachment and return its new state.

        Nothing we hold is given up: a stored or deleted row keeps its state and its SHA-256,
        whatever a later fetch brings; only attempts and ticket change, and for the same bytes
        problem and detail. If the row has changed since the bytes were requested, they are kept in
        a copy. Raises ValueError for an unknown attachment or an outcome that is not one.
        """
        return self.settle_many([outcome])[0]

    def settle_many(self, outcomes: Sequence[Outcome]) -> list[State]:
        """Record many outcomes as :meth:`settle` does; an error undoes all of them."""
        for one in outcomes:
            if one.state is State.DELETED or (one.state is State.STORED) is (one.sha256 is None):
                raise ValueError(f"not an outcome: {one}")
        states: list[State] = []
        with self.atomic():
            for group in _apart(outcomes, lambda one: one.attachment_id):
                known = self._known([one.attachment_id for one in group])
                blobs: list[Tuple] = []
                rows: list[Tuple] = []
                for one in group:
                    if one.attachment_id not in known:
                        raise ValueError(f"attachment {one.attachment_id} was never listed")
                    states.append(self._settle(one, known[one.attachment_id], blobs, rows))
                self._db.execute_many(_PUT_BLOB, blobs)
                self._db.execute_many(_SETTLE, rows)
        return states

    def mark_deleted(self, attachment_id: int, detail: str) -> bool:
        """Record that the source no longer lists a stored attachment; False if it is not stored."""
        sql = """
            UPDATE attachments SET state = 'deleted', detail = ?
            WHERE id = ? AND state = 'stored' RETURNING id"""
        with self.atomic():
            return bool(self._db.execute(sql, (clean(detail), attachment_id)))

    def mark_unlisted(self, kinds: Collection[str], run_id: int, detail: str) -> int:
        """Record that the source no longer lists files of these kinds which this run has not seen.

        What is held is deleted, what is not is gone. Returns how many are deleted by that.
        """
        values = Values()
        where = f"kind IN {values.each(kinds)} AND last_run <> {values(run_id)}"
        why = values(clean(detail))
        held = f"""
            UPDATE attachments SET state = 'deleted', detail = {why}
            WHERE {where} AND state = 'stored' RETURNING id"""
        lost = f"""
            UPDATE attachments SET state = 'gone', detail = {why}, next_try = NULL
            WHERE {where} AND state IN ('pending', 'failed')"""
        with self.atomic():
            n = len(self._db.execute(held, values))
            self._db.execute(lost, values)
        return n

    def set_helpdesk(self, address: str, *, run_id: int | None) -> None:
        """Record the helpdesk's address, which stays until the helpdesk is declared to have moved.

        The user counts as told.
        """
        sql = upsert("helpdesk", "id", "address", "run_id", "at", "told")
        with self._db.atomic():
            self._db.execute(sql, (1, address, run_id, self._now(), True))

    def add_check(
        self,
        kind: str,
        *,
        started_at: int,
        whole: bool,
        exit_code: int,
        summary: Mapping[str, object],
    ) -> None:
        """Record that a ``verify`` or an ``audit`` finished, and what it found."""
        sql = """
            INSERT INTO checks (kind, started_at, finished_at, whole, exit_code, summary)
            VALUES (?, ?, ?, ?, ?, ?)"""
        text = json.dumps(dict(summary))
        with self._db.atomic():
            self._db.execute(sql, (kind, started_at, self._now(), whole, exit_code, text))

    def accept(self, ids: Collection[int], *, by: str, reason: str) -> int:
        """Accept that these attachments are lost; return how many this call accepted.

        Raises ConfigError, and accepts none, when one of them was never listed or is no loss.
        """
        self._see_losses(set(ids))
        who, why = _signed(by, reason)
        values = Values()
        sql = f"""
            INSERT INTO accepted (attachment_id, accepted_at, accepted_by, reason)
            SELECT value, {values(self._now())}, {values(who)}, {values(why)}
            FROM {values.each(ids)} WHERE true
            ON CONFLICT (attachment_id) DO UPDATE SET accepted_at = excluded.accepted_at,
                accepted_by = excluded.accepted_by, reason = excluded.reason
            RETURNING attachment_id"""
        with self._db.atomic():
            return len(self._db.execute(sql, values))

    def accept_all(self, states: Collection[State], *, by: str, reason: str) -> int:
        """Accept all losses in some states that nobody has accepted yet; return their number."""
        sql = f"""
            INSERT INTO accepted (attachment_id, accepted_at, accepted_by, reason)
            SELECT id, ?, ?, ? FROM attachments WHERE state IN ({state_list(states)})
            ON CONFLICT (attachment_id) DO NOTHING RETURNING attachment_id"""
        with self._db.atomic():
            return len(self._db.execute(sql, (self._now(), *_signed(by, reason))))

    def unaccept(self, ids: Collection[int] | None) -> int:
        """Undo the acceptance of these attachments (None: of all); return their number.

        Raises ConfigError, and undoes none, when the loss of one of them is not accepted.
        """
        values = Values()
        where = "" if ids is None else f"WHERE attachment_id IN {values.each(ids)}"
        with self._db.atomic():
            sql = f"DELETE FROM accepted {where} RETURNING attachment_id"
            undone = {row[0] for row in self._db.execute(sql, values)}
            if others := sorted(set(ids or ()) - undone):
                raise ConfigError(
                    f"The loss of attachment {others[0]} is not accepted; nothing was taken back. "
                    "`migrator accept` lists those that are."
                )
            return len(undone)

    def put_progress(self, run_id: int, facts: Mapping[str, object]) -> None:
        """Record how far a run is, for readers of the archive.

        ``facts`` must be fit for JSON. Only the latest run keeps its progress.
        """
        sql = upsert("progress", "run_id", "at", "facts")
        with self._db.atomic():
            self._db.execute("DELETE FROM progress WHERE run_id <> ?", (run_id,))
            self._db.execute(sql, (run_id, self._now(), json.dumps(dict(facts))))

    def put_delivery(self, delivery: Delivery, files: Iterable[DeliveredFile] = ()) -> Delivery:
        """Record a delivery and its files before it is sent, or one that was found at the target.

        Returns it with its id; the files get it, too.
        """
        sql = """
            INSERT INTO deliveries (target, ticket_id, ticket_number, kind, state, marker,
                idempotency_key, body, response_id, problem, detail, created_at, delivered_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"""
        what = (delivery.target, delivery.ticket_id, delivery.ticket_number, delivery.kind)
        sent = (delivery.state, delivery.marker, delivery.idempotency_key, delivery.body)
        found = (delivery.response_id, delivery.problem, delivery.detail)
        now = self._now()
        at = now if delivery.state == "delivered" else None
        with self._db.atomic():
            ((number,),) = self._db.execute(sql, (*what, *sent, *found, now, at))
            self.put_delivered(replace(one, delivery_id=number) for one in files)
        return replace(delivery, id=number)

    def settle_delivery(self, delivery: Delivery, files: Iterable[DeliveredFile] = ()) -> None:
        """Record what became of a delivery and of files."""
        sql = """
            UPDATE deliveries SET state = ?, ticket_number = ?, response_id = ?, problem = ?,
                detail = ?, delivered_at = iif(? = 'delivered', coalesce(delivered_at, ?), NULL)
            WHERE id = ?"""
        detail = None if delivery.detail is None else clean(delivery.detail)
        values = (delivery.state, delivery.ticket_number, delivery.response_id, delivery.problem)
        with self._db.atomic():
            when = (delivery.state, self._now(), delivery.id)
            self._db.execute(sql, (*values, detail, *when))
            self.put_delivered(files)

    def put_delivered(self, files: Iterable[DeliveredFile]) -> None:
        """Record what became of files at a target."""
        rows = [
            tuple(clean(v) if isinstance(v, str) else v for v in (*astuple(one), self._now()))
            for one in files
        ]
        with self._db.atomic():
            self._db.execute_many(_PUT_DELIVERED, rows)

    def _settle(
        self, outcome: Outcome, known: _Known, blobs: list[Tuple], rows: list[Tuple]
    ) -> State:
        """Collect the blobs and rows to write together; write exceptional ones at once."""
        work = outcome.work
        if known.sha256 is None and work is not None and self._is_other(work, known):
            return self._set_aside(outcome, work, State(known.state))
        if outcome.ticket_id is not None and outcome.ticket_id != known.ticket_id:
            self._move(known.id, known.ticket_id, outcome.ticket_id)
        if known.sha256 is not None and known.sha256 != outcome.sha256:
            return self._keep(outcome, state_from(known.state))
        state, problem, detail = outcome.state, outcome.problem, outcome.detail
        sha256, size, stored_at = known.sha256, known.size, known.stored_at
        failures, since, next_try = 0, None, None
        now = self._now()
        if state is State.STORED:
            blobs.append((outcome.sha256, outcome.size, outcome.mime_type, now))
            problem = problem or (known.note and known.note.partition(",")[0])
            if sha256 is None:
                sha256, size, stored_at = outcome.sha256, outcome.size, now
            elif known.state == State.DELETED:
                state = State.DELETED
            if known.note == "changed_at_source" and self._drop_copies(outcome):
                problem = known.note
                detail = "the source lists it differently, but its bytes are the same"
        elif state is State.FAILED:
            failures, since = known.failures + 1, known.failing_since or now
            next_try = now + AGAIN_AFTER[min(failures, len(AGAIN_AFTER)) - 1]
        text = None if detail is None else clean(detail)
        values = (state, problem, text, sha256, size, stored_at, outcome.attempts)
        rows.append((*values, failures, since, next_try, clean(outcome.filename), known.id))
        return state

    def _is_other(self, work: Work, known: _Known) -> bool:
        """Return whether the row has changed since the work was handed out."""
        asked = (work.filename, work.declared_size, work.created_at)
        figures = (known.filename, known.declared_size, known.created_at)
        if figures != asked and not _alike(figures, asked, f"{known.note},{work.problem}"):
            return True
        if work.ticket_id == known.ticket_id:
            return False
        sql = "SELECT 1 FROM tickets WHERE id = ? AND merged_into = ?"
        return self._db.one(sql, (work.ticket_id, known.ticket_id)) is None

    def _set_aside(self, outcome: Outcome, work: Work, state: State) -> State:
        """Record bytes of what the row was when they were requested; leave the row as it is."""
        if outcome.state is State.STORED:
            now = self._now()
            blob = (outcome.sha256, outcome.size, outcome.mime_type, now)
            self._db.execute(_PUT_BLOB, blob)
            detail = (
                f"the source listed attachment {work.id} as another file while this one was "
                "fetched; these are its bytes"
            )
            held = {"sha256": outcome.sha256, "size": outcome.size, "stored_at": now}
            self._copy({**asdict(work), **held, "note": None}, detail)
        return self._keep(outcome, state)

    def _drop_copies(self, outcome: Outcome) -> bool:
        """Remove copies of the same bytes; return whether there were any."""
        sql = "DELETE FROM attachments WHERE original_id = ? AND sha256 = ? RETURNING id"
        return bool(self._db.execute(sql, (outcome.attachment_id, outcome.sha256)))

    def _keep(self, outcome: Outcome, state: State) -> State:
        sql = "UPDATE attachments SET attempts = attempts + ? WHERE id = ?"
        self._db.execute(sql, (outcome.attempts, outcome.attachment_id))
        return state

    def _move(self, attachment_id: int, old: int, new: int) -> None:
        self._know_ticket(new, like=old)
        sql = "UPDATE attachments SET ticket_id = ? WHERE id = ?"
        self._db.execute(sql, (new, attachment_id))

    def _survivor(self, ticket_id: int, *, of: int) -> int:
        """Return the ticket at the end of a chain of merges.

        A chain that leads back is out of date: then it is the ticket itself.
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
        """Add a row for the ticket if it has none, with the department of ``like``."""
        self._db.execute(_KNOW_TICKET, (ticket_id, like))

    def _see_losses(self, ids: set[int]) -> None:
        values = Values()
        sql = f"SELECT id, state FROM attachments WHERE id IN {values.each(ids)}"
        states: dict[int, str] = dict(self._db.execute(sql, values))
        if unknown := sorted(ids - states.keys()):
            raise ConfigError(
                f"Attachment {unknown[0]} was never listed; nothing was accepted. "
                "`migrator report --format csv --state missing` names the ids."
            )
        others = sorted((key, state) for key, state in states.items() if state not in LOSSES)
        if others:
            raise ConfigError(
                f"Attachment {others[0][0]} is {others[0][1]}, which is not a loss; nothing was "
                "accepted. Only missing, gone and failed ones can be accepted."
            )

    def _now(self) -> int:
        return int(self._clock())


def _alike(one: Sequence[Any], other: Sequence[Any], notes: str) -> bool:
    """Compare (name, size, date) as :data:`_CHANGED` does: unreadable values are equal."""
    (name, size, at), (other_name, other_size, other_at) = one, other
    return (
        (name == other_name or "" in (name, other_name) or "repaired_name" in notes)
        and (size == other_size or "odd_number" in notes)
        and (at == other_at or not (at and other_at))
    )


def _listed(item: Listed, run_id: int) -> Tuple:
    """Return the values of _PUT_ATTACHMENT."""
    size = min(max(item.declared_size, 0), _LARGEST)
    figures = (item.id, item.ticket_id or None, item.post_id, clean(item.filename))
    more = (clean(item.declared_type), size, item.created_at, item.problem)
    code = item.problem and item.problem.partition(",")[0]
    what = (item.kind, clean(item.place))
    return (*figures, *more, code, "pending", *what, run_id, run_id)


def _apart(items: Iterable[T], key: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield all items in order, in groups without repeated keys."""
    group: list[T] = []
    seen: set[int] = set()
    for item in items:
        if (found := key(item)) in seen:
            yield group
            group, seen = [], set()
        seen.add(found)
        group.append(item)
    yield group


def _signed(by: str, reason: str) -> tuple[str, str]:
    """Return who and why as one line each; raises ConfigError without a reason."""
    who, why = (
        " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_REASON]
        for text in (by, reason)
    )
    if not why:
        raise ConfigError("An accepted loss needs a reason: --reason TEXT.")
    return who or "unknown", why
