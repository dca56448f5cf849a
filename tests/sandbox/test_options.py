"""Options refuse what cannot be built, and name every fault."""

from __future__ import annotations

import pytest

from migrator.sandbox.kayako import (
    ALL,
    ALL_FAULTS,
    ATTACHMENT_FAULTS,
    FILE_FAULTS,
    GLOBAL_FAULTS,
    IN_ALL,
    KIND_FAULTS,
    TICKET_FAULTS,
    SandboxOptions,
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faults": frozenset({"rain", "all"})}, "unknown faults: rain"),
        ({"tickets": -1}, "negative"),
        ({"latency": -0.1}, "negative"),
        ({"big": (-5,)}, "negative"),
        ({"big": (5,), "tickets": 0}, "at least one ticket"),
        ({"departments": 3}, "at least 4 departments"),
        ({"users": 8}, "at least 9 users"),
        ({"links": -1}, "negative"),
    ],
)
def test_refused(options: dict[str, object], words: str) -> None:
    """A wrong option is told."""
    with pytest.raises(ValueError, match=words):
        SandboxOptions(**options)  # type: ignore[arg-type]


def test_all_stands_for_what_hits_single_things_and_more() -> None:
    """``all`` turns on every fault of files and tickets that is soon over, and some of the rest."""
    options = SandboxOptions(faults=frozenset({ALL, "down"}))
    assert options.chosen == IN_ALL | {"down"}
    assert options.attachment_faults == tuple(ATTACHMENT_FAULTS)
    assert options.ticket_faults == tuple(TICKET_FAULTS)
    for kind, faults in KIND_FAULTS.items():
        quick = tuple(name for name, fault in faults.items() if not fault.lasting)
        assert options.faults_of(kind) == quick
        assert len(quick) < len(faults)
    assert options.chosen & GLOBAL_FAULTS.keys() == {
        "down",
        "entity_notes",
        "half_departments",
        "half_guides",
        "half_names",
        "half_statuses",
        "noisy_errors",
        "page_namespace",
        "repeated_page",
        "wrong_count",
    }
    assert SandboxOptions().chosen == frozenset()


def test_every_fault_has_a_line() -> None:
    """Every switch is told in one line; ``all`` names none that is not there."""
    assert set(ALL_FAULTS) == {*FILE_FAULTS, *TICKET_FAULTS, *GLOBAL_FAULTS}
    assert len(ALL_FAULTS) == len(FILE_FAULTS) + len(TICKET_FAULTS) + len(GLOBAL_FAULTS)
    assert all(line and "\n" not in line for line in ALL_FAULTS.values())
    assert ALL_FAULTS.keys() > IN_ALL
