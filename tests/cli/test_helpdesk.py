"""Whose archive it is, as a user of the command line meets it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.cli.conftest import Cli


@pytest.fixture
def serving() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(serving: ExitStack, folder: Path, helpdesk: Helpdesk, *, port: int = 0) -> SandboxServer:
    """Serve a helpdesk and write a configuration that fits it."""
    server = serving.enter_context(SandboxServer(helpdesk, port=port))
    config = folder / "config.toml"
    config.write_text(server.config)
    config.chmod(0o600)
    return server


def desk(seed: int) -> Helpdesk:
    return Helpdesk.build(SandboxOptions(tickets=6, seed=seed))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Give the rows and blobs of the archive, to see that nothing changed."""
    found = {str(p): p.read_bytes() for p in (folder / "archive/blobs").rglob("*") if p.is_file()}
    conn = sqlite3.connect(folder / "archive/checkpoint.db")
    for table in ("attachments", "tickets", "runs", "departments", "helpdesk"):
        found[table] = repr(conn.execute(f"SELECT * FROM {table}").fetchall()).encode()
    conn.close()
    return found


@pytest.mark.parametrize(
    "command",
    [["run"], ["sync"], ["sync", "--full"], ["plan"], ["audit"], ["verify", "--repair"]],
    ids=" ".join,
)
def test_another_helpdesks_archive_is_refused(
    cli: Cli, tmp_path: Path, serving: ExitStack, command: list[str]
) -> None:
    """Exit 2, both addresses and the way out named, nothing changed and nothing asked."""
    first = start(serving, tmp_path, desk(1))
    assert cli("run").code == 0
    before = bytes_of(tmp_path)
    second = start(serving, tmp_path, desk(2))
    ran = cli(*command)
    assert ran.code == 2, ran.err
    for word in (first.url, second.url, "--moved"):
        assert word in ran.err
    assert bytes_of(tmp_path) == before
    assert not [path for _, path in second.requests if "Attachment" in path]


def test_a_helpdesk_that_moved_goes_on(cli: Cli, tmp_path: Path, serving: ExitStack) -> None:
    """--moved once; from then on the new address is the archive's, and nothing came twice."""
    helpdesk = desk(1)
    start(serving, tmp_path, helpdesk)
    assert cli("run").code == 0
    server = start(serving, tmp_path, helpdesk)
    assert cli("sync", "--moved").code == 0
    assert cli("run").code == 0
    fetched = [path for _, path in server.requests if "/TicketAttachment/" in path]
    assert all("ListAll" in path for path in fetched)


def test_another_helpdesk_cannot_be_declared_as_moved(
    cli: Cli, tmp_path: Path, serving: ExitStack
) -> None:
    """--moved compares tickets: exit 2, and the archive is as it was."""
    start(serving, tmp_path, desk(1))
    assert cli("run").code == 0
    before = bytes_of(tmp_path)
    start(serving, tmp_path, desk(2))
    ran = cli("run", "--moved")
    assert (ran.code, bytes_of(tmp_path) == before) == (2, True)
    assert "Nothing was changed" in ran.err


def test_the_same_address_as_another_helpdesk_is_a_suspicion(
    cli: Cli, tmp_path: Path, serving: ExitStack
) -> None:
    """Exit 8 with the suspicion in words; what was held is all there."""
    server = start(serving, tmp_path, desk(1))
    assert cli("run").code == 0
    port = int(server.url.split(":")[2].split("/")[0])
    server.stop()
    start(serving, tmp_path, desk(2), port=port)
    ran = cli("sync")
    assert ran.code == 8, ran.err
    assert "another helpdesk" in ran.err
    assert cli("verify").code == 0


def test_an_older_archive_is_told_once_whose_it_is(
    cli: Cli, tmp_path: Path, serving: ExitStack
) -> None:
    """The address of its newest run, and the others that filled it before."""
    server = start(serving, tmp_path, desk(1))
    assert cli("run").code == 0
    conn = sqlite3.connect(tmp_path / "archive/checkpoint.db")
    conn.execute("UPDATE helpdesk SET told = 0")
    conn.execute("UPDATE runs SET id = id + 1")
    conn.execute("UPDATE attachments SET last_run = 2, first_run = iif(id = 1, 1, 2)")
    conn.execute("UPDATE tickets SET listed_run = 2")
    conn.execute(
        "INSERT INTO runs (id, kind, source, scope, started_at) "
        "VALUES (1, 'run', 'https://older.example.com', '{}', 1)"
    )
    conn.commit()
    conn.close()
    first, second = cli("run"), cli("run")
    assert server.url in first.err
    assert "https://older.example.com" in first.err
    assert "https://older.example.com" not in second.err


def test_demo_leaves_what_it_did_not_make(cli: Cli, tmp_path: Path, serving: ExitStack) -> None:
    """A directory with anything else in it is refused; its own is taken again."""
    start(serving, tmp_path, desk(1))
    assert cli("run").code == 0
    before = bytes_of(tmp_path)
    assert cli("demo", "--tickets", "3", "--keep", "archive").refused("not made by a demo")
    assert bytes_of(tmp_path) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    assert cli("demo", "--tickets", "3", "--keep", "mine").refused("not made by a demo")
    for _ in range(2):
        ran = cli("demo", "--tickets", "3", "--keep", "kept")
        assert ran.code == 0, ran.err
