"""What a sample allows to say of the whole."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.pull.audit import percent, upper_bound


@pytest.mark.parametrize(
    ("found", "asked", "bound"),
    # Of published tables
    [
        (0, 400, 0.0074614),
        (0, 59, 0.0495077),
        (1, 10, 0.3941633),
        (3, 400, 0.0192692),
        (5, 20, 0.4555824),
    ],
)
def test_the_bound_is_that_of_the_tables(found: int, asked: int, bound: float) -> None:
    """Clopper and Pearson, one-sided, at 95 %."""
    assert upper_bound(found, asked) == pytest.approx(bound, abs=1e-6)


def test_nothing_can_be_said_of_nothing_or_of_all() -> None:
    """Without one that agreed there is no bound but everything."""
    assert upper_bound(0, 0) == upper_bound(7, 7) == 1.0


@settings(deadline=None, max_examples=60)
@given(asked=st.integers(1, 300), data=st.data())
def test_the_bound_leaves_exactly_the_doubt(asked: int, data: st.DataObject) -> None:
    """With the bound as the truth, so few are found with a probability of 5 %."""
    found = data.draw(st.integers(0, asked - 1))
    bound = upper_bound(found, asked)
    at_most = sum(
        math.comb(asked, k) * bound**k * (1 - bound) ** (asked - k) for k in range(found + 1)
    )
    assert found / asked < bound < 1
    assert at_most == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.00746, "0.75 %"),
        (0.0074001, "0.75 %"),
        (0.05, "5 %"),
        (0.011804, "1.2 %"),
        (0.999, "100 %"),
        (0.4555, "46 %"),
        (0.0000149, "0.0015 %"),
    ],
)
def test_percentages_are_rounded_up(share: float, text: str) -> None:
    """Fewer than what is said is never less than what was computed."""
    assert percent(share) == text


@given(st.floats(1e-9, 1))
def test_what_is_said_is_never_too_little(share: float) -> None:
    """Two digits cost at most a tenth."""
    said = float(percent(share).split()[0]) / 100
    assert share * (1 - 1e-6) <= said <= share * 1.11
