"""What the commands that loop or serve tell the allocator of memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import hostile

ALLOCATE = """
import ctypes, os, sys, threading
from migrator.cli.pulling import threads
from migrator.sources.kayako.signing import KayakoSettings
from migrator.sources.kayako.signing import Credentials

if sys.argv[2] == "shared":
    threads(KayakoSettings("http://x/", Credentials("key", "secret")))
libc, met = ctypes.CDLL(None), threading.Barrier(3)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
def allocate():
    libc.malloc(ctypes.c_size_t(1000))
    met.wait()
others = [threading.Thread(target=allocate) for _ in range(2)]
for one in others:
    one.start()
met.wait()
stream = ctypes.c_void_p(libc.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
"""


BLOCKS = """
import resource, sys
from migrator.cli.common import keep_blocks
from migrator.serve.bounds import BLOCK

if sys.argv[1] == "kept":
    keep_blocks()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def send():
    blocks = [b"x" * (BLOCK // 3 * 4) for _ in range(8)]
send()
before = faults()
for _ in range(100):
    send()
print((faults() - before) // 100)
"""

only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")


@pytest.mark.slow
@only_glibc
@pytest.mark.parametrize(("how", "heaps"), [("apart", 3), ("shared", 1)])
def test_threads_share_one_heap(tmp_path: Path, how: str, heaps: int) -> None:
    """Threads that transfer keep no memory of their own, as they would if nobody said so."""
    told = tmp_path / "malloc.xml"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    subprocess.run([sys.executable, "-c", ALLOCATE, told, how], env=plain, check=True)
    assert told.read_text().count("<heap nr=") == heaps


@pytest.mark.slow
@only_glibc
def test_blocks_of_downloads_keep_their_memory() -> None:
    """No block of a download has its pages mapped anew, as all would if nobody said so."""
    # What malloc does when it is not told depends on what was freed before, but for this.
    env = dict(os.environ, MALLOC_MMAP_THRESHOLD_="131072")
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", BLOCKS, how], env=env))
        for how in ("plain", "kept")
    }
    assert faults["plain"] > 100
    assert faults["kept"] < 5


MOST = 150
"""Megabytes of resident memory that a run may need."""
CHOSEN = [
    "list: gzip of 2 GB",
    "list: gzip twice",
    "contents: gzip of 2 GB",
    "error: gzip twice",
    "page: 300 MB",
    "list: attributes of one tag",
    "list: distinct tags",
    "list: a wide name of 11 MB",
    "thread: 11 MB of posts",
    "contents: distinct attributes",
    "head: many fields",
    "frame: trailers",
]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="of Linux alone")
@pytest.mark.parametrize("name", CHOSEN)
def test_a_run_is_small_whatever_the_helpdesk_sends(tmp_path: Path, name: str) -> None:
    """A reply of any size or shape costs itself: little memory, words, and no trace of a bug."""
    outcome = hostile.attack(hostile.BOMBS[name], tmp_path, attempts=1)
    assert outcome.peak < MOST
    assert outcome.code in {0, 3, 4}
    assert "Traceback" not in outcome.said
