"""Runs and syncs against a server that changes its mind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import Soak

pytestmark = pytest.mark.slow

ROUNDS = 20
"""An hour is ``python -m tests.faults.soak 3600``."""


@pytest.mark.parametrize("seed", [1, 5])
def test_the_ledger_stays_true(tmp_path: Path, seed: int) -> None:
    """Whatever the helpdesk does, nothing held is lost, foreign, or called complete too early."""
    seen = Soak(tmp_path, seed).go_on(range(ROUNDS))
    assert any(key.startswith(("run", "sync")) for key in seen)
