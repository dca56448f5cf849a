"""An archive that is replaced under a server is noticed with the next request.

The server goes on with another archive of the same helpdesk; without one, and with another
helpdesk's, it is not ready. In each case a revoked token is refused at once.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_beside, open_read_only
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from migrator.serve.tickiti import build_app
from migrator.serve.web import build_pages

CHECKPOINT = "checkpoint.db"
ADDRESS = "https://help.example.com"


def made(path: Path, address: str = ADDRESS) -> str:
    """Make an archive of a helpdesk; return a token."""
    with open_archive(path, command="test") as archive:
        run = archive.ledger.begin_run("run", source=address, scope={})
        archive.ledger.set_helpdesk(address, run_id=run.id)
        token = token_of(archive)
        archive.ledger.finish_run(run.id, exit_code=0, summary={})
        return token


def token_of(archive: Archive) -> str:
    """Make a token."""
    return archive.access.create_token(
        "test", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
    )[1]


class Served:
    """A client of both faces."""

    def __init__(self, api: str, pages: str) -> None:
        self._api, self._pages = api, pages

    def asked(self, token: str) -> tuple[int, str]:
        """Return the status and the code of an answer of the API."""
        answer = httpx.post(
            f"{self._api}/api/v1/tickets/queues",
            json={},
            headers={"Authorization": f"Bearer {token}"},
        )
        return answer.status_code, answer.json().get("error", "")

    @property
    def is_ready(self) -> int:
        """Return the status of the probe."""
        return httpx.get(f"{self._api}/readyz").status_code

    def signed_in(self, token: str) -> int:
        """Return the status of signing in at the pages."""
        with httpx.Client(base_url=self._pages) as client:
            form = client.get("/sign-in").text
            seal = form.partition('name="form" value="')[2].partition('"')[0]
            return client.post("/sign-in", data={"form": seal, "token": token}).status_code


@contextmanager
def serving(path: Path, opened: Callable[[Path], Archive] = open_beside) -> Iterator[Served]:
    """Serve an archive."""
    settings = EndpointSettings()
    with (
        opened(path) as archive,
        BackgroundServer(build_app(archive, settings)) as api,
        BackgroundServer(build_pages(archive, settings)) as pages,
    ):
        yield Served(api.url, pages.url)


def by_rename(new: Path, old: Path) -> None:
    """Put another directory in the place."""
    old.rename(old.with_name("old"))
    new.rename(old)


def by_file(new: Path, old: Path) -> None:
    """Put another checkpoint in the place."""
    for suffix in ("-wal", "-shm"):
        (old / (CHECKPOINT + suffix)).unlink(missing_ok=True)
    (new / CHECKPOINT).replace(old / CHECKPOINT)


def by_copy(new: Path, old: Path) -> None:
    """Write a backup over the file, as cp does; nothing of a log was left."""
    with closing(sqlite3.connect(old / CHECKPOINT)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(new / CHECKPOINT, old / CHECKPOINT)


WAYS = {"rename": by_rename, "file": by_file, "copy": by_copy}


@pytest.mark.slow
@pytest.mark.parametrize("opened", [open_beside, open_read_only])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_server_goes_on_with_the_archive_that_is_there(
    tmp_path: Path, opened: Callable[[Path], Archive], way: Callable[[Path, Path], None]
) -> None:
    """Tokens of the new one are good, those that it does not have or has revoked are not."""
    path, new = tmp_path / "archive", tmp_path / "new"
    old_token = made(path)
    shutil.copytree(path, new)
    with open_archive(new, command="test") as archive:
        archive.access.revoke(1)
        token = token_of(archive)
    with serving(path, opened) as client:
        assert client.asked(old_token) == (200, "")
        assert client.signed_in(old_token) == 303
        way(new, path)
        assert client.asked(old_token) == (401, "unauthenticated")
        assert client.asked(token) == (200, "")
        assert client.is_ready == 200
        assert client.signed_in(old_token) == 401
        assert client.signed_in(token) == 303


def another_helpdesk(path: Path) -> None:
    """Put another helpdesk's archive in the place."""
    made(path.with_name("new"), "https://other.example.com")
    by_rename(path.with_name("new"), path)


def another_program(path: Path) -> None:
    """Put another program's database in the place."""
    with closing(sqlite3.connect(path.with_name("new.db"))) as db:
        db.execute("CREATE TABLE tokens (id)")
        db.commit()
    path.with_name("new.db").replace(path / CHECKPOINT)


def no_database(path: Path) -> None:
    """Put what is no database in the place."""
    path.with_name("new.db").write_text("x" * 9000)
    path.with_name("new.db").replace(path / CHECKPOINT)


LOSSES = {
    "removed": shutil.rmtree,
    "moved": lambda path: path.rename(path.with_name("moved")),
    "no checkpoint": lambda path: (path / CHECKPOINT).unlink(),
    "another helpdesk": another_helpdesk,
    "another program": another_program,
    "no database": no_database,
}


@pytest.mark.slow
@pytest.mark.parametrize("opened", [open_beside, open_read_only])
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_server_without_its_archive_is_not_ready(
    tmp_path: Path, opened: Callable[[Path], Archive], lose: Callable[[Path], object]
) -> None:
    """Every answer is 503 not_ready, also of the probe; nothing old is served."""
    path = tmp_path / "archive"
    token = made(path)
    with serving(path, opened) as client:
        assert client.asked(token) == (200, "")
        shutil.copytree(path, tmp_path / "kept")
        lose(path)
        assert client.asked(token) == (503, "not_ready")
        assert client.is_ready == 503
        assert client.signed_in(token) == 503
        shutil.rmtree(path, ignore_errors=True)
        (tmp_path / "kept").rename(path)
        assert client.asked(token) == (200, ""), "restored"
        assert client.is_ready == 200
        assert client.signed_in(token) == 303


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_all_workers_notice(tmp_path: Path) -> None:
    """`serve --workers 2`: none accepts what was revoked, or is ready without an archive."""
    path, new = tmp_path / "archive", tmp_path / "new"
    token = made(path)
    shutil.copytree(path, new)
    with open_archive(new, command="test") as archive:
        archive.access.revoke(1)
    config = tmp_path / "config.toml"
    config.write_text(f'[archive]\npath = "{path}"\n')
    command = [sys.executable, "-m", "migrator", "-c", str(config), "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        url = None
        while url is None:
            url = re.search(r" at (http://\S+:\d+)", server.stderr.readline())
        client = Served(url[1], url[1])
        assert {client.asked(token) for _ in range(12)} == {(200, "")}
        by_rename(new, path)
        assert {client.asked(token) for _ in range(12)} == {(401, "unauthenticated")}
        shutil.rmtree(path)
        assert {client.asked(token)[0] for _ in range(12)} == {503}
        assert {client.is_ready for _ in range(12)} == {503}
        server.terminate()
