"""A server stays under 150 MB of resident memory, whatever clients send or do not read."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.archive import open_archive
from tests.bench.floods import floods, make, peak, run, server, sign_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2 and /proc"),
]

MOST = 150
WORST = (
    "downloads of 25 MB, not read",
    "pipelined downloads, not read",
    "25 MB of JSON, 250 who do not read",
    "posts of 4 MiB, not read",
    "posts of 4 MiB of emoji",
    "5,000 tickets, not read",
    "wide JSON",
    "body too long",
)
"""The floods that took most; ``python -m tests.bench.floods`` has thirty more."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Make an archive with large files and long threads; give a configuration and a token."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root = tmp_path_factory.mktemp("floods")
    make(root / "archive")
    with open_archive(root / "archive", command="test") as archive:
        _, token = archive.access.create_token(
            "test", abilities=["tickets:read"], queues=None, is_staff=True, expires_at=None
        )
    file = root / "config.toml"
    file.write_text(f'[archive]\npath = "{root / "archive"}"\n')
    yield file, token
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", WORST)
def test_flood_leaves_the_server_small(config: tuple[Path, str], name: str) -> None:
    """The peak has a bound, and the server answers others meanwhile."""
    file, token = config
    with server(file) as (url, pid):
        heard = run(floods(token, sign_in(url, token))[name], url)
        assert heard.startswith("200")
        assert peak(pid) < MOST
