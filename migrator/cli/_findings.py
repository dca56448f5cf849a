"""What ``migrator doctor`` says: one line per check, and the exit code they add up to."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the doctor; ``exit_code`` is 0 for what does not stand in the way of a run."""

    mark: str
    text: str
    exit_code: int = 0


def ok(text: str) -> Finding:
    """Tell that something is as it should be."""
    return Finding("ok", text)


def warn(text: str) -> Finding:
    """Tell what works, but should be known."""
    return Finding("warn", text)


def fail(text: str, exit_code: int) -> Finding:
    """Tell what stands in the way of a run."""
    return Finding("FAIL", text, exit_code)
