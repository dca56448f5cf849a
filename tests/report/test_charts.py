"""The geometry of the charts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.report import charts

COUNTED = charts.Measure("attachments", "count", charts.plainly)
BYTES = charts.Measure("bytes", "bytes", charts.plainly)
AMOUNTS = st.lists(st.integers(0, 10**15), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(AMOUNTS)
def test_a_balance_is_whole(amounts: list[int]) -> None:
    """Its parts fill the bar side by side; what is something is seen, what is nothing is not."""
    made = charts.balance("t", [("p", "stored", n) for n in amounts], "all")
    assert len(made.parts) == sum(n > 0 for n in amounts)
    assert all(part.width >= charts.LEAST - 0.001 for part in made.parts)
    assert sum(part.width for part in made.parts) == pytest.approx(
        100 if any(amounts) else 0, abs=0.02
    )
    for one, other in pairwise(made.parts):
        assert one.x + one.width == pytest.approx(other.x, abs=0.01)


def test_small_parts_of_a_balance_are_told_to_be_wider() -> None:
    """Two failures in a million are drawn, and the picture says that it exaggerates them."""
    made = charts.balance("t", [("kept", "stored", 999_998), ("lost", "failed", 2)], "All")
    assert made.widened
    assert made.parts[1].width == charts.LEAST
    assert made.description == "All: kept 999,998 (> 99.9 %), lost 2 (< 0.1 %)."
    assert not charts.balance("t", [("a", "stored", 1), ("b", "failed", 1)], "All").widened
    assert charts.balance("t", [], "All").description == "All: none."


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)), max_size=20))
def test_bars_are_to_one_scale(amounts: list[tuple[int, int]]) -> None:
    """The widest bar fills the picture, none is wider, and only nothing has no bar."""
    wholes = (sum(n for n, _ in amounts), sum(size for _, size in amounts))
    rows = [(str(i), one) for i, one in enumerate(amounts)]
    made = charts.bars("t", rows, (COUNTED, BYTES), wholes)
    for bar, row in zip(made.bars, amounts, strict=True):
        assert [share > 0 for share in bar.shares] == [n > 0 for n in row]
    widths = [share for bar in made.bars for share in bar.shares]
    assert max(widths, default=0) == (100 if any(map(any, amounts)) else 0)
    assert made.height == made.step * len(amounts)


def test_bars_tell_what_they_show() -> None:
    """The description says the shares of the first bars and how many more there are."""
    rows = [(f"row {n}", (1,)) for n in range(8)]
    made = charts.bars("t", rows, (COUNTED,), (8,), ["gone"] * 8)
    assert made.description.startswith("row 0: 12.5 % of attachments; row 1: ")
    assert made.description.endswith("; and 2 more in the table.")
    assert {bar.tones for bar in made.bars} == {("gone",)}
    assert charts.bars("t", [], (COUNTED,), (0,)).description == "Nothing to show."
    assert charts.bars("t", [("a", (0,))], (COUNTED,), (0,)).description == (
        "a: 0 % of attachments."
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**15)), min_size=1, max_size=130))
def test_columns_stay_in_their_panel(rows: list[tuple[int]]) -> None:
    """No column leaves its panel, none touches another, and only nothing has no column."""
    made = charts.columns("t", [str(n) for n in range(len(rows))], rows, (COUNTED,), "each")
    (panel,) = made.panels
    assert len(panel.columns) == sum(n > 0 for (n,) in rows)
    for column in panel.columns:
        assert column.y >= panel.top - 0.01
        assert column.y + column.height == pytest.approx(panel.base, abs=0.02)
        assert 0 <= column.x <= column.x + column.width <= 100.01
    for one, other in pairwise(panel.columns):
        assert one.x + one.width <= other.x + 0.01
    assert all(0 <= tick.x <= 100 for tick in made.ticks)


@pytest.mark.parametrize(("labels", "shown"), [(3, 3), (18, 6), (120, 7)])
def test_labels_of_columns_fit_a_phone(labels: int, shown: int) -> None:
    """As many labels as have room, evenly spread; the outermost do not hang over the edge."""
    names = [str(2000 + n) for n in range(labels)]
    made = charts.columns("t", names, [(1, 2)] * labels, (COUNTED, BYTES), "a year")
    assert len(made.ticks) == shown
    assert made.ticks[0].anchor == ("start" if labels > 10 else "middle")
    assert len(made.panels) == 2
    assert made.height > made.panels[1].base > made.panels[0].base


def test_columns_tell_what_they_show() -> None:
    """The description names the span, the highest column and the sum."""
    made = charts.columns("t", ["2012", "2013"], [(3, 0), (5, 0)], (COUNTED, BYTES), "a year")
    assert made.description == (
        "From 2012 to 2013. Attachments a year: at most 5 (2013), 8 in all. "
        "Bytes a year: at most 0, 0 in all."
    )


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 10**6, "< 0.1 %"),
        (10**6 - 1, 10**6, "> 99.9 %"),
        (991, 1000, "99.1 %"),
        (1, 3, "33.3 %"),
        (999, 10_000, "10.0 %"),
        (1, 20, "5.0 %"),
    ],
)
def test_shares_for_people(part: int, whole: int, told: str) -> None:
    """Something is never 0 %, and not all is never 100 %."""
    assert charts.percent(part, whole) == told
