"""One delivery: what is not there yet is uploaded, put into a note, read back and recorded.

What stands at the target is read before anything is written, and the ledger has the key and the
bytes of a request before it is sent. So a lost answer, a kill, a forgotten key or another machine
leads to no second note.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from migrator.archive import Archive
from migrator.archive.records import (
    Count,
    DeliveredFile,
    Delivery,
    Response,
)
from migrator.blobs.base import Verdict
from migrator.deliver import note as notes
from migrator.deliver.client import ATTEMPTS, Client, Content, Server
from migrator.deliver.errand import Errand, Options
from migrator.deliver.match import There, disagreement, made_for, show
from migrator.deliver.note import File, FileKey, Seen
from migrator.errors import (
    Again,
    ArchiveDamaged,
    ArchiveUnreachable,
    Declined,
    Interrupted,
    MigratorError,
    SafetyLimit,
    ServerFailed,
    SourceError,
    SourceRefused,
)
from migrator.events import FileDelivered, Listener
from migrator.pull.options import Stop
from migrator.sources.base import most_telling
from migrator.sources.pace import wait_before
from migrator.text import brief

MOST_TOLD: Final = 1000
"""Lines of trouble that are kept for the end of a run."""
UNREAD: Final = "not readable"
UNMAPPED: Final = "it is mapped to no ticket number"
DRAIN: Final = 40.0
"""Seconds for what is under way when a delivery is asked to stop."""
GUESSED: Final = 2 << 20
"""Bytes in a second that a dry run assumes for uploads."""


@dataclass
class Result:
    """What a delivery did, or in a dry run would do.

    ``files`` counts by outcome: ``delivered`` ones were written now, ``already`` ones were found
    there; ``texts`` counts those of ``threads``. ``before`` counts the same files by what the
    ledger said of them. ``troubles`` are lines for people. ``silent`` says that Tickiti lists no
    new mail about the ticket of a canary; None: it does not tell.
    """

    files: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    tickets: int = 0
    created: int = 0
    notes: int = 0
    requests: int = 0
    reading: float = 0.0
    """Mean seconds of a read."""
    troubles: list[str] = field(default_factory=list)
    untold: int = 0
    silent: bool | None = None
    ended_by: MigratorError | None = None

    def tell(self, line: str) -> None:
        """Keep a line of trouble."""
        if len(self.troubles) < MOST_TOLD:
            self.troubles.append(line)
        else:
            self.untold += 1

    def seconds(self) -> float:
        """Return the time that a dry run's work will take, at a guess."""
        calls = 3 * self.notes + self.files["pending"] + self.texts["pending"]
        return calls * self.reading + self.bytes / GUESSED


class TicketTrouble(Exception):
    """A ticket gets no note now; ``problem`` is the code for its files."""

    def __init__(self, problem: str, detail: str, *, state: str = "refused") -> None:
        super().__init__(detail)
        self.problem = problem
        self.state = state


async def deliver(
    client: Client,
    archive: Archive,
    server: Server,
    options: Options,
    *,
    listener: Listener,
    stop: Stop,
) -> Result:
    """Deliver everything that is not there yet, as far as the options allow."""
    result = Result()
    courier = _Courier(
        client, archive, server, options, listener=listener, result=result, stop=stop
    )
    try:
        await stop.guard(courier.everything(), drain=DRAIN, listener=listener)
        if stop.asked:
            raise Interrupted("interrupted, progress is saved: run the same command again")
    except MigratorError as error:
        result.ended_by = error
    result.requests = client.requests
    return result


class _Courier:
    """Carries the files of one ticket after the other."""

    def __init__(
        self,
        client: Client,
        archive: Archive,
        server: Server,
        options: Options,
        *,
        listener: Listener,
        result: Result,
        stop: Stop,
    ) -> None:
        self._client = client
        self._archive = archive
        self._server = server
        self._options = options
        self._listener = listener
        self._result = result
        self._stop = stop
        self._digests: dict[tuple[str, str], tuple[str, int]] = {}
        self._wrote = False
        self._slots: float = float("inf") if options.limit is None else options.limit
        self._reads = 0
        totals = totals_of(archive, options)
        self._total = sum(one.n for state, one in totals.items() if state != "delivered")

    async def everything(self) -> None:
        """Deliver ticket by ticket, a few at the same time."""
        errands = self._errands()

        async def work() -> None:
            while not self._stop.asked and self._slots > 0:
                errand = next(errands, None)  # shared: each takes the next one
                if errand is None:
                    return
                self._slots -= 1
                await self._ticket(errand)
                self._slots += not errand.begun

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._options.concurrency):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise most_telling(errors) from None

    def _errands(self) -> Iterator[Errand]:
        options = self._options
        ids = self._archive.queries.tickets_to_deliver(
            options.target,
            deleted=options.deleted,
            recheck=options.recheck,
            threads=options.threads,
        )
        for one in ids:
            if options.tickets is not None and one not in options.tickets:
                continue
            ticket = self._archive.threads.ticket(one)
            if ticket is None:
                continue
            if options.departments is not None and ticket.department_id not in options.departments:
                continue
            errand = Errand(self._archive, options, ticket)
            if errand.open:
                yield errand

    async def _ticket(self, errand: Errand) -> None:
        self._result.tickets += 1
        try:
            mails = await self._mails(errand)
            await self._run(errand)
            self._see_mails(errand, mails, await self._mails(errand))
        except TicketTrouble as trouble:
            self._give_up(errand, trouble.state, trouble.problem, str(trouble))
        except Declined as error:
            self._give_up(errand, "refused", error.code or error.problem, error.reason)
        except (SourceError, ArchiveDamaged) as error:
            if isinstance(error, ArchiveUnreachable):
                raise
            if error.again is Again.STOP and not isinstance(error, ArchiveDamaged):
                raise
            self._give_up(errand, "failed", error.problem, str(error))
        finally:
            done = {errand.number, *(one.ticket_number for one in errand.deliveries)}
            self._digests = {k: v for k, v in self._digests.items() if k[0] not in done}

    def _give_up(self, errand: Errand, state: str, problem: str, detail: str) -> None:
        """Record that what is left of a ticket is not delivered now, and why."""
        self._result.tell(f"ticket {errand.ticket.id}: {detail}")
        left = [one for one in errand.left() if one.key not in errand.outcome]
        for one in left:
            self._settled(errand, one, state)
        if self._options.writes:
            # What may have been sent still belongs to its note.
            sent = {one.id for one in errand.pending()}
            was = {key: row.delivery_id for key, row in errand.known.items()}
            rows = [errand.row(one, state, problem, detail) for one in left]
            self._archive.ledger.put_delivered(
                replace(row, delivery_id=number if number in sent else None)
                for row, number in zip(rows, (was.get(one.key) for one in left), strict=True)
            )

    async def _run(self, errand: Errand) -> None:
        """Deliver what is left of a ticket."""
        errand.pauses = await self._client.pauses()
        stood = await self._stood(errand)
        if errand.number is None:
            await self._drop_pending(errand)
            if not errand.left() or not await self._may_create(errand):
                return
            errand.begun = True
            errand.number = await self._create(errand)
            stood[errand.number] = await self._show(errand.number)
            await self._adopt(errand, stood[errand.number])
        if errand.number not in stood:  # it was deleted there, and nothing is to be written
            await self._drop_pending(errand)
        if not errand.left() and not errand.pending():
            return
        there = stood[errand.number]
        self._check(errand, there)
        if not self._options.writes:
            self._foresee(errand)
            return
        errand.begun = True
        for one in errand.pending():
            there = await self._resend(errand, one, there)
        every_post = not any(one.files for one in there.notes)
        for files in notes.split(errand.left()):
            there = await self._part(errand, files, there, every_post=every_post)
            every_post = False

    async def _stood(self, errand: Errand) -> dict[str, There]:
        """Read the tickets where our notes may stand, and record those that do."""
        stood: dict[str, There] = {}
        for number in errand.numbers():
            try:
                stood[number] = await self._show(number)
            except Declined as error:
                if number != errand.number or not errand.left():
                    continue
                why = "has no ticket" if error.status == 404 else "does not show ticket"
                detail = f"Tickiti {why} {number}: {error.reason}"
                raise TicketTrouble("not_found", detail) from None
            await self._adopt(errand, stood[number])
        return stood

    async def _may_create(self, errand: Errand) -> bool:
        """Return whether to make a ticket now; raise TicketTrouble where none is to be made."""
        if not self._options.create:
            raise TicketTrouble("no_number", UNMAPPED)
        if not self._server.keeps_status:
            raise TicketTrouble(
                "no_number", "this version of Tickiti cannot make a ticket that is closed"
            )
        self._result.created += 1
        if not self._options.writes:
            self._foresee(errand)
        return self._options.writes

    def _check(self, errand: Errand, there: There) -> None:
        """Raise TicketTrouble where a note would be wrong, or not silent."""
        wrong = disagreement(errand.ticket, there)
        if wrong and not (self._options.trust or errand.made):
            raise TicketTrouble(
                "doubtful_number", f"ticket {there.number} may be another one: {wrong}"
            )
        if not self._server.keeps_status and there.status != "open":
            raise TicketTrouble(
                "not_open",
                f"ticket {there.number} is {there.status or 'of unknown status'}: a note would "
                "reopen it in this version of Tickiti",
            )

    def _foresee(self, errand: Errand) -> None:
        errand.begun = True
        left = errand.left()
        self._result.notes += len(list(notes.split(left)))
        for one in left:
            outcome = "too_large" if one.size > self._options.max_upload else "pending"
            self._settled(errand, one, outcome)
            self._result.bytes += one.size if outcome == "pending" else 0

    async def _show(self, number: str) -> There:
        began = time.monotonic()
        there = await show(self._client, number)
        self._reads += 1
        taken = time.monotonic() - began
        self._result.reading += (taken - self._result.reading) / self._reads
        return there

    # What stands there

    async def _adopt(self, errand: Errand, there: There) -> None:
        """Record what stands in a ticket of the target already."""
        if not there.notes:
            return
        standing = await self._standing(there, errand)
        for seen in there.notes:
            await self._record(errand, there, seen, standing)

    async def _standing(
        self, there: There, errand: Errand
    ) -> dict[FileKey, tuple[Seen, Mapping[str, Any] | None]]:
        """Return our files in a ticket: their note and the target's record, None: only named."""
        found: dict[FileKey, tuple[Seen, Mapping[str, Any] | None]] = {}
        for seen in there.notes:
            left = list(seen.attachments)
            for key, attached in sorted(seen.files.items()):
                if not attached:
                    found.setdefault(key, (seen, None))
                    continue
                name = errand.files[key].name if key in errand.files else ""
                doubted = key in errand.doubted
                match = await self._match(there.number, left, key[1], name, doubted=doubted)
                if match is not None:
                    left.remove(match)
                else:  # a target may keep equal files once
                    every = seen.attachments
                    match = await self._match(there.number, every, key[1], name, doubted=doubted)
                if match is not None and (key not in found or found[key][1] is None):
                    found[key] = (seen, match)
        return found

    async def _match(
        self,
        number: str,
        rows: Iterable[Mapping[str, Any]],
        sha256: str,
        name: str,
        *,
        doubted: bool,
    ) -> Mapping[str, Any] | None:
        equal = [one for one in rows if await self._digest(number, one, doubted=doubted) == sha256]
        return next((one for one in equal if one.get("name") == name), next(iter(equal), None))

    async def _digest(self, number: str, row: Mapping[str, Any], *, doubted: bool) -> str:
        """Return the SHA-256 of an attachment at the target, read back where it does not say.

        If it is ``doubted``, because one has read back wrong before, it is read back always.
        """
        told = row.get("sha256")
        if isinstance(told, str) and len(told) == 64 and not doubted:
            return told.lower()
        key = (number, str(row.get("id")))
        if key not in self._digests:
            try:
                self._digests[key] = await self._client.digest(
                    *key, most=2 * self._options.max_upload, what=f"attachment {key[1]}"
                )
            except Declined as error:
                lost = error.status == 404  # of any other we know nothing
                self._digests[key] = ("" if lost else UNREAD), 0
        return self._digests[key][0]

    async def _record(
        self,
        errand: Errand,
        there: There,
        seen: Seen,
        standing: Mapping[FileKey, tuple[Seen, Mapping[str, Any] | None]],
    ) -> Delivery | None:
        """Record one of our notes and the files it has; return its row, if it concerns us."""
        mine = {key: row for key, (note, row) in standing.items() if note is seen}
        held = [errand.files[key] for key in mine if key in errand.files]
        known = errand.delivery(seen)
        if known is None and not held:
            return None
        rows = []
        for one in held:
            row = mine[one.key]
            if row is None:
                errand.told[one.key] = seen
            if row is not None:
                state, problem, detail = "delivered", None, None
            elif self._options.recheck:
                continue  # it is tried again, not taken from what an older note says
            elif (was := errand.known.get(one.key)) and was.state in ("refused", "too_large"):
                state, problem, detail = was.state, was.problem, was.detail
            else:
                large = one.size > self._options.max_upload
                state, problem = ("too_large", "too_large") if large else ("refused", "refused")
                detail = "the note says that it was not taken"
            name, there_id = (str(row.get("name")), str(row.get("id"))) if row else (None, None)
            made = errand.row(one, state, problem, detail)
            rows.append(replace(made, name=name, there_id=there_id))
            errand.settle(one)
            if one.key not in errand.counted:
                self._settled(errand, one, "already" if row is not None else state)
        if not self._options.writes:
            return known
        if known is None:
            made_note = Delivery(
                self._options.target,
                errand.ticket.id,
                there.number,
                seen.marker,
                state="delivered",
                response_id=seen.response_id,
            )
            return errand.add(self._archive.ledger.put_delivery(made_note, rows))
        known = replace(
            known,
            state="delivered",
            ticket_number=there.number,
            response_id=seen.response_id,
            problem=None,
            detail=None,
        )
        files = [replace(one, delivery_id=known.id) for one in rows]
        self._archive.ledger.settle_delivery(known, files)
        return errand.add(known)

    # Writing

    async def _create(self, errand: Errand) -> str:
        """Make a ticket for one of ours, closed and not public; return its number.

        Its mark is searched for first, so that none is made twice.
        """
        options, ledger, ticket = self._options, self._archive.ledger, errand.ticket
        text = notes.opening(options.helpdesk, ticket)
        subject = "".join(c if c.isprintable() else " " for c in ticket.subject).strip()[:255]
        body = json.dumps(
            {
                "originator_email_address": options.author,
                "queue_name": options.create,
                "is_public": False,
                "use_passed_originator_as_responder": False,
                "data": {
                    "subject": subject or f"Ticket {ticket.id}",
                    "content": text.text,
                    "status": "closed",
                },
            }
        ).encode()
        planned = next((one for one in errand.pending("ticket")), None)
        if planned is None:
            key = self._key(errand, body)
            known = (options.target, ticket.id, "", text.marker, key, body, "ticket")
            planned = errand.add(ledger.put_delivery(Delivery(*known)))
        number, data = await self._sought(planned)
        if not number:
            failed = replace(planned, state="failed", detail="it was not made")
            ledger.settle_delivery(errand.add(failed))
            raise TicketTrouble("not_created", "no ticket could be made for it", state="failed")
        made = replace(planned, state="delivered", ticket_number=number)
        ledger.settle_delivery(errand.add(made))
        if data.get("rerouted") is True or data.get("queue", options.create) != options.create:
            raise SafetyLimit(
                f"Stopped: Tickiti moved ticket {number} to the queue {data.get('queue')!r}. Look "
                "at it and at sent mail before you go on"
            )
        return number

    async def _sought(self, planned: Delivery) -> tuple[str, Mapping[str, Any]]:
        """Return the number of a ticket that was made before or is made now, and the answer."""
        for attempt in range(1, ATTEMPTS + 1):
            await self._client.pauses()  # so that what is read is new
            if number := await made_for(self._client, planned.marker):
                return number, {}
            try:
                what, key = "a new ticket", planned.idempotency_key
                data = await self._client.write("tickets", planned.body, what=what, key=key)
                number = str(data.get("ticket_number") or "")
                if number:
                    return number, data
            except SourceError as error:
                if error.again is Again.STOP or (
                    isinstance(error, Declined) and error.status != 409
                ):
                    raise
                await self._stop.sleep(wait_before(attempt, error))
        return await made_for(self._client, planned.marker) or "", {}

    async def _drop_pending(self, errand: Errand) -> None:
        """Note that what was to be sent is not there and no longer wanted as it was."""
        if self._options.writes:
            for one in errand.pending():
                self._drop(errand, one)

    def _drop(self, errand: Errand, one: Delivery) -> None:
        """Note that a planned note is not there, and which of its files no other one will have."""
        why = "it was planned and never sent; it is no longer to be delivered"
        gone = [
            errand.row(errand.files[key], "failed", "withdrawn", why)
            for key, row in errand.known.items()
            if row.delivery_id == one.id and key in errand.withdrawn
        ]
        undone = errand.add(replace(one, state="undone"))
        self._archive.ledger.settle_delivery(undone, gone)

    async def _resend(self, errand: Errand, one: Delivery, there: There) -> There:
        """Send a note that may have been sent before, but is not there; or drop it."""
        files = [
            errand.files[key]
            for key, row in errand.known.items()
            if row.delivery_id == one.id and key in errand.files
        ]
        listed = notes.seen({"html": _content(one.body)})
        same = listed is not None and {file.key for file in files} == set(listed.files)
        same = same and not errand.withdrawn & {file.key for file in files}
        if same and one.ticket_number == there.number:
            told = [
                file if listed and listed.files[file.key] else replace(file, why="told there")
                for file in files
            ]
            if await self._upload_again(errand, told):
                return await self._send(errand, one, told, there)
        self._drop(errand, one)
        return there

    async def _part(
        self, errand: Errand, files: Sequence[File], there: There, *, every_post: bool
    ) -> There:
        """Upload some files and write the note that holds them, or says why not."""
        options, ledger = self._options, self._archive.ledger
        kept, rows = list[File](), list[DeliveredFile]()
        for one in files:
            state, why = await self._upload(errand, one)
            if state == "failed":
                self._result.tell(
                    f"ticket {errand.ticket.id}, attachment {one.id} ({one.name}): {why}"
                )
                self._settled(errand, one, state)
                ledger.put_delivered([errand.row(one, state, "upload", why)])
                continue
            if state != "ok" and one.key in errand.told:  # the note says so already
                row = errand.row(one, state, state, why)
                told_by = errand.delivery(errand.told[one.key])
                ledger.put_delivered([replace(row, delivery_id=told_by.id if told_by else None)])
                self._settled(errand, one, state)
                continue
            if state != "ok":
                self._result.tell(
                    f"ticket {errand.ticket.id}, attachment {one.id} ({one.name}): {why}"
                )
                self._settled(errand, one, state)
            told = "pending" if state == "ok" else state
            kept.append(replace(one, why=why))
            rows.append(errand.row(one, told, None if state == "ok" else state, why or None))
            if self._stop.asked:
                raise Interrupted("interrupted, progress is saved: run the same command again")
        if not kept:
            return there
        posts = self._posts(errand, kept)
        note = notes.compose(
            options.helpdesk,
            errand.ticket,
            posts,
            kept,
            every_post=every_post,
            pages=options.pages,
            before=sum(any(one.key in seen.files for one in kept) for seen in there.notes),
        )
        body = self._body(there.number, note.text, [one for one in kept if not one.why])
        planned = Delivery(
            options.target,
            errand.ticket.id,
            there.number,
            note.marker,
            self._key(errand, body),
            body,
        )
        sent = errand.add(ledger.put_delivery(planned, rows))
        errand.known |= {
            (row.attachment_id, row.sha256): replace(row, delivery_id=sent.id) for row in rows
        }
        return await self._send(errand, sent, kept, there)

    def _posts(self, errand: Errand, files: Sequence[File]) -> list[Response]:
        posts = self._archive.threads.responses(errand.ticket.id, text_limit=0)
        held = {one.post_id for one in files}
        return [one for one in posts if one.id in held or one.note != "not_kept"]

    async def _upload(self, errand: Errand, one: File) -> tuple[str, str]:
        """Upload a file; return ok, refused, too_large or failed, and why not."""
        if one.size > self._options.max_upload:
            return "too_large", f"it is larger than {self._options.max_upload} bytes"
        if (content := errand.content(one)) is not None:
            return await self._sent(errand, one, content)
        return "failed", "the archive has lost its bytes: run `migrator verify`"

    async def _sent(self, errand: Errand, one: File, content: Content) -> tuple[str, str]:
        what = f"attachment {one.id} of ticket {errand.ticket.id}"
        for _ in range(2):
            try:
                data = await self._client.upload(one.name, content, what=what)
            except Declined as error:
                return await self._refused(error)
            except SourceError as error:
                if error.again is not Again.STOP:
                    return "failed", error.reason
                raise
            got = str(data.get("sha256")).lower(), str(data.get("file_size"))
            if got == (one.sha256, str(one.size)):
                return "ok", ""
        sound = one.id < 0 or (
            self._archive.blobs.examine(one.sha256, one.size).verdict is Verdict.OK
        )
        if sound:
            return "failed", "Tickiti got other bytes than were sent"
        return "failed", "the archive's own copy is damaged: run `migrator verify`"

    async def _refused(self, error: Declined) -> tuple[str, str]:
        """Return what a refused upload means for the file, or raise what it means for all."""
        if error.status == 413:
            return "too_large", error.reason
        if error.status == 403 and error.code != "attachment_blocked":
            try:  # of the file, or of every file?
                await self._client.ask("tickets/attachment-upload", {}, what="an upload")
            except Declined as again:
                if again.status == 403:
                    raise SourceRefused(f"{error}. The API key needs tickets:write") from None
        return "refused", f"refused by Tickiti: {error.reason}"

    def _body(self, number: str, text: str, files: Iterable[File]) -> bytes:
        """Return the exact bytes of a note: internal, silent, and leaving the status alone."""
        facts: dict[str, object] = {
            "ticket_number": number,
            "from_email": self._options.author,
            "content": text,
            "is_internal": True,
        }
        if self._server.keeps_status:
            facts["keep_status"] = True
        attached = [
            {"sha256": one.sha256, "name": one.name, "file_size": one.size} for one in files
        ]
        if attached:
            facts["attachments"] = attached
        return json.dumps(facts).encode()

    def _key(self, errand: Errand, body: bytes) -> str:
        """Return the key: the same for the same request, until an earlier one has its outcome.

        Tickiti repeats the outcome of a key, also of a note that somebody has removed since.
        """
        spent = sum(one.state != "pending" for one in errand.deliveries)
        what = (self._options.target, self._options.helpdesk, str(errand.ticket.id), str(spent))
        digest = hashlib.sha256("\n".join(what).encode() + b"\n" + body).hexdigest()
        return f"kayako-delivery:{errand.ticket.id}:{digest[:40]}"

    async def _send(
        self, errand: Errand, sent: Delivery, files: Sequence[File], before: There
    ) -> There:
        """Send a note until it stands there, read it back, and record it."""
        data: Mapping[str, Any] = {}
        problem: SourceError | None = None
        for attempt in range(1, ATTEMPTS + 1):
            before = await self._as_it_is(errand, before)
            if _has(before, sent):
                return await self._written(errand, sent, files, before, there=before, data=data)
            try:
                data = await self._client.write(
                    "tickets/respond",
                    sent.body,
                    what=f"a note in ticket {sent.ticket_number}",
                    key=sent.idempotency_key,
                )
                problem = None
            except SourceError as error:
                problem = error
                if error.again is Again.STOP:
                    raise
                if isinstance(error, Declined) and error.status != 409:
                    if error.status != 422 or attempt > 1:
                        break
                    await self._upload_again(errand, files)  # it may have dropped them
                    continue
                await self._stop.sleep(wait_before(attempt, error))
            there = await self._read_back(sent, attempt, taken=problem is None)
            if _has(there, sent):
                self._wrote = True
                return await self._written(errand, sent, files, before, there=there, data=data)
            if problem is None:
                break
            if isinstance(problem, ServerFailed) and problem.status == 500 and attempt > 1:
                # It ended and left nothing, but Tickiti may answer the key with it for ever.
                sent = self._with_new_key(errand, sent, problem)
        await self._not_written(errand, sent, problem)
        raise AssertionError  # that raises

    async def _as_it_is(self, errand: Errand, there: There) -> There:
        """Return a ticket as it was read, or read it again: after a pause that may be days old."""
        if (pauses := await self._client.pauses()) == errand.pauses:
            return there
        errand.pauses = pauses
        there = await self._show(there.number)
        self._check(errand, there)
        return there

    async def _read_back(self, sent: Delivery, attempt: int, *, taken: bool) -> There:
        there = await self._show(sent.ticket_number)
        if taken and not _has(there, sent):  # what was read may be older
            await self._stop.sleep(wait_before(attempt, None))
            there = await self._show(sent.ticket_number)
        return there

    def _with_new_key(self, errand: Errand, sent: Delivery, problem: SourceError) -> Delivery:
        files = self._archive.queries.files_of_delivery(sent.id)
        failed = replace(sent, state="failed", problem=problem.problem, detail=problem.reason)
        with self._archive.ledger.atomic():
            self._archive.ledger.settle_delivery(errand.add(failed))
            again = replace(sent, idempotency_key=self._key(errand, sent.body))
            return errand.add(self._archive.ledger.put_delivery(again, files))

    async def _upload_again(self, errand: Errand, files: Iterable[File]) -> bool:
        """Upload what a note refers to once more; return whether all of it was taken."""
        found = [await self._upload(errand, one) for one in files if not one.why]
        return all(state == "ok" for state, _ in found)

    async def _not_written(
        self, errand: Errand, sent: Delivery, problem: SourceError | None
    ) -> None:
        code, detail, state = "not_there", "Tickiti took the note and does not show it", "failed"
        if problem is not None:
            code, detail = problem.problem, problem.reason
        if isinstance(problem, Declined):
            code = problem.code or code
        failed = replace(sent, state="failed", problem=code, detail=detail)
        errand.add(failed)
        self._archive.ledger.settle_delivery(failed)
        if isinstance(problem, Declined) and problem.status == 403:
            if not self._wrote:
                raise SourceRefused(f"{detail}. The API key or its owner may not write there")
            state = "refused"
        raise TicketTrouble(code, detail, state=state)

    async def _written(
        self,
        errand: Errand,
        sent: Delivery,
        files: Sequence[File],
        before: There,
        *,
        there: There,
        data: Mapping[str, Any],
    ) -> There:
        """Record a note that stands there; raise SafetyLimit where it did more than it should."""
        there = await self._without_surplus(errand, there)
        standing = await self._standing(there, errand)
        wrong = [one for one in files if not one.why and not _row_of(standing, one)]
        unread = any(
            key[0] == there.number and digest == UNREAD
            for key, (digest, _) in self._digests.items()
        )
        removed = bool(wrong) and not unread and await self._remove(there, sent.marker)
        why = "it cannot be read back" if unread else "it does not read back as it was sent"
        problem = "not_read_back" if unread else "differs"
        for one in wrong:
            self._result.tell(f"ticket {errand.ticket.id}, attachment {one.id} ({one.name}): {why}")
        if removed:
            lost = [errand.row(one, "failed", problem, why) for one in files]
            gone = replace(sent, state="failed", problem=problem, detail=why)
            self._archive.ledger.settle_delivery(errand.add(gone), lost)
            for one in files:
                self._settled(errand, one, "failed")
        else:
            self._result.notes += 1
            await self._record_all(errand, there, files, standing)
            number = sent.id if unread else None
            for one in wrong:
                self._settled(errand, one, "failed")
                row = replace(errand.row(one, "failed", problem, why), delivery_id=number)
                self._archive.ledger.put_delivered([row])
            if errand.delivery_of(sent.id).state == "pending":  # another note took its place
                gone = replace(sent, state="undone", detail="another note has the same files")
                self._archive.ledger.settle_delivery(errand.add(gone))
        self._see_silence(before, there, data, sent.marker)
        return there

    async def _record_all(
        self,
        errand: Errand,
        there: There,
        files: Sequence[File],
        standing: Mapping[FileKey, tuple[Seen, Mapping[str, Any] | None]],
    ) -> None:
        for one in files:
            if _row_of(standing, one):
                errand.counted.add(one.key)
                self._settled(errand, one, "delivered")
                self._result.bytes += one.size
        for seen in there.notes:
            await self._record(errand, there, seen, standing)

    async def _remove(self, there: There, marker: str) -> bool:
        """Remove the note that was just written; return False where Tickiti does not."""
        seen = next((one for one in there.notes if one.marker == marker), None)
        return seen is not None and await self._delete(there, seen, "a note without its files")

    async def _delete(self, there: There, seen: Seen, what: str) -> bool:
        number: object = seen.response_id
        facts = {"response_id": int(seen.response_id) if str(number).isdigit() else number}
        try:
            await self._client.write(
                "tickets/response-delete", json.dumps(facts).encode(), what=what
            )
        except SourceError as error:
            if error.again is Again.STOP:
                raise
            self._result.tell(f"ticket {there.number} in Tickiti keeps {what}: {error.reason}")
            return False
        return True

    async def _mails(self, errand: Errand) -> set[str] | None:
        """Return the sent mails about the ticket of a canary; None where Tickiti does not tell."""
        if not (self._options.canary and self._options.writes):
            return None
        found = set[str]()
        for text in filter(None, (errand.number, errand.ticket.subject.strip())):
            asked = {"q": text, "limit": 500}
            try:
                told = await self._client.rows("mail/sent-mail/search", asked, what="sent mail")
            except SourceError as error:
                if error.again is Again.STOP:
                    raise
                return None  # the token may not read it, or it is of another version
            found |= {str(row.get("id") or json.dumps(row, sort_keys=True)) for row in _rows(told)}
        return found

    def _see_mails(self, errand: Errand, before: set[str] | None, after: set[str] | None) -> None:
        if before is None or after is None:
            return
        self._result.silent = not after - before
        if after - before:
            raise SafetyLimit(
                f"Stopped after ticket {errand.number or errand.ticket.id}: Tickiti's "
                f"sent mail has something new about it ({len(after - before):,}). Look at that "
                "before you go on; `migrator deliver --undo` removes the notes"
            )

    def _see_silence(
        self, before: There, there: There, data: Mapping[str, Any], marker: str
    ) -> None:
        wrong = ""
        if data.get("reopened") is True or (before.status != "open" and there.status == "open"):
            wrong = "the note reopened it"
        elif any(one.marker == marker and not one.is_internal for one in there.notes):
            wrong = "the note is not internal"
        elif data.get("ignored_params"):
            ignored = data["ignored_params"]
            names = map(str, ignored if isinstance(ignored, list) else [ignored])
            wrong = f"Tickiti ignored {brief(', '.join(names))}"
        if wrong:
            raise SafetyLimit(
                f"Stopped at ticket {there.number}: {wrong}, so Tickiti does not do what was "
                "asked. Look at that ticket and at sent mail before you go on; "
                "`migrator deliver --undo` removes the notes"
            )

    async def _without_surplus(self, errand: Errand, there: There) -> There:
        """Remove notes of ours whose files stand in an older one: two machines wrote at once."""
        covered, markers, surplus = set[FileKey](), set[str](), list[Seen]()
        for seen in there.notes:
            attached = {key for key, is_there in seen.files.items() if is_there}
            again = attached <= covered if attached else seen.marker in markers
            if seen.is_internal and again:
                surplus.append(seen)
            for key in attached - covered:  # which the note only claims to have
                match = await self._match(
                    there.number, seen.attachments, key[1], "", doubted=key in errand.doubted
                )
                covered |= {key} if match else set()
            markers.add(seen.marker)
        for seen in surplus:
            await self._delete(there, seen, "a second note with the same files")
        return await self._show(there.number) if surplus else there

    def _settled(self, errand: Errand, one: File, outcome: str) -> None:
        """Count what became of a file."""
        if errand.outcome.get(one.key) == outcome:
            return
        if one.id >= 0 and one.key in errand.known and one.key not in errand.outcome:
            self._result.before[errand.known[one.key].state] += 1
        errand.outcome[one.key] = outcome
        (self._result.texts if one.id < 0 else self._result.files)[outcome] += 1
        self._listener(FileDelivered(one.id, errand.ticket.id, outcome, one.size, self._total))


def totals_of(archive: Archive, options: Options) -> dict[str, Count]:
    """Return how many files are in which state at the target, of those that the options cover."""
    return archive.queries.delivery_totals(
        options.target,
        deleted=options.deleted,
        tickets=options.tickets,
        departments=options.departments,
    )


def _row_of(
    standing: Mapping[FileKey, tuple[Seen, Mapping[str, Any] | None]], one: File
) -> Mapping[str, Any] | None:
    return standing[one.key][1] if one.key in standing else None


def _has(there: There, sent: Delivery) -> bool:
    return any(one.marker == sent.marker for one in there.notes)


def _rows(found: object) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of an answer whose envelope nobody has documented."""
    if isinstance(found, dict):
        for one in found.values():
            yield from _rows(one)
    elif isinstance(found, list):
        yield from (one for one in found if isinstance(one, dict))


def _content(body: bytes) -> str:
    try:
        found = json.loads(body)["content"]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
