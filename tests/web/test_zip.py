"""All files of a ticket as one ZIP: what is in it, what is not, and no broken one looks whole."""

from __future__ import annotations

import io
import random
import shutil
import socket
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from migrator.archive.records import PostRow, Row, State
from migrator.serve.bounds import ZIPPED
from migrator.serve.web.files import Files
from tests.blobs.layout import path_of
from tests.web.desks import NOON, Desk, Visitor, audit_of, audited, hidden, png

LARGE = random.Random(1).randbytes(300_000)


def unzipped(answer: httpx.Response) -> dict[str, bytes]:
    """Return the files of a ZIP, each once and with the right checksum."""
    with zipfile.ZipFile(io.BytesIO(answer.content)) as made:
        assert made.testzip() is None
        names = made.namelist()
        assert len({name.casefold() for name in names}) == len(names)
        return {name: made.read(name) for name in names}


def desk_with(desk: Desk, number: int, **files: bytes | None) -> str:
    """Make a ticket with files, and return the address of its ZIP."""
    desk.ticket(number, PostRow(number * 10, NOON, text="x"))
    for name, data in files.items():
        desk.attach(name.replace("__", "."), data, number, number * 10)
    return f"/tickets/{number}/download"


def damage(desk: Desk, number: int, name: str, data: bytes) -> None:
    """Change the bytes of a stored file."""
    (row,) = [
        row for row in desk.archive.threads.attachments_of_ticket(number) if row.filename == name
    ]
    blob = path_of(desk.archive, row.sha256 or "")
    blob.chmod(0o600)
    blob.write_bytes(data)


def test_all_files_of_a_ticket_are_one_zip(desk: Desk, visitor: Visitor) -> None:
    """Every file whole, under its name and date, as something to be saved under a plain name."""
    path = desk_with(desk, 5001, a__pdf=b"%PDF-1", large__png=LARGE, empty__pdf=b"")
    assert f'href="{path}"' in visitor.get("/tickets/5001").text
    answer = visitor.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="ticket-5001.zip"'
    assert "sandbox" in answer.headers["content-security-policy"]
    assert unzipped(answer) == {"a.pdf": b"%PDF-1", "large.png": LARGE, "empty.pdf": b""}
    with zipfile.ZipFile(io.BytesIO(answer.content)) as made:
        assert made.infolist()[0].date_time == (2026, 9, 21, 14, 13, 20)


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip in PATH")
def test_another_tool_reads_the_zip(desk: Desk, visitor: Visitor, tmp_path: Path) -> None:
    """Info-ZIP finds no fault in it."""
    (tmp_path / "all.zip").write_bytes(visitor.get(desk_with(desk, 5002, a__pdf=LARGE)).content)
    subprocess.run(["unzip", "-tq", tmp_path / "all.zip"], check=True, timeout=30)


def test_names_are_safe_and_told_apart(desk: Desk, visitor: Visitor) -> None:
    """No name leaves the folder, none poses as another, and none replaces our own list."""
    names = ["../../etc/passwd.pdf", "a.pdf", "A.pdf", "a.pdf", "C:\\x.pdf", "gpj\u202efdp.pdf"]
    names += ["MISSING.txt", "CON.pdf", "", "line\nend.pdf", "\u65e5" * 200 + ".pdf", "-rf.pdf"]
    desk.ticket(5003, PostRow(50030, NOON, text="x"))
    for name in names:
        desk.attach(name, name.encode() or b"%PDF-1", 5003, 50030)
    desk.attach("lost.pdf", None, 5003, 50030, State.MISSING)
    seal = hidden(visitor.get("/tickets/5003/download").text)
    moved = visitor.post("/tickets/5003/download", data=seal)
    found = unzipped(visitor.get(moved.headers["location"]))
    assert len(found) == len(names) + 1
    assert sorted(found.values()) == sorted(
        [name.encode() or b"%PDF-1" for name in names] + [found["MISSING.txt"]]
    )
    assert found["MISSING.txt"].startswith(b"lost.pdf: The old helpdesk lists it")
    for name in found:
        assert name.isprintable()
        assert not set('/\\:*?"<>|') & set(name)
        assert name[0] not in ".-"
        assert len(name.encode()) <= 120


def test_what_is_not_in_the_zip_is_named(desk: Desk, visitor: Visitor) -> None:
    """Lost, blocked and not reviewed ones are in a list with the reason."""
    path = desk_with(desk, 5004, a__pdf=b"%PDF-1", b__exe=b"MZ", c__log=b"c", d__pdf=None)
    gone = desk.attach("gone.pdf", b"gone from the store", 5004, 50040)
    row = desk.archive.queries.attachment(gone)
    assert row is not None
    path_of(desk.archive, row.sha256 or "").unlink()
    found = unzipped(visitor.get(f"{path}?only=known"))
    assert set(found) == {"a.pdf", "MISSING.txt"}
    assert found["MISSING.txt"].decode().splitlines() == [
        "b.exe: Files of this type are blocked by an administrator.",
        "c.log: Files of this type need a review: download it from its own page.",
        "d.pdf: It could not be fetched so far.",
        "gone.pdf: The archive has lost it, or holds a damaged copy.",
    ]


def test_files_to_be_reviewed_need_one_confirmation(desk: Desk, visitor: Visitor) -> None:
    """Until then the page names them; the confirmation holds for this ticket and session alone."""
    path = desk_with(desk, 5005, a__pdf=b"%PDF-1", c__log=b"c", e__exe=b"MZ")
    asked = visitor.get(path)
    assert asked.status_code == 403
    assert "c.log" in asked.text
    assert "Download the others: 1" in asked.text
    assert "e.exe" not in asked.text
    assert visitor.head(path).status_code == 403
    form = hidden(asked.text)
    assert visitor.post(path, data={**form, "intent": "x"}).status_code == 422
    assert visitor.post(path, data={**form, "form": "x"}).status_code == 403
    confirmed = visitor.post(path, data=form).headers["location"]
    assert set(unzipped(visitor.get(confirmed))) == {"a.pdf", "c.log", "MISSING.txt"}
    other = desk_with(desk, 5006, b__pdf=b"%PDF-2", d__log=b"d")
    assert visitor.get(other + confirmed.removeprefix(path)).status_code == 403


@pytest.mark.parametrize("bytes_", [LARGE[:-1] + b"!", LARGE[:200_000], LARGE + b"!"])
def test_a_damaged_file_leaves_no_whole_zip(desk: Desk, visitor: Visitor, bytes_: bytes) -> None:
    """The server hangs up in the middle; once the damage is known, it is in the list."""
    number = 5100 + len(bytes_) % 97
    data = {"a__pdf": b"%PDF-1", "b__png": LARGE + b"%d" % number, "c__pdf": b"%PDF-3"}
    path = desk_with(desk, number, **data)
    damage(desk, number, "b.png", bytes_ + b"%d" % number)
    got = bytearray()

    def download() -> None:
        with visitor.stream("GET", path) as answer:
            for block in answer.iter_raw():
                got.extend(block)

    with pytest.raises(httpx.RemoteProtocolError):
        download()
    assert not zipfile.is_zipfile(io.BytesIO(got))
    found = unzipped(visitor.get(path))
    assert set(found) == {"a.pdf", "c.pdf", "MISSING.txt"}
    assert found["MISSING.txt"].startswith(b"b.png: ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_length_of_a_zip_is_told_before(desk: Desk, visitor: Visitor, method: str) -> None:
    """Whatever is in it, or not: so browsers show progress, and a broken one is seen."""
    number = 5200 + len(method)
    desk.ticket(number, PostRow(number * 10, NOON, text="x"))
    for name in ("a.pdf", "\u65e5\u672c.pdf", "\u00e4" * 60 + ".pdf", "a.pdf"):
        desk.attach(name, LARGE[: 70_000 * len(name.encode()) % 200_001], number, number * 10)
    desk.attach("e.exe", b"MZ", number, number * 10)
    gone = desk.archive.queries.attachment(
        desk.attach("gone.pdf", b"!" + LARGE, number, number * 10)
    )
    assert gone is not None
    path_of(desk.archive, gone.sha256 or "").unlink()
    answer = visitor.request(method, f"/tickets/{number}/download")
    assert answer.status_code == 200
    whole = visitor.get(f"/tickets/{number}/download")
    assert int(answer.headers["content-length"]) == len(whole.content)
    assert "transfer-encoding" not in whole.headers
    assert len(answer.content) == (0 if method == "HEAD" else len(whole.content))
    assert len(unzipped(whole)) == 5


def test_a_zip_over_http_1_0_comes_while_it_is_made(desk: Desk, visitor: Visitor) -> None:
    """It has its length, and waits nowhere to be whole."""
    path = desk_with(desk, 5210, a__png=LARGE, b__pdf=b"%PDF-1")
    cookies = "; ".join(f"{one.name}={one.value}" for one in visitor.cookies.jar)
    where = urlsplit(desk.url)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=10) as wire:
        wire.sendall(
            f"GET {path} HTTP/1.0\r\nHost: {where.netloc}\r\nCookie: {cookies}\r\n\r\n".encode()
        )
        with wire.makefile("rb") as got:
            head, _, body = got.read().partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.lower()
    assert len(zipfile.ZipFile(io.BytesIO(body)).namelist()) == 2


def test_a_file_that_is_lost_meanwhile_leaves_no_whole_zip(
    desk: Desk, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its length was promised: so the server hangs up, and the next ZIP names it."""
    path = desk_with(desk, 5211, a__pdf=b"%PDF-1", b__png=LARGE + b"lost")
    (_, row) = desk.archive.threads.attachments_of_ticket(5211)
    real = Files.foresee

    async def foresee(files: Files, rows: list[tuple[str, Row]], missing: list[str]) -> int | None:
        length = await real(files, rows, missing)
        path_of(desk.archive, row.sha256 or "").unlink()
        return length

    monkeypatch.setattr(Files, "foresee", foresee)
    with pytest.raises(httpx.RemoteProtocolError):
        visitor.get(path)
    monkeypatch.undo()
    found = unzipped(visitor.get(path))
    assert (set(found), b"b.png" in found["MISSING.txt"]) == ({"a.pdf", "MISSING.txt"}, True)


def test_a_zip_is_for_those_who_see_its_ticket(
    desk: Desk, visitor: Visitor, stranger: Visitor
) -> None:
    """Strangers sign in first, other queues' staff find nothing; neither do those without files."""
    path = desk_with(desk, 5008, a__pdf=b"%PDF-1")
    with Visitor(base_url=desk.url, timeout=20) as other:
        assert other.get(path).headers["location"].startswith("/sign-in")
        other.sign_in(desk.token(queues=[77]))
        assert other.get(path).status_code == 404
        assert other.post(path, data=hidden(other.get("/").text)).status_code == 404
    desk.ticket(5009, PostRow(50090, NOON, text="x"))
    assert visitor.get("/tickets/5009/download").status_code == 404
    assert "/download" not in visitor.get("/tickets/5009").text
    assert visitor.get("/tickets/999999/download").status_code == 404


def test_too_many_files_are_refused(desk: Desk, visitor: Visitor) -> None:
    """A ZIP has a bound, and says so before it begins."""
    desk.ticket(5010, PostRow(50100, NOON, text="x"))
    with desk.archive.ledger.atomic():
        for _ in range(ZIPPED + 1):
            desk.attach("a.pdf", None, 5010, 50100)
    answer = visitor.get("/tickets/5010/download")
    assert answer.status_code == 413
    assert "more than 2,000 files" in answer.text


def test_few_zips_are_sent_to_one_visitor_at_a_time(desk: Desk, visitor: Visitor) -> None:
    """A third one waits; when the others have gone there is a place again."""
    path = desk_with(desk, 5011, a__png=random.Random(2).randbytes(12 << 20), b__pdf=b"%PDF-1")
    with visitor.stream("GET", path) as one, visitor.stream("GET", path) as two:
        assert one.status_code == two.status_code == 200
        refused = visitor.get(path)
        assert refused.status_code == 503
        assert "ZIP" in refused.text
        assert len(two.read()) > 12 << 20
    assert len(unzipped(visitor.get(path))) == 2


def test_a_zip_is_in_the_audit_log(tmp_path: Path) -> None:
    """Who got which files of which ticket, and whether all of it was sent."""
    with audited(tmp_path) as (desk, visitor):
        path = desk_with(desk, 1, a__pdf=b"%PDF-1", b__png=png())
        visitor.sign_in(desk.token())
        visitor.get(path)
    (line,) = audit_of(tmp_path)
    assert (line["token_name"], line["ticket"], line["filename"]) == ("Priya", 1, "ticket-1.zip")
    assert len(line["attachments"]) == 2
    assert line["whole"] is True
