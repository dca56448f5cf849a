"""Names and ids that people type, against any names there are."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import ConfigError
from migrator.text import find_id

NAMES = st.one_of(st.text(max_size=6), st.sampled_from(["Support", "support\u3000", "3", "#3"]))
KNOWN = st.lists(st.tuples(st.integers(0, 12), NAMES), max_size=8)


@given(KNOWN)
def test_each_can_be_chosen_and_none_is_guessed(known: list[tuple[int, str]]) -> None:
    """``#`` and an id always finds that one; a name that two have is refused with their ids."""
    for key, title in known:
        assert find_id("queue", f"#{key}", known) == key
        others = {other for other, name in known if name == title}
        if len(others) > 1 and "#" not in unicodedata.normalize("NFKC", title):
            with pytest.raises(ConfigError, match="more than one"):
                find_id("queue", title, known)
