"""An archive, a Tickiti look-alike with its tickets, and a delivery from one to the other."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.archive import Archive, Listed, Outcome, State, TicketRow, open_archive
from migrator.archive.records import Department, PostRow
from migrator.deliver import check
from migrator.deliver.client import connect, look
from migrator.deliver.errand import Options
from migrator.deliver.run import Result, deliver, totals_of
from migrator.events import ignore
from migrator.hours import Halt, Halted
from migrator.pull.options import Stop
from migrator.sandbox.tickiti import Tickiti

HELPDESK = "https://help.example.com/api/index.php"
AUTHOR = "priya.sharma@example.com"
MOMENT = 0.005


class Office:
    """One archive and the Tickiti that it goes to; ``there`` starts one, open tickets of ours too.

    Texts are plain, and every ticket has a customer of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.archive: Archive = open_archive(root, command="test")
        self.tickiti: Tickiti = Tickiti()
        self.numbers: dict[int, str] = {}
        self.ids = itertools.count(100)
        self.stop: Stop | None = None
        self.halted: Halted | None = None
        self.run = self.archive.ledger.begin_run("run", source=HELPDESK, scope={}).id
        self.archive.ledger.set_helpdesk(HELPDESK, run_id=self.run)
        self.archive.ledger.put_departments([Department(1, "Support"), Department(2, "Sales")])

    def ticket(self, number: int, *files: bytes | tuple[str, bytes], department: int = 1) -> None:
        """Make a ticket with a post and its files; bytes get a name of their own."""
        listed, contents = [], []
        for one in files:
            attachment = next(self.ids)
            name, data = one if isinstance(one, tuple) else (f"file-{attachment}.txt", one)
            at = 1000 + attachment
            listed.append(Listed(attachment, number, 10 * number, name, "", len(data), at))
            contents.append(data)
        ledger = self.archive.ledger
        ticket = TicketRow(
            number,
            department,
            f"ABC-{number:05}",
            f"Question {number}",
            1000,
            2000,
            requester_name=f"Ann {number}",
            requester_email=f"ann{number}@example.com",
        )
        ledger.record_ticket(self.run, ticket, listed)
        post = PostRow(10 * number, 1000, f"Ann {number}", f"ann{number}@example.com", text="Hi")
        self.archive.threads.put(self.run, ticket, [post])
        for item, data in zip(listed, contents, strict=True):
            self.store(item.id, data)

    def outside(self, kind: str, data: bytes) -> None:
        """Store a file that belongs to no ticket."""
        one = Listed(next(self.ids), 0, 0, "a.txt", "", len(data), 1000, kind=kind, place=kind)
        self.archive.ledger.record_files(self.run, [one])
        self.store(one.id, data)

    def store(self, attachment: int, data: bytes) -> None:
        """Store the bytes of an attachment."""
        with self.archive.blobs.writer() as writer:
            writer.write(data)
            blob = writer.commit()
        self.archive.ledger.settle(
            Outcome(
                attachment,
                State.STORED,
                sha256=blob.sha256,
                size=blob.size,
                mime_type=blob.mime_type,
            )
        )

    def open_there(self, tickiti: Tickiti, *tickets: int, **more: Any) -> None:
        """Start a Tickiti, give it these tickets, and map their numbers."""
        if self.tickiti is not tickiti:
            self.tickiti = tickiti.start()
        for one in tickets:
            made = tickiti.add_ticket(f"Question {one}", f"ann{one}@example.com", **more)
            self.numbers[one] = str(made.number)
        self.archive.access.apply_config({}, self.numbers)

    def options(self, **more: Any) -> Options:
        """Return options that write."""
        known: dict[str, Any] = {
            "target": self.tickiti.url,
            "helpdesk": HELPDESK,
            "author": AUTHOR,
            "max_upload": 25 << 20,
            "writes": True,
        }
        return Options(**(known | more))

    def deliver(self, *, token: str = "", archive: Archive | None = None, **more: Any) -> Result:
        """Deliver, waiting for nothing."""

        async def main() -> Result:
            self.stop = stop = Stop()
            async with self.client(token, stop) as client:
                server = await look(client)
                server.refuse()
                ours = archive or self.archive
                options = self.options(**more)
                return await deliver(client, ours, server, options, listener=ignore, stop=stop)

        return asyncio.run(main())

    def client(self, token: str, stop: Stop) -> Any:
        """Connect to the Tickiti."""

        async def sleep(seconds: float) -> None:
            await Stop.sleep(stop, min(seconds, MOMENT))

        stop.sleep = sleep  # type: ignore[method-assign]
        return connect(
            self.tickiti.url,
            token or self.tickiti.token,
            concurrency=2,
            per_second=0,
            timeout=5,
            patience=0.1,
            listener=ignore,
            sleep=sleep,
            halted=self.halted,
        )

    def checked(self, work: Callable[..., Any]) -> check.Report:
        """Run a check on what is there."""

        async def main() -> check.Report:
            stop = Stop()
            async with self.client("", stop) as client:
                found: check.Report = await work(client, stop)
                return found

        return asyncio.run(main())

    def verify(self) -> check.Report:
        """Read everything back."""
        return self.checked(
            lambda client, stop: check.verify(
                client,
                self.archive,
                self.tickiti.url,
                sample=None,
                most=25 << 20,
                listener=ignore,
                stop=stop,
            )
        )

    def undo(self) -> check.Report:
        """Remove everything."""
        url = self.tickiti.url
        return self.checked(
            lambda client, stop: check.undo(client, self.archive, url, writes=True, stop=stop)
        )

    def counts(self, **more: Any) -> dict[str, int]:
        """Return what the ledger says of the files."""
        return {name: one.n for name, one in totals_of(self.archive, self.options(**more)).items()}

    def wanted(self) -> Counter[tuple[str, str, str]]:
        """Count every file that we hold: ticket number, name and SHA-256."""
        return Counter(
            (self.numbers[row.ticket_id], row.filename, row.sha256 or "")
            for row in self.archive.queries.rows(states=[State.STORED])
        )

    def there(self) -> Counter[tuple[str, str, str]]:
        """Count every file in the Tickiti, by the bytes that it really has."""
        return Counter(
            (str(number), one.name, hashlib.sha256(self.tickiti.read(one)).hexdigest())
            for number in self.tickiti.tickets
            for one in self.tickiti.files(number)
        )

    def writes(self) -> int:
        """Count the requests that changed something."""
        paths = ("tickets", "tickets/respond", "tickets/attachment-upload")
        return sum(one.path in paths and one.status != 422 for one in self.tickiti.requests)


class Pauses:
    """Pauses a delivery for some looks whenever a request is about to start after ``before``."""

    def __init__(self, office: Office, before: Callable[[int], bool]) -> None:
        self.office = office
        self.before = before
        self.seen = -1
        self.left = 0
        self.held = 0

    def __call__(self) -> Halt | None:
        number = len(self.office.tickiti.requests)
        if number != self.seen and self.before(number):
            self.left, self.seen = 3, number
            self.held += 1
        self.left -= 1
        return Halt("paused", "paused by a", None) if self.left >= 0 else None


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Make an office whose Tickiti is not open yet."""
    made = Office(tmp_path / "archive")
    yield made
    made.tickiti.stop()
    made.tickiti.desk.close()
    made.archive.close()
