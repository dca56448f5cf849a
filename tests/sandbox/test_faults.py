"""Each fault does on the wire what its line says, and the truth knows."""

from __future__ import annotations

import hashlib
import http.client
import re
from typing import TYPE_CHECKING

import pytest

from migrator.sandbox.kayako import ATTACHMENT_FAULTS
from migrator.sandbox.kayako.calls import decode_leniently

if TYPE_CHECKING:
    from migrator.sandbox.kayako import Attachment, Truth
    from tests.sandbox.conftest import Client, Serve

CONTENTS = re.compile(rb"<contents>(?:<!\[CDATA\[)?([^<\]]*)", re.DOTALL)


def afflicted(client: Client, fault: str) -> tuple[Attachment, Truth]:
    """Return the attachment with a fault, and its truth."""
    row = next(r for r in client.desk.attachments.values() if r.fault == fault)
    return row, client.desk.truth[row.id]


def decoded(body: bytes) -> bytes:
    """Decode the contents of a reply as PHP would."""
    match = CONTENTS.search(body)
    return decode_leniently(match[1].decode()) if match else b""


def fetch(client: Client, path: str, *, attempts: int = 4) -> bytes | None:
    """Fetch like a patient client; None when no attempt brought a whole document."""
    for _ in range(attempts):
        try:
            answer = client.get(path)
        except http.client.IncompleteRead:
            continue
        if answer.status == 200 and answer.body.count(b"</attachment>\n</attachments>") == 1:
            return answer.body if answer.body.count(b"<attachment>") == 1 else None
    return None


@pytest.mark.parametrize(
    "fault", [n for n in ATTACHMENT_FAULTS if n not in {"deleted_between", "moved_between"}]
)
def test_truth(serve: Serve, fault: str) -> None:
    """A patient client ends with the bytes of the truth, or without any if it tells none."""
    with serve(fault) as client:
        row, truth = afflicted(client, fault)
        body = fetch(client, client.path_of(fault))
        if truth.state == "stored":
            assert body is not None
            data = decoded(body)
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (truth.sha256, truth.size)
        elif truth.state == "missing":
            assert body is not None
            assert b"<contents />" in body
            assert b"<filesize><![CDATA[0]]>" not in body
        else:
            assert body is None
        mismatch = truth.size is not None and row.filesize >= 0 and truth.size != row.filesize
        assert mismatch == (truth.problem == "size_mismatch")


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("error_500", [500, 500, 500, 500]),
        ("flaky_500", [500, 500, 200, 200]),
        ("gateway", [502, 200, 200, 200]),
        ("timeout_504", [504, 200, 200, 200]),
        ("throttle", [429, 200, 200, 200]),
        ("busy_503", [503, 200, 200, 200]),
        ("memory", [200, 200, 200, 200]),
    ],
)
def test_statuses(serve: Serve, fault: str, statuses: list[int]) -> None:
    """Faults of the server pass when their line says so, and never else."""
    with serve(fault) as client:
        assert [client.get(client.path_of(fault)).status for _ in statuses] == statuses


@pytest.mark.parametrize(("fault", "seconds"), [("throttle", "1"), ("busy_503", "0")])
def test_retry_after(serve: Serve, fault: str, seconds: str) -> None:
    """A busy server says how long to wait."""
    with serve(fault) as client:
        assert client.get(client.path_of(fault)).headers["Retry-After"] == seconds


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("memory", "Fatal error: Allowed memory size of"),
        ("not_xml", "Uncaught Exception\nRouter: /Tickets/TicketAttachment\n"),
        ("html_page", "<title>Login</title>"),
    ],
)
def test_no_xml(serve: Serve, fault: str, words: str) -> None:
    """Status 200 without any XML."""
    with serve(fault) as client:
        answer = client.get(client.path_of(fault))
        assert answer.status == 200
        assert words in answer.text
        assert "<?xml" not in answer.text


def test_error_500_is_empty(serve: Serve) -> None:
    """An exhausted PHP says nothing."""
    with serve("error_500") as client:
        assert client.get(client.path_of("error_500")).body == b""


@pytest.mark.parametrize(
    ("fault", "start", "end"),
    [
        ("remote_sentence", b"Unable to locate remote file", b"</attachments>"),
        ("warning_before", b'<div style="BACKGROUND: #f8ebeb;', b"</attachments>"),
        ("text_after", b"<?xml", b"=" * 79 + b"\n"),
    ],
)
def test_noise(serve: Serve, fault: str, start: bytes, end: bytes) -> None:
    """Text stands before or after a whole document."""
    with serve(fault) as client:
        body = client.get(client.path_of(fault)).body
        assert body.startswith(start)
        assert body.endswith(end)
        assert b"<?xml" in body


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("latin1_name", b"Rechnung M\xfcller.pdf"),
        ("control_name", b"scan\x0b0001.pdf"),
        ("fffe_name", "photo\ufffe 1.png".encode()),
        ("newline_name", b"two\nlines.txt"),
        ("cdata_name", b"x]]]]><![CDATA[>y.txt"),
    ],
)
def test_names(serve: Serve, fault: str, name: bytes) -> None:
    """A broken name is broken in the list and in the fetch alike."""
    with serve(fault) as client:
        path = client.path_of(fault)
        ticket = path.split("/")[3]
        expected = b"<filename><![CDATA[" + name + b"]]></filename>"
        assert expected in client.get(path).body
        assert expected in client.get(f"/Tickets/TicketAttachment/ListAll/{ticket}").body


def test_encodings(serve: Serve) -> None:
    """Base64 in lines, with foreign characters, without CDATA, and closed twice."""
    with serve("all") as client:
        wrapped = client.get(client.path_of("wrapped_base64")).body
        match = CONTENTS.search(wrapped)
        assert match is not None
        lines = match[1].split(b"\r\n")
        assert {len(line) for line in lines[:-2]} == {76}
        lenient = client.get(client.path_of("lenient_base64")).body
        assert b"-!" in lenient.partition(b"<contents>")[2]
        plain = client.get(client.path_of("no_cdata")).body
        assert b"<contents><!" not in plain
        seed = client.get(client.path_of("seed_shape")).body
        assert b"]]]]><![CDATA[></contents>" in seed


def test_size_contradiction(serve: Serve) -> None:
    """The list says one size, the contents come with a smaller one that fits them."""
    with serve("size_contradiction") as client:
        row, truth = afflicted(client, "size_contradiction")
        listed = client.listing(row.ticket_id)
        assert str(row.filesize) in listed.values("filesize")
        answer = client.fetch(row.id)
        assert answer.values("filesize") == [str(truth.size)]
        assert len(decoded(answer.body)) == truth.size != row.filesize
        client.desk.set_fault("size_contradiction", on=False)
        assert client.fetch(row.id).values("filesize") == [str(row.filesize)]


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        ("odd_row", ["<filesize><![CDATA[-5]]>", "<dateline><![CDATA[n/a]]>"]),
        ("odd_ids", ["<ticketid><![CDATA[-9223372036854775808]]>", "<ticketpostid><![CDATA[0]]>"]),
        ("entity_name", ["<filename>Men&uacute; d'&eacute;t&eacute;.pdf</filename>"]),
    ],
)
def test_odd_rows(serve: Serve, fault: str, lines: list[str]) -> None:
    """Odd fields of a row stand in the list and in the reply with the contents alike."""
    with serve(fault) as client:
        row, _ = afflicted(client, fault)
        for answer in (client.listing(row.ticket_id), client.fetch(row.id)):
            assert answer.status == 200
            assert all(answer.text.count(line) == 1 for line in lines)
            assert f"<id><![CDATA[{row.id}]]>" in answer.text


def test_many_contents(serve: Serve) -> None:
    """The attachment comes with thousands that nobody asked for, always, but is listed alone."""
    with serve("many_contents") as client:
        row, _ = afflicted(client, "many_contents")
        for _ in range(2):
            answer = client.fetch(row.id)
            assert answer.values("id")[0] == str(row.id)
            assert answer.text.count("<contents") == 2001
            assert len(set(answer.values("id"))) == 2001
        assert len(client.listing(row.ticket_id).values("id")) < 20


def test_empty_file(serve: Serve) -> None:
    """An empty file has size 0 and empty contents."""
    with serve("empty_file") as client:
        answer = client.get(client.path_of("empty_file"))
        assert answer.values("filesize") == ["0"]
        assert "\n<contents />\n" in answer.text


def test_cut(serve: Serve) -> None:
    """A cut reply promises more than it sends, once."""
    with serve("cut_once") as client:
        target = client.target(client.path_of("cut_once"))
        head, _, body = client.raw(target).partition(b"\r\n\r\n")
        promised = re.search(rb"Content-Length: (\d+)", head)
        assert promised is not None
        assert len(body) == int(promised[1]) // 2
        assert client.get(client.path_of("cut_once")).body.endswith(b"</attachments>")


@pytest.mark.parametrize(("fault", "whole"), [("cut_silent", True), ("cut_always", False)])
def test_silent_cut(serve: Serve, fault: str, *, whole: bool) -> None:
    """A silent cut promises nothing and ends in mid-contents, once or always."""
    with serve(fault) as client:
        head, _, body = client.raw(client.target(client.path_of(fault))).partition(b"\r\n\r\n")
        assert b"Content-Length" not in head
        assert b"Connection: close" in head
        assert body.startswith(b"<?xml")
        assert b"<contents>" in body
        assert b"</contents>" not in body
        assert client.get(client.path_of(fault)).body.endswith(b"</attachments>") == whole


def test_chunked(serve: Serve) -> None:
    """A chunked reply has no length, comes in odd pieces and ends properly."""
    with serve("chunked") as client:
        path = client.path_of("chunked")
        answer = client.get(path)
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in answer.headers
        assert decoded(answer.body) == afflicted(client, "chunked")[0].source.read()


def test_slow(serve: Serve) -> None:
    """A slow reply comes in many pieces, and whole."""
    with serve("slow") as client:
        connection = http.client.HTTPConnection(*client.address, timeout=20)
        connection.request("GET", client.target(client.path_of("slow")))
        reply = connection.getresponse()
        pieces = list(iter(lambda: reply.read1(1 << 20), b""))
        connection.close()
        assert len(pieces) > 5
        assert decoded(b"".join(pieces)) == afflicted(client, "slow")[0].source.read()


def test_deleted_between(serve: Serve) -> None:
    """Listed, then 404 at the fetch, then listed no more; the truth goes on telling it."""
    with serve("deleted_between") as client:
        row, truth = afflicted(client, "deleted_between")
        listing = f"/Tickets/TicketAttachment/ListAll/{row.ticket_id}"
        assert str(row.id) in client.get(listing).values("id")
        answer = client.get(f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}")
        assert (answer.status, answer.text) == (404, "Attachment not Found")
        assert str(row.id) not in client.get(listing).values("id")
        assert client.desk.truth[row.id] == truth
        assert (truth.state, truth.problem) == ("gone", "not_found")


def test_deleted_between_in_posts(serve: Serve) -> None:
    """A row that vanishes takes the whole list of posts with it, once."""
    with serve("deleted_between") as client:
        row, _ = afflicted(client, "deleted_between")
        path = f"/Tickets/TicketPost/ListAll/{row.ticket_id}"
        assert (client.get(path).status, client.get(path).status) == (404, 200)
        assert client.desk.truth[row.id].state == "gone"


def test_moved_between(serve: Serve) -> None:
    """Listed under one ticket, at the fetch another one's: 400, then found there."""
    with serve("moved_between") as client:
        row, truth = afflicted(client, "moved_between")
        before = client.desk.truth
        answer = client.get(f"/Tickets/TicketAttachment/{row.ticket_id}/{row.id}")
        assert answer.status == 400
        survivor = client.get(f"/Tickets/Ticket/{row.ticket_id}").ids()[0]
        assert survivor != row.ticket_id
        body = client.get(f"/Tickets/TicketAttachment/{survivor}/{row.id}").body
        assert hashlib.sha256(decoded(body)).hexdigest() == truth.sha256
        assert client.desk.truth == before


def test_moved_between_after_its_ticket_was_merged(serve: Serve) -> None:
    """When the ticket is already where it would move to, nothing more happens."""
    with serve("moved_between") as client:
        row, _ = afflicted(client, "moved_between")
        client.desk.merge(row.ticket_id, client.desk.moves[row.id])
        assert client.fetch(row.id).status == 200


def test_faults_in_posts(serve: Serve) -> None:
    """A list of posts suffers from the faults of the attachments in it."""
    with serve("error_500") as client:
        row, _ = afflicted(client, "error_500")
        path = f"/Tickets/TicketPost/{row.ticket_id}/{row.post_id}"
        assert client.get(path).status == 500
        client.desk.set_fault("error_500", on=False)
        assert client.get(path).status == 200
        assert client.get(client.path_of("error_500")).status == 200
