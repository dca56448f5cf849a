"""``migrator status`` on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.archive.records import Count, State
from migrator.cli import status_cmd
from migrator.cli.status_cmd import Terminal, dashboard

PLAIN = Terminal(80, colour=False, blocks=True)


def counts(**numbers: int) -> dict[State, Count]:
    return {
        state: Count(numbers.get(state.value, 0), numbers.get(state.value, 0)) for state in State
    }


def on_terminal(home: Path, **environment: str) -> str:
    """Run ``migrator status`` on a terminal of its own and give what it showed."""
    ours, theirs = pty.openpty()
    known = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "TERM"}}
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "wb", buffering=0) as out:
            status = subprocess.Popen(
                [sys.executable, "-m", "migrator", "status"],
                cwd=home,
                stdout=out,
                env=known | {"PYTHONIOENCODING": "utf-8"} | environment,
            )
        seen = b""
        try:
            while piece := screen.read(4096):
                seen += piece
        except OSError:  # Linux tells so that the other side is closed
            pass
        assert status.wait(60) == 0
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_a_terminal_gets_a_bar_in_colours(home: Path) -> None:
    """Where they are wanted: NO_COLOR and a dumb terminal get the same text without them."""
    coloured = on_terminal(home, TERM="xterm")
    assert "\x1b[32m█" in coloured
    for environment in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
        plain = on_terminal(home, **environment)
        assert "\x1b" not in plain
        assert plain == re.sub(r"\x1b\[\d+m", "", coloured)
    assert "█ stored              1         3 B    33.34 %" in plain
    assert "Not complete: 1 attachment is pending or failed." in plain


def test_an_encoding_without_blocks_gets_letters(home: Path) -> None:
    """What cannot be encoded is not written: every state has a letter, too."""
    plain = on_terminal(home, TERM="dumb", PYTHONIOENCODING="ascii")
    assert plain.isascii()
    assert "# stored" in plain
    assert "g gone" in plain


def test_an_unknown_encoding_gets_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody can say what the terminal knows."""

    class Odd:
        encoding = "klingon-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Odd())
    found = status_cmd.terminal()
    assert found is not None
    assert not found.blocks


@given(st.lists(st.integers(0, 10**7), min_size=6, max_size=6), st.integers(1, 300))
def test_the_bar_has_the_width_of_the_terminal(numbers: list[int], width: int) -> None:
    """It is never wider, and whatever there is at all is seen in it, if it is one of a million."""
    given_counts = counts(**dict(zip((state.value for state in State), numbers, strict=True)))
    bar, *rows = dashboard(given_counts, Terminal(width, colour=False, blocks=True))
    if not any(numbers):
        assert bar.split()[0] == "listed"
        return
    assert len(bar) == max(10, min(72, width - 2))
    for state, count in given_counts.items():
        assert (status_cmd._LOOKS[state][0] in bar) is bool(count.n)
    assert len(rows) == 7


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    """One file in a million that is missing is not 0 %, and the others are not 100 %."""
    lines = list(dashboard(counts(stored=10**6, gone=1), PLAIN))
    assert next(line for line in lines if "stored" in line).endswith(" > 99.99 %")
    assert next(line for line in lines if "gone" in line).endswith(" < 0.01 %")
    lines = list(dashboard(counts(stored=10**6), PLAIN))
    assert next(line for line in lines if "stored" in line).endswith(" 100 %")
    assert next(line for line in lines if "gone" in line).split() == ["gone", "0", "0", "B"]
