"""Every fault of the look-alike of Tickiti does what its line says, when it was asked for."""

from __future__ import annotations

import base64
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from migrator.sandbox.tickiti import ALL, FAULTS, HARMLESS, HARMLESS_FAULTS, IN_ALL, Faults
from tests.sandbox.tickiti_caller import AUTHOR, Caller, calling, taken

BROKEN = 0
"""The status where no whole answer came."""


def _status(caller: Caller, **params: Any) -> tuple[int, bool]:
    """Write a note to the first ticket; return the status, and whether the answer is JSON."""
    try:
        answer = caller.note(next(iter(caller.tickiti.tickets.values())), "k", **params)
    except httpx.TransportError:
        return BROKEN, False
    try:
        return answer.status_code, isinstance(answer.json(), dict)
    except ValueError:
        return answer.status_code, False


@pytest.mark.parametrize(
    ("fault", "status", "json", "written", "after"),
    [
        ("error_before", 500, False, 0, 1),
        ("gateway", 502, False, 0, 1),
        ("busy", 503, False, 0, 1),
        ("throttle", 429, True, 0, 1),
        ("throttle_date", 429, True, 0, 1),
        ("throttle_bare", 429, True, 0, 1),
        ("conflict", 409, True, 0, 1),
        ("key_busy", 409, True, 0, 1),
        ("cut_request", BROKEN, False, 0, 1),
        ("ok_false", 200, True, 0, 1),
        ("stored_error", 500, False, 0, 0),
        ("lost_answer", BROKEN, False, 1, 1),
        ("lost_answer_and_key", BROKEN, False, 1, 2),
        ("cut_answer", BROKEN, False, 1, 1),
        ("error_after", 500, True, 1, 1),
        ("error_after_and_key", 500, True, 1, 2),
        ("timeout_after", 504, False, 1, 1),
        ("not_json", 200, False, 1, 1),
        ("empty_answer", 200, False, 1, 1),
        ("warning_before", 200, False, 1, 1),
        ("no_ids", 200, True, 1, 1),
        ("written_twice", 200, True, 2, 2),
        ("deleted_between", 404, True, 0, 0),
        ("moved_between", 403, True, 0, 0),
        ("slow", 200, True, 1, 1),
    ],
)
def test_faults_of_writing(
    fault: str,
    status: int,
    json: bool,
    written: int,
    after: int,
) -> None:
    """What comes back, what is written then, and what after the same request again."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert _status(caller) == (status, json)
        assert len(caller.tickiti.responses(ticket)) == 1 + written
        _status(caller)
        assert len(caller.tickiti.responses(ticket)) == 1 + after
        assert caller.tickiti.faults.happened == [(fault, "tickets/respond")]


@pytest.mark.parametrize(
    "fault", ["error_before", "gateway", "cut_request", "lost_answer", "not_json", "no_ids"]
)
def test_the_same_faults_of_uploads(fault: str) -> None:
    """They hit uploads as well, and a second upload gets through."""
    with calling(f"{fault}:tickets/attachment-upload") as caller:
        try:
            answer = caller.upload("a.txt", b"a" * 300_000)
        except httpx.TransportError:
            pass
        else:
            assert answer.status_code != 200 or b"sha256" not in answer.content
        stored = fault in {"lost_answer", "not_json", "no_ids"}
        assert len(list(caller.tickiti.desk.folder.iterdir())) == stored
        assert caller.reference("a.txt", b"a" * 300_000)


def test_when_to_try_again() -> None:
    """In seconds, as a date, or not said."""
    with calling("throttle", clock=lambda: 1_800_000_000.0) as caller:
        assert caller.call("token").headers["Retry-After"] == "1"
        caller.tickiti.faults.add("throttle_date", "throttle_bare@2")
        moment = parsedate_to_datetime(caller.call("token").headers["Retry-After"])
        assert moment.timestamp() == 1_800_000_001
        assert "Retry-After" not in caller.call("token").headers


def test_an_answer_that_never_comes() -> None:
    """The note is written, the client waits in vain, and stopping waits for neither."""
    with calling("hangs") as caller:
        ticket = caller.tickiti.add_ticket("A")
        with pytest.raises(httpx.ReadTimeout):
            caller.post(
                "tickets/respond",
                json=caller.of_note(ticket),
                headers={"Idempotency-Key": "k"},
                timeout=0.2,
            )
        assert len(caller.tickiti.responses(ticket)) == 2


def test_keys_forgotten() -> None:
    """Before the second call, all keys are; so the same note is written again."""
    with calling("key_forgotten@2") as caller:
        ticket = caller.tickiti.add_ticket("A")
        for _ in range(2):
            assert _status(caller) == (200, True)
        assert len(caller.tickiti.responses(ticket)) == 3
        caller.tickiti.forget_keys()
        _status(caller)
        assert len(caller.tickiti.responses(ticket)) == 4


# Others who are faster


def test_somebody_else_writes_first() -> None:
    """A foreign response with a file stands before ours."""
    with calling("foreign_response") as caller:
        ticket = caller.tickiti.add_ticket("A")
        _status(caller)
        assert [one.foreign for one in caller.tickiti.responses(ticket)] == [False, True, False]
        assert [one.name for one in caller.tickiti.files(ticket)] == ["other.txt"]
        assert caller.tickiti.mails == []


def test_somebody_closes_the_ticket_first() -> None:
    """October leaves it closed; June reopens it with our note."""
    for generation, reopened in (("october", False), ("june", True)):
        with calling("closed_between", generation=generation) as caller:
            ticket = caller.tickiti.add_ticket("A")
            assert caller.note(ticket).json()["data"]["reopened"] is reopened
            assert ticket.status == ("open" if reopened else "closed")


def test_it_reopens_all_the_same() -> None:
    """Whatever was asked for, the ticket is open afterwards, and the answer says so."""
    with calling("reopened") as caller:
        ticket = caller.tickiti.add_ticket("A", status="closed")
        assert caller.note(ticket, keep_status=True).json()["data"]["reopened"] is True
        assert ticket.status == "open"


@pytest.mark.parametrize(
    ("fault", "ignored", "status", "files"),
    [
        ("params_ignored", ["keep_status", "attachments"], "open", 0),
        ("params_named", ["keep_status"], "closed", 1),
        ("files_dropped", [], "closed", 0),
    ],
)
def test_fields_ignored(fault: str, ignored: list[str], status: str, files: int) -> None:
    """Ignored and said so, said so though not ignored, and ignored without a word."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A", status="closed")
        sent = caller.reference("a.txt", b"abc")
        more: dict[str, Any] = {"keep_status": True, "is_internal": False, "attachments": [sent]}
        assert caller.note(ticket, **more).json()["data"]["ignored_params"] == ignored
        assert ticket.status == status
        assert len(caller.tickiti.files(ticket)) == files


def test_orphans_removed() -> None:
    """What waits for its response is gone when that comes; uploaded again, it stays."""
    with calling("orphans_removed") as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket, attachments=[caller.reference("a", b"a")]).status_code == 422
        assert caller.note(ticket, attachments=[caller.reference("a", b"a")]).status_code == 200


# Files


@pytest.mark.parametrize(
    ("fault", "same_name", "same_hash", "status", "same_bytes"),
    [
        ("name_kept", False, True, 200, True),
        ("damaged_file", True, True, 200, False),
        ("lost_file", True, True, 404, False),
        ("other_file", True, False, 200, False),
    ],
)
def test_files_kept_wrong(
    fault: str,
    same_name: bool,
    same_hash: bool,
    status: int,
    same_bytes: bool,
) -> None:
    """Under another name, with other bytes, without any, and as another file altogether."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A")
        sent = caller.reference("a.txt", b"abc")
        assert caller.note(ticket, attachments=[sent]).status_code == 200
        (file,) = caller.ok("tickets/show", ticket_id=1)["responses"][-1]["attachments"]
        assert (file["name"] == "a.txt") is same_name
        assert (file["sha256"] == sent["sha256"]) is same_hash
        for _ in range(2):
            read = caller.call("tickets/attachment", ticket_id=1, response_attachment_id=file["id"])
            assert read.status_code == status
            if status == 200:
                same = base64.b64decode(taken(read)["content_base64"]) == b"abc"
                assert same is same_bytes


@pytest.mark.parametrize("fault", ["wrong_bytes", "short_bytes"])
def test_files_read_back_wrong_once(fault: str) -> None:
    """The first time the bytes are others, the second time they are right."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A")
        caller.note(ticket, attachments=[caller.reference("a.txt", b"abc")])
        params = {"ticket_id": 1, "response_attachment_id": caller.tickiti.files(ticket)[0].id}
        read = [
            base64.b64decode(caller.ok("tickets/attachment", **params)["content_base64"]) == b"abc"
            for _ in range(2)
        ]
        assert read == [False, True]


@pytest.mark.parametrize(
    ("fault", "status"), [("type_refused", 403), ("type_invalid", 422), ("too_large", 413)]
)
def test_uploads_refused(fault: str, status: int) -> None:
    """The second file is refused with a reason, the others are taken."""
    with calling(f"{fault}@2") as caller:
        statuses = [caller.upload(f"{at}.txt", b"abc").status_code for at in range(3)]
        assert statuses == [200, status, 200]


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ("wrong_hash", "sha256"),
        ("wrong_size", "file_size"),
        ("name_changed", "name"),
        ("upload_short", "sha256"),
    ],
)
def test_uploads_answered_wrong(fault: str, key: str) -> None:
    """The answer differs from what was sent, once."""
    with calling(fault) as caller:
        wrong, right = caller.reference("a.txt", b"abcd"), caller.reference("a.txt", b"abcd")
        assert wrong[key] != right[key]


@pytest.mark.parametrize(
    ("fault", "size", "status"),
    [
        ("empty_refused", 0, 422),
        ("proxy_413", 1 << 20, 413),
        ("upload_limit", (2 << 20) + 1, 422),
        ("post_limit", 8 << 20, 422),
        ("post_limit_413", 8 << 20, 413),
        ("post_limit_200", 8 << 20, 200),
    ],
)
def test_limits_by_name(fault: str, size: int, status: int) -> None:
    """Each limit refuses in its own way, always, and takes smaller files."""
    with calling(fault) as caller:
        for _ in range(2):
            answer = caller.upload("a.txt", b"a" * size)
            assert answer.status_code == status
            assert b"sha256" not in answer.content
        assert caller.reference("a.txt", b"abc")


@pytest.mark.parametrize(
    ("fault", "more", "status"),
    [
        ("few_files", {"name": "a.txt", "count": 11}, 422),
        ("few_files", {"name": "a.txt", "count": 10}, 200),
        ("short_names", {"name": "a" * 256}, 422),
        ("short_names", {"name": "ü" * 255}, 200),
        ("short_texts", {"content": "x" * 65_536}, 500),
        ("short_texts", {"content": "x" * 65_535}, 200),
    ],
)
def test_notes_that_are_too_large(fault: str, more: dict[str, Any], status: int) -> None:
    """Too many files, too long a name or text: nothing is written, however often it is sent."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A")
        name, count = more.pop("name", "a.txt"), more.pop("count", 1)
        sent = caller.reference("a.txt", b"abc") | {"name": name}
        for _ in range(2):
            assert caller.note(ticket, attachments=[sent] * count, **more).status_code == status
        assert len(caller.tickiti.responses(ticket)) == 1 + (status == 200)


# Reads


@pytest.mark.parametrize(
    ("fault", "status"), [("error_read", 500), ("not_json_read", 200), ("cut_read", BROKEN)]
)
def test_faults_of_reading(fault: str, status: int) -> None:
    """Something else comes back, once."""
    with calling(fault) as caller:
        caller.tickiti.add_ticket("A")
        try:
            answer = caller.call("tickets/show", ticket_id=1)
            assert "html" in answer.headers["Content-Type"]
            assert answer.status_code == status
        except httpx.RemoteProtocolError:
            assert status == BROKEN
        assert caller.ok("tickets/show", ticket_id=1)


def test_a_stale_read() -> None:
    """The newest response is not there yet; the next time it is."""
    with calling("stale_read", "stale_read:tickets/responses/query") as caller:
        caller.note(caller.tickiti.add_ticket("A"))
        for path in ("tickets/show", "tickets/responses/query"):
            params = {} if "query" in path else {"ticket_id": 1}
            counts = [len(caller.ok(path, **params)["responses"]) for _ in range(2)]
            assert counts == [1, 2]


# Lasting ones


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [("token_revoked@2", [200, 401, 401]), ("ability_lost@2", [200, 403, 403])],
)
def test_tokens_that_are_lost_in_the_middle(fault: str, statuses: list[int]) -> None:
    """From the second write on, the token does not open any more."""
    with calling(fault) as caller:
        assert [caller.upload("a.txt", b"a").status_code for _ in range(3)] == statuses
        reads = caller.call("tickets/query").status_code
        assert reads == (401 if "revoked" in fault else 200)


@pytest.mark.parametrize(("fault", "status"), [("https_only", 301), ("https_keeps_verb", 308)])
def test_redirects_to_https(fault: str, status: int) -> None:
    """Every request is sent to the same path of https, and nothing is done."""
    with calling(fault) as caller:
        ticket = caller.tickiti.add_ticket("A")
        for _ in range(2):
            answer = caller.note(ticket)
            assert answer.status_code == status
            base = caller.tickiti.url.replace("http:", "https:")
            assert answer.headers["Location"] == f"{base}/api/v1/tickets/respond"
        assert len(caller.tickiti.responses(ticket)) == 1


def test_the_rest_of_the_lasting_ones() -> None:
    """Down, without hashes, and strict about authors."""
    with calling("down@2") as caller:
        assert [caller.call("token").status_code for _ in range(3)] == [200, 503, 503]
    with calling("no_hash") as caller:
        ticket = caller.tickiti.add_ticket("A")
        caller.note(ticket, attachments=[caller.reference("a.txt", b"abc")])
        (file,) = caller.ok("tickets/show", ticket_id=1)["responses"][-1]["attachments"]
        assert file == {"id": "1", "name": "a.txt", "is_inline": False}
    with calling("author_unknown") as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket).status_code == 422
        assert caller.note(ticket, from_email="ann@example.com").status_code == 200
    with calling("author_refused") as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.note(ticket).status_code == 403
        assert caller.note(ticket, from_email="system@tickiti.com").status_code == 200


def test_shapes_that_nobody_knows() -> None:
    """What the documentation leaves open may look otherwise."""
    faults = ("created_201", "plain_errors", "bare_rows", "token_by_family")
    with calling(*faults) as caller:
        ticket = caller.tickiti.add_ticket("A")
        assert caller.upload("a.txt", b"abc").status_code == 201
        assert caller.note(ticket).status_code == 201
        wrong = caller.call("tickets/show")
        assert (wrong.status_code, set(wrong.json())) == (422, {"message", "errors"})
        assert [one["number"] for one in caller.call("tickets/query").json()] == [ticket.number]
        abilities = {"mail": ["read"], "tickets": ["read", "write"]}
        assert caller.ok("token")["abilities"] == abilities


@pytest.mark.parametrize(
    ("fault", "why"), [("auto_response", "auto_response"), ("ai_answers", "ai_answer")]
)
def test_creations_that_mail(fault: str, why: str) -> None:
    """A ticket that is created not public mails its originator all the same."""
    with calling(fault) as caller:
        data = {"subject": "A", "content": "B"}
        caller.ok(
            *("tickets", "k"), originator_email_address="a@b.example", is_public=False, data=data
        )
        assert [(one.why, one.to) for one in caller.tickiti.mails] == [(why, "a@b.example")]


def test_notes_that_mail() -> None:
    """An internal response mails the staff who take part, and no customer."""
    with calling("notes_mail") as caller:
        ticket = caller.tickiti.add_ticket("A", assigned_to_email="tom.hale@example.com")
        caller.note(ticket)
        assert [one.to for one in caller.tickiti.mails] == ["tom.hale@example.com"]


# When they happen


def test_every_fault_has_a_line_and_a_test() -> None:
    """Each is told in one line, and named in this module."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    for name, fault in FAULTS.items():
        assert fault.summary, name
        assert "\n" not in fault.summary
        assert name == "slow_write" or f'"{name}' in text, name  # that one is tested with keys
    assert HARMLESS_FAULTS < IN_ALL < FAULTS.keys()


@pytest.mark.parametrize(
    ("spec", "hit"),
    [
        ("lost_answer", [1]),
        ("lost_answer@3", [3]),
        ("lost_answer@2-4", [2, 3, 4]),
        ("lost_answer@5-", [5, 6, 7, 8]),
        ("lost_answer:tickets/respond@2", [2]),
        ("lost_answer:tickets", []),
        ("lost_answer%0", []),
        ("lost_answer%100", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("ability_lost@7", [7, 8]),
        ("hangs@2-2", [2]),
    ],
)
def test_which_calls_are_hit(spec: str, hit: list[int]) -> None:
    """By number, from a number on, by chance, or for one path."""
    faults = Faults([spec])
    found = [at for at in range(1, 9) if faults.hitting("tickets/respond")]
    assert found == hit


def test_chance_has_a_seed() -> None:
    """The same seed hits the same calls, some and not all."""

    def hits(seed: int) -> list[int]:
        faults = Faults(["lost_answer%30"], seed)
        return [at for at in range(100) if faults.hitting("tickets/respond")]

    assert hits(1) == hits(1) != hits(2)
    assert 10 < len(hits(1)) < 50


@pytest.mark.parametrize(
    "spec", ["", "gremlins", "lost_answer@", "lost_answer@0", "lost_answer%x", "lost_answer@1@2"]
)
def test_unknown_faults(spec: str) -> None:
    """What is none is told."""
    with pytest.raises(ValueError, match="unknown fault"):
        Faults([spec])


@pytest.mark.parametrize(("word", "names"), [(ALL, IN_ALL), (HARMLESS, HARMLESS_FAULTS)])
def test_all_one_after_another(word: str, names: frozenset[str]) -> None:
    """Each hits one call of its path, with three calls between, and then no more."""
    faults = Faults([word])
    paths = {path for name in names for path in FAULTS[name].paths} | {"token"}
    hits = [len(faults.hitting("tickets/respond")) for _ in range(12)]
    assert hits == [0, 0, 0, 1] * 3
    for path in sorted(paths):
        for _ in range(300):
            faults.hitting(path)
    assert sorted(name for name, _ in faults.happened) == sorted(names)


def test_faults_by_the_local_address() -> None:
    """What is there is told as JSON; other faults can be switched on, and keys forgotten."""
    with calling("down") as caller:
        address = f"{caller.tickiti.url}/sandbox"
        wrong = caller.http.post(address, json={"faults": ["gremlins"]})
        assert (wrong.status_code, wrong.json()["message"]) == (422, "unknown fault: gremlins")
        assert caller.http.post(address, json={"faults": 5}).status_code == 422
        assert caller.http.post(address, json={"faults": []}).status_code == 200
        ticket = caller.tickiti.add_ticket("A")
        caller.note(ticket, "k", attachments=[caller.reference("a.txt", b"abc")])
        told = caller.http.post(address, json={"forget_keys": True}).json()
        assert told["mails"] == []
        responses = told["tickets"][str(ticket.number)]["responses"]
        assert [one["created_by_email"] for one in responses] == ["ann@example.com", AUTHOR]
        assert responses[1]["attachments"][0]["name"] == "a.txt"
        caller.note(ticket, "k", is_internal=False)
        assert [one["why"] for one in caller.http.get(address).json()["mails"]] == ["reply"]
        assert len(caller.tickiti.requests) == 3
