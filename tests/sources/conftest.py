"""A certificate authority of our own, and a real archive for the listings."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest

from migrator.archive import Archive, open_archive

Certificate = tuple[Path, Path]


@pytest.fixture(scope="session")
def certify(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Certificate]:
    """Make certificates that sign themselves, with their keys."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    subject = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=help"

    def make(*, name: str = "IP:127.0.0.1", days: int = 2) -> Certificate:
        folder = tmp_path_factory.mktemp("tls")
        certificate, key, request = folder / "own.pem", folder / "own.key", folder / "own.csr"
        extra = folder / "extra"
        extra.write_text(f"basicConstraints=CA:true\nsubjectAltName={name}\n")
        ask = [*subject.split(), "-keyout", str(key), "-out", str(request)]
        sign = ["x509", "-req", "-in", str(request), "-signkey", str(key), "-days", str(days)]
        sign += ["-extfile", str(extra), "-out", str(certificate)]
        for command in (ask, sign):
            subprocess.run([openssl, *command], check=True, capture_output=True)
        return certificate, key

    return make


@pytest.fixture(scope="session")
def authority(certify: Callable[..., Certificate]) -> Certificate:
    """Make a certificate that is good here."""
    return certify()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Open an archive that a run may fill."""
    with open_archive(tmp_path / "archive", command="test") as opened:
        yield opened
