"""How to reach one Kayako Classic server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from migrator.kayako.signing import Credentials
from migrator.kayako.urls import UrlForm


@dataclass(frozen=True, slots=True)
class KayakoSettings:
    """Everything the source room needs to know about one server.

    ``url`` is the API URL as shown in Kayako's Admin CP (ends in ``/api/index.php``).
    ``timeout`` is the longest silence on a connection, in seconds: any call may first run the
    helpdesk's due scheduled tasks. ``concurrency`` bounds the requests in flight,
    ``requests_per_second`` their starts (0: no limit). ``attempts`` is how often one request is
    made before its failure counts. ``max_body`` bounds one reply, in bytes.
    ``patience`` is how long a server that went away is waited for, in seconds.
    """

    url: str
    credentials: Credentials
    url_form: UrlForm = UrlForm.QUERY
    ca_file: Path | None = None
    timeout: float = 60.0
    concurrency: int = 8
    requests_per_second: float = 0.0
    attempts: int = 4
    max_body: int = 1 << 30
    patience: float = 120.0
