"""What every status and every failed connection means for a run, and the words for it."""

from __future__ import annotations

import asyncio
import errno
import http.server
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest

from migrator.errors import (
    BadRequest,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    UnexpectedReply,
)
from migrator.sources.kayako.outages import (
    FAILURES,
    STATUSES,
    Asked,
    Failure,
    Sense,
    failed,
    failure_of,
    meaning_of,
    ways_in,
)
from migrator.sources.kayako.replies import error_for, no_document
from migrator.sources.kayako.signing import Credentials, KayakoSettings
from migrator.sources.kayako.transport import Transport
from migrator.sources.pace import Pacer

URL = "https://help.example.com/api/index.php"
WHAT = "attachment 12 of ticket 3"
OTHERS = [status for status in range(100, 600) if status != 200]
PASSWORD = "pa55word-of-the-web-server"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the machine that runs the tests out of them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# Statuses


def test_every_status_and_every_failure_has_a_meaning() -> None:
    """Nothing that a server, a proxy or a network may do is left out of the tables."""
    assert set(STATUSES) == set(range(100, 600))
    assert set(FAILURES) == set(Failure)
    for meaning in (*STATUSES.values(), *FAILURES.values()):
        assert meaning.sense in Sense
        assert issubclass(meaning.kind, SourceError)
        assert meaning.says
        assert not meaning.says.endswith(".")
    for status in (0, 99, 600, 999):
        assert meaning_of(status).kind in {UnexpectedReply, ServerFailed}


@pytest.mark.parametrize("status", OTHERS)
def test_every_status_is_told_with_its_number(status: int) -> None:
    """The error of any status names it, is of the kind of its table, and may be a ban."""
    error = error_for(status, {}, b"some text", what=WHAT, asked=Asked(URL))
    assert WHAT in str(error) or status == 407
    assert f"HTTP {status}" in str(error)
    assert type(error) is STATUSES[status].kind
    assert error.shared


def test_every_dress_of_overload_lowers_the_pace() -> None:
    """429 and all that proxies, hosts and Cloudflare say instead; no other status does."""
    loads = {408, 420, 429, 430, 499, 502, 503, 504, 508, 509, *range(520, 531), 598, 599}
    found = {status for status in OTHERS if error_for(status, {}, b"x", what=WHAT).overload}
    assert found == loads


@pytest.mark.parametrize(
    "text",
    [
        b"SQLSTATE[42000] [1203] User helpdesk already has more than 'max_user_connections'",
        b"Warning: mysqli::connect(): (HY000/1040): Too many connections in /a.php on line 3",
        b"User 'x' has exceeded the 'max_questions' resource (current value: 1000)",
        b"<html><h1>508 Resource Limit Is Reached</h1></html>",
        b"<html>Bandwidth Limit Exceeded</html>",
        b"Too Many Requests",
        b"Rate limit reached, slow down",
        b"fork: Resource temporarily unavailable",
    ],
)
def test_words_of_overload_count_at_any_status(text: bytes) -> None:
    """PHP and hosts say at 200, 403 or 500 that they have too much to do: that is heard."""
    assert type(no_document(text, what=WHAT)) is Throttled
    for status in (403, 500):
        assert type(error_for(status, {}, text, what=WHAT)) is Throttled


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 508, 521])
def test_a_pause_is_heard_at_any_refusal(status: int) -> None:
    """Whoever sends Retry-After asks for a pause, whatever the status."""
    error = error_for(status, {"Retry-After": "70"}, b"", what=WHAT)
    assert isinstance(error, Throttled)
    assert error.retry_after == 70


def test_the_api_that_is_switched_off_may_be_a_ban() -> None:
    """A 403 without a text is what Kayako sends, and some firewalls: both are named."""
    said = str(error_for(403, {}, b"", what=WHAT))
    assert "REST API > Settings" in said
    assert "firewall" in said


@pytest.mark.parametrize(
    ("location", "target", "advice"),
    [
        ("", "nowhere", "ask the host"),
        ("/api/index.php?e=/x&apikey=k", URL, "the same address"),
        ("index.php", URL, "the same address"),
        ("?x", URL, "the same address"),
        (URL, URL, "the same address"),
        ("//new.example.com/api/index.php", "https://new.example.com/api/index.php", "into url"),
        ("/support/api/index.php", "https://help.example.com/support/api/index.php", "into url"),
        ("/staff/index.php?/Core/Login", "https://help.example.com/staff/index.php", "log-in"),
        ("../maintenance.html", "https://help.example.com/maintenance.html", "maintenance"),
        ("//login.example.com", "https://login.example.com", "log-in"),
        ("https://u:hidden@sso.example.com/a?b", "https://sso.example.com/a", "log-in"),
        ("http://[", "(an unreadable address)", "log-in"),
        ("\x1b[31m", "https://help.example.com/api/", "log-in"),
    ],
)
def test_a_redirect_is_resolved_and_told_truly(location: str, target: str, advice: str) -> None:
    """Relative, to itself, without a scheme or to another host: the whole address, and advice."""
    said = str(error_for(302, {"Location": location}, b"", what=WHAT, asked=Asked(URL)))
    assert f"redirects to {target}" in said
    assert advice in said
    assert "hidden" not in said
    assert said.isprintable()


def test_a_redirect_to_https_says_so() -> None:
    """The usual reason for a redirect is told as that."""
    asked, target = Asked("http://help.example.com/api/index.php"), "https://help.example.com/"
    error = error_for(301, {"Location": target}, b"", what=WHAT, asked=asked)
    assert "write https://" in str(error)


# Log-ins of the web server


@pytest.mark.parametrize(
    ("offered", "signed_in", "body", "says"),
    [
        ('Basic realm="a, b"', False, b"<h1>401</h1>", "KAYAKO_HTTP_PASSWORD"),
        ('Basic realm="x"', True, b"<h1>401</h1>", "does not accept kayako.http_user"),
        ('Digest realm="x", qop="auth", Basic realm="y"', False, b"", "set kayako.http_user"),
        ('Digest realm="x", qop="auth"', False, b"", "a log-in with Digest, which is not supp"),
        ("Negotiate, NTLM", False, b"", "a log-in with Negotiate, NTLM, which is not supported"),
        ("Bearer", True, b"", "a log-in with Bearer, which"),
        ("", False, b"", "Check api_key"),
        ("Basic", False, b"FAILED TO AUTHENTICATE: Get", "Check api_key"),
        ("Basic", False, b"NO SALT PROVIDED!", "The salt did not arrive"),
    ],
)
def test_who_asks_for_a_password(offered: str, signed_in: bool, body: bytes, says: str) -> None:
    """A 401 of the web server is told from Kayako's, with what to set, or that we cannot."""
    asked = Asked(URL, signed_in=signed_in)
    error = error_for(401, {"WWW-Authenticate": offered}, body, what=WHAT, asked=asked)
    assert type(error) is SourceRefused
    assert says in str(error)


def test_ways_to_log_in_are_bounded() -> None:
    """A header of the other side is no place for endless or unprintable text."""
    assert len(ways_in(",".join(f"Way{n}" for n in range(9999)))) == 4
    assert ways_in("A" * 99 + ', \x1b[31m, realm="x", =, ') == []
    assert ways_in('"' * 9999) == []


# Connections


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("proxy", ["", "http://user:hidden@proxy.example:3128"])
@pytest.mark.parametrize("url", [URL, "http://help.example.com/api/index.php"])
def test_every_failure_is_told_in_words(failure: Failure, proxy: str, url: str) -> None:
    """What happened, where, through which proxy; no name of a class, no password, no brace."""
    error = failed(failure, Asked(url, proxy), what=WHAT, waited=3, detail="why")
    said = str(error)
    assert type(error) is FAILURES[failure].kind
    assert not re.search(r"\b[A-Z][a-z]+[A-Z]\w*Error|\{|\}|hidden|None", said)
    if failure is not Failure.CUT:
        assert url in said
    if proxy and issubclass(type(error), SourceUnreachable):
        assert "http://proxy.example:3128" in said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_NONAME, ""), Failure.NO_HOST),
        (socket.gaierror(socket.EAI_NODATA, ""), Failure.NO_HOST),
        (socket.gaierror(socket.EAI_AGAIN, ""), Failure.NO_NAMES),
        (OSError(errno.ECONNREFUSED, ""), Failure.REFUSED),
        (OSError(errno.ENETUNREACH, ""), Failure.NO_ROUTE),
        (OSError(errno.EHOSTUNREACH, ""), Failure.NO_ROUTE),
        (OSError(errno.EPERM, ""), Failure.BLOCKED_HERE),
        (OSError(errno.EMFILE, ""), Failure.EXHAUSTED_HERE),
        (OSError(errno.EADDRNOTAVAIL, ""), Failure.EXHAUSTED_HERE),
        (OSError(errno.ECONNRESET, ""), Failure.RESET),
        (ConnectionResetError(), Failure.RESET),
        (OSError(errno.EPIPE, ""), Failure.RESET),
        (OSError(errno.ETIMEDOUT, ""), Failure.NO_CONNECTION),
        (OSError("no number"), None),
        (ValueError(), None),
    ],
)
def test_errors_of_the_system_are_known(error: Exception, expected: Failure | None) -> None:
    """Each number that connecting may end with has its own words."""
    assert failure_of(error) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (9, Failure.CERTIFICATE_TIME),
        (10, Failure.CERTIFICATE_TIME),
        (18, Failure.CERTIFICATE_SELF),
        (19, Failure.CERTIFICATE_SELF),
        (20, Failure.CERTIFICATE_ISSUER),
        (21, Failure.CERTIFICATE_ISSUER),
        (23, Failure.CERTIFICATE_REVOKED),
        (62, Failure.CERTIFICATE_NAME),
        (64, Failure.CERTIFICATE_NAME),
        (66, Failure.CERTIFICATE_WEAK),
        (68, Failure.CERTIFICATE_WEAK),
        (85, Failure.CERTIFICATE_FORM),
        (89, Failure.CERTIFICATE_FORM),
        (92, Failure.CERTIFICATE_FORM),
        (1, Failure.CERTIFICATE),
        (999, Failure.CERTIFICATE),
    ],
)
def test_faults_of_certificates_are_told_apart(code: int, expected: Failure) -> None:
    """Expired, of another host, self-signed, without its issuer, weak, against RFC 5280."""
    error = ssl.SSLCertVerificationError("no")
    error.verify_code = code
    assert failure_of(error) is expected


def test_a_client_certificate_that_is_wanted_is_told() -> None:
    """TLS 1.3 says so in an alert, which may arrive after the request was sent."""
    error = ssl.SSLError(1, "no")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert failure_of(error) is Failure.TLS_CLIENT


def get(url: str, **changes: Any) -> bytes:
    """Ask a server for the departments."""
    credentials = Credentials("the-api-key", "the-secret", **changes.pop("signed_in", {}))
    settings = KayakoSettings(url, credentials, **({"timeout": 5.0} | changes))

    async def main() -> bytes:
        transport = Transport(settings, Pacer(1))
        try:
            return await transport.get("/Base/Department", what=WHAT)
        finally:
            await transport.aclose()

    return asyncio.run(main())


def failing(url: str, **changes: Any) -> str:
    """Return what is told of a failure."""
    with pytest.raises(SourceError) as caught:
        get(url, **changes)
    return str(caught.value)


def api(port: int, scheme: str = "https", host: str = "127.0.0.1") -> str:
    """Return the address of an API on this machine."""
    return f"{scheme}://{host}:{port}/api/index.php"


class Tls:
    """OpenSSL's own server, and certificates of any quality."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.openssl = which("openssl") or pytest.skip("there is no openssl")

    def run(self, *arguments: object) -> None:
        """Run a command of OpenSSL."""
        subprocess.run([self.openssl, *map(str, arguments)], check=True, capture_output=True)

    def certify(
        self,
        name: str,
        *,
        by: str = "",
        key: str = "ec",
        alt: str = "IP:127.0.0.1,DNS:localhost",
        days: int = 2,
        digest: str = "sha256",
    ) -> Path:
        """Make a certificate, signed by itself or by another one."""
        request, extra = self.folder / "request", self.folder / "extra"
        made, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        extra.write_text(f"subjectAltName={alt}\n" + ("" if by else "basicConstraints=CA:true\n"))
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else [key]
        subject = ["-nodes", "-subj", f"/CN={name}", "-keyout", private, "-out", request]
        self.run("req", "-new", "-newkey", *kind, *subject)
        issuer = ["-CA", self.folder / f"{by}.pem", "-CAkey", self.folder / f"{by}.key"]
        signer = [*issuer, "-CAcreateserial"] if by else ["-signkey", private]
        sign = ["-req", "-in", request, *signer, "-days", days, "-extfile", extra, "-out", made]
        self.run("x509", *sign, f"-{digest}")
        return made

    @contextmanager
    def serve(self, name: str, *options: object) -> Iterator[int]:
        """Serve with a certificate; yield the port."""
        own = ["-cert", self.folder / f"{name}.pem", "-key", self.folder / f"{name}.key"]
        command = [self.openssl, "s_server", "-accept", "127.0.0.1:0", "-www", *own, *options]
        server = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert server.stdout is not None
        try:
            line = next(line for line in server.stdout if line.startswith(b"ACCEPT"))
            yield int(line.rpartition(b":")[2])
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """Make OpenSSL's server, with a good certificate."""
    made = Tls(tmp_path_factory.mktemp("tls"))
    made.certify("good")
    return made


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "Have TLS 1.2 enabled"),
        (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "Have TLS 1.2 enabled"),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "no TLS cipher in common"),
        (["-curves", "brainpoolP256r1"], "no TLS cipher in common"),
        (["-tls1_2", "-Verify", "1"], "wants a client certificate"),
    ],
)
def test_tls_that_cannot_be_agreed_on(tls: Tls, options: list[str], says: str) -> None:
    """Too old a version, no common cipher or curve, a client certificate: each with what to do."""
    with tls.serve("good", *options) as port:
        assert says in failing(api(port), ca_file=tls.folder / "good.pem")


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        ({"days": -1}, "not valid today"),
        ({"alt": "DNS:other.example"}, "for another host"),
        ({"key": "rsa:1024"}, "too weak"),
    ],
)
def test_certificates_of_poor_quality(tls: Tls, quality: dict[str, Any], says: str) -> None:
    """Expired, of another host, with a short key."""
    made = tls.certify("poor", **quality)
    with tls.serve("poor", "-cipher", "ALL:@SECLEVEL=0") as port:
        said = failing(api(port), ca_file=made)
    assert says in said
    assert api(port) in said


def test_certificates_without_a_known_issuer(tls: Tls) -> None:
    """Self-signed, with an issuer that is not sent, with an outdated digest."""
    root = tls.certify("root")
    tls.certify("leaf", by="root")
    with tls.serve("leaf") as port:
        said = failing(api(port))
        assert "intermediate certificate" in said
        assert "kayako.ca_file" in said
        assert get(api(port), ca_file=root)
    with tls.serve("root") as port:
        assert "signed by itself" in failing(api(port))
    tls.certify("old", by="root", digest="sha1")
    with tls.serve("old", "-cipher", "ALL:@SECLEVEL=0") as port:
        assert "digest outdated" in failing(api(port), ca_file=root)


def test_an_authority_of_ones_own_need_not_keep_to_rfc_5280(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.13 checks rules that home-made authorities break: whoever is named is trusted."""
    plain = httpx.create_ssl_context

    def strict() -> ssl.SSLContext:
        context = plain()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(httpx, "create_ssl_context", strict)
    root = tls.certify("home")
    tls.certify("served", by="home")
    with tls.serve("served") as port:
        assert get(api(port), ca_file=root)
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    with tls.serve("served") as port:
        assert "breaks a rule for certificates" in failing(api(port))


def test_tls_on_a_port_without_it_and_none_on_one_with_it(tls: Tls) -> None:
    """The scheme is the thing to change, and is named."""
    quiet = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "Write http:// in kayako.url" in failing(api(server.server_address[1]))
    finally:
        server.shutdown()
        server.server_close()
    with tls.serve("good") as port:
        assert "write https:// in kayako.url" in failing(api(port, "http"))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port",
        b"HTTP/1.1 400 Bad Request\r\n\r\nYou're speaking plain HTTP to an SSL-enabled server port",
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"",
    ],
)
def test_what_ports_for_https_say_to_http(answer: bytes) -> None:
    """nginx, Apache, Go, an alert of TLS, or nothing at all: write https."""
    said = wire(answer, lambda port: failing(api(port, "http")))
    assert "write https:// in kayako.url" in said


def wire(answer: bytes, ask: Callable[[int], str], heard: list[bytes] | None = None) -> str:
    """Serve an answer to every request; return what asking led to."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    request = peer.recv(1 << 16)
                    if heard is not None:
                        heard.append(request)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            return ask(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)


def test_a_name_that_no_host_has() -> None:
    """The name is told, not the function that failed."""
    said = failing("http://no-such-host.invalid/api/index.php")
    assert "no-such-host.invalid" in said
    assert "DNS" in said


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://127.0.0.1:1", "the proxy http://127.0.0.1:1 refuses connections"),
        ("http://u:hidden@127.0.0.1:1", "the proxy http://127.0.0.1:1 refuses connections"),
        ("http://no-such-proxy.invalid:3128", "no-such-proxy.invalid"),
    ],
)
def test_a_proxy_that_cannot_be_reached_is_named(
    scheme: str, proxy: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's address and the variable to change are told, its password is not."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    said = failing(f"{scheme}://help.example.com/api/index.php")
    assert says in said
    assert "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY" in said
    assert "hidden" not in said


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=x", "wants a name and a password"),
        (b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM", "a log-in with NTLM"),
        (b"HTTP/1.1 403 x\r\nX: y", "proxy http://127.0.0.1:"),
        (b"HTTP/1.1 502 x\r\nX: y", "proxy http://127.0.0.1:"),
        (b"", "proxy http://127.0.0.1:"),
        (b"nonsense", "proxy http://127.0.0.1:"),
    ],
)
def test_a_proxy_that_does_not_let_through_is_named(
    scheme: str, answer: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes through a proxy may be its own doing."""

    def ask(port: int) -> str:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
        return failing(f"{scheme}://help.example.com/api/index.php")

    ending = b"\r\nContent-Length: 0\r\n\r\n" if answer else b""
    assert says in wire(answer + ending, ask)


def test_no_files_left_here_is_not_blamed_on_the_server() -> None:
    """A machine without file descriptors says so."""

    async def full(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no connection") from OSError(errno.EMFILE, os.strerror(24))

    async def main() -> None:
        settings = KayakoSettings(URL, Credentials("k", "s"))
        transport = Transport(settings, Pacer(1), inner=httpx.MockTransport(full))
        await transport.get("/x", what=WHAT)

    with pytest.raises(SourceUnreachable, match="ulimit"):
        asyncio.run(main())


# The password of the web server


def test_the_web_servers_password_is_sent_there_and_shown_nowhere() -> None:
    """Basic authentication, with each request; a reply that quotes it is told without it."""
    heard: list[bytes] = []
    signed_in = {"http_user": "migration", "http_password": PASSWORD}
    token = b"bWlncmF0aW9uOnBhNTV3b3JkLW9mLXRoZS13ZWItc2VydmVy"
    answer = b"HTTP/1.1 500 No\r\n\r\nYou sent " + token + b" which is " + PASSWORD.encode()
    said = wire(answer, lambda port: failing(api(port, "http"), signed_in=signed_in), heard)
    assert b"Authorization: Basic " + token in heard[0]
    assert "You sent *** which is ***" in said
    assert PASSWORD not in repr(Credentials("k", "s", **signed_in))


def test_the_web_servers_password_follows_no_redirect() -> None:
    """Neither it nor the keys go to any other address, the proxy's included."""
    other: list[bytes] = []
    signed_in = {"http_user": "migration", "http_password": PASSWORD}

    def ask(port: int) -> str:
        answer = f"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:{port}/\r\n\r\n".encode()
        return wire(answer, lambda first: failing(api(first, "http"), signed_in=signed_in))

    assert "redirects to" in wire(b"", ask, other)
    assert other == []


def test_no_password_is_sent_without_one() -> None:
    """Whoever names no user sends no header."""
    heard: list[bytes] = []
    wire(b"HTTP/1.1 403 x\r\n\r\n", lambda port: failing(api(port, "http")), heard)
    assert b"Authorization" not in heard[0]


def test_a_refused_request_is_told_like_a_refused_row() -> None:
    """What a firewall refuses is a bad request, with the address to have allowed."""
    error = error_for(403, {}, b"Forbidden by mod_security", what=WHAT)
    assert type(error) is BadRequest
    assert "have this machine's address allowed" in str(error)
