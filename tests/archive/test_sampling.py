"""Samples of what is stored: each kind has its share, and a seed draws the same ones again."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import Archive, Department, Listed, Outcome, State, TicketRow
from migrator.archive.figures import Stratum, allocate

YEAR_2014 = 1_400_000_000
YEAR_2020 = 1_600_000_000


def fill(archive: Archive, kinds: list[tuple[int, int, int, int]]) -> None:
    """Store attachments: (department, created_at, size, how many); contents are not needed."""
    ledger = archive.ledger
    run = ledger.begin_run("run", source="https://help.example.com", scope={})
    number = 0
    with ledger.atomic():
        ledger.put_departments([Department(1, "Support")])
        for ticket, (department, created, size, many) in enumerate(kinds, 1):
            ids = range(number + 1, number + many + 1)
            listed = [Listed(n, ticket, 1, f"{n}.txt", "text/plain", size, created) for n in ids]
            ledger.record_ticket(run.id, TicketRow(ticket, department), listed)
            for n in ids:
                sha256 = f"{n:064x}"
                ledger.settle(Outcome(n, State.STORED, sha256=sha256, size=size, mime_type="a/b"))
            number += many


def test_each_stratum_has_its_share_and_at_least_one(archive: Archive) -> None:
    """The rare kinds are asked for as well; the sample is as large as it was said to be."""
    fill(
        archive, [(1, YEAR_2014, 5, 80), (1, YEAR_2020, 5, 16), (2, 0, 5, 3), (1, YEAR_2014, 0, 1)]
    )
    sample = archive.figures.plan_sample(20, seed=1)
    assert (sample.population, sample.strata, sample.size) == (100, 4, 20)
    assert sample.places == {
        Stratum(1, 2014, 1): 15,
        Stratum(1, 2020, 1): 3,
        Stratum(2, 0, 1): 1,
        Stratum(1, 2014, 0): 1,
    }
    drawn = list(archive.figures.draw_sample(sample))
    assert Counter(row.ticket_id for row in drawn) == {1: 15, 2: 3, 3: 1, 4: 1}
    assert [row.id for row in drawn] == sorted({row.id for row in drawn})
    assert all(row.sha256 for row in drawn)


def test_a_seed_draws_the_same_sample_and_another_one_does_not(archive: Archive) -> None:
    """Whoever doubts an audit can repeat it."""
    fill(archive, [(1, YEAR_2014, 5, 300)])
    figures = archive.figures

    def drawn(seed: int) -> list[int]:
        return [row.id for row in figures.draw_sample(figures.plan_sample(30, seed=seed))]

    assert drawn(7) == drawn(7) != drawn(8)


def test_every_attachment_can_be_drawn(archive: Archive) -> None:
    """No place in the ledger is out of reach of the dice, and none is favoured much."""
    fill(archive, [(1, YEAR_2014, 5, 10)])
    figures = archive.figures
    found = Counter(
        row.id
        for seed in range(300)
        for row in figures.draw_sample(figures.plan_sample(2, seed=seed))
    )
    assert set(found) == set(range(1, 11))
    assert max(found.values()) < 2.5 * min(found.values())


def test_shares_are_rounded_up_and_samples_never_larger_than_the_whole(archive: Archive) -> None:
    """2 % of a few is one; a million of a few are the few; nothing of nothing is nothing."""
    assert archive.figures.plan_sample(400, seed=1).size == 0
    few = archive.figures.plan_sample(Fraction(1, 50), seed=1)
    assert list(archive.figures.draw_sample(few)) == []
    fill(archive, [(1, YEAR_2014, 5, 10)])
    assert archive.figures.plan_sample(Fraction(1, 50), seed=1).size == 1
    assert archive.figures.plan_sample(Fraction(1), seed=1).size == 10
    assert archive.figures.plan_sample(10**15, seed=1).size == 10


def test_a_sample_is_worth_less_where_rare_kinds_crowd_the_others_out(archive: Archive) -> None:
    """A place for each kind costs the large kinds some: what follows must not claim their share."""
    rare = [(department, YEAR_2014, 5, 1) for department in range(3, 11)]
    fill(archive, [(1, YEAR_2014, 5, 270), (2, YEAR_2014, 5, 30), *rare])
    samples = [archive.figures.plan_sample(number, seed=1) for number in (308, 100, 10, 5)]
    assert [one.size for one in samples] == [308, 100, 10, 5]
    assert [one.worth for one in samples] == [308, 96, 1, 5]


def test_only_what_is_stored_is_drawn(archive: Archive) -> None:
    """What the source lost or deleted is no part of the sample."""
    fill(archive, [(1, YEAR_2014, 5, 3)])
    archive.ledger.mark_deleted(2, "no longer listed")
    sample = archive.figures.plan_sample(10, seed=1)
    assert [row.id for row in archive.figures.draw_sample(sample)] == [1, 3]


def test_a_ledger_that_changes_meanwhile_does_not_break_the_draw(archive: Archive) -> None:
    """A run at work may add kinds and take rows; what is drawn is still stored."""
    fill(archive, [(1, YEAR_2014, 5, 3)])
    sample = archive.figures.plan_sample(3, seed=1)
    archive.ledger.mark_deleted(1, "no longer listed")
    with archive.ledger.atomic():
        archive.ledger.record_ticket(1, TicketRow(9, 9), [Listed(9, 9, 1, "9", "", 5, YEAR_2020)])
        archive.ledger.settle(Outcome(9, State.STORED, sha256="9" * 64, size=5, mime_type="a/b"))
    assert [row.id for row in archive.figures.draw_sample(sample)] == [2, 3]


COUNTS = st.dictionaries(
    st.builds(Stratum, st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)),
    st.integers(1, 10_000),
    max_size=40,
)


@settings(deadline=None, max_examples=200)
@given(counts=COUNTS, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_places_add_up_and_fit(counts: dict[Stratum, int], share: float, seed: int) -> None:
    """All places are given, none beyond what a stratum has, near its share, at least one each."""
    counts = dict(sorted(counts.items()))
    total = sum(counts.values())
    number = int(total * share)
    places = allocate(counts, number, seed=seed)
    assert sum(places.values()) == number
    for key, place in places.items():
        assert 1 <= place <= counts[key]
        ideal = number * counts[key] / total
        assert place <= max(1, ideal + 1)
    if number >= len(counts):
        assert set(places) == set(counts)
