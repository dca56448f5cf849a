"""A real object store on loopback: SeaweedFS, from the extra ``[s3-test]``."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BUCKET = "archives"


class ObjectStore:
    """One server over ``folder``, with a bucket, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._choose_ports()
        self._was_up = False
        self._process: subprocess.Popen[bytes] | None = None

    def _choose_ports(self) -> None:
        self._ports = [_free() for _ in range(4)]
        self.url = f"http://127.0.0.1:{self._ports[3]}"

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises FileNotFoundError where it is not installed, TimeoutError after a minute.
        """
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if weed is None:
            raise FileNotFoundError("SeaweedFS is not installed: it comes with '.[s3-test]'")
        for _ in range(3):
            self._launch(weed)
            until = time.monotonic() + 20
            while time.monotonic() < until:
                if self._has_bucket():
                    self._was_up = True
                    return
                time.sleep(0.2)
            self.kill()
            if not self._was_up:  # somebody may have taken a port meanwhile
                self._choose_ports()
        raise TimeoutError("SeaweedFS did not start within a minute")

    def _launch(self, weed: str) -> None:
        master, volume, filer, s3 = self._ports
        self._process = subprocess.Popen(  # noqa: S603 - nobody's text is in it
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

    def kill(self) -> None:
        """Kill it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _has_bucket(self) -> bool:
        request = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 409  # it was there
        except OSError:
            return False


def _free() -> int:
    # weed takes the port plus 10,000 as well, for gRPC.
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = int(one.getsockname()[1])
        if port < 55_000:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 10_000)):
                return port
