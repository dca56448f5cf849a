"""A disk that is full, read-only or gone in mid-run: exit 7, and nothing stored is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from migrator.selftest.rig import Ended, Rig, Skipped, small_disk
from tests.faults.conftest import Inline, MakeRig, stored

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
Disk = tuple[Path, Callable[[str], None]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a file system of six megabytes, where we may; gives it and what resizes it."""
    with ExitStack() as stack:
        try:
            resize = stack.enter_context(small_disk(tmp_path / "disk", "6m"))
        except Skipped as reason:
            pytest.skip(str(reason))
        yield tmp_path / "disk", resize


def interfered(rig: Rig, fetches: int, interfere: Callable[[], object]) -> Ended:
    """Run and do something as soon as that many attachments were asked for."""
    with rig.start("run") as child:
        assert child.wait_until(lambda: len(rig.fetches()) >= fetches), child.wait().err
        interfere()
        return child.wait()


def test_a_full_disk_stops_the_run_and_room_completes_it(
    rig: MakeRig, inline: Inline, disk: Disk
) -> None:
    """Exit 7 and the reason; what was stored is whole, and no request for it is repeated."""
    place, resize = disk
    one = rig(archive=place / "archive", tickets=12, big=(MEBIBYTE,) * 10)
    assert "full" in one.expect(7, "run").err
    # Monitoring learns what is there even when not one byte more can be written.
    told = json.loads(inline(0, "status", "--json").out)["states"]["stored"]["n"]
    resize("64m")
    before, asked = stored(one), one.fetches().copy()
    assert len(before) == told >= 3
    inline(0, "verify")
    inline(0, "run")
    one.expect_truth()
    assert {key: one.fetches()[key] for key in before} == {key: asked[key] for key in before}
    assert before.items() <= stored(one).items()


def test_a_read_only_disk_is_told_before_anything_is_asked(
    rig: MakeRig, inline: Inline, disk: Disk
) -> None:
    """Exit 7 from every command that writes; writable again, all is there."""
    place, _ = disk
    one = rig(archive=place / "archive", tickets=4)
    inline(0, "run")
    before, requests = one.rows(), len(one.server.requests)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    for command in ("run", "sync"):
        assert "read-only" in inline(7, command).err
    inline(7, "verify")
    assert len(one.server.requests) == requests, "the source was asked in vain"
    assert "Ready" not in inline(7, "doctor").out
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    inline(0, "verify")
    assert one.rows() == before


@pytest.fixture
def freeze() -> Iterator[Callable[[Path], None]]:
    """Make directories immutable, even for root; released at the end."""
    frozen: list[Path] = []

    def immutable(path: Path) -> None:
        subprocess.run(["chattr", "+i", str(path)], check=True, capture_output=True)
        frozen.append(path)

    yield immutable
    for path in frozen:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_permissions_lost_in_mid_run(
    rig: MakeRig, inline: Inline, freeze: Callable[[Path], None], tmp_path: Path
) -> None:
    """The next file cannot be begun: exit 7; with permissions back the run completes."""
    probe = tmp_path / "probe"
    probe.mkdir()
    try:
        freeze(probe)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("directories cannot be made immutable here (needs root, chattr and ext4)")
    one = rig(tickets=30, latency=0.02)
    temporary = one.archive / "blobs" / "tmp"
    ended = interfered(one, 5, lambda: freeze(temporary))
    assert ended.code == 7, ended.err
    assert "permi" in ended.err
    subprocess.run(["chattr", "-i", str(temporary)], check=True)
    before = stored(one)
    assert before
    inline(0, "verify")
    inline(0, "run")
    one.expect_truth()
    assert before.items() <= stored(one).items()
    assert all(one.fetches()[key] == 1 for key in before)


@pytest.mark.parametrize("reachable", [True, False])
def test_an_archive_of_somebody_else(rig: MakeRig, inline: Inline, reachable: bool) -> None:
    """Another user can neither write it nor even reach it: exit 7 with what to do."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        archive = place / "archive" if reachable else place / "private" / "archive"
        archive.mkdir(mode=0o700, parents=True)
        archive.parent.chmod(0o755 if reachable else 0o700)
        one = rig(archive=archive, tickets=2)
        inline(0, "run")
        config = place / "config.toml"
        config.write_text((one.folder / "config.toml").read_text())
        os.setegid(65534)
        os.seteuid(65534)
        try:
            told = inline(7, "-c", str(config), "run").err
            assert "cannot be read: permission" in inline(7, "-c", str(config), "status").err
            inline(7, "-c", str(config), "doctor")
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert "permission denied: run as the owner" in told
        inline(0, "verify")


def test_the_archive_vanishes_in_mid_run(rig: MakeRig, inline: Inline, tmp_path: Path) -> None:
    """Exit 7; it is not made anew in the wrong place, and back again it is gone on with."""
    one = rig(tickets=30, latency=0.02)
    elsewhere = tmp_path / "unplugged"
    ended = interfered(one, 5, lambda: one.archive.rename(elsewhere))
    assert ended.code == 7, ended.err
    assert "cannot be written" in ended.err
    assert not one.archive.exists()
    elsewhere.rename(one.archive)
    before = stored(one)
    inline(0, "verify")
    inline(0, "run")
    one.expect_truth()
    assert before.items() <= stored(one).items()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that can be unplugged")
def test_a_disk_that_is_gone_says_where_it_was(rig: MakeRig, inline: Inline) -> None:
    """The archive's parent cannot be made either: exit 7, and the path is named."""
    rig(archive=Path("/proc/no-such-disk/archive"), tickets=1)
    assert "/proc/no-such-disk" in inline(7, "run").err
