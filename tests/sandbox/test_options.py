"""Options refuse what cannot be built, and name every fault."""

from __future__ import annotations

import pytest

from migrator.sandbox import ALL, ALL_FAULTS, ATTACHMENT_FAULTS, GLOBAL_FAULTS, SandboxOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faults": frozenset({"rain", "all"})}, "unknown faults: rain"),
        ({"tickets": -1}, "negative"),
        ({"latency": -0.1}, "negative"),
        ({"big": (-5,)}, "negative"),
        ({"big": (5,), "tickets": 0}, "at least one ticket"),
    ],
)
def test_refused(options: dict[str, object], words: str) -> None:
    """A wrong option is told."""
    with pytest.raises(ValueError, match=words):
        SandboxOptions(**options)  # type: ignore[arg-type]


def test_all_stands_for_attachment_faults() -> None:
    """``all`` turns on every attachment fault and no global one."""
    options = SandboxOptions(faults=frozenset({ALL, "down"}))
    assert set(options.attachment_faults) == set(ATTACHMENT_FAULTS)


def test_every_fault_has_a_line() -> None:
    """Every switch is told in one line."""
    assert set(ALL_FAULTS) == set(ATTACHMENT_FAULTS) | set(GLOBAL_FAULTS)
    assert all(line and "\n" not in line for line in ALL_FAULTS.values())
