"""What every status and every failed connection means for a run, in two tables.

Kayako's own errors are sentences, which :mod:`replies` reads first. All else comes from web
servers, firewalls, proxies and networks, and is sorted here by what to do. In a run that was
answered before, all of it is waited for as long as everything else is turned away, too.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from migrator.errors import (
    BadRequest,
    ServerFailed,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    Throttled,
    Truncated,
    UnexpectedReply,
)
from migrator.sources.kayako.signing import safe

PROXIES: Final = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
"""The variables of the environment that name a proxy."""


class Sense(Enum):
    """What an answer means for the run."""

    WAIT = "the source is away or confused: try again"
    SLOW = "the source is overloaded: fewer requests at once, then try again"
    ROW = "this request is refused: record that and go on"
    OURS = "nothing works before somebody changes something"


class Meaning(NamedTuple):
    """What an answer means, its error, and the words for it, without the last full stop."""

    sense: Sense
    kind: type[SourceError]
    says: str


def _wait(says: str, kind: type[SourceError] = ServerFailed) -> Meaning:
    return Meaning(Sense.WAIT, kind, says)


def _slow(says: str, kind: type[SourceError] = ServerFailed) -> Meaning:
    return Meaning(Sense.SLOW, kind, says)


def _row(says: str) -> Meaning:
    return Meaning(Sense.ROW, BadRequest, says)


def _ours(says: str) -> Meaning:
    return Meaning(Sense.OURS, SourceRefused, says)


_BLOCKED = (
    "the server rejects the request. A firewall or a module such as mod_security may block this "
    "machine or this request: have this machine's address allowed there"
)
_LONG = "the server rejects the request as too long"
_GATEWAY = "the server failed: what answers in front of the helpdesk gets no answer from it"
_EDGE = "the server failed: Cloudflare gets no proper answer from the helpdesk"


def _statuses() -> Iterator[tuple[int, Meaning]]:
    odd = _wait("an unexpected HTTP status", UnexpectedReply)
    # A firewall's challenge may come with any of them.
    yield from dict.fromkeys(range(100, 300), odd).items()
    yield from dict.fromkeys(range(300, 400), _ours("the server redirects")).items()
    yield from dict.fromkeys(range(400, 500), _row("the server rejects the request")).items()
    yield from dict.fromkeys(range(500, 600), _wait("the server failed")).items()


STATUSES: Final[Mapping[int, Meaning]] = {
    **dict(_statuses()),
    401: _ours("the server refuses us"),
    402: _row("the server rejects the request. The hosting account may be suspended: ask the host"),
    403: _row(_BLOCKED),
    404: _wait(
        "the address leads to no Kayako API. Check url and url_form; if it worked before, "
        "the helpdesk may be closed for maintenance",
        UnexpectedReply,
    ),
    405: _row(_BLOCKED),
    406: _row(_BLOCKED),
    407: _ours("the proxy wants a name and a password"),
    408: _slow("the server gave up waiting"),
    413: _row(_LONG),
    414: _row(_LONG),
    418: _row(_BLOCKED),
    420: _slow("the server asks us to slow down", Throttled),
    421: _row("the server rejects the request: it does not know this host name. Check url"),
    423: _wait("the helpdesk is locked, as during maintenance"),
    425: _wait("the server gave up"),
    426: _row("the server rejects the request: it wants https or a newer protocol. Check url"),
    429: _slow("the server asks us to slow down", Throttled),
    430: _slow("the server asks us to slow down", Throttled),
    431: _row(_LONG),
    444: _row(_BLOCKED),
    451: _row("the server rejects the request for legal reasons, as by country of the address"),
    494: _row(_LONG),
    495: _ours("the web server wants a client certificate, which is not supported"),
    496: _ours("the web server wants a client certificate, which is not supported"),
    497: _ours("this port is for https: write https:// in kayako.url"),
    498: _ours("the server refuses us"),
    499: _slow("the server gave up waiting"),
    502: _slow(_GATEWAY),
    503: _slow("the server failed: it is overloaded, or closed for maintenance"),
    504: _slow(_GATEWAY),
    507: _wait("the server failed: its disk is full. Make room there"),
    508: _slow("the server failed: a limit of the hosting account is reached"),
    509: _slow("the server failed: the bandwidth of the hosting account is used up"),
    511: _ours("the network wants a log-in before it lets anybody out"),
    **dict.fromkeys(range(520, 531), _slow(_EDGE)),
    529: _slow("the server failed: it is overloaded"),
    598: _slow(_GATEWAY),
    599: _slow(_GATEWAY),
}
"""The meaning of every status but 200; 401 and all 3xx are told in more words by their headers."""

API_OFF: Final = _ours(
    "the REST API is switched off: Kayako answers so, without a text. Enable it in "
    "Admin CP > REST API > Settings; if it is on, a firewall blocks this machine"
)
"""The meaning of a 403 that says nothing."""

OVERLOADED = re.compile(
    rb"max_user_connections|max_connections_per_hour|has exceeded the '\w+' resource|"
    rb"too many connections|too many requests|rate limit|slow down|"
    rb"resource limit is reached|bandwidth limit exceeded|server is (?:too )?busy|"
    rb"server (?:is )?overloaded|maximum number of (?:processes|connections)|"
    rb"cannot allocate memory|resource temporarily unavailable",
    re.IGNORECASE,
)
"""Sentences of PHP, MySQL and web hosts that are out of something, at any status."""

WRONG_SCHEME = re.compile(
    rb"plain HTTP request was sent to HTTPS port|speaking plain HTTP to an SSL-enabled|"
    rb"HTTP request to an HTTPS server|requires TLS|\A\x15\x03",
    re.IGNORECASE,
)
"""What servers say to HTTP on a port for https."""


def meaning_of(status: int) -> Meaning:
    """Return what a status means, also one that does not exist."""
    return STATUSES.get(status) or STATUSES[599 if status > 599 else 100]


class Failure(Enum):
    """How a request can fail without a whole reply."""

    NO_HOST = "no host"
    NO_NAMES = "no name server"
    REFUSED = "refused"
    NO_ROUTE = "no route"
    BLOCKED_HERE = "blocked here"
    EXHAUSTED_HERE = "exhausted here"
    RESET = "reset"
    HUNG_UP = "hung up"
    NO_CONNECTION = "no connection in time"
    SILENT = "silent"
    NOT_HTTP = "not HTTP"
    CUT = "cut"
    LOST = "lost"
    NOT_TLS = "not TLS"
    TLS_VERSION = "TLS version"
    TLS_CIPHER = "TLS cipher"
    TLS_WEAK = "TLS weak key"
    TLS_OLD_RULES = "TLS renegotiation"
    TLS_NAME = "TLS name"
    TLS_CLIENT = "TLS client certificate"
    TLS_CUT = "TLS cut"
    TLS_OTHER = "TLS other"
    CERTIFICATE = "certificate"
    CERTIFICATE_TIME = "certificate time"
    CERTIFICATE_NAME = "certificate name"
    CERTIFICATE_SELF = "certificate signs itself"
    CERTIFICATE_ISSUER = "certificate issuer"
    CERTIFICATE_WEAK = "certificate weak"
    CERTIFICATE_REVOKED = "certificate revoked"
    CERTIFICATE_FORM = "certificate form"
    PROXY_PASSWORD = "proxy password"  # noqa: S105 - a name
    PROXY_METHOD = "proxy method"
    PROXY_REFUSES = "proxy refuses"
    PROXY_FAILS = "proxy fails"
    PROXY_ODD = "proxy odd"


_NO_ANSWER = "no answer from {where} when asked for {what}{through}: "


def _lost(says: str) -> Meaning:
    return Meaning(Sense.SLOW, SourceUnreachable, _NO_ANSWER + says)


def _off(says: str) -> Meaning:
    return Meaning(Sense.WAIT, SourceUnreachable, _NO_ANSWER + says)


_CERTIFICATE = "the certificate of {peer} "

FAILURES: Final[Mapping[Failure, Meaning]] = {
    Failure.NO_HOST: _off(
        "there is no host of the name {host}. Check {setting}, and the name service (DNS) here"
    ),
    Failure.NO_NAMES: _off(
        "the name {host} cannot be looked up now. Check the name service (DNS) here, and {setting}"
    ),
    Failure.REFUSED: _lost(
        "{peer} refuses connections: nothing listens there, or a firewall rejects us. Check host "
        "and port in {setting}, and that it runs"
    ),
    Failure.NO_ROUTE: _off(
        "no route leads to {peer}. Check the network of this machine, or a VPN that it needs"
    ),
    Failure.BLOCKED_HERE: _off(
        "this machine does not allow the connection to {peer}. Check its firewall"
    ),
    Failure.EXHAUSTED_HERE: _lost(
        "this machine has no sockets, ports or memory left for a connection. Close other "
        "programs, raise `ulimit -n`, or lower kayako.concurrency"
    ),
    Failure.RESET: _lost(
        "{peer} reset the connection: it is overloaded, was restarted, or a firewall cuts us off"
        "{hint}"
    ),
    Failure.HUNG_UP: _lost(
        "{peer} hung up without a reply: it is overloaded, was restarted, or a firewall cuts us off"
        "{hint}"
    ),
    Failure.NO_CONNECTION: _lost(
        "{peer} was silent for {waited:g} s while a connection was tried. A firewall may drop "
        "what we send: check host and port in {setting}, and that this machine may connect{hint}"
    ),
    Failure.SILENT: Meaning(
        Sense.SLOW,
        SourceUnreachable,
        "{where} was silent for {waited:g} s while asked for {what}{through}: it is overloaded, or "
        "at a long task (kayako.timeout is how long that may be)",
    ),
    Failure.NOT_HTTP: _lost(
        "what {peer} sends is not HTTP, or longer than its Content-Length says. Check the port in "
        "{setting}{hint}",
    ),
    Failure.CUT: Meaning(Sense.WAIT, Truncated, "the reply for {what} broke off before its end"),
    Failure.LOST: _lost("the connection to {peer} was lost"),
    Failure.NOT_TLS: _ours(
        "{peer} does not speak TLS on this port. Write http:// in {setting}, or the port that "
        "is for https"
    ),
    Failure.TLS_VERSION: _ours(
        "{peer} speaks only versions of TLS that are no longer safe, and not 1.2 or newer. Have "
        "TLS 1.2 enabled there, or put a proxy with a newer TLS in front of it"
    ),
    Failure.TLS_CIPHER: _ours(
        "{peer} and we have no TLS cipher in common, or it wants a client certificate, which is "
        "not supported. Have current ciphers enabled there, or put a proxy with a newer TLS in "
        "front of it"
    ),
    Failure.TLS_WEAK: _ours(
        "{peer} uses keys that are too weak for TLS today. Have larger ones (Diffie-Hellman: "
        "2048 bits) set there, or put a proxy with a newer TLS in front of it"
    ),
    Failure.TLS_OLD_RULES: _ours(
        "{peer} lacks secure renegotiation (RFC 5746), which TLS requires today. Have its TLS "
        "library updated, or put a proxy with a newer TLS in front of it"
    ),
    Failure.TLS_NAME: _ours(
        "{peer} knows no host of that name. Give the name that it serves in {setting}"
    ),
    Failure.TLS_CLIENT: _ours(
        "{peer} wants a client certificate, which is not supported. Have this machine's address "
        "exempted there"
    ),
    Failure.TLS_CUT: _lost(
        "{peer} hung up while TLS was agreed on: it is overloaded, a firewall cuts us off, or it "
        "accepts no version and no cipher that we offer: have TLS 1.2 or newer enabled there"
    ),
    Failure.TLS_OTHER: _ours("TLS with {peer} cannot be agreed on ({detail})"),
    Failure.CERTIFICATE: _ours(
        _CERTIFICATE + "is not trusted ({detail}). If the helpdesk uses its own authority, name "
        "its file in kayako.ca_file"
    ),
    Failure.CERTIFICATE_TIME: _ours(
        _CERTIFICATE + "is not valid today; have it renewed there, or set the clock here"
    ),
    Failure.CERTIFICATE_NAME: _ours(
        _CERTIFICATE + "is for another host; give the name that it was made for in {setting}"
    ),
    Failure.CERTIFICATE_SELF: _ours(
        _CERTIFICATE + "is not trusted: it is signed by itself, or by an authority unknown here. "
        "If that is meant, name the authority's file in kayako.ca_file"
    ),
    Failure.CERTIFICATE_ISSUER: _ours(
        _CERTIFICATE + "is not trusted: its issuer is unknown here, and was not sent. Have the "
        "intermediate certificate sent there, or name a file with it (and with the authority, if "
        "it is your own) in kayako.ca_file"
    ),
    Failure.CERTIFICATE_WEAK: _ours(
        _CERTIFICATE + "is too weak: its key is too short or its digest outdated. Have it issued "
        "anew there, with an RSA key of 2048 bits or more and SHA-256"
    ),
    Failure.CERTIFICATE_REVOKED: _ours(_CERTIFICATE + "was revoked. Have it issued anew there"),
    Failure.CERTIFICATE_FORM: _ours(
        _CERTIFICATE + "or its authority's breaks a rule for certificates ({detail}). If it is "
        "your own authority, name its file in kayako.ca_file; else have it issued anew"
    ),
    Failure.PROXY_PASSWORD: _ours(
        "the proxy before {where} wants a name and a password (HTTP 407){hint}: {proxy}. Give them "
        "in the environment, as in HTTPS_PROXY=http://name:password@proxy.example.com:3128"
    ),
    Failure.PROXY_METHOD: _ours(
        "the proxy {proxy} before {where} wants a log-in with {detail} (HTTP 407), which is not "
        "supported. Have it accept Basic, or have this machine's address exempted"
    ),
    Failure.PROXY_REFUSES: _ours(
        "the proxy {proxy} does not let us through to {where} ({detail}). Have it allowed there, "
        "or name the host in NO_PROXY"
    ),
    Failure.PROXY_FAILS: _lost(
        "the proxy {proxy} gets no connection to {where} ({detail}). Check kayako.url, or name the "
        "host in NO_PROXY if it can be reached directly"
    ),
    Failure.PROXY_ODD: _lost("{peer} does not answer as a proxy does. Check {setting}"),
}
"""The meaning of each failure."""


NEAREST: Final = frozenset(
    {Failure.NO_HOST, Failure.NO_NAMES, Failure.REFUSED, Failure.NO_ROUTE, Failure.NO_CONNECTION}
)
"""Failures to reach whatever is connected to: the proxy, where there is one."""


class Asked(NamedTuple):
    """How a request was made: to which address, through which proxy, with which password."""

    url: str = ""
    proxy: str = ""
    signed_in: bool = False


def failed(
    failure: Failure,
    asked: Asked,
    *,
    what: str,
    waited: float = 0.0,
    detail: str = "",
    of_proxy: bool = False,
) -> SourceError:
    """Return the error of a failure; with ``of_proxy`` it is the proxy that cannot be reached."""
    meaning = FAILURES[failure]
    where, proxy = safe(asked.url), safe(asked.proxy) if asked.proxy else "an unknown one"
    unanswered = meaning.kind is SourceUnreachable
    hint = ""
    unclear = failure in {Failure.HUNG_UP, Failure.NOT_HTTP, Failure.RESET}
    if unclear and where.startswith("http:"):
        hint = "; if that port is for https, write https:// in kayako.url"
    elif failure is Failure.NO_CONNECTION and where.startswith("https:"):
        hint = "; if that port is not for https, write http:// in kayako.url"
    elif failure is Failure.PROXY_PASSWORD and "@" in asked.proxy:
        hint = ", and refuses those that it gets"
    text = meaning.says.format(
        where=where,
        what=what,
        proxy=proxy,
        through=f" (through the proxy {proxy})" if asked.proxy and not of_proxy else "",
        peer=f"the proxy {proxy}" if of_proxy else "it" if unanswered else where,
        host=urlsplit(proxy if of_proxy else where).hostname,
        setting=PROXIES if of_proxy else "kayako.url",
        waited=waited,
        detail=detail,
        hint=hint,
    )
    return meaning.kind(text)


def locked(offered: str, asked: Asked, *, what: str) -> SourceError:
    """Return the error of a proxy that wants a log-in; ``offered`` is its Proxy-Authenticate."""
    ways = ways_in(offered)
    if ways and "basic" not in map(str.lower, ways):
        return failed(Failure.PROXY_METHOD, asked, what=what, detail=", ".join(ways))
    return failed(Failure.PROXY_PASSWORD, asked, what=what)


def ways_in(offered: str) -> list[str]:
    """Return the ways to log in that a header such as WWW-Authenticate offers, the first four."""
    parts = re.sub(r'"[^"]*"', "", offered[:4096]).split(",")
    found = (re.match(r"\s*([A-Za-z][\w-]{0,30})(?=\s|$)", part, re.ASCII) for part in parts)
    return list(dict.fromkeys(match[1] for match in found if match))[:4]


_BY_NUMBER: Final = {
    number: failure
    for failure, names in {
        Failure.REFUSED: "ECONNREFUSED",
        Failure.NO_ROUTE: "ENETUNREACH EHOSTUNREACH ENETDOWN EHOSTDOWN EAFNOSUPPORT EINVAL",
        Failure.BLOCKED_HERE: "EACCES EPERM",
        Failure.EXHAUSTED_HERE: "EMFILE ENFILE ENOBUFS ENOMEM EADDRNOTAVAIL",
        Failure.RESET: "ECONNRESET EPIPE ECONNABORTED ENOTCONN ESHUTDOWN",
        Failure.NO_CONNECTION: "ETIMEDOUT",
    }.items()
    for name in names.split()
    if (number := getattr(errno, name, None)) is not None
}

_BY_REASON: Final = {
    Failure.NOT_TLS: "WRONG_VERSION_NUMBER|HTTPS?_(?:PROXY_)?REQUEST|RECORD_LAYER_FAILURE|"
    "UNEXPECTED_MESSAGE|UNKNOWN_PROTOCOL|PACKET_LENGTH_TOO_LONG|BAD_PACKET",
    Failure.TLS_VERSION: "PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW|WRONG_SSL_VERSION|"
    "NO_PROTOCOLS_AVAILABLE|INAPPROPRIATE_FALLBACK",
    Failure.TLS_OLD_RULES: "LEGACY_RENEGOTIATION",
    Failure.TLS_WEAK: "TOO_SMALL|TOO_WEAK|MODULUS_TOO|BAD_DH|WRONG_SIGNATURE_TYPE|LEGACY_SIGALG|"
    "NO_SUITABLE_SIGNATURE|INSUFFICIENT_SECURITY",
    Failure.TLS_CIPHER: "HANDSHAKE_FAILURE|NO_SHARED_CIPHER|NO_CIPHER|WRONG_CIPHER|UNKNOWN_CIPHER|"
    "WRONG_CURVE|NO_SUITABLE_(?:KEY_SHARE|GROUPS)",
    Failure.TLS_NAME: "UNRECOGNIZED_NAME|NO_APPLICATION_PROTOCOL",
    Failure.TLS_CLIENT: "CERTIFICATE_REQUIRED|ALERT_(?:BAD|UNKNOWN|NO)_C|ALERT_ACCESS_DENIED",
    Failure.TLS_CUT: "EOF|INTERNAL_ERROR|CLOSE_NOTIFY|SHUTDOWN|USER_CANCEL",
}
"""Patterns of OpenSSL's reasons."""

_BY_CODE: Final = {
    code: failure
    for failure, codes in {
        Failure.CERTIFICATE_TIME: (9, 10, 11, 12, 13, 14, 15, 16),
        Failure.CERTIFICATE_NAME: (62, 63, 64),
        Failure.CERTIFICATE_SELF: (18, 19),
        Failure.CERTIFICATE_ISSUER: (2, 20, 21),
        Failure.CERTIFICATE_WEAK: (66, 67, 68),
        Failure.CERTIFICATE_REVOKED: (23,),
        Failure.CERTIFICATE_FORM: (24, 25, 26, 32, 34, *range(37, 54), *range(76, 95)),
    }.items()
    for code in codes
}
"""OpenSSL's codes for what is wrong with a certificate; the last ones are what RFC 5280 forbids."""


def failure_of(error: BaseException) -> Failure | None:
    """Return how an error of the system or of TLS is called here; None for an unknown one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_CODE.get(error.verify_code, Failure.CERTIFICATE)
    if isinstance(error, ssl.SSLError):
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Failure.TLS_CUT
        reason = error.reason or ""
        fits = (name for name, known in _BY_REASON.items() if re.search(known, reason))
        return next(fits, Failure.TLS_OTHER)
    if isinstance(error, socket.gaierror):
        again = error.errno in {socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM}
        return Failure.NO_NAMES if again else Failure.NO_HOST
    if isinstance(error, OSError):
        reset = isinstance(error, ConnectionError) and not error.errno
        return Failure.RESET if reset else _BY_NUMBER.get(error.errno or 0)
    return None
