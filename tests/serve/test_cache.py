"""What is looked up once is never older than the question."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING

import httpx
import pytest

from migrator.archive import Queries, open_archive, open_beside, open_read_only
from migrator.archive.checkpoint import NAME, Checkpoint
from migrator.errors import ArchiveError
from migrator.serve.cache import Version, VersionCache

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serve.conftest import Desk


def test_cache_asks_once_until_the_moment_changes() -> None:
    """The same moment gives what is kept, another one asks again; errors and old ones are not."""
    now, found = [1], []

    def find() -> int:
        found.append(now[0])
        if now[0] == 3:
            raise KeyError
        return len(found)

    async def turn(cache: VersionCache[str, int], key: str = "a") -> int:
        answer = cache(key, find)
        await asyncio.sleep(0)
        return answer

    async def all_turns() -> None:
        cache: VersionCache[str, int] = VersionCache(Version(lambda: now[0]), most=2)
        assert [await turn(cache) for _ in range(3)] == [1, 1, 1]
        now[0] = 2
        assert await turn(cache) == 2
        assert [await turn(cache, key) for key in "bca"] == [3, 4, 5]
        now[0] = 3
        for _ in range(2):
            with pytest.raises(KeyError):
                await turn(cache)
        assert found == [1, 2, 2, 2, 2, 3, 3]

    asyncio.run(all_turns())


def test_moment_is_asked_once_in_a_turn() -> None:
    """All that runs in one turn of the loop shares a look; the next turn looks again."""

    async def turns() -> None:
        numbers = itertools.count(1)
        moment = Version(lambda: next(numbers))
        assert moment() == moment() == 1
        await asyncio.sleep(0)
        assert moment() == 2

    asyncio.run(turns())


def test_moment_of_an_archive_changes_with_every_change(tmp_path: Path) -> None:
    """By this connection, by another one, and for a reader that never writes."""
    with (
        open_archive(tmp_path / "a", command="test") as archive,
        open_beside(tmp_path / "a") as beside,
    ):
        readers = [archive, beside]
        if os.access("/proc/self", os.R_OK):
            readers.append(open_read_only(tmp_path / "a"))
        seen = [[reader.queries.moment()] for reader in readers]
        for change in (
            lambda: archive.access.set_rule("abc", "allow"),
            lambda: beside.access.set_rule("abc", "block"),
            lambda: archive.access.unset_rule("abc"),
        ):
            change()
            for reader, moments in zip(readers, seen, strict=True):
                moments.append(reader.queries.moment())
                assert moments[-1] == reader.queries.moment()
        assert all(len(set(moments)) == 4 for moments in seen)
        for reader in readers[2:]:
            reader.close()


def test_moment_of_files_that_are_replaced_is_another(tmp_path: Path) -> None:
    """A copy put in the place of an archive that is read is seen, whatever it counts."""
    with open_archive(tmp_path / "a", command="test") as archive:
        archive.access.set_rule("abc", "allow")
    with open_read_only(tmp_path / "a") as reader:
        before = reader.queries.moment()
        assert reader.queries.moment() == before
        copy = (tmp_path / "a/checkpoint.db").read_bytes()
        (tmp_path / "copy").write_bytes(copy)
        (tmp_path / "copy").replace(tmp_path / "a/checkpoint.db")
        assert reader.queries.moment() != before


def test_moment_of_a_broken_checkpoint_is_our_error(tmp_path: Path) -> None:
    """What SQLite raises ends at the border, here as well."""
    with open_archive(tmp_path / "a", command="test"):
        pass
    db = Checkpoint.connect(tmp_path / "a" / NAME)
    db.close()
    with pytest.raises(ArchiveError):
        Queries(db).moment()


def test_each_change_is_seen_by_the_next_request(desk: Desk) -> None:
    """Revoked tokens, moved tickets, new files and hidden queues hold from the next request on."""
    one = desk.attach("a.zip", b"one")
    token = desk.token()
    limited = desk.token(queues=[3])

    def ask(attachment: int, key: str) -> httpx.Response:
        return desk.get(attachment, token=key)

    for _ in range(2):
        assert ask(one, token).status_code == ask(one, limited).status_code == 200
        assert ask(one + 1, token).status_code == 404
    desk.archive.access.map_queue(3, 9, "Other")
    assert ask(one, limited).status_code == 403
    assert ask(one, token).status_code == 200
    two = desk.attach("b.zip", b"two")
    assert two == one + 1
    assert ask(two, token).status_code == 200
    assert desk.archive.access.revoke(int(token.split("|")[0]))
    assert ask(one, token).status_code == 401
