"""The certificate of the endpoint."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from migrator.errors import ConfigError


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return what serves TLS 1.2 and newer with a certificate chain and its key, both PEM files.

    ``key`` None means that it is in the file of the certificate. Raises ConfigError for files
    that cannot be read, are something else, do not belong together, or have a password.
    """
    for file in (certificate, key or certificate):
        _readable(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key {key or certificate} does not belong to it"
        else:
            reason = (
                f"it or its key {key or certificate} is not what it should be. Both must be PEM "
                "files: the certificate first, then those of the authorities between"
            )
        raise ConfigError(f"The certificate {certificate} cannot be used: {reason}.") from error
    return context


def _readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"Cannot read {file} for TLS: {error.strerror}.") from error


def _no_password() -> NoReturn:
    # OpenSSL would ask on the terminal, which a service does not have.
    raise ConfigError("The key for TLS has a password. Take it off: openssl pkey -in KEY -out NEW")
