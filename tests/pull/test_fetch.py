"""What it takes to believe the bytes of one attachment, and what is written down otherwise."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from migrator.archive import Archive, Outcome, State, Work
from migrator.errors import (
    ArchiveUnwritable,
    BadBase64,
    BadRequest,
    MemoryExhausted,
    NotFound,
    NotXml,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    TooLarge,
    Truncated,
    UnexpectedReply,
    WrongTicket,
)
from migrator.pull.fetch import Fetcher
from migrator.sources.base import Fetched, FetchSink, Ticket
from migrator.sources.kayako.source import KayakoSource
from tests.blobs.layout import bytes_of
from tests.pull.doubles import Desk, File, sent, temporary

S = TypeVar("S", bound=FetchSink)


@dataclass(frozen=True)
class Reply:
    """What the source answers to one fetch; ``data`` None is an empty ``<contents />``."""

    data: bytes | None
    declared: int
    notes: tuple[str, ...] = ()
    name_notes: tuple[str, ...] = ()
    name: str = "file.txt"


class Scripted(Desk):
    """Answers fetches one after the other as it was told."""

    def __init__(self, *answers: Reply | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.tickets_asked: list[int] = []

    async def fetch(
        self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
    ) -> Fetched[S]:
        self.tickets_asked.append(ticket_id)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        file = File(ticket_id, answer.data, answer.declared, answer.name)
        return sent(attachment_id, file, make_sink, answer.notes, answer.name_notes)


def tried(
    archive: Archive, source: Desk, *, declared: int = 5, problem: str | None = None
) -> Outcome:
    """Fetch attachment 7 of ticket 3, which its list said to have ``declared`` bytes."""
    work = Work(7, 3, declared, "file.txt", 0, problem)
    try:
        return asyncio.run(Fetcher(KayakoSource(source), archive.blobs, None)(work))
    finally:
        assert temporary(archive) == [], "a temporary file was left behind"


def held(archive: Archive, tried: Outcome) -> bytes:
    """Give the bytes that the archive holds for an outcome."""
    assert tried.sha256 is not None
    return bytes_of(archive, tried.sha256)


def test_bytes_of_the_declared_length_are_stored(archive: Archive) -> None:
    """Length right, hash taken, durable, type told from the bytes, nothing to remark."""
    result = tried(archive, Scripted(Reply(b"hello", 5)))
    outcome = result
    assert (outcome.state, outcome.problem, outcome.detail) == (State.STORED, None, None)
    assert outcome.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert (outcome.size, outcome.mime_type, outcome.attempts) == (5, "text/plain", 1)
    assert (result.received, result.deduped) == (5, False)
    assert held(archive, result) == b"hello"


def test_a_reply_that_contradicts_the_list_is_asked_for_again(archive: Archive) -> None:
    """List, reply and bytes are compared: the same contradiction twice is kept and told."""
    source = Scripted(*[Reply(b"hello", 5)] * 2)
    outcome = tried(archive, source, declared=99)
    assert (outcome.state, outcome.problem) == (State.STORED, "size_mismatch")
    assert outcome.detail == (
        "the list names 99 bytes, the reply 5, and 5 come, the same ones twice"
    )


def test_a_contradiction_that_passes_is_no_remark(archive: Archive) -> None:
    """The second reply agrees with the list: its bytes are stored, and nothing is odd."""
    source = Scripted(Reply(b"hi", 2), Reply(b"hello", 5))
    outcome = tried(archive, source)
    assert (outcome.state, outcome.problem, outcome.size) == (State.STORED, None, 5)


def test_a_size_that_could_not_be_read_contradicts_nothing(archive: Archive) -> None:
    """Neither an odd row of the list nor an odd one of the reply makes a wrong size."""
    outcome = tried(archive, Scripted(Reply(b"hello", 5)), declared=0, problem="odd_number")
    assert (outcome.state, outcome.problem, outcome.size) == (State.STORED, "odd_number", 5)
    odd = Reply(b"hello", 0, name_notes=("odd_number",))
    outcome = tried(archive, Scripted(odd))
    assert (outcome.state, outcome.problem, outcome.attempts) == (State.STORED, "odd_number", 1)


def test_a_reply_with_another_name_is_asked_for_again(archive: Archive) -> None:
    """A cache that sends another file of the same size is found out, or told."""
    stale = Reply(b"olden", 5, name="old.txt")
    outcome = tried(archive, Scripted(stale, Reply(b"hello", 5)))
    assert (outcome.state, outcome.problem) == (State.STORED, None)
    assert outcome.sha256 == hashlib.sha256(b"hello").hexdigest()
    outcome = tried(archive, Scripted(stale, stale))
    assert (outcome.state, outcome.problem) == (State.STORED, "other_reply")
    assert outcome.detail is not None
    assert "'file.txt'" in outcome.detail
    assert "'old.txt'" in outcome.detail


def test_the_same_bytes_again_are_told_as_deduped(archive: Archive) -> None:
    """The second attachment with these bytes costs no blob."""
    tried(archive, Scripted(Reply(b"hello", 5)))
    assert tried(archive, Scripted(Reply(b"hello", 5))).deduped


def test_the_same_wrong_length_twice_is_what_the_source_has(archive: Archive) -> None:
    """Old rows name wrong sizes: equal bytes twice are stored, with the remark."""
    result = tried(archive, Scripted(Reply(b"hell", 5), Reply(b"hell", 5)))
    outcome = result
    assert (outcome.state, outcome.problem) == (State.STORED, "size_mismatch")
    assert outcome.detail == (
        "the list names 5 bytes, the reply 5, and 4 come, the same ones twice"
    )
    assert (outcome.size, outcome.attempts, result.received) == (4, 2, 8)
    assert held(archive, result) == b"hell"


def test_bytes_where_none_were_declared_are_kept(archive: Archive) -> None:
    """A row of size 0 with contents is a wrong row, not an empty file."""
    outcome = tried(archive, Scripted(*[Reply(b"hell", 0)] * 2), declared=0)
    assert (outcome.state, outcome.problem, outcome.size) == (State.STORED, "size_mismatch", 4)


def test_a_bad_transfer_is_healed_by_the_second(archive: Archive) -> None:
    """The right length at last: stored without a remark, for these bytes came clean."""
    short = Reply(b"hel", 5, notes=("lenient_base64", "noise_around_xml"))
    result = tried(archive, Scripted(short, Reply(b"hello", 5)))
    outcome = result
    assert (outcome.state, outcome.problem, outcome.detail) == (State.STORED, None, None)
    assert (outcome.attempts, result.received) == (2, 8)
    assert held(archive, result) == b"hello"


@pytest.mark.parametrize("second", [Reply(b"he", 5), Reply(b"HELL", 5), Reply(None, 5)])
def test_two_different_wrong_replies_are_a_failure(archive: Archive, second: Reply) -> None:
    """Neither can be believed; the next run tries again."""
    outcome = tried(archive, Scripted(Reply(b"hell", 5), second))
    assert (outcome.state, outcome.problem) == (State.FAILED, "size_mismatch")
    assert outcome.detail is not None
    assert "different bytes" in outcome.detail
    assert (outcome.sha256, outcome.attempts) == (None, 2)
    assert list(archive.blobs.scan()) == []


def test_a_failing_second_look_leaves_the_row_to_the_next_run(archive: Archive) -> None:
    """What cannot be looked at twice is not stored on one wrong-sized reply."""
    outcome = tried(archive, Scripted(Reply(b"hell", 5), ServerFailed("HTTP 500")))
    assert (outcome.state, outcome.problem) == (State.FAILED, "server_error")
    assert list(archive.blobs.scan()) == []


def test_empty_contents_of_a_file_with_a_size_are_missing(archive: Archive) -> None:
    """The source has lost it, as it says twice: recorded, and never stored as zero bytes."""
    outcome = tried(archive, Scripted(Reply(None, 5), Reply(None, 5)))
    assert (outcome.state, outcome.problem) == (State.MISSING, "source_lost_file")
    assert outcome.attempts == 2
    assert outcome.detail == "Kayako lists 5 bytes but has lost the file: its reply is empty"
    assert list(archive.blobs.scan()) == []


@pytest.mark.parametrize("declared", [5, 0])
def test_what_the_source_says_of_a_lost_file_is_quoted(archive: Archive, declared: int) -> None:
    """A file in a cloud storage may come back: the sentence, and how to ask again."""
    sentence = 'Unable to locate remote file "attach_x". Please contact QuickSupport support.'

    class Remote(Scripted):
        async def fetch(
            self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
        ) -> Fetched[S]:
            found = await super().fetch(ticket_id, attachment_id, make_sink)
            return found._replace(contents=replace(found.contents, said=sentence))

    source = Remote(*[Reply(None, declared)] * 2)
    outcome = tried(archive, source, declared=declared)
    assert (outcome.state, outcome.problem) == (State.MISSING, "source_lost_file")
    assert sentence in (outcome.detail or "")
    assert "--recheck" in (outcome.detail or "")
    assert "has lost" not in (outcome.detail or "")
    assert list(archive.blobs.scan()) == []


def test_a_size_only_the_list_knew_is_missing_too(archive: Archive) -> None:
    """A reply that names no size does not turn a lost file into an empty one."""
    outcome = tried(archive, Scripted(Reply(None, 0), Reply(None, 0)), declared=5)
    assert outcome.state is State.MISSING


def test_a_file_that_was_away_for_a_moment_is_no_lost_one(archive: Archive) -> None:
    """One empty reply proves nothing: what the second one brings counts."""
    result = tried(archive, Scripted(Reply(None, 5), Reply(b"hello", 5)))
    assert (result.state, result.attempts) == (State.STORED, 2)
    assert held(archive, result) == b"hello"
    failed = tried(archive, Scripted(Reply(None, 5), ServerFailed("HTTP 500")))
    assert failed.state is State.FAILED
    odd = tried(archive, Scripted(Reply(None, 5), Reply(b"hell", 5), Reply(b"hell", 5)))
    assert (odd.state, odd.problem) == (State.STORED, "size_mismatch")


def test_an_empty_file_is_a_file(archive: Archive) -> None:
    """Size 0 and no contents: zero bytes are stored."""
    result = tried(archive, Scripted(Reply(None, 0)), declared=0)
    assert (result.state, result.size) == (State.STORED, 0)
    assert held(archive, result) == b""


# Remarks


@pytest.mark.parametrize(
    ("notes", "names", "listed", "problem"),
    [
        (("noise_around_xml",), (), None, "noise_around_xml"),
        (("noise_around_xml",), ("repaired_name",), None, "repaired_name"),
        (("noise_around_xml",), (), "repaired_name", "repaired_name"),
        (("noise_around_xml", "lenient_base64"), ("repaired_name",), None, "lenient_base64"),
        (("something_new",), (), None, None),
    ],
)
def test_the_most_serious_remark_names_the_problem(
    archive: Archive,
    notes: tuple[str, ...],
    names: tuple[str, ...],
    listed: str | None,
    problem: str | None,
) -> None:
    """One code beside the row; the sentence tells all that is known."""
    outcome = tried(archive, Scripted(Reply(b"hello", 5, notes, names)), problem=listed)
    assert (outcome.state, outcome.problem) == (State.STORED, problem)
    known = {*notes, *names, listed} & {"noise_around_xml", "repaired_name", "lenient_base64"}
    assert (outcome.detail or "").count(";") == max(0, len(known) - 1)


def test_a_wrong_size_is_more_serious_than_all_else(archive: Archive) -> None:
    """And its sentence does not claim elsewhere that the size is right."""
    odd = Reply(b"hell", 5, ("lenient_base64", "noise_around_xml"), ("repaired_name",))
    outcome = tried(archive, Scripted(odd, odd))
    assert outcome.problem == "size_mismatch"
    assert outcome.detail is not None
    assert "size is right" not in outcome.detail
    assert outcome.detail.startswith("the list names 5 bytes")


# Refusals


@pytest.mark.parametrize(
    "error",
    [
        ServerFailed("x"),
        SourceUnreachable("x"),
        Throttled("x", retry_after=1),
        Truncated("x"),
        NotXml("x"),
        BadBase64("x"),
        UnexpectedReply("x"),
        MemoryExhausted("x"),
        BadRequest("x"),
        TooLarge("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_attachment_is_written_down(archive: Archive, error: SourceError) -> None:
    """It fails with its own code, text and number of tries, and ends nothing else."""
    error.attempts = 4
    outcome = tried(archive, Scripted(error))
    assert (outcome.state, outcome.problem) == (State.FAILED, error.problem)
    assert (outcome.detail, outcome.attempts) == ("x", 4)


def test_an_attachment_the_source_denies_is_gone(archive: Archive) -> None:
    """A 404 of Kayako itself is an answer, not a failure."""
    outcome = tried(archive, Scripted(NotFound("Attachment not Found")))
    assert (outcome.state, outcome.problem) == (State.GONE, "not_found")


@pytest.mark.parametrize("first", [(), (Reply(b"hell", 5),)])
def test_a_source_that_refuses_us_ends_the_run(archive: Archive, first: tuple[Reply, ...]) -> None:
    """A revoked key is no verdict on an attachment."""
    with pytest.raises(SourceRefused):
        tried(archive, Scripted(*first, SourceRefused("FAILED TO AUTHENTICATE")))


# Merged tickets


class Moved(Scripted):
    """Has merged ticket 3 into ticket 9."""

    def __init__(self, *answers: Reply | Exception) -> None:
        super().__init__(WrongTicket("does not belong to the specified ticket"), *answers)
        self.open(9)
        self.merged[3] = 9


def test_an_attachment_of_a_merged_ticket_is_followed(archive: Archive) -> None:
    """It is stored, and belongs to the surviving ticket from now on."""
    source = Moved(Reply(b"hello", 5))
    outcome = tried(archive, source)
    assert source.tickets_asked == [3, 9]
    assert (outcome.state, outcome.ticket_id, outcome.problem) == (State.STORED, 9, None)


def test_a_merge_between_two_looks_is_followed_too(archive: Archive) -> None:
    """Also when the ticket moves after the first, wrong-sized reply."""
    source = Moved(Reply(b"hello", 5))
    source.answers.insert(0, Reply(b"hell", 5))
    outcome = tried(archive, source)
    assert (outcome.state, outcome.ticket_id) == (State.STORED, 9)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ServerFailed("x"), State.FAILED),
        (WrongTicket("merged again"), State.FAILED),
        (NotFound("x"), State.GONE),
    ],
)
def test_what_fails_after_a_merge_is_written_down(
    archive: Archive, error: SourceError, state: State
) -> None:
    """A second move or an error is left to the next run."""
    outcome = tried(archive, Moved(error))
    assert (outcome.state, outcome.problem) == (state, error.problem)


def test_a_refusal_after_a_merge_ends_the_run(archive: Archive) -> None:
    """Wherever it happens."""
    with pytest.raises(SourceRefused):
        tried(archive, Moved(SourceRefused("no")))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Ticket(3), "wrong_ticket"),
        (NotFound("Ticket not Found"), "wrong_ticket"),
        (ServerFailed("HTTP 500"), "server_error"),
    ],
)
def test_a_ticket_that_did_not_move_explains_nothing(
    archive: Archive, answer: Ticket | SourceError, problem: str
) -> None:
    """A wrong ticket without a merge is a failure to look at, not a loop."""

    class Confused(Scripted):
        async def ticket(self, ticket_id: int) -> Ticket:
            if isinstance(answer, Ticket):
                return answer
            raise answer

    outcome = tried(archive, Confused(WrongTicket("x")))
    assert (outcome.state, outcome.problem) == (State.FAILED, problem)


def test_a_refusal_while_a_merge_is_followed_ends_the_run(archive: Archive) -> None:
    """Also the question where the ticket went."""

    class Refusing(Scripted):
        async def ticket(self, ticket_id: int) -> Ticket:
            raise SourceRefused("no")

    with pytest.raises(SourceRefused):
        tried(archive, Refusing(WrongTicket("x")))


# Our own disk


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_full_disk_ends_the_run(
    archive: Archive, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no verdict on the attachment, and leaves no temporary file."""
    import os

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write" if step == "write" else "fsync", full)
    with pytest.raises(ArchiveUnwritable):
        tried(archive, Scripted(Reply(b"hello", 5)))
    monkeypatch.undo()
    assert list(archive.blobs.scan()) == []


def test_a_cancelled_fetch_leaves_nothing(archive: Archive) -> None:
    """Dropping a request in flight drops its temporary file."""

    class Hanging(Scripted):
        async def fetch(
            self, ticket_id: int, attachment_id: int, make_sink: Callable[[], S]
        ) -> Fetched[S]:
            if self.answers:
                return await super().fetch(ticket_id, attachment_id, make_sink)
            raise asyncio.CancelledError

    async def main() -> None:
        fetch = Fetcher(KayakoSource(Hanging(Reply(b"hell", 5))), archive.blobs, None)
        await fetch(Work(7, 3, 5, "name", 0))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert temporary(archive) == []
