"""Measure the dry run of a helpdesk of very many tickets, without a network between.

    python -m tests.bench.plan_many --tickets 100000 --every 10 [--fast]

One ticket in ``--every`` has three attachments. Prints, as JSON, the requests by kind, the seconds,
and the most memory that was resident.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from migrator.archive import open_dry
from migrator.errors import ServerFailed
from migrator.plan import model
from migrator.plan.dry_run import dry_run
from migrator.pull.options import RunOptions
from migrator.sources.base import Attachment, Department, Ticket, TicketStatus
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.source import KayakoSource


class Many(Client):
    """A helpdesk that makes up each row when it is asked for."""

    def __init__(self, tickets: int, every: int) -> None:
        self.tickets, self.every = tickets, every
        self.requests: Counter[str] = Counter()

    def ticket_at(self, row: int, sort: str) -> Ticket:
        """Give the ticket of a row; those with files come last when it is sorted by them."""
        number = row + 1
        if sort == "hasattachments" and self.every > 1:
            without = self.tickets - self.tickets // self.every
            number = row + 1 + row // (self.every - 1)
            if row >= without:
                number = (row - without + 1) * self.every
        return Ticket(number, f"T-{number}", 1, 1, f"Subject {number}", last_activity=number)

    async def departments(self) -> list[Department]:
        self.requests["others"] += 1
        return [Department(1, "Support")]

    async def statuses(self) -> list[TicketStatus]:
        self.requests["others"] += 1
        return [TicketStatus(1, "Open")]

    async def tickets_page(
        self,
        department_ids: Iterable[int],
        status_ids: Iterable[int],
        *,
        count: int,
        start: int,
        sort: str = "ticketid",
        order: str = "ASC",
    ) -> list[Ticket]:
        self.requests["pages"] += 1
        await asyncio.sleep(0)
        rows = range(start, min(start + count, self.tickets))
        turned = (self.tickets - 1 - row for row in rows)
        return [self.ticket_at(row, sort) for row in (turned if order == "DESC" else rows)]

    async def ticket_count(
        self, department_ids: Collection[int], status_ids: Collection[int]
    ) -> int | None:
        self.requests["others"] += 1
        return self.tickets

    async def ticket(self, ticket_id: int) -> Ticket:
        self.requests["others"] += 1
        return self.ticket_at(ticket_id - 1, "ticketid")

    async def attachments(self, ticket_id: int) -> list[Attachment]:
        self.requests["lists"] += 1
        await asyncio.sleep(0)
        if ticket_id % self.every:
            return []
        numbers = range(ticket_id * 3, ticket_id * 3 + 3)
        return [
            Attachment(one, ticket_id, one, f"file {one % 977}.pdf", 10_000 + one % 5000)
            for one in numbers
        ]

    async def fetch(self, ticket_id: int, attachment_id: int, make_sink: Callable[[], Any]) -> Any:
        raise ServerFailed(f"{ticket_id}/{attachment_id}: this helpdesk has no bytes {make_sink}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--fast", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    options = RunOptions("https://help.example.com", "plan", fast=asked.fast)
    with open_dry(Path("/nowhere")) as archive:
        dry = asyncio.run(dry_run(KayakoSource(Many(asked.tickets, asked.every)), archive, options))
        listed = time.monotonic()
        run = dry.result.run_id
        survey = model.survey(archive, run, lambda _: "allow", max_download=1, leftovers=True)
        archive.queries.equals(run, leftovers=True)
    told = {
        "requests": dry.asked.total(),
        **dry.asked,
        "attachments": survey.listed.n,
        "listing_seconds": round(listed - began, 1),
        "report_seconds": round(time.monotonic() - listed, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
