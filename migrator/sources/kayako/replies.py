"""Classification of replies: a document, noise around one, or an error, and which.

Kayako answers errors as plain text, whatever the Content-Type says. A PHP warning may stand
before or after the document, and an uncaught exception is text at status 200 without any XML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from migrator.errors import (
    MemoryExhausted,
    NotFound,
    NotXml,
    ServerFailed,
    SourceError,
    SourceRefused,
    Throttled,
    WrongTicket,
)
from migrator.sources.kayako.outages import (
    API_OFF,
    OVERLOADED,
    STATUSES,
    WRONG_SCHEME,
    Asked,
    Sense,
    locked,
    meaning_of,
    ways_in,
)
from migrator.sources.kayako.signing import safe, scrub_query
from migrator.sources.pace import retry_after

NOISE_AROUND_XML = "noise_around_xml"

SEARCH_LIMIT = 1 << 20
"""The most bytes of noise before a document."""

_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space are no noise
_DECLARED = re.compile(rb"<\?xml\s")
_DECLARATION = re.compile(
    rb"<\?xml\s[^<>]*\?>(?:\s++|<!--(?:[^-]++|-(?!-))*+-->|<\?xml-[^<>]*\?>)*+", re.DOTALL
)
_PAGE = re.compile(rb"<!doctype|<html|<head|<body|<title", re.IGNORECASE)
_REMOTE = re.compile(rb"Unable to (?:locate|open) remote file[^\r\n<]*", re.IGNORECASE)
_DATABASE = re.compile(
    rb"server has gone away|lost connection to|can't connect to|PDO Prepare Failed|SQLSTATE\[|"
    rb"deadlock found|lock wait timeout|is marked as crashed|got error \d+ from storage engine",
    re.IGNORECASE,
)
_NO_APP = re.compile(r"\bApp does not exist\b", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(rb"Allowed memory size", re.IGNORECASE)

_TAG = re.compile(r"<[^<>]*>")
_EXCERPT = 200

_ELEMENT = re.compile(r"</?([A-Za-z_][\w.:-]*)(?=[\s/>])[^<>]*>")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_INLINE = _names("a abbr b big code em font i s small span strong sub sup tt u var")
_NOISY = _INLINE | _names("br div hr pre table tbody td th thead tr")
"""Elements in the warnings of PHP, xdebug and old versions of Kayako."""
_HTML = _NOISY | _names(
    "acronym address area article aside base blockquote body button caption center cite col "
    "colgroup dd del details dir dl dt fieldset figure footer form frame frameset h1 h2 h3 h4 h5 "
    "h6 head header html iframe img input ins kbd label legend li link main map mark menu meta "
    "nav noscript object ol optgroup option p param q samp script section select source strike "
    "style summary svg textarea tfoot time title ul video wbr"
)

_KIND = (
    r"(?:Fatal error|Parse error|Warning|Notice|Deprecated|Strict Standards|Strict|"
    r"(?:Core|Compile|User|Recoverable|Catchable)(?: fatal)? (?:error|warning|notice|deprecated)|"
    r"Uncaught \w+)"
)
_PHP = re.compile(rf"(?:\( ! \) ?)?(?:PHP ?)?{_KIND}: ", re.IGNORECASE)
_PHP_END = re.compile(r".* on line [0-9]+", re.IGNORECASE)
_OLD = re.compile(r"\[[A-Z][A-Za-z ]{2,30}\]: ")
_OLD_END = re.compile(r".*\([^\s()]+:[0-9]+\)")
_ROUTER = re.compile(r"Router: ")
_RULE = re.compile(r"[=_*-]{5,}")
_ASIDE = re.compile(
    rf"{_KIND}:?|(?:Uncaught )?Exception:?|Stack trace:|#[0-9]+ .*|.* on line [0-9]+|[=_*-]{{5,}}|"
    r"Unable to (?:locate|open) remote file .*|Invalid Cache: .*|PDO Prepare Failed: .*",
    re.IGNORECASE,
)
"""Lines that are noise anywhere."""

_NOT_FOUND = re.compile(
    r"(?:ticket|attachment|ticket post|post|ticket note|note|article|troubleshooter step) not found"
    r"[.!]*|attachment does not belong to the specified (?:article|step)[.!]*",
    re.IGNORECASE,
)
_WRONG_TICKET = re.compile(
    r"(?:attachment|ticket post|post|ticket note|note) does not belong to the specified ticket"
    r"[.!]*",
    re.IGNORECASE,
)


@lru_cache
def _root_tag(roots: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile(b"<(" + b"|".join(root.encode() for root in roots) + rb")(?=[\s/>])")


@lru_cache
def _any_tag(roots: tuple[str, ...]) -> re.Pattern[bytes]:
    names = b"|".join(root.encode() for root in roots)
    return re.compile(rb"</?(?:[\w.-]{1,64}:)?(?:" + names + rb")(?![^\s/>])", re.IGNORECASE)


def find_document(reply: bytes | bytearray, roots: tuple[str, ...]) -> int | None:
    """Return the offset of the document whose root is one of ``roots``, or None.

    That is the last ``<?xml`` before the first root tag, else the root tag itself. An HTML page
    never counts as noise, and only comments and style sheets may be between the declaration and the
    root: a DOCTYPE, above all, never reaches a parser. The search ends after ``SEARCH_LIMIT``
    bytes.
    """
    root = _root_tag(roots).search(reply, 0, SEARCH_LIMIT)
    if root is None or _PAGE.search(reply, 0, root.start()):
        return None
    declared = max((at.start() for at in _DECLARED.finditer(reply, 0, root.start())), default=-1)
    if declared < 0:
        return root.start()
    return declared if _DECLARATION.fullmatch(reply, declared, root.start()) else None


def holds_root(reply: bytes | bytearray, roots: tuple[str, ...]) -> bool:
    """Return whether a root tag is anywhere in a part of a reply."""
    return _root_tag(roots).search(reply) is not None


def is_noise(around: bytes | bytearray) -> bool:
    """Return whether the text before or after a document is more than white space."""
    return bool(around.strip(_BLANK))


def of_remote_file(around: bytes | bytearray) -> str:
    """Return what Kayako says around a document of a file in a cloud storage; "" for nothing."""
    found = _REMOTE.search(around)
    return excerpt(found[0]) if found else ""


def unread(around: bytes | bytearray, *, what: str) -> SourceError | None:
    """Return the error of a reply without contents that tells of a failed database; else None."""
    if not (found := _DATABASE.search(around) or OVERLOADED.search(around)):
        return None
    said = excerpt(around[max(0, found.start() - 80) : found.end() + 80])
    kind = Throttled if OVERLOADED.search(around) else ServerFailed
    return kind(f"{what}: the helpdesk could not read it from its database. It says: {said}")


def more_than_noise(
    around: bytes | bytearray, roots: tuple[str, ...], *, declared: bool = False
) -> str:
    """Return a tag around a document that is not noise; "" for none.

    PHP, web servers and proxies add text and HTML. A tag of the document's own kind, in any
    spelling, may be a row outside of it; another element may contain it, unless it stands before
    a document that is ``declared``: warnings quote what they are about, such as ``<unknown>``.
    """
    if own := _any_tag(roots).search(around):
        return own[0].decode("utf-8", "replace")
    if declared:
        return ""
    for tag in _ELEMENT.finditer(bytes(around).decode("utf-8", "replace")):
        if tag[1].lower() not in _HTML:
            return tag[0]
    return ""


def out_of_memory(near: bytes | bytearray) -> bool:
    """Return whether PHP reports that it ran out of memory."""
    return _OUT_OF_MEMORY.search(near) is not None


def excerpt(body: bytes | bytearray) -> str:
    """Return the beginning of a reply for people: one line, no tags, controls or signatures."""
    text = bytes(body[:8192]).decode("utf-8", "replace")
    text = text.replace("<![CDATA[", " ").replace("]]>", " ")
    text = html.unescape(_TAG.sub(" ", text))
    text = "".join(char if char.isprintable() else " " for char in text)
    text = scrub_query(" ".join(text.split()))
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def exhausted(what: str) -> MemoryExhausted:
    """Return the error for a reply that PHP had no memory to build."""
    return MemoryExhausted(
        f"{what}: PHP ran out of memory building the reply. "
        "Raise memory_limit in the helpdesk's php.ini, then `migrator run --recheck`."
    )


class _Words:
    """Return the text of an error without PHP's noise around it."""

    def __init__(self, body: bytes | bytearray) -> None:
        text = bytes(body).decode("utf-8", "replace").replace("\ufeff", "")
        text = _without(_without(text, "<!--", "-->"), "<table class='xdebug", "</table>")
        text = text.replace("<![CDATA[", "\n").replace("]]>", "\n")
        elements = {tag[1].lower() for tag in _ELEMENT.finditer(text)}
        self.is_page = bool(_PAGE.search(body) or elements & _HTML - _NOISY)
        """Return whether it is a page of a web server, whose words prove nothing."""
        text = html.unescape(_TAG.sub(" ", _ELEMENT.sub(_break, text)))
        lines = (" ".join(line.split()) for line in text.splitlines())
        self.lines = _without_noise([line for line in lines if line])
        self.is_empty = not (self.lines or self.is_page or elements - _HTML)

    def all_say(self, sentence: re.Pattern[str]) -> bool:
        """Return whether the text is one sentence."""
        return bool(self.lines) and not self.is_page and all(map(sentence.fullmatch, self.lines))


def _break(tag: re.Match[str]) -> str:
    return "" if tag[1].lower() in _INLINE else "\n"


def _without(text: str, begin: str, end: str) -> str:
    """Return a text without the parts from one mark to the other."""
    parts, at = [], 0
    while (found := text.find(begin, at)) >= 0 and (last := text.find(end, found)) >= 0:
        parts.append(text[at:found])
        at = last + len(end)
    return "".join((*parts, text[at:]))


def _without_noise(lines: list[str]) -> list[str]:
    """Return the lines that are not from PHP or Kayako's error handlers."""
    kept: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if _PHP.match(line):
            at = _end_of_noise(lines, at, _PHP_END, kept)
        elif _OLD.match(line):
            at = _end_of_noise(lines, at, _OLD_END, kept)
        elif _ROUTER.match(line):
            at = _end_of_noise(lines, at, _RULE, kept)
        else:
            if not _ASIDE.fullmatch(line):
                kept.append(line)
            at += 1
    return kept


def _end_of_noise(lines: list[str], at: int, end: re.Pattern[str], kept: list[str]) -> int:
    """Return the line after a warning that begins here and may take several lines.

    It ends before a sentence of Kayako's or after a match of ``end``, whichever comes first;
    if neither comes before the next warning, it is one line long.
    """
    for last in range(at, len(lines)):
        line = lines[last]
        if last > at and _is_sentence(line):
            return last
        if last > at and _begins_noise(line):
            break
        if found := end.match(line):
            if _is_sentence(rest := line[found.end() :].strip()):
                kept.append(rest)
            return last + 1
    return at + 1


def _is_sentence(line: str) -> bool:
    return bool(_NOT_FOUND.fullmatch(line) or _WRONG_TICKET.fullmatch(line))


def _begins_noise(line: str) -> bool:
    return bool(_PHP.match(line) or _OLD.match(line) or _ROUTER.match(line))


def offers_none(error: SourceError) -> bool:
    """Return whether an error says that the helpdesk has no such app, or no such call, at all."""
    return _NO_APP.search(str(error)) is not None or "says: Not Implemented" in str(error)


def no_document(body: bytes | bytearray, *, what: str) -> SourceError:
    """Return the error for a reply with status 200 that holds no document."""
    if out_of_memory(body):
        return exhausted(what)
    said = excerpt(body)
    if OVERLOADED.search(body, 0, SEARCH_LIMIT):
        return Throttled(f"{what}: the server is overloaded. It says: {said}")
    if not said:
        return NotXml(f"{what}: the reply is empty.")
    return NotXml(f"{what}: the reply is not the expected XML. It begins: {said}")


def error_for(
    status: int, headers: Mapping[str, str], body: bytes, *, what: str, asked: Asked | None = None
) -> SourceError:
    """Return the error of a reply with any other status than 200.

    Kayako itself sends 400, 401, 403 and 404, with a sentence or nothing; all else is sorted by
    :data:`outages.STATUSES`. ``body`` may be cut: a few kilobytes are enough.
    """
    asked = asked or Asked()
    fields = {name.lower(): value for name, value in headers.items()}
    words = _Words(body)
    if error := _told_in_words(status, fields, body, words, asked, what=what):
        return error
    meaning = meaning_of(status)
    if status >= 400 and ("retry-after" in fields or OVERLOADED.search(body)):
        meaning = meaning._replace(kind=Throttled)
    elif status == 403 and words.is_empty:
        meaning = API_OFF
    elif WRONG_SCHEME.search(body) and not asked.url.lower().startswith("https:"):
        meaning = STATUSES[497]
    first, _, more = meaning.says.partition(". ")
    text = f"{what}: {first} (HTTP {status})." + (f" {more}." if more else "")
    if said := _said(words, body):
        text += f" It says: {said}"
    if asked.proxy:
        text = f"{text.rstrip('.')}. The request went through the proxy {safe(asked.proxy)}."
    if meaning.kind is Throttled:
        return Throttled(text, retry_after=retry_after(fields.get("retry-after", "")))
    error = meaning.kind(text)
    error.shared, error.overload = True, meaning.sense is Sense.SLOW
    return error


def _told_in_words(
    status: int,
    fields: Mapping[str, str],
    body: bytes,
    words: _Words,
    asked: Asked,
    *,
    what: str,
) -> SourceError | None:
    """Return the error where text or headers say more than the status; None elsewhere."""
    said = _said(words, body)
    if status >= 500 and out_of_memory(body):
        return exhausted(what)
    if status in {400, 404}:
        return _own_refusal(status, words, what=what, said=said)
    if status == 401:
        return _unauthorised(said, fields.get("www-authenticate", ""), asked, what=what)
    if status == 407:
        return locked(fields.get("proxy-authenticate", ""), asked, what=what)
    if 300 <= status < 400:
        return _redirected(status, fields.get("location", ""), asked, what=what)
    return None


def _said(words: _Words, body: bytes) -> str:
    return excerpt("\n".join(words.lines).encode()) or excerpt(body)


def _own_refusal(status: int, words: _Words, *, what: str, said: str) -> SourceError | None:
    """Return the error that Kayako itself reports, with a sentence of its own or no text."""
    if words.all_say(_WRONG_TICKET):
        return WrongTicket(f"{what}: it belongs to another ticket now, as after a merge.")
    if words.all_say(_NOT_FOUND):
        return NotFound(f"{what}: the helpdesk no longer has it. It says: {said}")
    if status == 404 and words.is_empty:
        error = NotFound(f"{what}: the helpdesk no longer has it (HTTP 404).")
        error.shared = True  # a firewall may say as little
        return error
    return None


def _unauthorised(said: str, offered: str, asked: Asked, *, what: str) -> SourceRefused:
    """Return the error of a 401, which is Kayako's, or the web server's that offers a log-in."""
    ways = ways_in(offered)
    if "NO SALT" in said.upper():
        advice = (
            "The salt did not arrive: a proxy may strip the query, the other url_form is needed, "
            "or an upload is larger than post_max_size in the helpdesk's php.ini."
        )
    elif not ways or "FAILED TO AUTHENTICATE" in said.upper():
        advice = "Check api_key and secret_key: Admin CP > REST API > API Information shows them."
    elif "basic" not in map(str.lower, ways):
        advice = (
            f"It is the web server, not Kayako, and it wants a log-in with {', '.join(ways)}, "
            "which is not supported: have it accept Basic for the API, or exempt this machine's "
            "address."
        )
    elif asked.signed_in:
        advice = (
            "It is the web server, not Kayako, and it does not accept kayako.http_user and "
            "kayako.http_password: check both."
        )
    else:
        advice = (
            "It is the web server, not Kayako, and it wants a name and a password: set "
            "kayako.http_user and kayako.http_password, or KAYAKO_HTTP_USER and "
            "KAYAKO_HTTP_PASSWORD in the environment."
        )
    return SourceRefused(f"{what}: the server refuses us (HTTP 401): {said or 'no text'}. {advice}")


def _redirected(status: int, location: str, asked: Asked, *, what: str) -> SourceRefused:
    """Return the error of a redirect, which is never followed: the keys are for one address."""
    here, target = safe(asked.url), "nowhere"
    if location:
        try:
            target = safe(urljoin(asked.url, location))
        except ValueError:
            target = safe(location)
    new, old = urlsplit(target), urlsplit(here)
    if not location:
        advice = "No log-in and no other address is named: ask the host what blocks the API."
    elif target == here:
        advice = (
            "That is the same address: a firewall, a log-in or a maintenance page may want a "
            "browser. Have this machine's address exempted there."
        )
    elif new.path.endswith(old.path if old.path.endswith(".php") else ".php"):
        advice = "If that is the helpdesk's API, put that address into url."
    elif (old.scheme, new.scheme) == ("http", "https") and new.hostname == old.hostname:
        advice = "It may serve https only: write https:// in url."
    else:
        advice = (
            "That is not its API: it may want a log-in, or be closed for maintenance. Open that "
            "address in a browser to see."
        )
    return SourceRefused(f"{what}: the server redirects to {target} (HTTP {status}). {advice}")
