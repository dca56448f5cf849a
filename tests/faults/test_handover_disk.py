"""A handover to a disk that is really full, on another file system than the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.selftest.rig import Skipped, small_disk
from tests.faults.conftest import Inline, MakeRig

pytestmark = pytest.mark.slow


def test_a_handover_to_a_full_disk_goes_on_with_more_room(
    rig: MakeRig, inline: Inline, tmp_path: Path
) -> None:
    """Exit 7 names the handover and what to do; with room the same command ends, with copies."""
    rig(tickets=20)
    inline(0, "run")
    target = tmp_path / "disk"
    try:
        with small_disk(target, "300k") as resize:
            ended = inline(7, "handover", "--tree", str(target / "out"))
            assert f"The handover '{target}/out' cannot be written: the disk is full" in ended.err
            assert not (target / "out" / "SHA256SUMS").exists()
            resize("50m")
            inline(0, "handover", "--tree", str(target / "out"))
            inline(0, "handover", "--check", str(target / "out"))
    except Skipped as reason:
        pytest.skip(str(reason))
