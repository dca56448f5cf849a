"""Runs and syncs against a server that changes its mind, for some seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import Soak

pytestmark = pytest.mark.slow

SECONDS = 8.0
"""An hour is ``python -m tests.faults.soak 3600``."""


@pytest.mark.parametrize("seed", [1, 5, 7])
def test_the_ledger_stays_true(tmp_path: Path, seed: int) -> None:
    """Whatever the helpdesk does, nothing held is lost, foreign, or called complete too early."""
    seen = Soak(tmp_path, seed).go_on(SECONDS)
    assert any(key.startswith(("run", "sync")) for key in seen)
