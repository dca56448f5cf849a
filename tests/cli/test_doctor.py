"""``migrator doctor`` with servers that answer oddly."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pytest

from migrator.archive import open_archive
from migrator.archive import records as archive_records
from migrator.cli import disk, doctor_cmd
from migrator.config import load
from migrator.errors import MemoryExhausted, NotFound, NotXml, ServerFailed, SourceError
from migrator.sources.base import Attachment, Contents, Department, Ticket, TicketStatus

HEALTHY = Attachment(7, 1, 2, "a.txt", 3, "text/plain")


@dataclass
class Fake:
    """A source that says what a test wants, and raises it where it is an error."""

    departments_: Any = field(default_factory=lambda: [Department(1, "Support")])
    statuses_: Any = field(default_factory=lambda: [TicketStatus(1, "Open")])
    page: Any = field(default_factory=lambda: [Ticket(n) for n in range(40, 0, -1)])
    attachments_: Any = field(default_factory=lambda: [HEALTHY])
    size: Any = 3
    count: Any = None
    listed: list[int] = field(default_factory=list)
    spooled: Any = field(default_factory=lambda: NotFound("no such app"))
    fields: Any = field(default_factory=lambda: NotFound("no such app"))

    async def spool(self, *_: object) -> Any:
        return said(self.spooled)

    async def field_definitions(self) -> Any:
        return said(self.fields)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    async def departments(self) -> Any:
        return said(self.departments_)

    async def statuses(self) -> Any:
        return said(self.statuses_)

    async def ticket_count(self, *_: object) -> Any:
        return said(self.count)

    async def tickets_page(self, *_: object, **__: object) -> Any:
        return said(self.page)

    async def attachments(self, ticket: int) -> Any:
        self.listed.append(ticket)
        return said(self.attachments_)

    async def fetch(self, _: int, __: int, make_sink: Callable[[], Any]) -> Any:
        size = said(self.size)
        return Contents(HEALTHY, size, present=True), make_sink(), 1


def said(answer: Any) -> Any:
    if isinstance(answer, SourceError):
        raise answer
    return answer


@pytest.fixture
def examine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Fake], tuple[int, str]]:
    """Let the doctor examine a fake source; gives its exit code and what it said."""

    def call(fake: Fake) -> tuple[int, str]:
        path = tmp_path / "config.toml"
        path.write_text('[kayako]\nurl = "http://kayako.example"\n')
        keys = {"KAYAKO_API_KEY": "k", "KAYAKO_SECRET_KEY": "s"}
        code = asyncio.run(doctor_cmd.examine(load(path, keys), lambda _: cast("Any", fake)))
        return code, capsys.readouterr().out

    return call


@pytest.mark.parametrize(
    ("fake", "code", "line"),
    [
        (Fake(departments_=NotXml("a page.")), 4, "FAIL  a page. Is kayako.url the API URL?\n"),
        (Fake(departments_=ServerFailed("broken")), 4, "FAIL  broken\n"),
        (
            Fake(departments_=[Department(2, "Chat", "livechat")]),
            4,
            "FAIL  Kayako names no department that has tickets",
        ),
        (Fake(statuses_=ServerFailed("status 500")), 4, "FAIL  status 500"),
        (Fake(statuses_=[]), 4, "FAIL  Kayako names no ticket status"),
        (Fake(page=ServerFailed("status 502")), 4, "FAIL  status 502"),
        (Fake(count=4711), 0, "ok    tickets: 4,711"),
        (Fake(count=ServerFailed("no count.")), 0, "warn  no count. A run cannot check"),
        (Fake(), 0, "warn  tickets: this server sends all in one page"),
        (Fake(attachments_=[]), 0, "warn  attachments: none in the latest 30 tickets"),
        (Fake(), 0, "ok    knowledge base: this helpdesk does not offer it"),
        (Fake(), 0, "ok    custom fields: this helpdesk does not offer them"),
        (Fake(), 0, "warn  no API gives: recipients in CC and BCC, chat transcripts"),
        (Fake(spooled=NotXml("odd.")), 0, "warn  troubleshooter: odd."),
        (Fake(fields=NotXml("odd.")), 0, "warn  custom fields: odd."),
        (Fake(size=2), 0, "warn  attachment 7 of ticket 40: 2 bytes came where 3 are listed"),
        (Fake(size=MemoryExhausted("no memory")), 4, "FAIL  attachments: no memory"),
        (
            Fake(departments_=[Department(n, f"D{n}\x1b") for n in range(30)]),
            0,
            "ok    departments: D0\\x1b (0), D1\\x1b (1)",
        ),
    ],
)
def test_what_a_server_may_say(
    examine: Callable[[Fake], tuple[int, str]], fake: Fake, code: int, line: str
) -> None:
    """Each answer gets its line, and only what stands in the way of a run its exit code."""
    got, out = examine(fake)
    assert [said for said in out.splitlines() if f"{said}\n".startswith(line)]
    assert got == code
    assert "warn  address: without https" in out


def test_broken_files_do_not_keep_the_doctor_long(
    examine: Callable[[Fake], tuple[int, str]],
) -> None:
    """After three files that cannot be fetched it gives up; with few tickets even earlier."""
    fake = Fake(size=MemoryExhausted("no memory"))
    examine(fake)
    assert fake.listed == [40, 39, 38]
    assert examine(Fake(size=MemoryExhausted("no memory"), page=[Ticket(1)]))[0] == 4


def test_what_serve_would_warn_of_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain http, trust in everybody and a queue of two departments are told before they hurt."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        archive.ledger.put_departments(
            [archive_records.Department(1, "Sales"), archive_records.Department(2, "Support")]
        )
    path = tmp_path / "config.toml"
    path.write_text(
        '[kayako]\nurl = "http://kayako.example"\n[tickiti]\nforwarded_allow_ips = "*"\n'
        '[tickiti.queues]\n"1" = { id = 2, name = "Sales" }\n'
    )
    keys = {"KAYAKO_API_KEY": "k", "KAYAKO_SECRET_KEY": "s"}
    asyncio.run(doctor_cmd.examine(load(path, keys), lambda _: cast("Any", Fake())))
    said = capsys.readouterr().out
    assert "address: without https anybody" in said
    assert "serve: forwarded_allow_ips = '*' believes anybody" in said
    assert "queues: Queue 2 stands for the departments 1 (Sales) and 2 (Support)" in said
    assert "Nothing maps 2" in said


def not_ready(examined: tuple[int, str], code: int, words: str) -> bool:
    """Tell whether the doctor ended with a code, said why, and did not say that all is ready."""
    return examined[0] == code and words in examined[1] and "Ready" not in examined[1]


def test_nothing_of_the_disk_is_told_twice(tmp_path: Path) -> None:
    """The files of an archive are a directory of its own, mostly on the same disk."""
    with open_archive(tmp_path / "archive", command="test"):
        pass
    told = [finding.text for finding in disk.check(tmp_path / "archive")]
    assert (
        f"disk: a file was written in {tmp_path / 'archive' / 'blobs'}, synced and renamed" in told
    )
    assert len(told) == len(set(told))
    assert sum("disk: the file system is" in text for text in told) <= 1


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_an_archive_that_is_no_directory_is_not_ready(
    examine: Callable[[Fake], tuple[int, str]], tmp_path: Path, kind: str
) -> None:
    """Nothing of it is looked past; the exit code is that of a wrong configuration."""
    place = tmp_path / "archive"
    place.write_text("") if kind == "file" else os.mkfifo(place)
    assert not_ready(examine(Fake()), 2, "where a directory must be; choose another")
    assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []


def test_a_sqlite_that_is_too_old_is_not_ready(
    examine: Callable[[Fake], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run could make a checkpoint with it, and none says that the archive is damaged."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    assert not_ready(examine(Fake()), 2, "3.37 or newer is needed")


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ((fcntl, "flock"), errno.ENOLCK),
        ((fcntl, "flock"), errno.ENOTSUP),
        ((os, "fsync"), errno.EIO),
        ((os, "fsync"), errno.ENOSYS),
        ((os, "write"), errno.ENOSPC),
        ((os, "write"), errno.EFBIG),
        ((os, "replace"), errno.EROFS),
        ((os, "mkdir"), errno.EDQUOT),
    ],
)
def test_a_disk_that_cannot_do_what_a_run_needs_is_not_ready(
    examine: Callable[[Fake], tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: tuple[Any, str],
    error: int,
) -> None:
    """The doctor makes a small archive for a moment, as a run does: exit 7 with the reason."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patched:
        patched.setattr(*broken, refuse)
        examined = examine(Fake())
    assert not_ready(examined, 7, "FAIL  ")
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_clock_that_is_far_off_is_told(
    examine: Callable[[Fake], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a battery believes that it is 1970."""
    assert "warn  clock" not in examine(Fake())[1]
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    code, out = examine(Fake())
    assert (code, "warn  clock: it says that this is the year 1970" in out) == (0, True)


def test_limits_of_the_shell_are_told(
    examine: Callable[[Fake], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few files a run would end in its midst."""
    low = {resource.RLIMIT_NOFILE: (20, 20), resource.RLIMIT_FSIZE: (1 << 20, 1 << 20)}
    monkeypatch.setattr(resource, "getrlimit", low.__getitem__)
    examined = examine(Fake())
    assert not_ready(examined, 2, "FAIL  limits: only 20 files may be open; raise `ulimit -n`")
    assert "warn  limits: a file may not be larger than 1.0 MiB" in examined[1]


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ("00:00-24:00", "ok    hours: requests may be made at any time\n"),
        ("Thu 00:00-12:00", "ok    hours: requests may be made until Thu 12:00 (time of UTC)\n"),
        ("Thu 19:00-07:00", "warn  hours: runs wait until Thu 19:00 (time of UTC): it is outside"),
    ],
)
def test_what_the_windows_mean_now_is_told(
    windows: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outside of them doctor asks all the same."""
    monkeypatch.setattr(time, "time", lambda: 20_636 * 86_400 + 3600.0)
    path = tmp_path / "config.toml"
    path.write_text(
        f'[kayako]\nurl = "http://a.example"\nwindows = "{windows}"\ntimezone = "UTC"\n'
    )
    config = load(path, {"KAYAKO_API_KEY": "k", "KAYAKO_SECRET_KEY": "s"})
    assert asyncio.run(doctor_cmd.examine(config, lambda _: cast("Any", Fake()))) == 0
    assert words in capsys.readouterr().out
