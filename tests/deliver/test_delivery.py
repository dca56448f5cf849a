"""Every file is at the target exactly once, byte for byte, and nobody got a mail."""

from __future__ import annotations

import pytest

from migrator.sandbox.tickiti import Tickiti
from tests.deliver.conftest import Office, Pauses

EVERY = pytest.mark.parametrize(
    "generation",
    [*(pytest.param(one, marks=pytest.mark.slow) for one in ("uploads", "july")), "october"],
)


@EVERY
def test_every_file_is_there_once_and_a_second_delivery_writes_nothing(
    office: Office, generation: str
) -> None:
    """Odd names, equal files, empty ones, and more than one note holds; no mail, no tag."""
    office.ticket(1, b"one", ("a b#c@d.txt", b"two"), ("same.txt", b"same"), ("same.txt", b"same"))
    office.ticket(2, b"", ("Übung (1).PDF", b"%PDF"), *(b"%d" % n for n in range(45)))
    office.ticket(3)
    office.open_there(Tickiti(generation=generation), 1, 2, 3)
    result = office.deliver()
    assert result.ended_by is None
    assert result.troubles == []
    assert office.there() == office.wanted()
    assert office.counts() == {"delivered": 51}
    assert (result.files["delivered"], result.notes) == (51, 4)
    assert (office.tickiti.mails, office.tickiti.tags) == ([], [])
    for number in office.numbers.values():
        _, *notes = office.tickiti.responses(int(number))
        assert all(one.is_internal and one.created_by_email for one in notes)
        assert office.tickiti.tickets[int(number)].status == "open"
    before = len(office.tickiti.requests)
    again = office.deliver()
    assert (again.files, again.ended_by) == ({}, None)
    assert len(office.tickiti.requests) - before <= 3
    assert office.there() == office.wanted()


def test_pauses_change_nothing(office: Office) -> None:
    """However often requests are held up, each file is there once, and nothing is a failure."""
    for number in range(1, 5):
        office.ticket(number, b"%d" % number, b"more of %d" % number)
    office.open_there(Tickiti(), 1, 2, 3, 4)
    pauses = office.halted = Pauses(office, lambda number: number % 3 == 0)
    result = office.deliver()
    assert pauses.held > 3
    assert (result.ended_by, result.troubles) == (None, [])
    assert office.there() == office.wanted()
    assert office.counts() == {"delivered": 8}


def test_a_ticket_that_was_closed_in_a_pause_stays_closed(office: Office) -> None:
    """What was read before a pause is read again before anything is written."""
    office.ticket(1, b"one")
    office.open_there(Tickiti(generation="july"), 1)
    there = office.tickiti.tickets[int(office.numbers[1])]

    def before(_number: int) -> bool:
        paths = [one.path for one in office.tickiti.requests if one.status == 200]
        if pausing := paths[-1:] == ["tickets/attachment-upload"]:
            there.status = "closed"
        return pausing

    office.halted = Pauses(office, before)
    result = office.deliver()
    assert there.status == "closed"
    assert result.ended_by is None
    assert "a note would reopen it" in result.troubles[0]
    assert len(office.tickiti.responses(there)) == 1
    there.status, office.halted = "open", None
    office.deliver()
    assert office.there() == office.wanted()
