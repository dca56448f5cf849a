"""Every file is at the target exactly once, byte for byte, and nobody got a mail."""

from __future__ import annotations

import pytest

from migrator.sandbox.tickiti import Tickiti
from tests.deliver.conftest import Office

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
