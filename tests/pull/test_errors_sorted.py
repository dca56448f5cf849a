"""Every error is sorted: ask again later, never again, stop all. Here is what a run makes of each.

What "again later" means for a single request is told by the tests of the retries.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from migrator import errors
from migrator.archive import Archive
from migrator.errors import Again, MigratorError, SourceError
from migrator.sources.pace import worth_another
from tests.pull.doubles import Desk, problems, pull, states


class Fate(NamedTuple):
    """What becomes of an attachment and of a ticket's list that met an error, and of the run.

    None of a state stands for a run that was stopped: the row stays as it was.
    """

    again: Again
    fetched: str | None
    exit_code: int


LATER = Fate(Again.LATER, "failed", exit_code=3)
NEVER = Fate(Again.NEVER, "failed", exit_code=3)
FATES: dict[type[MigratorError], Fate] = {
    errors.SourceError: LATER,
    errors.SourceUnreachable: LATER,
    errors.ServerFailed: LATER,
    errors.Throttled: LATER,
    errors.Truncated: LATER,
    errors.NotXml: LATER,
    errors.BadBase64: LATER,
    errors.PartialReply: LATER,
    errors.UnexpectedReply: LATER,
    errors.MemoryExhausted: NEVER,
    errors.WrongTicket: NEVER,
    errors.BadRequest: NEVER,
    errors.TooLarge: NEVER,
    errors.Declined: NEVER,
    # An attachment is gone; a list that is not there of a ticket that still is, is missed.
    errors.NotFound: Fate(Again.NEVER, "gone", exit_code=3),
    errors.SourceDown: Fate(Again.STOP, None, exit_code=4),
    errors.SourceRefused: Fate(Again.STOP, None, exit_code=4),
    errors.MigratorError: Fate(Again.STOP, None, exit_code=1),
    errors.ConfigError: Fate(Again.STOP, None, exit_code=2),
    errors.OtherHelpdesk: Fate(Again.STOP, None, exit_code=2),
    errors.ArchiveError: Fate(Again.STOP, None, exit_code=6),
    errors.ArchiveBusy: Fate(Again.STOP, None, exit_code=5),
    errors.ArchiveMissing: Fate(Again.STOP, None, exit_code=2),
    errors.SqliteTooOld: Fate(Again.STOP, None, exit_code=2),
    errors.ArchiveTooNew: Fate(Again.STOP, None, exit_code=2),
    errors.ArchiveReplaced: Fate(Again.STOP, None, exit_code=6),
    errors.QueryStopped: Fate(Again.STOP, None, exit_code=5),
    errors.ArchiveDamaged: Fate(Again.STOP, None, exit_code=6),
    errors.ArchiveUnreachable: Fate(Again.STOP, None, exit_code=4),
    errors.ArchiveUnwritable: Fate(Again.STOP, None, exit_code=7),
    errors.SafetyLimit: Fate(Again.STOP, None, exit_code=8),
}
STOPS = errors.Interrupted
"""Not in the table: a stop that the user asked for, which no call raises by itself."""

CASES = pytest.mark.parametrize(
    ("kind", "fate"), FATES.items(), ids=[kind.__name__ for kind in FATES]
)


class Meeting(Desk):
    """Answers one call with an error, as often as it is made."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__(3)
        self.call = call
        self.error = error

    async def turn(self, call: str) -> None:
        await super().turn(call)
        if call == self.call:
            raise self.error


def test_every_error_has_its_fate() -> None:
    """A new class of errors must be sorted here, too."""
    known = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, MigratorError)
    }
    assert known == {*FATES, STOPS}


@CASES
def test_a_class_is_sorted_as_the_table_says(kind: type[MigratorError], fate: Fate) -> None:
    """Only what may pass is tried again, and only errors of the source may pass."""
    assert kind.again is fate.again
    assert worth_another(kind("no")) is (fate.again is Again.LATER)
    assert issubclass(kind, SourceError) or fate.again is Again.STOP


@CASES
def test_an_attachment_that_meets_an_error(
    archive: Archive, kind: type[MigratorError], fate: Fate
) -> None:
    """It is recorded and the others are stored; or the run stops and nothing is recorded."""
    result = pull(Meeting("fetch 2", kind("no")), archive, concurrency=1)
    assert result.exit_code == fate.exit_code
    if fate.fetched is None:
        assert type(result.ended_by) is kind
        assert states(archive)[2] == "pending"
    else:
        assert states(archive) == {1: "stored", 2: fate.fetched, 3: "stored"}
        assert problems(archive)[2] == kind.problem


@CASES
def test_a_list_that_meets_an_error(
    archive: Archive, kind: type[MigratorError], fate: Fate
) -> None:
    """The ticket is told as not listed and the others are; or the run stops."""
    result = pull(Meeting("list 2", kind("no")), archive, concurrency=1)
    if fate.fetched is None:
        assert (type(result.ended_by), result.exit_code) == (kind, fate.exit_code)
    else:
        assert states(archive) == {1: "stored", 3: "stored"}
        assert (2 in result.unlisted, result.ended_by) == (True, None)
        assert result.exit_code == 3


@pytest.mark.parametrize("call", ["departments", "statuses", "page 0+100"])
@CASES
def test_a_run_without_a_list_of_tickets_ends(
    archive: Archive, kind: type[MigratorError], fate: Fate, call: str
) -> None:
    """Whatever the error: without departments, statuses and pages there is nothing to go on with.

    Only a page may be asked for in smaller pieces, which serves us if those are fine.
    """
    del fate
    result = pull(Meeting(call, kind("no")), archive, concurrency=1)
    if result.ended_by is None:
        assert call.startswith("page")
        assert states(archive) == {1: "stored", 2: "stored", 3: "stored"}
    else:
        # Of half a list of departments or statuses no half is used.
        assert issubclass(kind, type(result.ended_by))
        assert result.exit_code == kind.exit_code
