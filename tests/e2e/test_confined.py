"""Commands without rights, where only the archive's directory can be written: units, containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import MakeRig, rig
from tests.test_manual import ROOT

__all__ = ["rig"]

CONFINE = """
mount --make-rprivate /
mount --bind "$FOLDER" "$FOLDER"
mount -o remount,bind,ro /
for other in /dev/shm /tmp /var /run /home "$HOME"; do
    mountpoint -q "$other" && [ "$other" != / ] && mount -o remount,bind,ro "$other"
done
cd "$FOLDER"
if touch /var/outside /tmp/outside 2>/dev/null; then exit 99; fi
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
"""What ``ProtectSystem=strict`` and ``podman run --read-only --cap-drop all`` do."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root"),
]


def test_every_step_works_confined(rig: MakeRig) -> None:
    """From doctor to serve: nothing is written elsewhere, and no right is needed."""
    one = rig(tickets=12)
    folder = one.folder.resolve()
    (folder / "temporary").mkdir()
    env = {
        **os.environ,
        "FOLDER": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    env |= {"TMPDIR": str(folder / "temporary"), "HOME": "/nonexistent"}

    def confined(*words: str, until: str = "") -> str:
        argv = ["unshare", "-m", "sh", "-ec", CONFINE, "sh", sys.executable, "-P", "-m", "migrator"]
        process = subprocess.Popen(
            [*argv, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said = ""
        if until:
            assert process.stderr is not None
            while until not in said:
                said += (line := process.stderr.readline())
                assert line, said
            process.terminate()
        out, err = process.communicate()
        if err.startswith(("unshare:", "mount:")):
            pytest.skip("no mounts here")
        assert process.returncode == 0, said + out + err
        return out

    for words in (
        ["doctor"],
        ["run"],
        ["sync"],
        ["verify"],
        ["audit"],
        ["status", "--max-age", "1h"],
        ["report", "--format", "html", "--output", "report.html"],
        ["handover", "pack"],
        ["token", "create", "--name", "reader", "--ability", "tickets:read"],
    ):
        confined(*words)
    confined("serve", "--port", "0", "--audit-log", "audit.jsonl", until="Serving")
    confined("serve", "--port", "0", "--read-only", until="Serving")
    assert not list((folder / "temporary").iterdir())
    assert not Path("/var/outside").exists()
