"""Every source keeps the contract: Kayako, and a folder of files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.events import ignore
from migrator.sandbox.kayako import Helpdesk, SandboxServer
from migrator.sandbox.kayako.model import Department, Post, Status, Ticket
from migrator.sources import SOURCES, open_source
from migrator.sources.base import Source
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from tests.sources.conformance import NOW, SALES, SUPPORT, Conformance
from tests.sources.folder import FolderBench, FolderSettings


def opened(settings: object) -> AbstractAsyncContextManager[Source]:
    """Open whatever source the settings are of."""

    async def brief(_: float) -> None:
        await asyncio.sleep(0)

    return open_source(settings, pool=None, listener=ignore, sleep=brief, patient=False)


class KayakoBench:
    """A pretended Kayako."""

    def __init__(self) -> None:
        self.desk = Helpdesk()
        self.desk.departments = {
            SUPPORT: Department(SUPPORT, "Support"),
            SALES: Department(SALES, "Sales"),
        }
        self.desk.statuses = {1: Status(1, "Open"), 2: Status(2, "Closed", resolved=True)}
        self.server = SandboxServer(self.desk).start()
        keys = Credentials(self.server.api_key, self.server.secret_key)
        self._settings = KayakoSettings(self.server.url, keys, attempts=1, page_size=7)

    def source(self) -> AbstractAsyncContextManager[Source]:
        return opened(self._settings)

    def open(self, *, department: int = SUPPORT, active: int = NOW - 1000) -> int:
        number = max([*self.desk.tickets, *self.desk.merges], default=0) + 1
        status = 1 + number % 2
        ticket = Ticket(
            number, f"{number}", department, status, "Subject", "A User", 1000 + number, active
        )
        self.desk.add_ticket(ticket, [Post(0, number, active, 2, f"Text {number}")])
        return number

    def attach(self, ticket: int, name: str, data: bytes) -> int:
        return self.desk.add_attachment(ticket, name, data)

    def lose(self, attachment: int) -> None:
        row = self.desk.attachments[attachment]
        self.desk.attachments[attachment] = replace(row, fault="missing_file")

    def touch(self, ticket: int, active: int) -> None:
        self.desk.tickets[ticket] = replace(self.desk.tickets[ticket], last_activity=active)

    def trash(self, ticket: int) -> None:
        self.desk.trash(ticket)

    def delete(self, ticket: int) -> None:
        self.desk.delete_ticket(ticket)

    def merge(self, ticket: int, into: int) -> None:
        self.desk.merge(ticket, into)

    def leave(self) -> None:
        self.server.stop()


class OpenedFolder(FolderBench):
    """A folder, opened as commands open a source."""

    def source(self) -> AbstractAsyncContextManager[Source]:
        return opened(FolderSettings(self.root))


class TestKayako(Conformance):
    """Kayako Classic keeps the contract."""

    @pytest.fixture
    def bench(self) -> Iterator[KayakoBench]:
        made = KayakoBench()
        yield made
        made.server.stop()


class TestFolder(Conformance):
    """A source that one file and one line add keeps it, too."""

    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenedFolder:
        monkeypatch.setitem(SOURCES, "FolderSettings", "tests.sources.folder")
        return OpenedFolder(tmp_path / "helpdesk")
