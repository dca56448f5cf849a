"""Ranged reads and ticket ids: what later clients send to the download."""

from __future__ import annotations

import base64
import itertools
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from migrator.blobs.local import LocalStore
from migrator.serve.bounds import BLOCK
from migrator.serve.content import Verdicts
from migrator.serve.refusals import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.serve.conftest import Desk, OpenDesk

DATA = os.urandom(3 * BLOCK + 1234)
MIB = 1024 * 1024


def chunk(answer: httpx.Response) -> tuple[bytes, bool]:
    """Return the bytes and the eof of a ranged answer, whose metadata is that of the file."""
    data = answer.json()["data"]
    assert answer.status_code == 200
    assert isinstance(data["file_size"], int)
    return base64.b64decode(data["content_base64"], validate=True), data["eof"]


@pytest.fixture(scope="module")
def stored(desk: Desk) -> int:
    """Store a file of a few blocks."""
    return desk.attach("a.zip", DATA)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (0, len(DATA)),
        (0, len(DATA) + 1),
        (1, BLOCK),
        (1, BLOCK + 1),
        (BLOCK - 1, 2 * BLOCK),
        (len(DATA) - 1, 1),
        (len(DATA) - 1, 2),
        (len(DATA), 1),
        (len(DATA) + 1, 1),
        (10**30, 25 * MIB),
    ],
)
def test_range_is_exactly_what_was_asked(desk: Desk, stored: int, offset: int, length: int) -> None:
    """A range holds its bytes and no others; past the end it is empty, with eof."""
    data, eof = chunk(desk.get(stored, offset=offset, length=length))
    assert data == DATA[offset : offset + length]
    assert eof is (offset + length >= len(DATA))


def test_metadata_of_a_range_is_that_of_the_file(desk: Desk, stored: int) -> None:
    """Every chunk tells the whole size, type and hash, and adds eof; a whole read has no eof."""
    whole = desk.get(stored).json()["data"]
    ranged = desk.get(stored, offset=5, length=10).json()["data"]
    assert "eof" not in whole
    assert ranged.pop("eof") is False
    del whole["content_base64"], ranged["content_base64"]
    assert whole == ranged
    assert whole["file_size"] == len(DATA)


def test_offset_and_length_have_defaults(open_desk: OpenDesk) -> None:
    """An offset alone asks for 8 MiB, a length alone starts at 0, null is as good as absent."""
    with open_desk() as desk:
        data = bytes(8 * MIB + 10)
        stored = desk.attach("a.zip", data)
        assert chunk(desk.get(stored, offset=0)) == (data[:-10], False)
        assert chunk(desk.get(stored, offset=10)) == (data[:-10], True)
        assert chunk(desk.get(stored, length=3)) == (data[:3], False)
        assert "eof" not in desk.get(stored, offset=None, length=None).json()["data"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offset", -1),
        ("offset", "x"),
        ("offset", 0.5),
        ("offset", True),
        ("length", 0),
        ("length", -1),
        ("length", 25 * MIB + 1),
        ("length", "1x"),
        ("length", [1]),
    ],
)
def test_wrong_ranges_are_refused(desk: Desk, stored: int, field: str, value: object) -> None:
    """Anything but an integer within its bounds is 422 and names the field."""
    answer = desk.post({"ticket_number": 1, "response_attachment_id": stored, field: value})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


def test_file_over_the_limit_is_read_in_ranges(open_desk: OpenDesk) -> None:
    """413 says that ranges work, and they do."""
    with open_desk(max_download=1000) as desk:
        stored = desk.attach("a.zip", DATA)
        refused = desk.get(stored)
        assert refused.status_code == 413
        assert refused.json()["data"] == {"file_size": len(DATA), "ranged": True}
        read, eof = b"", False
        while not eof:
            piece, eof = chunk(desk.get(stored, offset=len(read), length=60_000))
            read += piece
        assert read == DATA


def test_empty_file_is_one_empty_chunk(desk: Desk) -> None:
    """A file of no bytes is 200 with an empty text, whole or in ranges."""
    stored = desk.attach("empty.txt", b"")
    assert chunk(desk.get(stored, offset=0, length=8 * MIB)) == (b"", True)
    assert desk.get(stored).json()["data"]["content_base64"] == ""


def test_ranges_obey_the_rules(desk: Desk) -> None:
    """A range of a blocked or unreviewed file is refused as the whole is."""
    for name, code in (("a.exe", "attachment_blocked"), ("a.log", "attachment_review_required")):
        answer = desk.get(desk.attach(name, b"x"), offset=0)
        assert (answer.status_code, answer.json()["error"]) == (403, code)


def test_no_range_of_a_damaged_file_is_sent(desk: Desk) -> None:
    """One wrong bit anywhere: no range leaves, in whatever order they are asked for."""
    stored = desk.attach("b.zip", DATA + b"b")
    desk.blob(stored).write_bytes(b"x" + DATA[1:] + b"b")
    for offset, length in ((len(DATA), 1), (BLOCK, 10), (0, len(DATA)), (len(DATA) + 9, 1)):
        answer = desk.get(stored, offset=offset, length=length)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_changed_file_is_not_sent_whatever_its_times_say(desk: Desk) -> None:
    """Other bytes of the same size, with the time of the last write put back, are seen."""
    stored = desk.attach("f.zip", DATA + b"f")
    path = desk.blob(stored)
    asked: list[dict[str, Any]] = [{}, {"offset": 0}, {"offset": 7, "length": 9}]
    for fields in asked:
        assert desk.get(stored, **fields).status_code == 200
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for fields in asked[::-1]:
        assert desk.get(stored, **fields).status_code == 404


def test_range_of_a_shortened_file_is_not_found(desk: Desk) -> None:
    """The size on disk is looked at for each range."""
    stored = desk.attach("c.zip", DATA + b"c")
    desk.blob(stored).write_bytes(DATA)
    assert desk.get(stored, offset=0, length=10).status_code == 404


def test_range_of_a_known_file_reads_only_what_it_sends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first range costs a look at the whole file, the next ones only their own bytes."""
    stored, real, counts = desk.attach("d.zip", DATA + b"d"), os.pread, [0]

    def counted(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        counts[-1] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)  # a file that was not changed just now
    for offset, length, read in ((BLOCK, 5, len(DATA) + 1), (BLOCK, 5, 0), (7, 2 * BLOCK, 0)):
        assert desk.get(stored, offset=offset, length=length).status_code == 200
        assert counts.pop() == read + length
        counts.append(0)


@pytest.fixture
def stored_blob(tmp_path: Path) -> tuple[LocalStore, str, int]:
    """Store a blob of some MiB; give its store, hash and size."""
    store, data = LocalStore(tmp_path), bytes(5 * MIB) + b"x"
    store.prepare()
    with store.writer() as writer:
        writer.write(data)
        blob = writer.commit()
    return store, blob.sha256, blob.size


def test_check_takes_no_longer_than_its_time_and_goes_on_later(
    stored_blob: tuple[LocalStore, str, int],
) -> None:
    """A file too large for one request is told to be read to so many percent, and then it is."""
    store, sha256, _ = stored_blob
    now = itertools.count()
    verdicts, told = Verdicts(clock=lambda: float(next(now))), []
    for _ in range(3):
        file = store.open(sha256)
        assert file is not None
        with file:
            try:
                told.append(str(verdicts.check(sha256, file, seconds=2)))
            except Refusal as refusal:
                told += [refusal.code, *re.findall(r"\d+%", refusal.message)]
    assert told == ["not_checked", "40%", "not_checked", "80%", "True"]


def test_fresh_file_is_believed_only_when_it_has_aged(
    stored_blob: tuple[LocalStore, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock may be too coarse to show a second change, so what is new is read again."""
    store, sha256, _ = stored_blob
    verdicts, later = Verdicts(), time.time_ns() + 10**10
    for aged in (False, True):
        if aged:
            monkeypatch.setattr(time, "time_ns", lambda: later)
        file = store.open(sha256)
        assert file is not None
        with file:
            assert verdicts.check(sha256, file)
            assert verdicts.get(sha256, file.version) is (True if aged else None)


def test_threads_read_a_file_only_once(
    stored_blob: tuple[LocalStore, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight that want the same file get one answer, from one reading."""
    store, sha256, size = stored_blob
    verdicts, real, read, later = Verdicts(), os.pread, [0], time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)

    def counted(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        read[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)

    def check(_: int) -> bool:
        file = store.open(sha256)
        assert file is not None
        with file:
            return verdicts.check(sha256, file)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(check, range(8))) == [True] * 8
    assert read[0] == size


def test_ticket_id_stands_for_the_number(desk: Desk) -> None:
    """The internal id finds the ticket when its number is another; both or neither are 422."""
    stored = desk.attach("e.zip", b"e", ticket=77)
    desk.archive.access.apply_config({}, {77: "220009"})
    asked = {"response_attachment_id": stored}
    for name in ({"ticket_number": "220009"}, {"ticket_id": "77"}, {"ticket_id": 77}):
        assert desk.post({**asked, **name}).status_code == 200
    assert desk.post({**asked, "ticket_number": "77"}).status_code == 404
    assert desk.post({**asked, "ticket_id": "220009"}).status_code == 404
    both = desk.post({**asked, "ticket_number": "220009", "ticket_id": "77"})
    assert (both.status_code, list(both.json()["errors"])) == (422, ["ticket_id"])
    neither = desk.post(asked)
    assert (neither.status_code, list(neither.json()["errors"])) == (422, ["ticket_number"])
    hidden = desk.post({**asked, "ticket_id": 77}, token=desk.token(queues=[4]))
    assert (hidden.status_code, hidden.json()["error"]) == (403, "forbidden")
