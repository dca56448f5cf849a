"""What the commands that loop share."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ALLOCATE = """
import ctypes, os, sys, threading
from migrator.cli._drive import threads
from migrator.kayako.settings import KayakoSettings
from migrator.kayako.signing import Credentials

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have one heap")
@pytest.mark.parametrize(("how", "heaps"), [("apart", 3), ("shared", 1)])
def test_threads_share_one_heap(tmp_path: Path, how: str, heaps: int) -> None:
    """Threads that transfer keep no memory of their own, as they would if nobody said so."""
    told = tmp_path / "malloc.xml"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    subprocess.run([sys.executable, "-c", ALLOCATE, told, how], env=plain, check=True)
    assert told.read_text().count("<heap nr=") == heaps
