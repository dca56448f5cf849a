"""The source's own words: each reply is kept as it came, whatever we read from it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest

from migrator.archive import Archive, open_archive, open_dry
from migrator.archive.records import Count, Reply
from migrator.archive.replies import Kept
from migrator.plan.dry_run import Dry, dry_run
from migrator.pull.fetch import Fetcher
from migrator.pull.options import RunOptions, RunResult
from migrator.pull.replies import ReplyCopy
from migrator.pull.run import run
from migrator.pull.verify import VerifyReport, prune, prune_superseded, repair, verify
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from migrator.sources.kayako.client import Client
from migrator.sources.kayako.connections import Connections
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.layout import path_of
from tests.pull.doubles import Ear, temporary

FEW = SandboxOptions(seed=5, tickets=5, articles=0, steps=0)
EVERYTHING = {"posts": True, "replies": True, "custom_fields": True}


class Tapped(httpx.AsyncBaseTransport):
    """A transport that notes the body of every reply, by the path of its request."""

    def __init__(self) -> None:
        self._inner = Connections(None)
        self.bodies: dict[str, list[bytes]] = defaultdict(list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        target = request.extensions["target"].decode()
        path = unquote(target.partition("?e=")[2].partition("&")[0])
        packed = response.headers.get("content-encoding") == "gzip"
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Tap(response.stream, self.bodies[path], packed=packed),
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Tap(httpx.AsyncByteStream):
    def __init__(self, stream: object, bodies: list[bytes], *, packed: bool) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream, self._bodies, self._packed = stream, bodies, packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = b""
        async for block in self._stream:
            body += block
            yield block
        self._bodies.append(gzip.decompress(body) if self._packed else body)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def brief(seconds: float) -> None:
    """Wait for a moment instead of the time between two tries."""
    await asyncio.sleep(min(seconds, 0.01))


def source_of(server: SandboxServer, tap: httpx.AsyncBaseTransport | None = None) -> Client:
    keys = Credentials(server.api_key, server.secret_key)
    settings = KayakoSettings(server.url, keys, timeout=20, page_size=7)
    return Client(settings, inner=tap or Connections(None), sleep=brief)


def pull(
    server: SandboxServer, archive: Archive, tap: Tapped | None = None, **wishes: bool
) -> RunResult:
    """Do one run that keeps everything, but for what ``wishes`` leave out."""
    options = RunOptions(server.url, **{**EVERYTHING, **wishes})  # type: ignore[arg-type]

    async def main(pool: ThreadPoolExecutor) -> RunResult:
        async with source_of(server, tap) as client:
            source = KayakoSource(client, page_size=7, url=server.url)
            fetch = Fetcher(source, archive.blobs, pool)
            return await run(source, archive, fetch, options, listener=Ear(), pool=pool)

    with ThreadPoolExecutor(4) as pool:
        return asyncio.run(main(pool))


def words(archive: Archive, reply: Reply) -> bytes:
    """Unpack a kept reply."""
    packed = path_of(archive, reply.sha256).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == reply.sha256
    assert len(packed) == reply.size
    unpacked = gzip.decompress(packed)
    assert len(unpacked) == reply.unpacked
    return unpacked


def kept(archive: Archive) -> dict[tuple[int, str], bytes]:
    """Give the newest replies, by ticket and kind."""
    newest = archive.replies.all(superseded=False)
    return {(one.ticket_id, one.kind): words(archive, one) for one in newest}


PATHS = {"posts": "/Tickets/Ticket/{}", "fields": "/Tickets/TicketCustomField/{}"}


def without_passwords(body: bytes) -> bytes:
    """Give a reply as it may be kept: passwords in custom fields never are."""
    return re.sub(rb'(<field [^>]*type="3"[^>]*>).*?(?=</field>)', rb"\1***", body)


def test_each_reply_is_kept_as_it_came(archive: Archive) -> None:
    """Unpacked, every byte is what the helpdesk sent of ticket and fields, but for passwords."""
    with SandboxServer(Helpdesk.build(FEW)) as server:
        assert pull(server, archive, tap := Tapped()).exit_code == 0
    found = kept(archive)
    listed = {one.id for one in archive.threads.all_tickets()}
    assert found.keys() == {(one, kind) for one in listed for kind in PATHS}
    sizes = {one.sha256: one.size for one in archive.replies.all()}
    unpacked = sum(len(body) for body in found.values())
    newest = Count(len(found), sum(sizes.values()))
    assert archive.replies.kept() == Kept(newest, unpacked=unpacked)
    for (ticket_id, kind), body in found.items():
        assert body == without_passwords(tap.bodies[PATHS[kind].format(ticket_id)][-1])
    assert any(b">***</field>" in body for body in found.values())


def test_a_fresh_run_makes_no_request_more(tmp_path: Path) -> None:
    """What is kept was received anyway."""
    asked = []
    for keep in (True, False):
        with (
            SandboxServer(Helpdesk.build(FEW)) as server,
            open_archive(tmp_path / str(keep), command="test") as archive,
        ):
            pull(server, archive, replies=keep)
            asked.append(sorted(server.requests))
            assert bool(kept(archive)) is keep
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_with_every_fault_what_is_kept_is_what_came(archive: Archive) -> None:
    """Cut, garbled and noisy: only whole replies are kept, each as it was sent for its ticket."""
    desk = Helpdesk.build(SandboxOptions(seed=1, tickets=30, faults=frozenset({"all"})))
    with SandboxServer(desk) as server:
        result = pull(server, archive, tap := Tapped())
    found = kept(archive)
    for (ticket_id, kind), body in found.items():
        came = map(without_passwords, tap.bodies[PATHS[kind].format(ticket_id)])
        assert body in came, (ticket_id, kind)
    assert archive.replies.kept().missing <= len(result.threads_missing)
    assert asyncio.run(verify(archive)).exit_code == 0


def test_a_reply_that_is_only_partly_readable_is_kept_until_a_better_one(archive: Archive) -> None:
    """What we cannot read is in it, and both stay."""
    desk = Helpdesk.build(FEW)
    ticket_id = min(desk.tickets)
    whole = desk.tickets[ticket_id]
    with SandboxServer(desk) as server:
        tap = Spoiling(f"/Tickets/Ticket/{ticket_id}", b"</posts>", b"<post></post></posts>")
        assert ticket_id in pull(server, archive, tap).threads_missing
        spoilt = kept(archive)[ticket_id, "posts"]
        assert b"<post></post>" in spoilt
        pull(server, archive)
        assert b"<post></post>" not in kept(archive)[ticket_id, "posts"]
    assert whole.subject in kept(archive)[ticket_id, "posts"].decode()
    (old,) = archive.replies.all(superseded=True)
    assert words(archive, old) == spoilt


def say(desk: Helpdesk, ticket_id: int, text: str) -> None:
    """Add a post, and with it activity."""
    desk.add_post(ticket_id, replace(desk.posts_of(ticket_id)[-1], text=text))


class Spoiling(Tapped):
    """Replaces something in the replies at one path."""

    def __init__(self, path: str, old: bytes, new: bytes) -> None:
        super().__init__()
        self._path, self._old, self._new = path, old, new

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        target = unquote(request.extensions["target"].decode())
        if target.partition("?e=")[2].partition("&")[0] != self._path:
            return response
        body = await response.aread()
        return httpx.Response(
            response.status_code, stream=httpx.ByteStream(body.replace(self._old, self._new))
        )


def test_our_keys_are_not_kept(archive: Archive) -> None:
    """A server that shows its request leaves none of it in the archive, wherever blocks end."""
    desk = Helpdesk.build(FEW)
    ticket_id = min(desk.tickets)

    class Echo(Spoiling):
        """Shows each request in a comment before some end tag."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            target = request.extensions["target"]
            if self._path in unquote(target.decode()):
                self._new = b"<!-- " + target + b" -->" + self._old
            return await super().handle_async_request(request)

    ends = {"posts": b"</tickets>", "fields": b"</customfields>"}
    with SandboxServer(desk) as server:
        for kind, path in PATHS.items():
            pull(server, archive, Echo(path.format(ticket_id), ends[kind], b""))
            desk.touch(ticket_id)
        keys = (server.api_key, server.secret_key, quote(server.secret_key))
    shown = [
        body for body in map(partial(words, archive), archive.replies.all()) if b"<!--" in body
    ]
    assert len(shown) == len(PATHS)
    for body in shown:
        assert b"apikey=***&salt=***&signature=***" in body
        assert not any(key.encode() in body for key in keys)


def test_an_archive_without_replies_is_completed_once(archive: Archive) -> None:
    """One request for each ticket, no attachment again; then lists alone. A count tells before."""
    with SandboxServer(Helpdesk.build(FEW)) as server:
        pull(server, archive, replies=False)
        tickets = archive.queries.ticket_count()
        assert archive.replies.kept()[3:] == (tickets, 0, tickets)
        counts = []
        for _ in range(3):
            before = len(server.requests)
            assert pull(server, archive).exit_code == 0
            paths = [path for _, path in server.requests[before:]]
            assert not any("TicketAttachment" in path and "ListAll" not in path for path in paths)
            counts.append(sum(path.startswith("/Tickets/Ticket/") for path in paths))
    assert archive.replies.kept()[3:] == (0, 0, 0)
    assert counts == [counts[2] + tickets, counts[2], counts[2]]


def test_a_newer_reply_takes_the_place_of_an_older_one(archive: Archive) -> None:
    """Both stay until superseded ones are pruned by name; the newest one always stays."""
    desk = Helpdesk.build(FEW)
    ticket_id = min(desk.tickets)
    with SandboxServer(desk) as server:
        pull(server, archive)
        before = kept(archive)[ticket_id, "posts"]
        say(desk, ticket_id, "one word more")
        pull(server, archive)
    assert kept(archive)[ticket_id, "posts"] != before
    (old,) = archive.replies.all(superseded=True)
    assert words(archive, old) == before
    newest = kept(archive)

    async def clean(*, sure: bool, superseded: bool) -> VerifyReport:
        report = await verify(archive)
        await prune(archive, report, sure=sure)
        if superseded:
            await prune_superseded(archive, report, sure=sure)
        return report

    assert asyncio.run(clean(sure=True, superseded=False)).pruned == {}
    assert asyncio.run(clean(sure=False, superseded=True)).superseded
    assert words(archive, old) == before
    assert list(asyncio.run(clean(sure=True, superseded=True)).superseded.values()) == [old.size]
    assert not path_of(archive, old.sha256).exists()
    assert kept(archive) == newest
    assert list(archive.replies.all(superseded=True)) == []
    assert asyncio.run(verify(archive)).exit_code == 0


def test_figures_of_attachments_know_no_replies(tmp_path: Path) -> None:
    """Contents and bytes are the same with and without them; verify tells both."""
    found = []
    with SandboxServer(Helpdesk.build(FEW)) as server:
        for keep in (True, False):
            with open_archive(tmp_path / str(keep), command="test") as archive:
                pull(server, archive, replies=keep)
                report = asyncio.run(verify(archive))
                assert bool(report.replies) is keep
                others = (report.checked - report.replies, report.bytes - report.reply_bytes)
                found += [archive.queries.unique_bytes(), others]
    assert found == found[:1] * 4


def test_a_damaged_reply_is_found_and_comes_back(archive: Archive) -> None:
    """A flipped bit, a lost file: found, and fetched again under the same hash."""
    with SandboxServer(Helpdesk.build(FEW)) as server:
        pull(server, archive)
        first, second = islice((one for one in archive.replies.all() if one.kind == "posts"), 2)
        flip(path_of(archive, first.sha256))
        path_of(archive, second.sha256).unlink()
        report = mended(server, archive)
    assert (report.damaged, report.lost) == ([first.sha256], [second.sha256])
    assert sorted(report.repaired) == sorted((first.sha256, second.sha256))
    assert asyncio.run(verify(archive)).exit_code == 0


def test_a_lost_reply_that_is_another_by_now_is_replaced(archive: Archive) -> None:
    """The old one is gone for good, which is told; what the source says now is kept."""
    desk = Helpdesk.build(FEW)
    ticket_id = min(desk.tickets)
    with SandboxServer(desk) as server:
        pull(server, archive)
        lost = next(archive.replies.all())
        assert (lost.ticket_id, lost.kind) == (ticket_id, "fields")
        posts = next(one for one in archive.replies.all() if one.kind == "posts")
        path_of(archive, posts.sha256).unlink()
        say(desk, ticket_id, "one word more")
        report = mended(server, archive)
        assert (report.replaced, report.unrepaired, report.exit_code) == ([posts.sha256], {}, 0)
        assert asyncio.run(verify(archive)).exit_code == 0
        pull(server, archive)
    assert b"one word more" in kept(archive)[ticket_id, "posts"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def mended(server: SandboxServer, archive: Archive) -> VerifyReport:
    async def mend() -> VerifyReport:
        async with source_of(server) as client:
            report = await verify(archive)
            await repair(archive, KayakoSource(client), report)
            return report

    return asyncio.run(mend())


def test_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    """It weighs a few replies, and leaves no file."""
    root = tmp_path / "archive"
    with SandboxServer(Helpdesk.build(FEW)) as server:
        with open_archive(root, command="test") as archive:
            pull(server, archive)
            bytes_kept = archive.replies.kept()

        async def main(options: RunOptions) -> Dry:
            async with source_of(server) as client:
                return await dry_run(KayakoSource(client), dry, options)

        with open_dry(tmp_path / "none") as dry:
            found = asyncio.run(main(RunOptions(server.url, posts=True, replies=True)))
    assert found.replies.n == 5
    assert 0 < found.replies.bytes < bytes_kept.newest.bytes
    assert [one.name for one in tmp_path.iterdir()] == ["archive"]


def test_equal_replies_are_one_file(tmp_path: Path) -> None:
    """The same bytes are the same blob, however they were cut into pieces, and at any time."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        body = b"<tickets>" + bytes(range(256)) * 1000
        made = set()
        for size in (7, 1000, len(body)):
            with ReplyCopy(archive.blobs) as copy:
                copy.begin()
                for start in range(0, len(body), size):
                    copy.write(body[start : start + size])
                reply = asyncio.run(copy.kept(None, 1, "posts"))
            assert reply is not None
            assert words(archive, reply) == body
            made.add(reply.sha256)
        assert len(made) == 1
        assert temporary(archive) == []
