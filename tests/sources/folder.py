"""The smallest source: a folder with a directory for each ticket.

``ROOT/departments.json`` maps ids to titles. ``ROOT/ID/ticket.json`` is the ticket, with its files
as ``{id: [name, size]}``; the bytes of a file are beside it, under its id.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from migrator.errors import ConfigError, NotFound, SourceUnreachable, WrongTicket
from migrator.events import TicketsCounted
from migrator.sources.base import (
    TRASH,
    Attachment,
    Contents,
    CopySink,
    Department,
    Directory,
    FastLook,
    Fetched,
    FetchSink,
    Increment,
    Likeness,
    Post,
    Receiver,
    Scope,
    Source,
    ThoroughSink,
    Thread,
    Ticket,
    TicketStatus,
)

S = TypeVar("S", bound=FetchSink)


@dataclass(frozen=True)
class FolderSettings:
    """Where the folder is."""

    root: Path


@asynccontextmanager
async def connect(settings: FolderSettings, **_: object) -> AsyncIterator[Source]:
    """Yield the source of a folder."""
    yield FolderSource(settings.root)


class FolderSource:
    """A helpdesk that was exported into a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.requests: Counter[str] = Counter()

    def pages(self, tickets: int) -> int:
        return 0

    async def probe(self) -> None:
        self._json("departments.json")

    async def directory(self) -> Directory:
        titles = self._json("departments.json")
        departments = [Department(int(key), title) for key, title in titles.items()]
        return Directory(departments, [TicketStatus(1, "Open")])

    async def compare(self, known: Sequence[Ticket]) -> Likeness:
        created = {one.id: self._find(one.id) for one in known}
        absent = sum(row is None for row in created.values())
        agree = [o for o in known if (r := created[o.id]) and r["created_at"] == o.created_at]
        contradict = len(known) - absent - len(agree)
        difference = "a ticket was created at another time" if contradict else ""
        return Likeness(len(agree), contradict, absent, difference)

    async def list_tickets(
        self,
        scope: Scope,
        receiver: Receiver,
        *,
        increment: Increment | None = None,
        fast: bool = False,
        most_gaps: int | None = None,
    ) -> None:
        listing = receiver.listing
        if fast:
            listing.preview = FastLook(fallback="a folder is listed whole")
        found = self._in_scope(scope)
        listing.total = listing.helpdesk_tickets = len(found)
        receiver.tell(TicketsCounted(len(found)))
        floor = increment.floor if increment is not None else scope.since
        owed = increment.owed if increment is not None else ()
        wanted = [one for one in found if one.last_activity >= floor or one.id in owed]
        for ticket in wanted[: scope.limit_tickets]:
            if receiver.stopping:
                return
            await receiver.take(ticket)
        await receiver.settle()
        if scope.whole:
            latest = max((one.last_activity for one in wanted), default=0)
            listing.watermark = min(latest, listing.started)

    async def locate(self, ticket_id: int, *, in_no_list: bool = False) -> Ticket | None:
        row = self._find(ticket_id)
        return _ticket(row) if row is not None else None

    async def thread(self, ticket_id: int, copy: CopySink | None = None) -> Thread:
        if (row := self._find(ticket_id)) is None:
            raise NotFound(f"there is no ticket {ticket_id}")
        if copy is not None:
            copy.begin()
            copy.write(json.dumps(row).encode())
        return Thread(_ticket(row))

    async def attachments(self, ticket: Ticket) -> list[Attachment]:
        self.requests["lists"] += 1
        if (row := self._find(ticket.id)) is None:
            raise NotFound(f"there is no ticket {ticket.id}")
        return [self._attachment(row, key) for key in sorted(row["files"], key=int)]

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        self.requests["fetches"] += 1
        row = self._find(ticket_id)
        if row is None or str(attachment_id) not in row["files"]:
            if row is not None and any(self._root.glob(f"*/{attachment_id}")):
                raise WrongTicket(f"attachment {attachment_id} is of another ticket")
            raise NotFound(f"there is no attachment {attachment_id}")
        attachment = self._attachment(row, str(attachment_id))
        path = self._root / str(row["id"]) / str(attachment_id)
        sink = make_sink()
        try:
            data = path.read_bytes() if path.exists() else None
            if data:
                sink.write(data)
            contents = Contents(attachment, len(data or b""), data is not None)
            if isinstance(sink, ThoroughSink):
                sink.finish(contents)
        except BaseException:
            sink.abort()
            raise
        return Fetched(contents, sink, 1)

    def _json(self, name: str) -> Any:
        self.requests["others"] += 1
        if not self._root.is_dir():
            raise SourceUnreachable(f"there is no folder {self._root}")
        return json.loads((self._root / name).read_text())

    def _find(self, ticket_id: int) -> dict[str, Any] | None:
        """Return a ticket, or the one it was merged into; None when there is none."""
        if self._root.is_dir() and not (self._root / str(ticket_id)).is_dir():
            return None
        row: dict[str, Any] = self._json(f"{ticket_id}/ticket.json")
        return self._find(row["merged_into"]) if "merged_into" in row else row

    def _in_scope(self, scope: Scope) -> list[Ticket]:
        titles = self._json("departments.json")
        wanted = {int(key) for key in titles}
        if scope.departments is not None:
            names = {name.strip().casefold() for name in scope.departments}
            wanted = {int(key) for key, title in titles.items() if {key, title.casefold()} & names}
            if not wanted:
                raise ConfigError(f"there is no department {', '.join(names)}")
        if scope.include_trash:
            wanted.add(TRASH)
        numbers = sorted(int(path.name) for path in self._root.iterdir() if path.is_dir())
        rows = [self._json(f"{number}/ticket.json") for number in numbers]
        tickets = [_ticket(row) for row in rows if "merged_into" not in row]
        return [one for one in tickets if one.department_id in wanted]

    def _attachment(self, row: dict[str, Any], key: str) -> Attachment:
        name, size = row["files"][key]
        return Attachment(int(key), row["id"], row["id"] * 10, name, size)


def _ticket(row: dict[str, Any]) -> Ticket:
    post = Post(row["id"] * 10, row["id"], text=row["text"], has_attachments=bool(row["files"]))
    return Ticket(
        row["id"],
        str(row["id"]),
        row["department"],
        1,
        row["subject"],
        created_at=row["created_at"],
        last_activity=row["last_activity"],
        posts=(post,),
    )


class FolderBench:
    """A folder that tests change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = 0
        root.mkdir()
        (root / "departments.json").write_text('{"1": "Support", "2": "Sales"}')

    def open(self, *, department: int = 1, active: int = 1_699_999_000) -> int:
        number = 1 + sum(path.is_dir() for path in self.root.iterdir())
        (self.root / str(number)).mkdir()
        self._write(
            {
                "id": number,
                "department": department,
                "subject": f"Subject {number}",
                "text": f"Text {number}",
                "created_at": 1000 + number,
                "last_activity": active,
                "files": {},
            }
        )
        return number

    def attach(self, ticket: int, name: str, data: bytes) -> int:
        self._files += 1
        row = self._read(ticket)
        row["files"][str(self._files)] = [name, len(data)]
        self._write(row)
        (self.root / str(ticket) / str(self._files)).write_bytes(data)
        return self._files

    def lose(self, attachment: int) -> None:
        next(self.root.glob(f"*/{attachment}")).unlink()

    def touch(self, ticket: int, active: int) -> None:
        self._write({**self._read(ticket), "last_activity": active})

    def trash(self, ticket: int) -> None:
        self._write({**self._read(ticket), "department": TRASH})

    def delete(self, ticket: int) -> None:
        for path in (self.root / str(ticket)).iterdir():
            path.unlink()
        (self.root / str(ticket)).rmdir()

    def merge(self, ticket: int, into: int) -> None:
        old, survivor = self._read(ticket), self._read(into)
        for key in old["files"]:
            (self.root / str(ticket) / key).rename(self.root / str(into) / key)
        survivor["files"] |= old["files"]
        self._write(survivor)
        self._write({"id": ticket, "merged_into": into})

    def leave(self) -> None:
        self.root.rename(self.root.with_name("gone"))

    def _read(self, ticket: int) -> dict[str, Any]:
        row: dict[str, Any] = json.loads((self.root / str(ticket) / "ticket.json").read_text())
        return row

    def _write(self, row: dict[str, Any]) -> None:
        (self.root / str(row["id"]) / "ticket.json").write_text(json.dumps(row))
