"""The pages over an archive, behind a real server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from migrator.archive import open_archive, open_beside
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.server import BackgroundServer
from tests.web.desks import Desk, Visitor

OpenDesk = Callable[..., AbstractContextManager[Desk]]


@contextlib.contextmanager
def _open(path: Path, settings: EndpointSettings) -> Iterator[Desk]:
    with (
        open_archive(path, command="test") as archive,
        open_beside(path) as beside,
        BackgroundServer(join_faces(load_faces(), lambda: beside, settings)) as server,
    ):
        yield Desk(archive, server.url)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One server for the tests of a module that leave each other alone."""
    with _open(tmp_path_factory.mktemp("desk") / "archive", EndpointSettings()) as desk:
        yield desk


@pytest.fixture
def open_desk(tmp_path: Path) -> OpenDesk:
    """Servers with settings of one's own."""

    def opened(*, serve_deleted: bool = False) -> AbstractContextManager[Desk]:
        return _open(tmp_path / "archive", EndpointSettings(serve_deleted=serve_deleted))

    return opened


@pytest.fixture
def stranger(desk: Desk) -> Iterator[Visitor]:
    """Somebody who has not signed in."""
    with Visitor(base_url=desk.url, timeout=20) as visitor:
        yield visitor


@pytest.fixture
def visitor(desk: Desk, stranger: Visitor) -> Visitor:
    """Somebody who has, and who may see everything."""
    assert stranger.sign_in(desk.token()).status_code == 303
    return stranger
