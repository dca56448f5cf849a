"""The successful download, field by field and byte by byte."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from migrator.archive.records import State
from migrator.serve.bounds import BLOCK
from migrator.serve.catalog import EndpointSettings

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk


def test_answer_has_the_documented_fields_in_their_order(desk: Desk) -> None:
    """Every field of Tickiti's page is there, ids are strings and the size is a number."""
    data = b"%PDF-1.7\n" + bytes(range(256))
    attachment = desk.attach("UPDD Diag.pdf", data)
    answer = desk.get(str(attachment))
    assert answer.status_code == 200
    assert list(answer.json().items()) == [
        ("ok", True),
        (
            "data",
            {
                "id": str(attachment),
                "response_id": "42",
                "name": "UPDD Diag.pdf",
                "mime_type": "application/pdf",
                "sha256": hashlib.sha256(data).hexdigest(),
                "file_size": len(data),
                "is_inline": False,
                "content_base64": base64.b64encode(data).decode(),
            },
        ),
    ]
    assert list(answer.json()["data"]) == [
        "id",
        "response_id",
        "name",
        "mime_type",
        "sha256",
        "file_size",
        "is_inline",
        "content_base64",
    ]


def test_headers_of_a_download(desk: Desk) -> None:
    """A download is JSON of an exact length that no proxy keeps and no browser sniffs."""
    answer = desk.get(desk.attach("a.txt", b"text"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "size", [0, 1, 2, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 1]
)
def test_bytes_come_back_at_every_size(desk: Desk, size: int) -> None:
    """Empty files, whole blocks and every remainder of three come back byte for byte, twice."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    attachment = desk.attach("a.zip", data)
    for _ in range(2):
        answer = desk.get(attachment)
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(answer.content))
        assert base64.b64decode(answer.json()["data"]["content_base64"], validate=True) == data
        assert answer.json()["data"]["file_size"] == size


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ('quo"te\\.txt', "quo_te_.txt"),
        ("new\nline.txt", "new_line.txt"),
        ("nul\x00.txt", "nul_.txt"),
        ("../../etc/passwd.txt", "_._.._etc_passwd.txt"),
        ("Grüße 📎.txt", "Grüße 📎.txt"),
        ("\u202egpj.txt", "gpj.txt"),
        ("ein zwei.txt", "ein zwei.txt"),
        ("</script>.txt", "__script_.txt"),
        ("letter.txt. ", "letter.txt"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
    ],
)
def test_name_is_the_one_that_was_judged(desk: Desk, name: str, saved: str) -> None:
    """A client that saves a file under its name saves what the rules let pass, in any list."""
    number = desk.attach(name, b"x", ticket=55, post=550)
    answer = desk.get(number, ticket="55")
    assert answer.json()["data"]["name"] == saved
    assert answer.content.isascii()
    shown = desk.data("tickets/show", {"ticket_id": "55"})["responses"]
    told = {file["id"]: file["name"] for post in shown for file in post["attachments"]}
    assert told[str(number)] == saved


@pytest.mark.parametrize("style", ["{}", " {} ", "00{}", "{}\n"], ids=repr)
def test_ids_are_taken_as_strings_and_as_numbers(desk: Desk, style: str) -> None:
    """Clients send whichever JSON type they had, so both are understood for both ids."""
    attachment = desk.attach("a.txt", b"x")
    assert desk.get(style.format(attachment), ticket=1).status_code == 200
    assert desk.get(attachment, ticket=style.format(1)).status_code == 200


def test_a_mapped_ticket_number_is_understood(desk: Desk) -> None:
    """A ticket answers to the number that the operator's table gives it."""
    attachment = desk.attach("a.txt", b"x", ticket=77)
    desk.archive.access.apply_config({}, {77: "220009"})
    assert desk.get(attachment, ticket="220009").status_code == 200
    assert desk.get(attachment, ticket=220009).status_code == 200


def test_unknown_fields_are_ignored(desk: Desk) -> None:
    """The July client asks for a range first and is content with the whole file."""
    answer = desk.get(desk.attach("a.txt", b"whole"), offset=0, length=8388608)
    assert base64.b64decode(answer.json()["data"]["content_base64"]) == b"whole"


def test_one_blob_is_served_under_two_names(desk: Desk) -> None:
    """Equal bytes are kept once and answered with each attachment's own metadata."""
    first = desk.attach("one.txt", b"the same bytes")
    second = desk.attach("two.csv", b"the same bytes")
    assert desk.blob(first) == desk.blob(second)
    answers = [desk.get(each).json()["data"] for each in (first, second)]
    assert [each["name"] for each in answers] == ["one.txt", "two.csv"]
    assert answers[0]["sha256"] == answers[1]["sha256"]


def test_review_is_passed_by_saying_so(desk: Desk) -> None:
    """A type without a rule is served once the client confirms, and only by the right word."""
    attachment = desk.attach("server.log", b"x")
    assert desk.get(attachment, intent="review_ok").status_code == 200
    for intent in ("review_OK", "", "please", None):
        answer = desk.get(attachment, intent=intent)
        assert (answer.status_code, answer.json()["error"]) == (403, "attachment_review_required")


@pytest.mark.parametrize("name", ["README", "dot.", "x.tar.gz", "", ".hidden"])
def test_names_without_a_ruled_extension_want_review(desk: Desk, name: str) -> None:
    """No extension means no rule, and no rule means review."""
    assert desk.get(desk.attach(name, b"x")).json()["error"] == "attachment_review_required"


@pytest.mark.parametrize(
    "name",
    [
        "SETUP.EXE",
        "a.pdf.exe",
        "İ.Exe",
        "evil.exe.",
        "evil.exe ",
        "evil.exe\u00a0. ",
        "evil.exe\0",
        "evil.exe\n",
        "evil.exe\u202e",
        "evil\uff0eexe",
        "evil.\uff45\uff58\uff45",
        "a/../evil.exe",
        "x" * 300 + ".exe.",
    ],
)
def test_blocked_types_stay_blocked(desk: Desk, name: str) -> None:
    """A hard-blocked type is refused in any case of letters, even when confirmed."""
    answer = desk.get(desk.attach(name, b"x"), intent="review_ok")
    assert (answer.status_code, answer.json()["error"]) == (403, "attachment_blocked")


def test_limit_is_inclusive(open_desk: OpenDesk) -> None:
    """A file of exactly the limit is served, one byte more is refused with its size."""
    assert EndpointSettings().max_download == 26_214_400
    with open_desk(max_download=100_000) as desk:
        assert desk.get(desk.attach("a.zip", bytes(100_000))).status_code == 200
        answer = desk.get(desk.attach("b.zip", bytes(100_001)))
    assert answer.status_code == 413
    assert answer.json()["error"] == "attachment_too_large"
    assert answer.json()["data"] == {"file_size": 100_001, "ranged": True}


def test_deleted_files_are_hidden_unless_wanted(open_desk: OpenDesk) -> None:
    """What the source has dropped is served only where the operator says so."""
    for wanted, status in ((False, 404), (True, 200)):
        with open_desk(serve_deleted=wanted) as desk:
            attachment = desk.attach(f"{wanted}.txt", b"x", ticket=5 + wanted)
            with desk.archive.ledger.atomic():
                desk.archive.ledger.mark_deleted(attachment, "gone from the source")
            answer = desk.get(attachment, ticket=5 + wanted)
            assert answer.status_code == status
            assert wanted or "no such attachment" in answer.json()["message"], "no talk of damage"


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED, State.MISSING, State.GONE])
def test_what_is_not_held_is_not_found(desk: Desk, state: State) -> None:
    """Attachments without bytes answer as files that are missing in the store."""
    answer = desk.get(desk.attach("a.txt", None, state=state))
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_refusals_are_ascii_json_with_all_parts(desk: Desk) -> None:
    """A refusal has ok, error and message, and is JSON on the wire."""
    answer = desk.get("1", ticket="nope")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert list(json.loads(answer.content)) == ["ok", "error", "message"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG])
@pytest.mark.parametrize("call", ["open", "pread"])
def test_a_file_that_cannot_be_read_is_missing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    """Another owner's file or a disk error: 404 as for a lost one, never 500."""
    attachment = desk.attach("a.txt", f"text {code} {call}".encode())
    real = getattr(os, call)

    def refuse(first: object, *rest: object, **more: object) -> object:
        if call == "pread" or "/blobs/" in str(first):
            raise OSError(code, os.strerror(code))
        return real(first, *rest, **more)

    with monkeypatch.context() as broken:
        broken.setattr(os, call, refuse)
        answer = desk.get(str(attachment))
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"] == "not_found"
    assert desk.get(str(attachment)).status_code == 200
