"""Ranged reads and ticket ids: what later clients send to the download."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from migrator.serve.content import BLOCK, Hash, Verdicts

if TYPE_CHECKING:
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
        ("offset", "0"),
        ("offset", 0.0),
        ("offset", True),
        ("length", 0),
        ("length", -1),
        ("length", 25 * MIB + 1),
        ("length", "1"),
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


def test_ranges_in_order_never_complete_a_damaged_file(desk: Desk) -> None:
    """One wrong bit: the last range is refused, and from then on every other one."""
    stored = desk.attach("b.zip", DATA + b"b")
    path = desk.blob(stored)
    path.write_bytes(b"x" + DATA[1:] + b"b")
    half = len(DATA) // 2 // BLOCK * BLOCK
    assert desk.get(stored, offset=0, length=half).status_code == 200
    last = len(DATA) - half - 10
    assert desk.get(stored, offset=half, length=last).status_code == 200
    assert desk.get(stored, offset=half + last).status_code == 404
    assert desk.get(stored, offset=0, length=1).status_code == 404


def test_range_of_a_shortened_file_is_not_found(desk: Desk) -> None:
    """The size on disk is looked at for each range."""
    stored = desk.attach("c.zip", DATA + b"c")
    desk.blob(stored).write_bytes(DATA)
    assert desk.get(stored, offset=0, length=10).status_code == 404


def test_a_range_reads_only_what_it_sends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what comes before, nor anything for the hash, is read from the disk."""
    stored, real, counts = desk.attach("d.zip", DATA + b"d"), os.pread, [0]

    def counted(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        counts[-1] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    for offset, length in ((BLOCK, 5), (7, 2 * BLOCK)):
        assert desk.get(stored, offset=offset, length=length).status_code == 200
        assert counts.pop() == length
        counts.append(0)


def test_hash_follows_ranges_that_overlap_and_ignores_gaps() -> None:
    """Each byte is hashed once, in order, whatever the ranges."""
    data = bytes(range(100))
    begun = Hash()
    for start, end in ((50, 60), (0, 20), (10, 30), (5, 9), (31, 40), (30, 100), (0, 100)):
        begun.see(data[start:end], start)
    assert begun.position == 100
    assert begun.hexdigest() == hashlib.sha256(data).hexdigest()


def test_readers_share_the_hash_of_a_file() -> None:
    """What one reader has hashed no other hashes again, and few beginnings are kept."""
    verdicts, fingerprint = Verdicts(), (1, 2, 3, 4)
    begun = verdicts.begun("a", fingerprint)
    assert verdicts.begun("a", fingerprint) is begun
    assert verdicts.begun("a", (1, 2, 3, 5)) is not begun
    for number in range(1500):
        verdicts.begun(str(number), fingerprint).see(b"x", 0)
    assert verdicts.begun("a", fingerprint) is not begun
    assert verdicts.begun("1499", fingerprint).position == 1


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
