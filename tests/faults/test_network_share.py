"""An archive on a network share, where SQLite cannot keep its promises: everybody is warned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.cli import disk, invoke
from tests.faults.conftest import MakeRig

pytestmark = pytest.mark.slow

Mounts = Callable[..., None]


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounts:
    """Pretend that these file systems, by mount point below the test's directory, are mounted."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "mounts"
    monkeypatch.setattr(disk, "MOUNTS", table)

    def mount(**kinds: str) -> None:
        lines = [f"share {tmp_path}/{place} {kind} rw 0 0\n" for place, kind in kinds.items()]
        table.write_text("".join(["/dev/sda1 / ext4 rw 0 0\n", *lines]))

    return mount


@pytest.mark.parametrize(
    "case", ["run nfs", "run nfs4", "run 9p", "sync cifs", "sync smb3", "sync fuse.sshfs"]
)
def test_a_pull_warns(
    rig: MakeRig, mounts: Mounts, capfd: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    """Every pull says so on stderr, names the kind and what to do, and works all the same."""
    command, kind = case.split()
    (tmp_path / "share").mkdir()
    mounts(share=kind)
    rig(archive=tmp_path / "share" / "archive", tickets=1)
    assert invoke([command]) == 0
    told = capfd.readouterr()
    assert f"Warning: {tmp_path}/share is on a network share ({kind})" in told.err
    assert "use a local disk" in told.err
    assert "network" not in told.out


def test_machines_are_warned_as_well(
    rig: MakeRig, mounts: Mounts, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With --log-format json the warning is an event."""
    (tmp_path / "share").mkdir()
    mounts(share="nfs4")
    rig(archive=tmp_path / "share" / "archive", tickets=1)
    assert invoke(["--log-format", "json", "run"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert any(one.get("level") == "warning" and "network" in one["text"] for one in events)


def test_the_doctor_warns(
    rig: MakeRig, mounts: Mounts, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is a warning: the doctor still finds that a run can start."""
    mounts(archive="cifs")
    (tmp_path / "archive").mkdir(0o700)
    rig(tickets=4)
    assert invoke(["doctor"]) == 0
    assert "warn  disk:" in capfd.readouterr().out


def test_the_nearest_mount_counts(
    rig: MakeRig, mounts: Mounts, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A local disk mounted inside a share is local, and so is a neighbour with a similar name."""
    (tmp_path / "share" / "disk").mkdir(parents=True)
    mounts(**{"share": "nfs4", "share/disk": "xfs", "share/dis": "cifs"})
    rig(archive=tmp_path / "share" / "disk" / "archive", tickets=1)
    assert invoke(["run"]) == 0
    assert "network" not in capfd.readouterr().err


def test_no_table_of_mounts_is_no_warning(
    rig: MakeRig, mounts: Mounts, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the system tells nothing of its mounts, nothing is made up."""
    rig(tickets=1)
    assert invoke(["run"]) == 0
    assert "network" not in capfd.readouterr().err
